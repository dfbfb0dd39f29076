//! What a container uses, as cgroup v2 counts it.
#![forbid(unsafe_code)]

use super::named;
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat, RdmaEntry, RdmaStat,
};
use containerd_shim_protos::protobuf::MessageField;
use creel::container::stats::{self, Stats};
use std::collections::BTreeMap;

/// The message. What has no controller stays unset.
pub fn message(from: &Stats) -> Metrics {
    let mut out = Metrics::new();
    out.cpu = Some(cpu(&from.cpu)).into();
    out.pids = Some(PidsStat {
        current: from.pids.current,
        limit: from.pids.limit,
        ..PidsStat::default()
    })
    .into();
    if !from.memory.raw.is_empty() {
        out.memory = Some(memory(&from.memory)).into();
        out.memory_events = Some(events(&from.memory)).into();
    }
    out.io = Some(IOStat {
        usage: devices(&from.blkio),
        psi: pressure(from.blkio.psi),
        ..IOStat::default()
    })
    .into();
    let pages = from.hugetlb.iter().map(|(size, pages)| HugeTlbStat {
        current: pages.usage,
        max: pages.limit,
        pagesize: size.clone(),
        failcnt: pages.failcnt,
        ..HugeTlbStat::default()
    });
    out.hugetlb = pages.collect();
    let (used, allowed) = &from.rdma;
    if !used.is_empty() || !allowed.is_empty() {
        out.rdma = Some(RdmaStat {
            current: rdma(used),
            limit: rdma(allowed),
            ..RdmaStat::default()
        })
        .into();
    }
    out
}

fn cpu(from: &stats::Cpu) -> CPUStat {
    let (usage, throttling) = (&from.usage, &from.throttling);
    CPUStat {
        usage_usec: usage.total / 1000,
        user_usec: usage.user / 1000,
        system_usec: usage.kernel / 1000,
        nr_periods: throttling.periods,
        nr_throttled: throttling.throttled_periods,
        throttled_usec: throttling.throttled_time / 1000,
        nr_bursts: throttling.bursts,
        burst_usec: throttling.burst_time / 1000,
        psi: pressure(from.psi),
        ..CPUStat::default()
    }
}

fn memory(from: &stats::Memory) -> MemoryStat {
    let get = named(&from.raw);
    // Linux 5.9 tells anonymous pages and files apart.
    let both = |name: &str| {
        let kinds = [get(&format!("{name}_anon")), get(&format!("{name}_file"))];
        get(name).max(kinds[0].saturating_add(kinds[1]))
    };
    MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: from.usage.usage,
        usage_limit: from.usage.limit,
        max_usage: from.usage.max,
        swap_usage: from.swap_only.usage,
        swap_limit: from.swap_only.limit,
        swap_max_usage: from.swap_only.max,
        psi: pressure(from.psi),
        ..MemoryStat::default()
    }
}

fn events(from: &stats::Memory) -> MemoryEvents {
    let get = named(&from.events);
    MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
        oom_group_kill: get("oom_group_kill"),
        ..MemoryEvents::default()
    }
}

/// One entry for each device.
fn devices(from: &stats::Blkio) -> Vec<IOEntry> {
    let mut found: BTreeMap<(u64, u64), IOEntry> = BTreeMap::new();
    let counts = [
        (true, &from.io_service_bytes_recursive),
        (false, &from.io_serviced_recursive),
    ];
    for (bytes, list) in counts {
        for one in list {
            let entry = found.entry((one.major, one.minor)).or_default();
            (entry.major, entry.minor) = (one.major, one.minor);
            *match (bytes, one.op.as_str()) {
                (true, "Read") => &mut entry.rbytes,
                (true, "Write") => &mut entry.wbytes,
                (false, "Read") => &mut entry.rios,
                (false, "Write") => &mut entry.wios,
                _ => continue,
            } = one.value;
        }
    }
    found.into_values().collect()
}

/// Unset if the kernel does not tell.
fn pressure(from: Option<stats::Pressure>) -> MessageField<PSIStats> {
    let data = |from: stats::Stall| {
        MessageField::some(PSIData {
            avg10: from.avg10,
            avg60: from.avg60,
            avg300: from.avg300,
            total: from.total,
            ..PSIData::default()
        })
    };
    let both = from.map(|from| PSIStats {
        some: data(from.some),
        full: data(from.full),
        ..PSIStats::default()
    });
    both.into()
}

fn rdma(from: &[stats::Rdma]) -> Vec<RdmaEntry> {
    let entry = |from: &stats::Rdma| RdmaEntry {
        device: from.device.clone(),
        hca_handles: from.hca_handles,
        hca_objects: from.hca_objects,
        ..RdmaEntry::default()
    };
    from.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use creel::container::stats::{BlkioEntry, Pressure};

    #[test]
    fn a_device_is_one_entry_and_pressure_is_kept() {
        let count = |op: &str, value| BlkioEntry {
            major: 254,
            minor: 1,
            op: op.into(),
            value,
        };
        let mut stats = Stats::default();
        stats.blkio.io_service_bytes_recursive = vec![count("Read", 5), count("Write", 6)];
        stats.blkio.io_serviced_recursive = vec![count("Read", 7), count("Write", 8)];
        let mut pressure = Pressure::default();
        pressure.some.avg10 = 1.5;
        stats.cpu.psi = Some(pressure);
        stats.cpu.usage.total = 9000;
        let got = message(&stats);
        let entry = got.io.usage.first().unwrap();
        assert_eq!(got.io.usage.len(), 1);
        let (device, bytes) = ([entry.major, entry.minor], [entry.rbytes, entry.wbytes]);
        assert_eq!((device, bytes), ([254, 1], [5, 6]));
        assert_eq!([entry.rios, entry.wios], [7, 8]);
        assert_eq!((got.cpu.usage_usec, got.cpu.psi.some.avg10), (9, 1.5));
        assert!(got.memory.is_none() && got.memory_events.is_none() && got.io.psi.is_none());
    }
}
