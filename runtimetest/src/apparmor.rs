//! AppArmor: the profile the process is confined by.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// Judges `process.apparmorProfile`.
pub fn check(config: &Config, report: &mut Report) {
    let want = &config.process.apparmor_profile;
    if want.is_empty() {
        return;
    }
    // With several security modules the shared file may be another's.
    let got = text("/proc/self/attr/apparmor/current").or_else(|_| text("/proc/self/attr/current"));
    let got = got.map(|label| label.split(" (").next().unwrap_or_default().to_owned());
    report.equal(
        "process.apparmorProfile confines the process",
        Ok(want.clone()),
        got,
    );
}
