//! The shim by its own protocols, without containerd between: what it is asked, answers and tells.
//!
//! With another runtime than creel, containerd's shim of Debian's age is asked instead.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Case, Need, Result};
use crate::kernel;
use crate::lab::Lab;
use crate::task::{Events, Shim, start};

mod checkpoint;
mod dead;
mod life;
mod start_up;
mod trouble;

/// The cases of this part.
pub fn cases() -> Vec<Case> {
    let parts = [
        start_up::cases(),
        life::cases(),
        checkpoint::cases(),
        dead::cases(),
        trouble::cases(),
    ];
    parts
        .into_iter()
        .flatten()
        .map(|case| case.limit(120).needs(&[Need::Shim]))
        .collect()
}

/// A shim of an idle bundle, and where it tells its events.
fn idle(lab: &Lab) -> Result<(Events, Shim, String, Bundle)> {
    of(lab, lab.idle()?)
}

/// The same of a bundle.
fn of(lab: &Lab, mut bundle: Bundle) -> Result<(Events, Shim, String, Bundle)> {
    let (events, id) = (Events::listen(lab)?, lab.id());
    // As containerd has them: the Go shim looks for it by that name.
    let dir = lab.path(&id);
    std::fs::rename(&bundle.dir, &dir)?;
    bundle.dir = dir;
    let shim = start(lab, &events, &id, &bundle)?;
    Ok((events, shim, id, bundle))
}

/// A line of each of its threads' status.
fn threads(pid: i32, name: &str) -> Result<Vec<(i32, String)>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        let text = crate::lab::text(&thread.path().join("status"))?;
        let id = thread.file_name().to_string_lossy().parse()?;
        all.push((id, kernel::field(&text, name).unwrap_or_default()));
    }
    Ok(all)
}
