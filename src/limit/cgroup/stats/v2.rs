//! LIMIT, measured on v2: one directory (Documentation/admin-guide/cgroup-v2.rst).
#![forbid(unsafe_code)]

use super::text::{page_sizes, pressure};
use super::{Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Pids, Pressure};
use super::{Stats, Throttling};
use crate::error::Result;
use crate::limit::cgroup::Cgroup;
use std::collections::BTreeMap;

pub(super) fn read(group: &Cgroup) -> Result<Stats> {
    Ok(Stats {
        unified: true,
        cpu: cpu(group)?,
        memory: memory(group)?,
        pids: pids(group)?,
        blkio: io(group)?,
        hugetlb: hugetlb(group)?,
        rdma: group.rdma()?,
        ..Stats::default()
    })
}

/// Absent also where it cannot be read: `psi=0`, or switched off for the cgroup.
fn psi(group: &Cgroup, file: &str) -> Option<Pressure> {
    Some(pressure(&group.read("", file).ok()??))
}

fn cpu(group: &Cgroup) -> Result<Cpu> {
    let stat = group.map("cpu", "cpu.stat")?;
    let of = |key| stat.get(key).copied().unwrap_or(0);
    let nanoseconds = |key| of(key).saturating_mul(1000);
    Ok(Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
            bursts: of("nr_bursts"),
            burst_time: nanoseconds("burst_usec"),
        },
        psi: psi(group, "cpu.pressure"),
    })
}

fn memory(group: &Cgroup) -> Result<Memory> {
    let entry = |kind: &str| -> Result<MemoryEntry> {
        let of = |what: &str| -> Result<u64> {
            let value = group.number("memory", &format!("memory.{kind}{what}"))?;
            Ok(value.unwrap_or(0))
        };
        Ok(MemoryEntry {
            limit: of("max")?,
            usage: of("current")?,
            max: of("peak")?,
            failcnt: 0,
        })
    };
    let raw = group.map("memory", "memory.stat")?;
    let (usage, swap_only) = (entry("")?, entry("swap.")?);
    Ok(Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap: MemoryEntry {
            // v1 counts both together. Two peaks need not have been at the same time.
            limit: swap_only.limit.saturating_add(usage.limit),
            usage: swap_only.usage.saturating_add(usage.usage),
            ..MemoryEntry::default()
        },
        swap_only,
        raw,
        events: group.map("memory", "memory.events")?,
        psi: psi(group, "memory.pressure"),
        ..Memory::default()
    })
}

fn pids(group: &Cgroup) -> Result<Pids> {
    let Some(current) = group.number("pids", "pids.current")? else {
        // Without the controller, those that can be listed.
        let count = group.pids().unwrap_or_default().len();
        return Ok(Pids {
            current: u64::try_from(count).unwrap_or(u64::MAX),
            limit: 0,
        });
    };
    let limit = group.number("pids", "pids.max")?;
    Ok(Pids {
        current,
        limit: limit.filter(|limit| *limit != u64::MAX).unwrap_or(0),
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn io(group: &Cgroup) -> Result<Blkio> {
    let text = group.read("io", "io.stat")?.unwrap_or_default();
    let mut found = Blkio {
        psi: psi(group, "io.pressure"),
        ..Blkio::default()
    };
    for line in text.lines() {
        let mut words = line.split(' ');
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut found.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut found.io_service_bytes_recursive, "Write"),
                "rios" => (&mut found.io_serviced_recursive, "Read"),
                "wios" => (&mut found.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.into(),
                value: value.parse().unwrap_or(0),
            });
        }
    }
    Ok(found)
}

fn hugetlb(group: &Cgroup) -> Result<BTreeMap<String, Hugetlb>> {
    let mut all = BTreeMap::new();
    for size in page_sizes() {
        for reserved in [".rsvd", ""] {
            let of = |what| group.number("hugetlb", &format!("hugetlb.{size}{reserved}.{what}"));
            let Some(usage) = of("current")? else {
                continue;
            };
            let events = group.map("hugetlb", &format!("hugetlb.{size}.events"))?;
            let found = Hugetlb {
                usage,
                max: 0,
                failcnt: events.get("max").copied().unwrap_or(0),
                limit: of("max")?.unwrap_or(0),
            };
            all.insert(size, found);
            break;
        }
    }
    Ok(all)
}
