//! LIMIT, measured: what a container has used, as the kernel's files say.
//!
//! The types serialise as the `data` of runc's `events`, key by key; what that has no key for, and
//! containerd's metrics need, is skipped there. Counters count since the cgroup was made.
#![forbid(unsafe_code)]

pub(super) mod text;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use super::Cgroup;
use crate::error::Result;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// All numbers of one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Whether they are of a cgroup v2, whose `memory.raw` has other keys.
    #[serde(skip)]
    pub unified: bool,
    /// Processor time.
    pub cpu: Cpu,
    /// Where it may run; v1 only, as in runc.
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages by size, as `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Cache and memory bandwidth control.
    pub intel_rdt: crate::limit::rdt::stats::Stats,
    /// RDMA devices: used, and allowed.
    #[serde(skip)]
    pub rdma: (Vec<Rdma>, Vec<Rdma>),
    /// Always absent: runc lists only interfaces that it made itself, and no caller asks it to.
    pub network_interfaces: Option<Vec<()>>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Used.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: CpuUsage,
    /// Denied by the quota.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttling: Throttling,
    /// Waited for; v2 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub psi: Option<Pressure>,
}

/// Nanoseconds of processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// In all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By processor; v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub percpu: Vec<u64>,
    /// In the kernel, by processor; v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode, by processor; v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// How the quota was felt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Of those, how many used up the quota.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds of standing still.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
    /// Periods that used what earlier ones had left; v2 only.
    #[serde(skip)]
    pub bursts: u64,
    /// Nanoseconds of that.
    #[serde(skip)]
    pub burst_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some task was stalled.
    #[serde(skip_serializing_if = "is_zero")]
    pub some: Stall,
    /// All tasks were.
    #[serde(skip_serializing_if = "is_zero")]
    pub full: Stall,
}

/// Shares of time in percent, and microseconds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stall {
    /// Of the last 10 seconds.
    #[serde(serialize_with = "as_go")]
    pub avg10: f64,
    /// Of the last minute.
    #[serde(serialize_with = "as_go")]
    pub avg60: f64,
    /// Of the last five minutes.
    #[serde(serialize_with = "as_go")]
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// The files of the cpuset controller, under their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // each is a file of cgroup-v1/cpusets.rst
pub struct Cpuset {
    #[serde(skip_serializing_if = "is_zero")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: MemoryEntry,
    /// Memory and swap together.
    #[serde(skip_serializing_if = "is_zero")]
    pub swap: MemoryEntry,
    /// Swap alone.
    #[serde(skip)]
    pub swap_only: MemoryEntry,
    /// Kernel memory; v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel: MemoryEntry,
    /// Socket buffers; v1 only.
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_zero")]
    pub kernel_tcp: MemoryEntry,
    /// memory.stat.
    #[serde(skip_serializing_if = "is_zero")]
    pub raw: BTreeMap<String, u64>,
    /// memory.events, or v1's memory.oom_control.
    #[serde(skip)]
    pub events: BTreeMap<String, u64>,
    /// Waited for; v2 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub psi: Option<Pressure>,
}

/// A kind of memory, in bytes; [`u64::MAX`] is no limit on v2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// Allowed.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there ever was.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Tasks: processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// There are.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// There may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Input and output of block devices, under v1's names on v2 too.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Requests that wait now.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "is_zero")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    /// Nanoseconds of service.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// Nanoseconds of waiting.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Requests that were merged.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// Milliseconds that a device was theirs.
    #[serde(skip_serializing_if = "is_zero")]
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "is_zero")]
    pub sectors_recursive: Vec<BlkioEntry>,
    /// Waited for; v2 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub psi: Option<Pressure>,
}

/// One count of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// The device.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The device.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write`, and on v1 `Sync`, `Async`, `Discard`, `Total`; may be empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub op: String,
    /// How many.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hugetlb {
    /// In use, or reserved where the kernel counts that.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most there ever was; v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// Allowed.
    #[serde(skip)]
    pub limit: u64,
}

/// One RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// Its name.
    pub device: String,
    /// Handles; [`u32::MAX`] is no limit.
    pub hca_handles: u32,
    /// Objects; [`u32::MAX`] is no limit.
    pub hca_objects: u32,
}

/// What Go calls zero, and leaves out.
fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number as Go prints it: whole ones without a point.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn as_go<S: Serializer>(value: &f64, to: S) -> std::result::Result<S::Ok, S::Error> {
    // Percent: whole values are few.
    match (0..=100_u8).find(|whole| f64::from(*whole) == *value) {
        Some(whole) => to.serialize_u8(whole),
        None => to.serialize_f64(*value),
    }
}

impl Cgroup {
    /// Reads all numbers. Of controllers that are not there, and of a cgroup that is gone, they
    /// are zero, as in runc.
    pub(crate) fn stats(&self) -> Result<Stats> {
        match self.files() {
            files @ Self::V2(_) => v2::read(files),
            files @ Self::V1(_) => v1::read(files),
            _ => Ok(Stats::default()),
        }
    }
}
