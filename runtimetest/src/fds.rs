//! File descriptors: nothing of the runtime's or the host's stays open (CVE-2024-21626).
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;
use std::fs;

/// Judges what is open besides the standard streams.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "only the standard streams and preserved descriptors are open";
    let listing = format!("/proc/{}/fd", std::process::id());
    let Some(entries) = report.seen(claim, "0, 1, 2", fs::read_dir("/proc/self/fd")) else {
        return;
    };
    let mut open: Vec<(i32, String)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let fd = entry.file_name().to_str()?.parse().ok()?;
            Some((
                fd,
                fs::read_link(entry.path())
                    .ok()?
                    .to_string_lossy()
                    .into_owned(),
            ))
        })
        // The descriptor that lists the descriptors.
        .filter(|(_, target)| *target != listing)
        .collect();
    open.sort();
    let last = 2 + config.asked.preserve_fds;
    let strangers: Vec<&(i32, String)> = open.iter().filter(|(fd, _)| *fd > last).collect();
    report.equal(claim, Vec::new(), strangers);
    let standard: Vec<i32> = open
        .iter()
        .map(|(fd, _)| *fd)
        .filter(|fd| *fd <= 2)
        .collect();
    report.equal("the standard streams are open", vec![0, 1, 2], standard);
    // A directory of the host would be a way out, whichever number it has.
    let is_dir = |fd: i32| fs::metadata(format!("/proc/self/fd/{fd}")).is_ok_and(|d| d.is_dir());
    let dirs: Vec<&(i32, String)> = open
        .iter()
        .filter(|(fd, _)| *fd <= 2 && is_dir(*fd))
        .collect();
    report.equal("no standard stream is a directory", Vec::new(), dirs);
}
