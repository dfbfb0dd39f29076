//! Standard streams: usable, and the terminal when there is one.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;
use std::fs;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::unix::fs::MetadataExt;

/// Judges the standard streams against `process.terminal`.
pub fn check(config: &Config, report: &mut Report) {
    if config.process.terminal {
        let got = [
            stdin().is_terminal(),
            stdout().is_terminal(),
            stderr().is_terminal(),
        ];
        report.equal(
            "process.terminal: the standard streams are the terminal",
            [true; 3],
            got,
        );
    }
    // /proc/self/fd/N is opened anew: the user must own the streams for /dev/stdout to work.
    let ids: Vec<Option<(u64, u64)>> = (0..3)
        .map(|fd| {
            fs::metadata(format!("/proc/self/fd/{fd}"))
                .ok()
                .map(|d| (d.dev(), d.ino()))
        })
        .collect();
    let ok = ids.iter().all(Option::is_some);
    report.holds(
        "the standard streams can be looked at",
        "three files",
        &ids,
        ok,
    );
    if config.process.terminal {
        let same = ids.windows(2).all(|pair| pair.first() == pair.last());
        report.holds(
            "process.terminal: the standard streams are one terminal",
            "one",
            &ids,
            same,
        );
    }
}
