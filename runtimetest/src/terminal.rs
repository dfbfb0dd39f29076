//! Terminal: controlling when asked for, of the size asked for, and absent otherwise.
#![forbid(unsafe_code)]

use crate::applet;
use crate::config::Config;
use crate::kernel::stat;
use crate::report::Report;
use nix::unistd::{Pid, getpid, getsid};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Judges `process.terminal` and `process.consoleSize`.
pub fn check(config: &Config, report: &mut Report) {
    let process = &config.process;
    let got = getsid(None)
        .map(Pid::as_raw)
        .map_err(|errno| errno.to_string());
    report.equal(
        "the process leads its own session",
        Ok(getpid().as_raw()),
        got,
    );
    let claim = "process.terminal: the controlling terminal can be seen";
    let Some(stat) = report.seen(claim, "/proc/self/stat", stat()) else {
        return;
    };
    if !process.terminal {
        let claim = "without process.terminal there is no controlling terminal";
        report.equal(claim, 0, stat.tty_nr);
        return;
    }
    // Zero is what a process without a terminal and a pipe have in common.
    let stdin = fs::metadata("/proc/self/fd/0")
        .ok()
        .and_then(|d| i32::try_from(d.rdev()).ok());
    let claim = "process.terminal: stdin is the controlling terminal";
    let ok = stat.tty_nr != 0 && stdin == Some(stat.tty_nr);
    report.holds(claim, "the same device", (stdin, stat.tty_nr), ok);
    let claim = "process.terminal: the process is in the terminal's foreground";
    report.equal(claim, stat.pgrp, stat.tpgid);
    // The runtime chowns the slave, or the user could not open /dev/stdout.
    let owner = fs::metadata("/proc/self/fd/0").map(|data| data.uid());
    let owner = owner.map_err(|error| error.to_string());
    report.equal(
        "process.terminal belongs to the user",
        Ok(process.user.uid),
        owner,
    );
    if let Some(size) = &process.console_size {
        let want = format!("{} {}", size.height, size.width);
        if let Some(got) = applet::output("stty", &["size"]) {
            report.equal("process.consoleSize is that of the terminal", Ok(want), got);
        }
    }
}
