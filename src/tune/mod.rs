//! TUNE: how the kernel schedules and places it. All of it before the capabilities go.
#![forbid(unsafe_code)]

pub(crate) mod affinity;
pub(crate) mod ioprio;
pub(crate) mod list;
pub(crate) mod mempolicy;
pub(crate) mod personality;
pub(crate) mod scheduler;
