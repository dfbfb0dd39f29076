//! Scheduler: policy, niceness and priority.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::{stat, text};
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
        "SCHED_DEADLINE" => deadline(config, report),
        _ => {}
    }
}

/// Only a kernel built for debugging tells.
fn deadline(config: &Config, report: &mut Report) {
    let (Some(asked), Ok(table)) = (&config.process.scheduler, text("/proc/self/sched")) else {
        return;
    };
    for (name, want) in [
        ("dl.runtime", asked.runtime),
        ("dl.deadline", asked.deadline),
        ("dl.period", asked.period),
    ] {
        let line = table
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split(':').nth(1));
        if let Some(got) = line.and_then(|value| value.trim().parse::<u64>().ok()) {
            report.equal(format!("process.scheduler: {name} is as listed"), want, got);
        }
    }
}
