//! Scheduler: policy, niceness and priority.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::stat;
use crate::report::Report;

/// sched(7), by number.
const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Judges `process.scheduler`.
pub fn check(config: &Config, report: &mut Report) {
    let Some(asked) = &config.process.scheduler else {
        return;
    };
    let claim = "process.scheduler: the scheduler's view can be seen";
    let Some(stat) = report.seen(claim, "/proc/self/stat", stat()) else {
        return;
    };
    let number = POLICIES
        .iter()
        .find(|(name, _)| *name == asked.policy)
        .map(|(_, n)| *n);
    report.equal(
        "process.scheduler.policy is that of the process",
        number,
        stat.policy,
    );
    match asked.policy.as_str() {
        "SCHED_OTHER" | "SCHED_BATCH" => {
            report.equal(
                "process.scheduler.nice is that of the process",
                asked.nice,
                stat.nice,
            );
        }
        "SCHED_FIFO" | "SCHED_RR" => {
            let got = stat.rt_priority;
            let claim = "process.scheduler.priority is that of the process";
            report.equal(claim, Some(asked.priority), got);
        }
        // A deadline's parameters show nowhere: /proc/self/sched counts down what is left of them.
        _ => {}
    }
}
