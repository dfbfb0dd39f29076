//! run
pub(crate) mod attend;
pub(crate) mod hooks;
