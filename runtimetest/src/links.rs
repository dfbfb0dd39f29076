//! Links below /dev to what the process has open, and to the container's own ptmx.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;
use nix::sys::stat::{major, minor};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Dev symbolic links (config-linux.md): to be made when their target is there.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Judges the links of the runtime specification.
pub fn check(config: &Config, report: &mut Report) {
    // A /dev brought from elsewhere keeps its own links.
    if config.binds_dev() {
        return;
    }
    if config.mounts.iter().any(|mount| mount.kind == "proc") {
        for (link, target) in LINKS {
            let claim = format!("dev symbolic links: {link} leads to {target}");
            let got = fs::read_link(link).map(|to| to.to_string_lossy().into_owned());
            report.equal(
                claim,
                Ok((*target).to_owned()),
                got.map_err(|e| e.to_string()),
            );
        }
    }
    if config.mounts.iter().any(|mount| mount.kind == "devpts") {
        let claim = "default devices: /dev/ptmx is the container's own /dev/pts/ptmx";
        let want = "a link to pts/ptmx, or the same device mounted there";
        let link = fs::read_link("/dev/ptmx").map(|to| to.to_string_lossy().into_owned());
        let is_link = link
            .as_deref()
            .is_ok_and(|to| matches!(to, "pts/ptmx" | "/dev/pts/ptmx"));
        let same = match (
            fs::symlink_metadata("/dev/ptmx"),
            fs::metadata("/dev/pts/ptmx"),
        ) {
            (Ok(here), Ok(there)) => (here.dev(), here.ino()) == (there.dev(), there.ino()),
            _ => false,
        };
        report.holds(
            claim,
            want,
            link.map_err(|e| e.to_string()),
            is_link || same,
        );

        let data = fs::metadata("/dev/ptmx");
        let ok = data.as_ref().is_ok_and(|d| {
            d.file_type().is_char_device() && (major(d.rdev()), minor(d.rdev())) == (5, 2)
        });
        let got = data.map(|d| format!("{}:{}", major(d.rdev()), minor(d.rdev())));
        let got = got.map_err(|error| error.to_string());
        report.holds("default devices: /dev/ptmx makes terminals", "5:2", got, ok);
    }
}
