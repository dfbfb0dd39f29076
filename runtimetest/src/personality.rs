//! Personality: which system the kernel plays for the process.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// Judges `linux.personality`.
pub fn check(config: &Config, report: &mut Report) {
    let Some(asked) = &config.linux.personality else {
        return;
    };
    let claim = "linux.personality.domain is that of the process";
    let want = match asked.domain.as_str() {
        "LINUX32" => 8,
        _ => 0,
    };
    let Some(got) = report.seen(claim, want, text("/proc/self/personality")) else {
        return;
    };
    // The upper bits are flags, of which the spec defines none.
    let got = u32::from_str_radix(&got, 16).map(|persona| persona & 0xff);
    report.equal(claim, Ok(want), got.map_err(|error| error.to_string()));
}
