//! run
pub(crate) mod attend;
pub(crate) mod console;
pub(crate) mod hooks;
