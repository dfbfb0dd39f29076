//! LIMIT: how much it may use.
#![forbid(unsafe_code)]

pub mod cgroup;
