//! CONFINE: what it may do. Every file here takes something away.
#![forbid(unsafe_code)]

pub(crate) mod caps;
pub(crate) mod labels;
pub(crate) mod seccomp;
pub(crate) mod user;
