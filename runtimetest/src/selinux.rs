//! SELinux: the context the process runs in.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// Judges `process.selinuxLabel`.
pub fn check(config: &Config, report: &mut Report) {
    let want = &config.process.selinux_label;
    if !want.is_empty() {
        let got = text("/proc/self/attr/current");
        report.equal(
            "process.selinuxLabel is the process's context",
            Ok(want.clone()),
            got,
        );
    }
}
