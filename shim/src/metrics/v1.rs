//! What a container uses, as cgroup v1 counts it.
#![forbid(unsafe_code)]

use super::{number, table, text, value};
use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, Throttle,
};
use std::path::{Path, PathBuf};

/// The kernel's ticks, which cpuacct.stat counts in, to nanoseconds: USER_HZ is 100 everywhere.
const TICK: u64 = 10_000_000;

/// Reads the cgroup's files; what is not there stays unset.
pub fn read(dirs: &[(String, PathBuf)]) -> Metrics {
    let mut out = Metrics::new();
    for (names, dir) in dirs {
        for name in names.split(',') {
            match name {
                "cpuacct" => {
                    let cpu: &mut CPUStat = out.cpu.mut_or_insert_default();
                    cpu.usage = Some(usage(dir)).into();
                }
                "cpu" => {
                    let cpu: &mut CPUStat = out.cpu.mut_or_insert_default();
                    cpu.throttling = Some(throttling(dir)).into();
                }
                "memory" => {
                    out.memory = Some(memory(dir)).into();
                    out.memory_oom_control = Some(oom(dir)).into();
                }
                "pids" => {
                    let mut pids = PidsStat::new();
                    pids.current = number(dir, "pids.current");
                    // No limit is 0 here.
                    pids.limit = Some(number(dir, "pids.max"))
                        .filter(|n| *n != u64::MAX)
                        .unwrap_or(0);
                    out.pids = Some(pids).into();
                }
                "blkio" => out.blkio = Some(blkio(dir)).into(),
                "hugetlb" => out.hugetlb = hugetlb(dir),
                _ => {}
            }
        }
    }
    out
}

fn usage(dir: &Path) -> CPUUsage {
    let mut usage = CPUUsage::new();
    usage.total = number(dir, "cpuacct.usage");
    let stat = text(dir, "cpuacct.stat");
    let stat = table(&stat);
    let ticks = |name| stat.get(name).copied().unwrap_or(0).saturating_mul(TICK);
    usage.user = ticks("user");
    usage.kernel = ticks("system");
    usage.per_cpu = text(dir, "cpuacct.usage_percpu")
        .split_whitespace()
        .map(value)
        .collect();
    usage
}

fn throttling(dir: &Path) -> Throttle {
    let stat = text(dir, "cpu.stat");
    let stat = table(&stat);
    let get = |name| stat.get(name).copied().unwrap_or(0);
    let mut throttle = Throttle::new();
    throttle.periods = get("nr_periods");
    throttle.throttled_periods = get("nr_throttled");
    throttle.throttled_time = get("throttled_time");
    throttle
}

fn memory(dir: &Path) -> MemoryStat {
    let stat = text(dir, "memory.stat");
    let stat = table(&stat);
    let get = |name| stat.get(name).copied().unwrap_or(0);
    let mut out = MemoryStat::new();
    out.cache = get("cache");
    out.rss = get("rss");
    out.rss_huge = get("rss_huge");
    out.mapped_file = get("mapped_file");
    out.dirty = get("dirty");
    out.writeback = get("writeback");
    out.pg_pg_in = get("pgpgin");
    out.pg_pg_out = get("pgpgout");
    out.pg_fault = get("pgfault");
    out.pg_maj_fault = get("pgmajfault");
    out.inactive_anon = get("inactive_anon");
    out.active_anon = get("active_anon");
    out.inactive_file = get("inactive_file");
    out.active_file = get("active_file");
    out.unevictable = get("unevictable");
    out.hierarchical_memory_limit = get("hierarchical_memory_limit");
    out.hierarchical_swap_limit = get("hierarchical_memsw_limit");
    out.total_cache = get("total_cache");
    out.total_rss = get("total_rss");
    out.total_rss_huge = get("total_rss_huge");
    out.total_mapped_file = get("total_mapped_file");
    out.total_dirty = get("total_dirty");
    out.total_writeback = get("total_writeback");
    out.total_pg_pg_in = get("total_pgpgin");
    out.total_pg_pg_out = get("total_pgpgout");
    out.total_pg_fault = get("total_pgfault");
    out.total_pg_maj_fault = get("total_pgmajfault");
    out.total_inactive_anon = get("total_inactive_anon");
    out.total_active_anon = get("total_active_anon");
    out.total_inactive_file = get("total_inactive_file");
    out.total_active_file = get("total_active_file");
    out.total_unevictable = get("total_unevictable");
    let entry = |prefix: &str| -> Option<MemoryEntry> {
        let file = |suffix: &str| format!("memory.{prefix}{suffix}");
        dir.join(file("usage_in_bytes")).exists().then(|| {
            let mut entry = MemoryEntry::new();
            entry.usage = number(dir, &file("usage_in_bytes"));
            entry.max = number(dir, &file("max_usage_in_bytes"));
            entry.failcnt = number(dir, &file("failcnt"));
            entry.limit = number(dir, &file("limit_in_bytes"));
            entry
        })
    };
    out.usage = entry("").into();
    out.swap = entry("memsw.").into();
    out.kernel = entry("kmem.").into();
    out.kernel_tcp = entry("kmem.tcp.").into();
    out
}

