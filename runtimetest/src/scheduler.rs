//! Scheduler: policy, niceness and priority.
#![forbid(unsafe_code)]

use crate::applet;
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
    // What a child inherits shows the one flag that nothing else does.
    let resets = asked.flags.iter().any(|f| f == "SCHED_FLAG_RESET_ON_FORK");
    let special = !matches!(
        asked.policy.as_str(),
        "SCHED_OTHER" | "SCHED_BATCH" | "SCHED_IDLE"
    );
    if special || (resets && asked.nice < 0) {
        let claim = "process.scheduler.flags: a child's policy and niceness";
        if let Some(child) = applet::output("cat", &["/proc/self/stat"]) {
            let child = child.and_then(|line| {
                let rest = line.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
                rest.ok_or(line)
            });
            let Some(rest) = report.seen(claim, "/proc/self/stat", child) else {
                return;
            };
            // proc(5) counts from 1, and two fields are gone.
            let field = |n: usize| rest.split(' ').nth(n - 3).map(str::to_owned);
            let (policy, nice) = match resets {
                true => (0, 0.max(stat.nice)),
                false => (stat.policy.unwrap_or_default(), stat.nice),
            };
            let want = (Some(policy.to_string()), Some(nice.to_string()));
            report.equal(claim, want, (field(41), field(19)));
        }
    }
}
