//! Every break-out and break-down that the field knows, tried; `docs/cves.md` has the table.
#![forbid(unsafe_code)]

use crate::case::Case;

mod binary;
mod class;
mod console;
mod dev;
mod ids;
mod paths;
mod procfs;
mod races;

/// All attacks.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for part in [
        binary::cases(),
        paths::cases(),
        races::cases(),
        procfs::cases(),
        dev::cases(),
        console::cases(),
        ids::cases(),
        class::cases(),
    ] {
        all.extend(part);
    }
    for case in &mut all {
        case.limit = case.limit.max(180);
    }
    all
}
