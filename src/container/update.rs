//! `update`: other limits for a container that lives.
#![forbid(unsafe_code)]

use super::store::RESOURCES;
use super::{Container, Status};
use crate::bundle::config::{BlockIo, Config, Resources, ThrottleDevice, WeightDevice};
use crate::bundle::parse;
use crate::error::{Doing, Error, Explain, Result};
use crate::limit::cgroup::CgroupPlan;
use crate::limit::rdt::Record;
use std::path::Path;

impl Container {
    /// Sets the limits that `asked` names, by runc's rules; device rules stay, and so does a pause.
    ///
    /// Of the rest, what belongs to a limit asked for is set to its last value again. What is then
    /// in force is kept for the next update. If the kernel refuses one limit, none is changed.
    ///
    /// `l3` and `bandwidth` are its share of caches and of memory bandwidth, in resctrl's words;
    /// what is empty stays. They are set last.
    ///
    /// # Errors
    /// The container is not running, a limit is wrong or refused, or the host or the container has
    /// no such share.
    pub fn update(&self, asked: &Resources, l3: &str, bandwidth: &str) -> Result<()> {
        // First: what the host lacks is told before anything is changed.
        let schema = self.schema(l3, bandwidth).on(self.id())?;
        let _lock = self.dir().lock()?;
        if self.current_status()? == Status::Stopped {
            return Err(Error::rule(Doing::Update, "container not running").on(self.id()));
        }
        self.set(asked).within(Doing::Update).on(self.id())?;
        match &self.state().creel.rdt {
            Some(rdt) if !schema.is_empty() => rdt.set(&schema).on(self.id()),
            _ => Ok(()),
        }
    }

    fn schema(&self, l3: &str, bandwidth: &str) -> Result<String> {
        match &self.state().creel.rdt {
            None if l3.is_empty() && bandwidth.is_empty() => Ok(String::new()),
            None if Path::new("/sys/fs/resctrl/info").exists() => {
                let why = "updating a non-existent Intel RDT configuration is not supported";
                Err(Error::rule(Doing::Update, why))
            }
            // Without a group it says what the host lacks.
            None => Record::default().schema(l3, bandwidth),
            Some(rdt) => rdt.schema(l3, bandwidth),
        }
    }

    fn set(&self, asked: &Resources) -> Result<()> {
        let mut kept = match self.dir().resources()? {
            Some(bytes) => parse(&bytes, RESOURCES)?,
            None => {
                let bytes = self.dir().config()?.unwrap_or_default();
                let config: Config = parse(&bytes, "config.json")?;
                config.linux.resources.unwrap_or_default()
            }
        };
        let plan = CgroupPlan::update(&merge(&mut kept, asked))?;
        self.cgroup()?.apply_limits(&plan)?;
        let json = serde_json::to_vec(&kept)
            .map_err(|error| Error::rule(Doing::WriteState, error.to_string()))?;
        self.dir().write(RESOURCES, &json)
    }
}

/// A value that was asked for replaces the one that is kept.
fn set<T: Clone>(kept: &mut Option<T>, asked: &Option<T>) {
    if asked.is_some() {
        kept.clone_from(asked);
    }
}

/// Brings `kept` up to date and returns what is to be written: runc's rules, and its reasons.
pub(super) fn merge(kept: &mut Resources, asked: &Resources) -> Resources {
    let wanted = asked.memory.clone().unwrap_or_default();
    let memory = kept.memory.get_or_insert_default();
    set(&mut memory.limit, &wanted.limit);
    set(&mut memory.reservation, &wanted.reservation);
    set(&mut memory.swap, &wanted.swap);
    if wanted.limit == Some(-1) && wanted.swap.is_none() {
        // A limit of swap makes no sense without one of memory.
        memory.swap = Some(0);
    }
    memory.check_before_update = wanted.check_before_update;

    let wanted = asked.cpu.clone().unwrap_or_default();
    let cpu = kept.cpu.get_or_insert_default();
    let (period, quota) = (
        wanted.period.filter(|period| *period != 0),
        wanted.quota.filter(|quota| *quota != 0),
    );
    set(&mut cpu.period, &period);
    set(&mut cpu.quota, &quota);
    set(&mut cpu.burst, &wanted.burst);
    set(&mut cpu.idle, &wanted.idle);
    set(&mut cpu.realtime_period, &wanted.realtime_period);
    set(&mut cpu.realtime_runtime, &wanted.realtime_runtime);
    set(&mut cpu.shares, &wanted.shares);
    if wanted.idle.is_some() && wanted.shares.is_none() {
        // The kernel takes no weight for what is idle.
        cpu.shares = Some(0);
    }
    for (kept, wanted) in [(&mut cpu.cpus, &wanted.cpus), (&mut cpu.mems, &wanted.mems)] {
        if !wanted.is_empty() {
            kept.clone_from(wanted);
        }
    }
    if asked.pids.as_ref().is_some_and(|pids| pids.limit.is_some()) {
        kept.pids.clone_from(&asked.pids);
    }
    kept.unified.extend(asked.unified.clone());
    if let Some(wanted) = &asked.block_io {
        block_io(kept.block_io.get_or_insert_default(), wanted);
    }

    let mut write = kept.clone();
    if let Some(cpu) = &mut write.cpu {
        if period.is_none() && quota.is_none() {
            (cpu.period, cpu.quota) = (None, None);
        }
        (cpu.burst, cpu.idle) = (wanted.burst, wanted.idle);
        (cpu.cpus, cpu.mems) = (wanted.cpus, wanted.mems);
    }
    write.pids.clone_from(&asked.pids);
    write.unified.clone_from(&asked.unified);
    write
}

