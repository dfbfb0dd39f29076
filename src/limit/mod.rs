//! LIMIT: how much it may use.
#![forbid(unsafe_code)]

pub mod cgroup;
pub(crate) mod oom;
pub(crate) mod rlimits;
