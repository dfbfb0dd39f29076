//! Limits on cgroup v2: what each controller's files say when a limit is asked, and how it feels.
//!
//! The conversions are those of runc 1.5: shares to weight, memory with swap to swap alone, and so on.
#![forbid(unsafe_code)]

use super::limits::{started, with};
use crate::case::{Failure, Result};
use crate::cgroup::Limits;
use crate::kernel::until;
use crate::lab::Lab;
use crate::scene::Loop;
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

cases! {
    v2_memory_swap_and_reservation_are_set: [CgroupV2],
    v2_swap_as_large_as_memory_is_none: [CgroupV2],
    v2_unlimited_memory_unlimits_swap: [CgroupV2],
    v2_swap_without_memory_is_refused: [CgroupV2],
    v2_an_oom_kill_is_counted_and_told: [CgroupV2],
    v2_memory_low_enough_to_fail_says_so: [CgroupV2],
    v2_shares_become_a_weight: [CgroupV2],
    v2_idle_and_burst_are_set: [CgroupV2],
    v2_a_period_alone_sets_no_quota: [CgroupV2],
    v2_cpuset_is_effective: [CgroupV2],
    v2_a_pids_limit_of_zero_is_one: [CgroupV2],
    v2_blkio_weight_is_set: [CgroupV2],
    v2_blkio_device_weight_is_set: [CgroupV2],
    v2_io_max_is_set: [CgroupV2],
    v2_io_max_is_felt: [CgroupV2],
    v2_hugepage_limits_are_set: [CgroupV2, Controller("hugetlb")],
    v2_hugepage_limit_is_felt: [CgroupV2, Controller("hugetlb")],
    v2_rdma_of_a_missing_device_is_refused: [CgroupV2, Controller("rdma")],
    v2_unified_overrides_the_rest: [CgroupV2],
    v2_unified_takes_many_lines: [CgroupV2],
    v2_unified_of_an_unknown_controller_is_refused: [CgroupV2],
    v2_unified_of_a_bad_value_is_refused: [CgroupV2],
}

const MIB: i64 = 1 << 20;

/// Starts a container with these resources and compares files of its cgroup.
fn files(lab: &Lab, resources: Value, want: &[(&str, &str)]) -> Result {
    let (_container, limits) = started(lab, resources)?;
    for (file, want) in want {
        let controller = file.split('.').next().unwrap_or_default();
        same!(file, limits.file(controller, file)?, *want);
    }
    Ok(())
}

fn swapless(limits: &Limits) -> bool {
    !limits.directory("memory").join("memory.swap.max").exists()
}

fn v2_memory_swap_and_reservation_are_set(lab: &Lab) -> Result {
    let asked = json!({"memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB}});
    let (_container, limits) = started(lab, asked)?;
    same!("memory.max", limits.memory_limit()?, 64 * MIB);
    same!(
        "memory.low",
        limits.file("memory", "memory.low")?,
        (32 * MIB).to_string()
    );
    if swapless(&limits) {
        return Err(Failure::skip("the kernel has no swap"));
    }
    // 96 of both, 64 of them memory.
    same!(
        "memory.swap.max",
        limits.file("memory", "memory.swap.max")?,
        (32 * MIB).to_string()
    );
    Ok(())
}

fn v2_swap_as_large_as_memory_is_none(lab: &Lab) -> Result {
    let asked = json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}});
    let (_container, limits) = started(lab, asked)?;
    if swapless(&limits) {
        return Err(Failure::skip("the kernel has no swap"));
    }
    same!(
        "memory.swap.max",
        limits.file("memory", "memory.swap.max")?,
        "0"
    );
    Ok(())
}

fn v2_unlimited_memory_unlimits_swap(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"memory": {"limit": -1}}))?;
    same!("memory.max", limits.file("memory", "memory.max")?, "max");
    check!(
        swapless(&limits) || limits.file("memory", "memory.swap.max")? == "max",
        "swap is limited"
    );
    Ok(())
}

fn v2_swap_without_memory_is_refused(lab: &Lab) -> Result {
    let (bundle, _) = with(lab, "true", json!({"memory": {"swap": 64 * MIB}}))?;
    let err = lab
        .run(&bundle)?
        .refused("a swap limit without a memory limit")?
        .err;
    check!(err.contains("swap"), "{err}");
    Ok(())
}

