//! Time: the clocks of a new time namespace are off by what was asked.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::{squeezed, text};
use crate::report::Report;

/// Judges `linux.timeOffsets`.
pub fn check(config: &Config, report: &mut Report) {
    for (clock, offset) in &config.linux.time_offsets {
        let claim = format!("linux.timeOffsets: {clock} is off by the seconds listed");
        let secs = offset.secs().unwrap_or_default();
        let want = format!("{clock} {secs} {}", offset.nanosecs().unwrap_or_default());
        let Some(table) = report.seen(&claim, &want, text("/proc/self/timens_offsets")) else {
            continue;
        };
        let got = table
            .lines()
            .map(squeezed)
            .find(|line| line.starts_with(clock));
        report.equal(claim, Some(want), got);
    }
}
