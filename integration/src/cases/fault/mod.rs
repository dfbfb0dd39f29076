//! Each stage of a container's life made to fail: it says so, and nothing is left.
//!
//! `sweep` makes single system calls fail and kills single processes; `docs/faults.md` is the table of
//! all of them.
#![forbid(unsafe_code)]

use crate::case::Case;

mod judge;
mod shortage;
mod size;
mod sweep;
mod waits;

/// All faults.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for part in [
        sweep::cases(),
        shortage::cases(),
        waits::cases(),
        size::cases(),
    ] {
        all.extend(part);
    }
    all
}