/// A number of a file with a key on each line.
fn counted(limits: &Limits, file: &str, key: &str) -> Result<u64> {
    let text = limits.file("memory", file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    Ok(line.ok_or(format!("no {key} in {file}"))?.trim().parse()?)
}

fn v2_an_oom_kill_is_counted_and_told(lab: &Lab) -> Result {
    let asked = json!({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}});
    let script = "tail /dev/zero; echo status $?; exec sleep 1000";
    let (bundle, path) = with(lab, script, asked)?;
    let container = lab.started(&bundle)?;
    container.says("status 137")?;
    let limits = Limits::at(&path);
    check!(
        counted(&limits, "memory.events", "oom_kill ")? >= 1,
        "memory.events: {}",
        limits.file("memory", "memory.events")?
    );
    // An exec'd hog is killed just so.
    let output = container.exec(&["tail", "/dev/zero"])?;
    same!("exit", output.code, 137);
    check!(
        counted(&limits, "memory.events", "oom_kill ")? >= 2,
        "no second kill"
    );
    Ok(())
}

fn v2_memory_low_enough_to_fail_says_so(lab: &Lab) -> Result {
    let asked = json!({"memory": {"limit": 4096, "swap": 4096}});
    let (bundle, _) = with(lab, "true", asked)?;
    let err = lab.run(&bundle)?.refused("a memory limit of one page")?.err;
    check!(
        err.contains("OOM") || err.contains("memory limit"),
        "the cause is not told: {err}"
    );
    Ok(())
}

fn v2_shares_become_a_weight(lab: &Lab) -> Result {
    for (shares, weight) in [(2, 1), (512, 59), (1024, 100), (262_144, 10_000)] {
        let (_container, limits) = started(lab, json!({"cpu": {"shares": shares}}))?;
        same!(
            format!("weight of {shares} shares"),
            limits.shares()?,
            weight
        );
    }
    Ok(())
}

fn v2_idle_and_burst_are_set(lab: &Lab) -> Result {
    files(lab, json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")])?;
    // The burst may not pass the quota, which must therefore be written first.
    let asked = json!({"cpu": {"quota": 20_000, "period": 50_000, "burst": 10_000}});
    let want = [("cpu.max", "20000 50000"), ("cpu.max.burst", "10000")];
    files(lab, asked, &want)
}

fn v2_a_period_alone_sets_no_quota(lab: &Lab) -> Result {
    files(
        lab,
        json!({"cpu": {"period": 50_000}}),
        &[("cpu.max", "max 50000")],
    )?;
    files(
        lab,
        json!({"cpu": {"quota": 50_000}}),
        &[("cpu.max", "50000 100000")],
    )
}

fn v2_cpuset_is_effective(lab: &Lab) -> Result {
    let want = [
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("cpuset.cpus.effective", "0"),
    ];
    files(lab, json!({"cpu": {"cpus": "0", "mems": "0"}}), &want)
}

fn v2_a_pids_limit_of_zero_is_one(lab: &Lab) -> Result {
    files(lab, json!({"pids": {"limit": 0}}), &[("pids.max", "1")])
}

fn v2_blkio_weight_is_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"blockIO": {"weight": 500}}))?;
    // BFQ takes it as it is, the cost model on its own scale.
    match limits.file("io", "io.bfq.weight") {
        Ok(weight) => same!("io.bfq.weight", weight, "default 500"),
        Err(_) => same!("io.weight", limits.file("io", "io.weight")?, "default 4950"),
    }
    Ok(())
}

fn v2_blkio_device_weight_is_set(lab: &Lab) -> Result {
    let disk = Loop::new(lab, MIB)?;
    if !disk.schedule("bfq") {
        return Err(Failure::skip("no BFQ"));
    }
    let (major, minor) = disk.numbers;
    let device = json!({"major": major, "minor": minor, "weight": 300});
    let (_container, limits) = started(lab, json!({"blockIO": {"weightDevice": [device]}}))?;
    let weights = limits.file("io", "io.bfq.weight")?;
    let want = format!("{major}:{minor} 300");
    check!(
        weights.lines().any(|line| line == want),
        "{want}: {weights}"
    );
    Ok(())
}

fn v2_io_max_is_set(lab: &Lab) -> Result {
    let disk = Loop::new(lab, MIB)?;
    let (major, minor) = disk.numbers;
    let device = |rate: i64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let asked = json!({"blockIO": {
        "throttleReadBpsDevice": device(MIB), "throttleWriteBpsDevice": device(2 * MIB),
        "throttleReadIOPSDevice": device(30), "throttleWriteIOPSDevice": device(40)}});
    let want = format!(
        "{major}:{minor} rbps={MIB} wbps={} riops=30 wiops=40",
        2 * MIB
    );
    files(lab, asked, &[("io.max", &want)])
}

