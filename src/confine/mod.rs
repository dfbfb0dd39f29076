//! CONFINE
#![forbid(unsafe_code)]

pub(crate) mod seccomp;
