//! `process.scheduler` (config.md, sched_setattr(2)).
#![forbid(unsafe_code)]

use crate::bundle::config::{Config, Process};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::sched::{SchedAttr, set_scheduler};

/// A scheduling policy to adopt.
#[derive(Debug)]
pub(crate) struct Scheduler(SchedAttr);

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

impl Scheduler {
    pub(crate) fn plan(process: &Process, config: &Config) -> Result<Option<Self>> {
        let Some(asked) = &process.scheduler else {
            return Ok(None);
        };
        let wrong = |field: &str, why: String| {
            Err(Error::rule(Doing::CheckConfig, why).field(format!("process.scheduler{field}")))
        };
        let Some((_, policy)) = POLICIES.iter().find(|(name, _)| *name == asked.policy) else {
            return wrong(
                ".policy",
                format!("invalid scheduler policy: {:?}", asked.policy),
            );
        };
        let mut attr = SchedAttr {
            size: u32::try_from(size_of::<SchedAttr>()).unwrap_or(0),
            policy: *policy,
            nice: asked.nice,
            runtime: asked.runtime,
            deadline: asked.deadline,
            period: asked.period,
            ..SchedAttr::default()
        };
        if !(-20..=19).contains(&asked.nice) {
            return wrong(".nice", format!("invalid scheduler.nice: {}", asked.nice));
        }
        let real_time = matches!(policy, 1 | 2);
        match u32::try_from(asked.priority) {
            Ok(priority) if priority <= 99 && (priority == 0 || real_time) => {
                attr.priority = priority;
            }
            _ if !real_time => {
                let why = "scheduler.priority can only be specified for SCHED_FIFO or SCHED_RR";
                return wrong(".priority", format!("{why} policy"));
            }
            _ => return wrong(".priority", format!("{} is not in 0..=99", asked.priority)),
        }
        if *policy != 6 && (asked.runtime, asked.deadline, asked.period) != (0, 0, 0) {
            let why = "scheduler runtime/deadline/period can only be specified for SCHED_DEADLINE";
            return wrong("", format!("{why} policy"));
        }
        for (index, flag) in asked.flags.iter().enumerate() {
            match FLAGS.iter().find(|(name, _)| name == flag) {
                Some((_, bit)) => attr.flags |= bit,
                None => {
                    return wrong(
                        &format!(".flags[{index}]"),
                        format!("invalid scheduler flag: {flag:?}"),
                    );
                }
            }
        }
        let pinned = config
            .linux
            .resources
            .as_ref()
            .and_then(|all| all.cpu.as_ref());
        if *policy == 6 && pinned.is_some_and(|cpu| !cpu.cpus.is_empty()) {
            // sched_setattr(2): EPERM for a deadline task whose affinity is not the whole domain.
            return wrong(
                ".policy",
                "process scheduler can't be used together with AllowedCPUs".to_owned(),
            );
        }
        Ok(Some(Self(attr)))
    }

    pub(crate) fn adopt(&self) -> Result<()> {
        let policy = POLICIES.iter().find(|(_, number)| *number == self.0.policy);
        set_scheduler(&self.0)
            .doing(Doing::SetScheduler)
            .on(policy.map_or("", |(name, _)| *name))
            .field("process.scheduler")
    }
}
