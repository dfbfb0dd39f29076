//! RUN: its program, and all that the program finds when it starts.
#![forbid(unsafe_code)]

pub(crate) mod attend;
pub(crate) mod console;
pub(crate) mod env;
pub(crate) mod fds;
pub(crate) mod foreground;
pub(crate) mod hooks;
pub(crate) mod host_terminal;
pub(crate) mod notify;
pub(crate) mod null;
pub(crate) mod program;
pub(crate) mod relay;
