//! Privileges: whether execve can bring new ones.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;
use nix::sys::prctl;

/// Judges `process.noNewPrivileges`.
pub fn check(config: &Config, report: &mut Report) {
    let got = prctl::get_no_new_privs().map_err(|errno| errno.to_string());
    let claim = "process.noNewPrivileges is that of the process";
    report.equal(claim, Ok(config.process.no_new_privileges), got);
    // capset(2) after a change of user needs it, and a runtime may forget to take it back.
    let got = prctl::get_keepcaps().map_err(|errno| errno.to_string());
    report.equal(
        "capabilities do not outlive a change of user",
        Ok(false),
        got,
    );
}
