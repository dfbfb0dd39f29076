//! sys
pub(crate) mod pidfd;
pub(crate) mod reap;
pub(crate) mod signal;
pub(crate) mod tty;
