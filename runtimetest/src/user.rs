//! User: ids, groups and umask.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::{status, text};
use crate::report::Report;
use std::collections::BTreeSet;

/// Judges `process.user`.
pub fn check(config: &Config, report: &mut Report) {
    let user = &config.process.user;
    let claim = "process.user: the ids can be seen";
    let Some(status) = report.seen(claim, "/proc/self/status", status()) else {
        return;
    };
    let uids = [status.ruid, status.euid, status.suid, status.fuid];
    let gids = [status.rgid, status.egid, status.sgid, status.fgid];
    report.equal(
        "process.user.uid is the real, effective, saved and file uid",
        [user.uid; 4],
        uids,
    );
    report.equal(
        "process.user.gid is the real, effective, saved and file gid",
        [user.gid; 4],
        gids,
    );

    // Where an unprivileged runtime had to give setgroups up, the groups are the caller's.
    if text("/proc/self/setgroups").is_ok_and(|state| state == "allow") {
        let want: BTreeSet<u32> = user.additional_gids.iter().copied().collect();
        let got: BTreeSet<u32> = status.groups.iter().copied().collect();
        report.equal(
            "process.user.additionalGids are the supplementary groups",
            want,
            got,
        );
    }
    if let Some(umask) = user.umask {
        let octal = |mask: u32| format!("{mask:04o}");
        report.equal(
            "process.user.umask is that of the process",
            Some(octal(umask)),
            status.umask.map(octal),
        );
    }
}