fn v2_io_max_is_felt(lab: &Lab) -> Result {
    let disk = Loop::new(lab, 4 * MIB)?;
    let (major, minor) = disk.numbers;
    let throttle = json!([{"major": major, "minor": minor, "rate": MIB}]);
    let rule = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "r"});
    let asked = json!({"blockIO": {"throttleReadBpsDevice": throttle}, "devices": [rule]});
    let (mut bundle, _) = with(lab, "cat /dev/slow | wc -c", asked)?;
    let node = json!({"path": "/dev/slow", "type": "b", "major": major, "minor": minor});
    bundle.set("/linux/devices", json!([node]))?;
    let begun = Instant::now();
    same!("read", lab.told(&bundle)?.trim(), (4 * MIB).to_string());
    // 4 MiB at 1 MiB a second; the kernel lets some through at once.
    let took = begun.elapsed();
    check!(took > Duration::from_secs(2), "not throttled: {took:?}");
    Ok(())
}

/// The limit of two huge pages of 2 MiB.
fn two_pages() -> Result<Value> {
    if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return Err(Failure::skip("no huge pages of 2 MiB"));
    }
    Ok(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}))
}

fn v2_hugepage_limits_are_set(lab: &Lab) -> Result {
    let limit = (4 * MIB).to_string();
    let want = [
        ("hugetlb.2MB.max", limit.as_str()),
        ("hugetlb.2MB.rsvd.max", &limit),
    ];
    files(lab, two_pages()?, &want)
}

fn v2_hugepage_limit_is_felt(lab: &Lab) -> Result {
    let asked = two_pages()?;
    let pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let before = std::fs::read_to_string(pool)?;
    std::fs::write(pool, "8")?;
    let script = "cd /huge; fallocate -l 4m two && echo two; fallocate -l 8m four || echo stopped";
    let told = with(lab, script, asked).and_then(|(mut bundle, _)| {
        bundle.mount("hugetlbfs", "hugetlbfs", "/huge", &["pagesize=2M"])?;
        lab.run(&bundle)
    });
    std::fs::write(pool, before.trim())?;
    let told = told?;
    same!("stdout", told.words(), ["two", "stopped"]);
    Ok(())
}

fn v2_rdma_of_a_missing_device_is_refused(lab: &Lab) -> Result {
    let asked = json!({"rdma": {"nodevice7": {"hcaHandles": 3, "hcaObjects": 10_000}}});
    let (bundle, _) = with(lab, "true", asked)?;
    let err = lab.run(&bundle)?.refused("a device that is not")?.err;
    check!(err.contains("rdma.max"), "{err}");
    Ok(())
}

fn v2_unified_overrides_the_rest(lab: &Lab) -> Result {
    let asked = json!({
        "memory": {"limit": 64 * MIB}, "pids": {"limit": 20}, "cpu": {"shares": 1024},
        "unified": {"memory.max": (48 * MIB).to_string(), "cpu.weight": "42",
            "memory.oom.group": "1", "cgroup.max.descendants": "7"}});
    let limit = (48 * MIB).to_string();
    let want = [
        ("memory.max", limit.as_str()),
        ("cpu.weight", "42"),
        ("pids.max", "20"),
        ("memory.oom.group", "1"),
        ("cgroup.max.descendants", "7"),
    ];
    files(lab, asked, &want)
}

fn v2_unified_takes_many_lines(lab: &Lab) -> Result {
    let (one, two) = (Loop::new(lab, MIB)?, Loop::new(lab, MIB)?);
    let line = |disk: &Loop, rate| format!("{}:{} wbps={rate}", disk.numbers.0, disk.numbers.1);
    let both = format!("{}\n{}", line(&one, MIB), line(&two, 2 * MIB));
    let (_container, limits) = started(lab, json!({"unified": {"io.max": both}}))?;
    let got = limits.file("io", "io.max")?;
    for (disk, rate) in [(&one, MIB), (&two, 2 * MIB)] {
        let (major, minor) = disk.numbers;
        let want = format!("{major}:{minor} rbps=max wbps={rate} riops=max wiops=max");
        check!(got.lines().any(|line| line == want), "{want}: {got}");
    }
    Ok(())
}

fn v2_unified_of_an_unknown_controller_is_refused(lab: &Lab) -> Result {
    let (bundle, _) = with(lab, "true", json!({"unified": {"nonsense.max": "1"}}))?;
    let err = lab.run(&bundle)?.refused("an unknown controller")?.err;
    check!(err.contains("nonsense"), "{err}");
    Ok(())
}

fn v2_unified_of_a_bad_value_is_refused(lab: &Lab) -> Result {
    let (bundle, path) = with(lab, "true", json!({"unified": {"memory.max": "much"}}))?;
    let err = lab.run(&bundle)?.refused("a value that is none")?.err;
    check!(err.contains("memory.max"), "{err}");
    check!(
        !Path::new("/sys/fs/cgroup")
            .join(path.trim_matches('/'))
            .exists(),
        "the cgroup is left"
    );
    // One that runs meanwhile does not mind.
    let (_container, limits) = started(lab, json!({}))?;
    until("a process", || {
        (!limits.processes().is_empty()).then_some(())
    })
}
