//! sys
pub(crate) mod seccomp;
