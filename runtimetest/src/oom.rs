//! Out of memory: how likely the process is to go first.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// Judges `process.oomScoreAdj`.
pub fn check(config: &Config, report: &mut Report) {
    if let Some(score) = config.process.oom_score_adj {
        let got = text("/proc/self/oom_score_adj");
        report.equal(
            "process.oomScoreAdj is that of the process",
            Ok(score.to_string()),
            got,
        );
    }
}
