//! The limits of a container, read by cgroups-rs: a second opinion that knows no runtime.
#![forbid(unsafe_code)]

use crate::case::Result;
use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::cgroup::Cgroup;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::hierarchies;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use std::path::{Path, PathBuf};

/// The cgroup at a `cgroupsPath` that starts with a slash, in whatever hierarchies there are.
pub struct Limits {
    cgroup: Cgroup,
    path: String,
}

impl Limits {
    /// The limits at that path.
    pub fn at(path: &str) -> Self {
        let path = path.trim_start_matches('/').to_owned();
        Self {
            cgroup: Cgroup::load(hierarchies::auto(), &path),
            path,
        }
    }

    /// Whether the hierarchy is the unified one.
    pub fn v2(&self) -> bool {
        self.cgroup.v2()
    }

    /// Whether every process listed there is one of these.
    pub fn processes(&self) -> Vec<u64> {
        self.cgroup
            .procs()
            .iter()
            .map(|process| process.pid)
            .collect()
    }

    fn memory(&self) -> Result<&MemController> {
        Ok(self.cgroup.controller_of().ok_or("no memory controller")?)
    }

    fn cpu(&self) -> Result<&CpuController> {
        Ok(self.cgroup.controller_of().ok_or("no cpu controller")?)
    }

    /// The memory limit in bytes.
    pub fn memory_limit(&self) -> Result<i64> {
        Ok(self.memory()?.memory_stat().limit_in_bytes)
    }

    /// The memory reservation in bytes.
    pub fn memory_reservation(&self) -> Result<i64> {
        Ok(self.memory()?.memory_stat().soft_limit_in_bytes)
    }

    /// Memory in use, in bytes.
    pub fn memory_usage(&self) -> Result<u64> {
        Ok(self.memory()?.memory_stat().usage_in_bytes)
    }

    /// The most there ever was, in bytes.
    pub fn memory_peak(&self) -> Result<u64> {
        if self.v2() {
            return Ok(self.file("memory", "memory.peak")?.parse()?);
        }
        Ok(self.memory()?.memory_stat().max_usage_in_bytes)
    }

    /// Page faults so far.
    pub fn page_faults(&self) -> Result<u64> {
        Ok(self.memory()?.memory_stat().stat.pgfault)
    }

    /// Processor time so far, in nanoseconds.
    pub fn cpu_usage(&self) -> Result<u64> {
        if !self.v2() {
            let cpuacct: &CpuAcctController = self.cgroup.controller_of().ok_or("no cpuacct")?;
            return Ok(cpuacct.cpuacct().usage);
        }
        let stat = self.cpu()?.cpu().stat;
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        Ok(line.ok_or("no usage_usec")?.trim().parse::<u64>()? * 1000)
    }

    /// How many tasks there are.
    pub fn pids_now(&self) -> Result<u64> {
        let pids: &PidController = self.cgroup.controller_of().ok_or("no pids controller")?;
        Ok(pids.get_pid_current()?)
    }

    /// Swap: on v1 the limit of memory and swap together.
    pub fn swap_limit(&self) -> Result<i64> {
        Ok(self.memory()?.memswap().limit_in_bytes)
    }

    /// The swappiness, v1 only.
    pub fn swappiness(&self) -> Result<u64> {
        Ok(self.memory()?.memory_stat().swappiness)
    }

    /// CPU shares; on v2 the weight.
    pub fn shares(&self) -> Result<u64> {
        Ok(self.cpu()?.shares()?)
    }

    /// The CFS quota in microseconds.
    pub fn quota(&self) -> Result<i64> {
        Ok(self.cpu()?.cfs_quota()?)
    }

    /// The CFS period in microseconds.
    pub fn period(&self) -> Result<u64> {
        Ok(self.cpu()?.cfs_period()?)
    }

    /// How often the quota was hit.
    pub fn throttled(&self) -> Result<u64> {
        self.cpu_stat(&["nr_throttled"])
    }

    /// How long processes had to wait for it, in the hierarchy's own unit.
    pub fn throttled_time(&self) -> Result<u64> {
        self.cpu_stat(&["throttled_time", "throttled_usec"])
    }

    /// The line of cpu.stat that has one of these names.
    fn cpu_stat(&self, names: &[&str]) -> Result<u64> {
        let stat = self.cpu()?.cpu().stat;
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(name, _)| names.contains(name));
        let (_, value) = found.ok_or(format!("none of {names:?} in cpu.stat"))?;
        Ok(value.trim().parse()?)
    }

    /// The allowed CPUs, as ranges.
    pub fn cpus(&self) -> Result<Vec<(u64, u64)>> {
        let cpuset: &CpuSetController = self.cgroup.controller_of().ok_or("no cpuset")?;
        Ok(cpuset.cpuset().cpus)
    }

    /// The allowed memory nodes, as ranges.
    pub fn mems(&self) -> Result<Vec<(u64, u64)>> {
        let cpuset: &CpuSetController = self.cgroup.controller_of().ok_or("no cpuset")?;
        Ok(cpuset.cpuset().mems)
    }

    /// How many processes there may be; `None` is no limit.
    pub fn pids(&self) -> Result<Option<i64>> {
        let pids: &PidController = self.cgroup.controller_of().ok_or("no pids controller")?;
        Ok(match pids.get_pid_max()? {
            MaxValue::Max => None,
            MaxValue::Value(limit) => Some(limit),
        })
    }

    /// (major, minor, bytes per second) of the read limits, v1 only.
    pub fn read_bps(&self) -> Result<Vec<(i16, i16, u64)>> {
        let blkio: &BlkIoController = self.cgroup.controller_of().ok_or("no blkio controller")?;
        let devices = blkio.blkio().throttle.read_bps_device;
        Ok(devices
            .iter()
            .map(|device| (device.major, device.minor, device.data))
            .collect())
    }

    /// A file of that controller's directory, for what cgroups-rs does not read.
    pub fn file(&self, controller: &str, file: &str) -> Result<String> {
        let path = self.directory(controller).join(file);
        let text = std::fs::read_to_string(&path);
        Ok(text
            .map_err(|e| format!("{}: {e}", path.display()))?
            .trim()
            .to_owned())
    }

    /// The directory of that controller.
    pub fn directory(&self, controller: &str) -> PathBuf {
        let top = Path::new("/sys/fs/cgroup");
        match self.v2() {
            true => top.join(&self.path),
            false => top.join(controller).join(&self.path),
        }
    }
}
