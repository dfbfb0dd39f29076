//! LIMIT through systemd: the container is a scope of its, `--systemd-cgroup`.
//!
//! systemd owns the unit and its life; what it cannot express is still written into the files, and
//! everything but making, changing and stopping the unit goes by the files alone: `exec`, `state`,
//! `kill` and `events` never touch the bus.
#![forbid(unsafe_code)]

mod annotation;
mod bus;
pub mod message;
mod name;
mod properties;
mod unit;

pub(super) use properties::round;
pub(crate) use unit::Unit;
pub(super) use unit::UnitPlan;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
