//! Signals: none blocked, none ignored, none waiting for the parent's death.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::status;
use crate::report::Report;
use nix::sys::prctl;

/// Rust's own start-up ignores SIGPIPE before `main`, so that one cannot be judged here.
const SIGPIPE: u64 = 1 << 12;

/// The C library's own two, 32 and 33: the first is ignored in all that glibc's `posix_spawn` starts, so
/// by most of those who start a runtime.
const RESERVED: u64 = 3 << 31;

/// Judges what a program inherits about signals; the spec expects a plain execve.
pub fn check(_: &Config, report: &mut Report) {
    let claim = "the signals can be seen";
    let Some(status) = report.seen(claim, "/proc/self/status", status()) else {
        return;
    };
    let hex = |mask: u64| format!("{mask:016x}");
    report.equal("no signal is blocked", hex(0), hex(status.sigblk));
    report.equal(
        "no signal is ignored",
        hex(0),
        hex(status.sigign & !(SIGPIPE | RESERVED)),
    );
    report.equal(
        "no signal is pending",
        hex(0),
        hex(status.sigpnd | status.shdpnd),
    );
    let got = prctl::get_pdeathsig().map_err(|errno| errno.to_string());
    report.equal(
        "no signal comes when the runtime ends",
        Ok(None),
        got.map(|s| s.map(|s| s.to_string())),
    );
    let got = prctl::get_child_subreaper().map_err(|errno| errno.to_string());
    report.equal("the process is not a subreaper", Ok(false), got);
}