fn block_io(kept: &mut BlockIo, asked: &BlockIo) {
    set(&mut kept.weight, &asked.weight);
    set(&mut kept.leaf_weight, &asked.leaf_weight);
    for device in &asked.weight_device {
        let same = |one: &&mut WeightDevice| (one.major, one.minor) == (device.major, device.minor);
        // Of two entries the last one counts.
        match kept.weight_device.iter_mut().rev().find(same) {
            Some(one) => {
                set(&mut one.weight, &device.weight);
                set(&mut one.leaf_weight, &device.leaf_weight);
            }
            None => kept.weight_device.push(device.clone()),
        }
    }
    for (kept, asked) in [
        (
            &mut kept.throttle_read_bps_device,
            &asked.throttle_read_bps_device,
        ),
        (
            &mut kept.throttle_write_bps_device,
            &asked.throttle_write_bps_device,
        ),
        (
            &mut kept.throttle_read_iops_device,
            &asked.throttle_read_iops_device,
        ),
        (
            &mut kept.throttle_write_iops_device,
            &asked.throttle_write_iops_device,
        ),
    ] {
        for device in asked {
            let same =
                |one: &&mut ThrottleDevice| (one.major, one.minor) == (device.major, device.minor);
            match kept.iter_mut().rev().find(same) {
                Some(one) => one.rate = device.rate,
                None => kept.push(device.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    fn merged(kept: &str, asked: &str) -> (Resources, Resources) {
        let mut kept = resources(kept);
        let write = merge(&mut kept, &resources(asked));
        (kept, write)
    }

    #[test]
    fn what_is_not_asked_for_keeps_its_value_and_is_written_again() {
        let (kept, write) = merged(
            r#"{"memory": {"limit": 10, "swap": 20}, "hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}"#,
            r#"{"memory": {"limit": 15}}"#,
        );
        let memory = write.memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(15), Some(20)));
        assert_eq!(write.hugepage_limits.len(), 1);
        assert_eq!(kept.memory.unwrap().limit, Some(15));
    }

    #[test]
    fn quota_and_period_complete_each_other_and_are_left_alone_when_neither_is_asked_for() {
        let first = r#"{"cpu": {"quota": 5000, "period": 100000}}"#;
        let (_, write) = merged(first, r#"{"cpu": {"quota": 7000}}"#);
        let cpu = write.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(7000), Some(100_000)));
        let (_, write) = merged(first, r#"{"cpu": {"period": 50000, "quota": 0}}"#);
        let cpu = write.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(5000), Some(50_000)));
        let (kept, write) = merged(first, r#"{"memory": {"limit": 1}}"#);
        let cpu = write.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (None, None));
        assert_eq!(kept.cpu.unwrap().quota, Some(5000));
    }

    #[test]
    fn pids_cpusets_burst_idle_and_unified_are_written_only_when_asked_for() {
        let (kept, write) = merged(
            r#"{"pids": {"limit": 5}, "cpu": {"cpus": "0", "burst": 1, "idle": 1}, "unified": {"a.b": "c"}}"#,
            "{}",
        );
        assert_eq!(write.pids, None);
        let cpu = write.cpu.unwrap();
        assert_eq!((cpu.burst, cpu.idle, cpu.cpus.as_str()), (None, None, ""));
        assert!(write.unified.is_empty());
        assert_eq!(kept.pids.unwrap().limit, Some(5));
    }

    #[test]
    fn no_memory_limit_drops_that_of_swap_and_idle_drops_the_shares() {
        let (_, write) = merged(
            r#"{"memory": {"limit": 10, "swap": 20}, "cpu": {"shares": 512}}"#,
            r#"{"memory": {"limit": -1}, "cpu": {"idle": 1}}"#,
        );
        assert_eq!(write.memory.unwrap().swap, Some(0));
        assert_eq!(write.cpu.unwrap().shares, Some(0));
    }

    #[test]
    fn devices_are_replaced_or_added() {
        let (kept, _) = merged(
            r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}"#,
            r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 30}, {"major": 9, "minor": 0}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}]}}"#,
        );
        let io = kept.block_io.unwrap();
        assert_eq!(io.weight_device.len(), 2);
        assert_eq!(
            (io.weight_device[0].weight, io.weight_device[0].leaf_weight),
            (Some(30), Some(20))
        );
        assert_eq!(io.throttle_read_bps_device[0].rate, 2);
        assert_eq!(io.throttle_write_iops_device[0].rate, 3);
    }
}
