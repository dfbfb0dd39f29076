//! What a container uses, as cgroup v1 counts it.
#![forbid(unsafe_code)]

use super::named;
use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use creel::container::stats::{self, Stats};

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
        out.memory_oom_control = Some(oom(&from.memory)).into();
    }
    out.blkio = Some(blkio(&from.blkio)).into();
    let pages = from.hugetlb.iter().map(|(size, pages)| HugetlbStat {
        usage: pages.usage,
        max: pages.max,
        failcnt: pages.failcnt,
        pagesize: size.clone(),
        ..HugetlbStat::default()
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
        usage: Some(CPUUsage {
            total: usage.total,
            kernel: usage.kernel,
            user: usage.user,
            per_cpu: usage.percpu.clone(),
            ..CPUUsage::default()
        })
        .into(),
        throttling: Some(Throttle {
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_time: throttling.throttled_time,
            ..Throttle::default()
        })
        .into(),
        ..CPUStat::default()
    }
}

fn memory(from: &stats::Memory) -> MemoryStat {
    let get = named(&from.raw);
    MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry(from.usage).into(),
        swap: entry(from.swap).into(),
        kernel: entry(from.kernel).into(),
        kernel_tcp: entry(from.kernel_tcp).into(),
        ..MemoryStat::default()
    }
}

/// One kind of memory; none if the kernel does not count it.
fn entry(from: stats::MemoryEntry) -> Option<MemoryEntry> {
    (from != stats::MemoryEntry::default()).then(|| MemoryEntry {
        limit: from.limit,
        usage: from.usage,
        max: from.max,
        failcnt: from.failcnt,
        ..MemoryEntry::default()
    })
}

fn oom(from: &stats::Memory) -> MemoryOomControl {
    let get = named(&from.events);
    MemoryOomControl {
        oom_kill_disable: get("oom_kill_disable"),
        under_oom: get("under_oom"),
        oom_kill: get("oom_kill"),
        ..MemoryOomControl::default()
    }
}

fn blkio(from: &stats::Blkio) -> BlkIOStat {
    BlkIOStat {
        io_service_bytes_recursive: devices(&from.io_service_bytes_recursive),
        io_serviced_recursive: devices(&from.io_serviced_recursive),
        io_queued_recursive: devices(&from.io_queued_recursive),
        io_service_time_recursive: devices(&from.io_service_time_recursive),
        io_wait_time_recursive: devices(&from.io_wait_time_recursive),
        io_merged_recursive: devices(&from.io_merged_recursive),
        io_time_recursive: devices(&from.io_time_recursive),
        sectors_recursive: devices(&from.sectors_recursive),
        ..BlkIOStat::default()
    }
}

fn devices(from: &[stats::BlkioEntry]) -> Vec<BlkIOEntry> {
    let entry = |from: &stats::BlkioEntry| BlkIOEntry {
        op: from.op.clone(),
        major: from.major,
        minor: from.minor,
        value: from.value,
        ..BlkIOEntry::default()
    };
    from.iter().map(entry).collect()
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

    #[test]
    fn what_is_not_counted_is_not_there() {
        let mut stats = Stats::default();
        assert!(message(&stats).memory.is_none());
        stats.memory.raw.insert("rss".into(), 5);
        stats.memory.usage.limit = 6;
        stats.memory.events.insert("oom_kill".into(), 7);
        let got = message(&stats);
        assert_eq!((got.memory.rss, got.memory.usage.limit), (5, 6));
        assert!(got.memory.swap.is_none() && got.rdma.is_none());
        assert_eq!(got.memory_oom_control.oom_kill, 7);
    }
}