fn oom(dir: &Path) -> MemoryOomControl {
    let control = text(dir, "memory.oom_control");
    let control = table(&control);
    let get = |name| control.get(name).copied().unwrap_or(0);
    let mut out = MemoryOomControl::new();
    out.oom_kill_disable = get("oom_kill_disable");
    out.under_oom = get("under_oom");
    out.oom_kill = get("oom_kill");
    out
}

fn blkio(dir: &Path) -> BlkIOStat {
    let entries = |file: &str| blkio_entries(&text(dir, file));
    // The bfq scheduler keeps its own count; without it, only throttling's is there.
    let either = |name: &str, throttle: &str| {
        let own = entries(&format!("blkio.bfq.{name}_recursive"));
        if own.is_empty() {
            entries(throttle)
        } else {
            own
        }
    };
    let mut out = BlkIOStat::new();
    out.io_service_bytes_recursive = either(
        "io_service_bytes",
        "blkio.throttle.io_service_bytes_recursive",
    );
    out.io_serviced_recursive = either("io_serviced", "blkio.throttle.io_serviced_recursive");
    out.io_queued_recursive = either("io_queued", "blkio.io_queued_recursive");
    out.io_service_time_recursive = either("io_service_time", "blkio.io_service_time_recursive");
    out.io_wait_time_recursive = either("io_wait_time", "blkio.io_wait_time_recursive");
    out.io_merged_recursive = either("io_merged", "blkio.io_merged_recursive");
    out.io_time_recursive = either("time", "blkio.time_recursive");
    out.sectors_recursive = either("sectors", "blkio.sectors_recursive");
    out
}

/// `8:0 Read 4096`, or `8:0 4096`; the total of all devices is left out.
fn blkio_entries(text: &str) -> Vec<BlkIOEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let second = words.next()?;
            let (op, number) = match words.next() {
                Some(third) => (second, third),
                None => ("", second),
            };
            let mut entry = BlkIOEntry::new();
            entry.major = major.parse().ok()?;
            entry.minor = minor.parse().ok()?;
            entry.op = op.into();
            entry.value = number.parse().ok()?;
            Some(entry)
        })
        .collect()
}

fn hugetlb(dir: &Path) -> Vec<HugetlbStat> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let size = name
                .strip_prefix("hugetlb.")?
                .strip_suffix(".usage_in_bytes")?;
            if size.contains('.') {
                return None; // reservations
            }
            let mut stat = HugetlbStat::new();
            stat.pagesize = size.into();
            stat.usage = number(dir, &name);
            stat.max = number(dir, &format!("hugetlb.{size}.max_usage_in_bytes"));
            stat.failcnt = number(dir, &format!("hugetlb.{size}.failcnt"));
            Some(stat)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_are_entries_and_totals_are_not() {
        let entries = blkio_entries("8:0 Read 4096\n8:0 12\nTotal 4096\n");
        let got: Vec<_> = entries
            .iter()
            .map(|entry| (entry.major, entry.minor, entry.op.as_str(), entry.value))
            .collect();
        assert_eq!(got, [(8, 0, "Read", 4096), (8, 0, "", 12)]);
    }
}
