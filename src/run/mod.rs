//! run
pub(crate) mod attend;
pub(crate) mod console;
pub(crate) mod foreground;
pub(crate) mod hooks;
pub(crate) mod host_terminal;
pub(crate) mod relay;
