//! LIMIT, measured on v1: one directory per controller (Documentation/admin-guide/cgroup-v1).
#![forbid(unsafe_code)]

use super::text::{devices, list, page_sizes};
use super::{Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Stats};
use super::{Pids, Throttling};
use crate::error::Result;
use crate::limit::cgroup::Cgroup;
use std::collections::BTreeMap;

/// cpuacct.stat counts in USER_HZ: 100 on every Linux.
const TICK: u64 = 1_000_000_000 / 100;

pub(super) fn read(group: &Cgroup) -> Result<Stats> {
    Ok(Stats {
        unified: false,
        cpu: cpu(group)?,
        cpuset: cpuset(group)?,
        memory: memory(group)?,
        pids: pids(group)?,
        blkio: blkio(group)?,
        hugetlb: hugetlb(group)?,
        rdma: group.rdma()?,
        ..Stats::default()
    })
}

fn cpu(group: &Cgroup) -> Result<Cpu> {
    let quota = group.map("cpu", "cpu.stat")?;
    let ticks = group.map("cpuacct", "cpuacct.stat")?;
    let each = group.read("cpuacct", "cpuacct.usage_percpu")?;
    let modes = group.read("cpuacct", "cpuacct.usage_all")?;
    let column = |index| {
        // The first line names the columns: cpu user system.
        let lines = modes.as_deref().unwrap_or_default().lines().skip(1);
        lines
            .filter_map(|line| line.split(' ').nth(index)?.parse().ok())
            .collect()
    };
    let of = |map: &BTreeMap<String, u64>, key| map.get(key).copied().unwrap_or(0);
    Ok(Cpu {
        usage: CpuUsage {
            total: group.number("cpuacct", "cpuacct.usage")?.unwrap_or(0),
            percpu: each
                .as_deref()
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|value| value.parse().ok())
                .collect(),
            percpu_kernel: column(2),
            percpu_user: column(1),
            kernel: of(&ticks, "system").saturating_mul(TICK),
            user: of(&ticks, "user").saturating_mul(TICK),
        },
        throttling: Throttling {
            periods: of(&quota, "nr_periods"),
            throttled_periods: of(&quota, "nr_throttled"),
            throttled_time: of(&quota, "throttled_time"),
            ..Throttling::default()
        },
        psi: None,
    })
}

fn cpuset(group: &Cgroup) -> Result<Cpuset> {
    let numbers = |name: &str| -> Result<Vec<u16>> {
        let text = group.read("cpuset", &format!("cpuset.{name}"))?;
        Ok(text.as_deref().map(list).unwrap_or_default())
    };
    let flag = |name: &str| -> Result<u64> {
        let value = group.number("cpuset", &format!("cpuset.{name}"))?;
        Ok(value.unwrap_or(0))
    };
    let level = group.read("cpuset", "cpuset.sched_relax_domain_level")?;
    Ok(Cpuset {
        cpus: numbers("cpus")?,
        cpu_exclusive: flag("cpu_exclusive")?,
        mems: numbers("mems")?,
        mem_hardwall: flag("mem_hardwall")?,
        mem_exclusive: flag("mem_exclusive")?,
        memory_migrate: flag("memory_migrate")?,
        memory_spread_page: flag("memory_spread_page")?,
        memory_spread_slab: flag("memory_spread_slab")?,
        memory_pressure: flag("memory_pressure")?,
        sched_load_balance: flag("sched_load_balance")?,
        sched_relax_domain_level: level
            .and_then(|level| level.trim().parse().ok())
            .unwrap_or(0),
    })
}

fn memory(group: &Cgroup) -> Result<Memory> {
    let entry = |kind: &str| -> Result<MemoryEntry> {
        let of = |what: &str| -> Result<u64> {
            let value = group.number("memory", &format!("memory.{kind}{what}"))?;
            Ok(value.unwrap_or(0))
        };
        Ok(MemoryEntry {
            limit: of("limit_in_bytes")?,
            usage: of("usage_in_bytes")?,
            max: of("max_usage_in_bytes")?,
            failcnt: of("failcnt")?,
        })
    };
    let raw = group.map("memory", "memory.stat")?;
    let (usage, swap) = (entry("")?, entry("memsw.")?);
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage,
        swap,
        swap_only: MemoryEntry {
            // Read one after the other: the difference may be below zero.
            usage: swap.usage.saturating_sub(usage.usage),
            failcnt: swap.failcnt.saturating_sub(usage.failcnt),
            ..MemoryEntry::default()
        },
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw,
        events: group.map("memory", "memory.oom_control")?,
        psi: None,
    })
}

fn pids(group: &Cgroup) -> Result<Pids> {
    Ok(Pids {
        current: group.number("pids", "pids.current")?.unwrap_or(0),
        limit: group
            .number("pids", "pids.max")?
            .filter(|limit| *limit != u64::MAX)
            .unwrap_or(0),
    })
}

/// From the scheduler that counts most: BFQ with debugging, BFQ, CFQ, or what throttling counts.
fn blkio(group: &Cgroup) -> Result<Blkio> {
    let of = |file: &str| -> Result<Option<Vec<BlkioEntry>>> {
        let text = group.read("blkio", &format!("blkio.{file}"))?;
        Ok(text.as_deref().map(devices).filter(|list| !list.is_empty()))
    };
    for scheduler in ["bfq.", ""] {
        let of = |file: &str| of(&format!("{scheduler}{file}_recursive"));
        if let Some(sectors) = of("sectors")? {
            return Ok(Blkio {
                io_service_bytes_recursive: of("io_service_bytes")?.unwrap_or_default(),
                io_serviced_recursive: of("io_serviced")?.unwrap_or_default(),
                io_queued_recursive: of("io_queued")?.unwrap_or_default(),
                io_service_time_recursive: of("io_service_time")?.unwrap_or_default(),
                io_wait_time_recursive: of("io_wait_time")?.unwrap_or_default(),
                io_merged_recursive: of("io_merged")?.unwrap_or_default(),
                io_time_recursive: of("time")?.unwrap_or_default(),
                sectors_recursive: sectors,
                psi: None,
            });
        }
    }
    for (from, to) in [
        ("bfq.", "_recursive"),
        ("throttle.", "_recursive"),
        ("throttle.", ""),
    ] {
        let of = |file: &str| of(&format!("{from}{file}{to}"));
        if let Some(serviced) = of("io_serviced")? {
            return Ok(Blkio {
                io_service_bytes_recursive: of("io_service_bytes")?.unwrap_or_default(),
                io_serviced_recursive: serviced,
                ..Blkio::default()
            });
        }
    }
    Ok(Blkio::default())
}

fn hugetlb(group: &Cgroup) -> Result<BTreeMap<String, Hugetlb>> {
    let mut all = BTreeMap::new();
    for size in page_sizes() {
        for reserved in [".rsvd", ""] {
            let of = |what| group.number("hugetlb", &format!("hugetlb.{size}{reserved}.{what}"));
            let Some(usage) = of("usage_in_bytes")? else {
                continue;
            };
            let found = Hugetlb {
                usage,
                max: of("max_usage_in_bytes")?.unwrap_or(0),
                failcnt: of("failcnt")?.unwrap_or(0),
                limit: of("limit_in_bytes")?.unwrap_or(0),
            };
            all.insert(size, found);
            break;
        }
    }
    Ok(all)
}
