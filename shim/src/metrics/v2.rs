//! What a container uses, as cgroup v2 counts it.
#![forbid(unsafe_code)]

use super::{number, table, text, value};
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat,
};
use std::path::Path;

/// Reads the cgroup's files; what is not there stays unset.
pub fn read(dir: &Path) -> Metrics {
    let mut out = Metrics::new();
    out.cpu = Some(cpu(dir)).into();
    if dir.join("pids.current").exists() {
        let mut pids = PidsStat::new();
        pids.current = number(dir, "pids.current");
        // No limit is 0 here.
        pids.limit = Some(number(dir, "pids.max"))
            .filter(|n| *n != u64::MAX)
            .unwrap_or(0);
        out.pids = Some(pids).into();
    }
    if dir.join("memory.current").exists() {
        out.memory = Some(memory(dir)).into();
        out.memory_events = Some(events(dir)).into();
    }
    let io = text(dir, "io.stat");
    if !io.is_empty() {
        let mut stat = IOStat::new();
        stat.usage = io.lines().filter_map(io_entry).collect();
        stat.psi = pressure(&text(dir, "io.pressure")).into();
        out.io = Some(stat).into();
    }
    out.hugetlb = hugetlb(dir);
    out
}

fn cpu(dir: &Path) -> CPUStat {
    let stat = text(dir, "cpu.stat");
    let stat = table(&stat);
    let get = |name| stat.get(name).copied().unwrap_or(0);
    let mut out = CPUStat::new();
    out.usage_usec = get("usage_usec");
    out.user_usec = get("user_usec");
    out.system_usec = get("system_usec");
    out.nr_periods = get("nr_periods");
    out.nr_throttled = get("nr_throttled");
    out.throttled_usec = get("throttled_usec");
    out.nr_bursts = get("nr_bursts");
    out.burst_usec = get("burst_usec");
    out.psi = pressure(&text(dir, "cpu.pressure")).into();
    out
}

fn memory(dir: &Path) -> MemoryStat {
    let stat = text(dir, "memory.stat");
    let stat = table(&stat);
    let get = |name| stat.get(name).copied().unwrap_or(0);
    let mut out = MemoryStat::new();
    out.anon = get("anon");
    out.file = get("file");
    out.kernel_stack = get("kernel_stack");
    out.slab = get("slab");
    out.sock = get("sock");
    out.shmem = get("shmem");
    out.file_mapped = get("file_mapped");
    out.file_dirty = get("file_dirty");
    out.file_writeback = get("file_writeback");
    out.anon_thp = get("anon_thp");
    out.inactive_anon = get("inactive_anon");
    out.active_anon = get("active_anon");
    out.inactive_file = get("inactive_file");
    out.active_file = get("active_file");
    out.unevictable = get("unevictable");
    out.slab_reclaimable = get("slab_reclaimable");
    out.slab_unreclaimable = get("slab_unreclaimable");
    out.pgfault = get("pgfault");
    out.pgmajfault = get("pgmajfault");
    // Linux 5.9 tells anonymous pages and files apart.
    out.workingset_refault = get("workingset_refault")
        .max(get("workingset_refault_anon").saturating_add(get("workingset_refault_file")));
    out.workingset_activate = get("workingset_activate")
        .max(get("workingset_activate_anon").saturating_add(get("workingset_activate_file")));
    out.workingset_nodereclaim = get("workingset_nodereclaim");
    out.pgrefill = get("pgrefill");
    out.pgscan = get("pgscan");
    out.pgsteal = get("pgsteal");
    out.pgactivate = get("pgactivate");
    out.pgdeactivate = get("pgdeactivate");
    out.pglazyfree = get("pglazyfree");
    out.pglazyfreed = get("pglazyfreed");
    out.thp_fault_alloc = get("thp_fault_alloc");
    out.thp_collapse_alloc = get("thp_collapse_alloc");
    out.usage = number(dir, "memory.current");
    out.usage_limit = number(dir, "memory.max");
    out.max_usage = number(dir, "memory.peak");
    out.swap_usage = number(dir, "memory.swap.current");
    out.swap_limit = number(dir, "memory.swap.max");
    out.swap_max_usage = number(dir, "memory.swap.peak");
    out.psi = pressure(&text(dir, "memory.pressure")).into();
    out
}

fn events(dir: &Path) -> MemoryEvents {
    let events = text(dir, "memory.events");
    let events = table(&events);
    let get = |name| events.get(name).copied().unwrap_or(0);
    let mut out = MemoryEvents::new();
    out.low = get("low");
    out.high = get("high");
    out.max = get("max");
    out.oom = get("oom");
    out.oom_kill = get("oom_kill");
    out.oom_group_kill = get("oom_group_kill");
    out
}

/// `8:0 rbytes=1 wbytes=2 ...`
fn io_entry(line: &str) -> Option<IOEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut entry = IOEntry::new();
    entry.major = major.parse().ok()?;
    entry.minor = minor.parse().ok()?;
    for word in words {
        match word.split_once('=') {
            Some(("rbytes", number)) => entry.rbytes = value(number),
            Some(("wbytes", number)) => entry.wbytes = value(number),
            Some(("rios", number)) => entry.rios = value(number),
            Some(("wios", number)) => entry.wios = value(number),
            _ => {}
        }
    }
    Some(entry)
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; no such file, no pressure.
fn pressure(text: &str) -> Option<PSIStats> {
    if text.is_empty() {
        return None;
    }
    let mut out = PSIStats::new();
    for line in text.lines() {
        let mut data = PSIData::new();
        for word in line.split_whitespace() {
            let (name, number) = word.split_once('=').unwrap_or(("", ""));
            match name {
                "avg10" => data.avg10 = number.parse().unwrap_or(0.0),
                "avg60" => data.avg60 = number.parse().unwrap_or(0.0),
                "avg300" => data.avg300 = number.parse().unwrap_or(0.0),
                "total" => data.total = value(number),
                _ => {}
            }
        }
        if line.starts_with("some") {
            out.some = Some(data).into();
        } else if line.starts_with("full") {
            out.full = Some(data).into();
        }
    }
    Some(out)
}

fn hugetlb(dir: &Path) -> Vec<HugeTlbStat> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
            if size.contains('.') {
                return None; // reservations
            }
            let mut stat = HugeTlbStat::new();
            stat.pagesize = size.into();
            stat.current = number(dir, &name);
            stat.max = number(dir, &format!("hugetlb.{size}.max"));
            let events = self::text(dir, &format!("hugetlb.{size}.events"));
            stat.failcnt = table(&events).get("max").copied().unwrap_or(0);
            Some(stat)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_pressure_are_read() {
        let entry = io_entry("254:0 rbytes=5 wbytes=6 rios=7 wios=8 dbytes=0").unwrap();
        let numbers = [
            entry.major,
            entry.rbytes,
            entry.wbytes,
            entry.rios,
            entry.wios,
        ];
        assert_eq!(numbers, [254, 5, 6, 7, 8]);
        let psi = pressure("some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n").unwrap();
        assert_eq!((psi.some.avg10, psi.some.total), (1.5, 9));
        assert!(psi.full.is_none());
        assert!(pressure("").is_none());
    }
}
