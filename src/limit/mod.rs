//! LIMIT: how much it may use.
#![forbid(unsafe_code)]

pub mod cgroup;
pub(crate) mod oom;
pub mod rdt;
pub(crate) mod rlimits;
