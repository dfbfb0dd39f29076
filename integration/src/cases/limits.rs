//! Cgroups: where the container goes, what limits it has by a second opinion, and how they feel.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::cgroup::Limits;
use crate::container::Container;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::path::Path;

cases! {
    cgroups_path_is_respected,
    a_nested_cgroups_path_is_respected,
    without_a_cgroups_path_the_id_names_it,
    init_is_the_only_process_in_its_cgroup,
    the_cgroup_goes_with_the_container,
    sub_cgroups_go_with_the_container,
    exec_joins_the_cgroup,
    children_stay_in_the_cgroup,
    memory_limit_is_set,
    memory_reservation_is_set: [CgroupV1],
    memory_and_swap_limit_is_set: [CgroupV1],
    memory_swappiness_is_set: [CgroupV1],
    a_memory_hog_is_killed,
    unlimited_memory_is_accepted,
    cpu_shares_are_set,
    cpu_quota_and_period_are_set,
    cpu_quota_is_felt,
    cpuset_is_set,
    cpuset_is_felt,
    pids_limit_is_set,
    pids_limit_stops_a_fork,
    pids_limit_of_minus_one_is_none,
    blkio_throttle_is_set: [CgroupV1],
    hugepage_limit_is_set: [CgroupV1],
    unified_values_are_written: [CgroupV2],
    no_limits_is_fine,
}

/// A bundle whose cgroup has a name of its own at the top of every hierarchy.
pub(super) fn with(lab: &Lab, script: &str, resources: Value) -> Result<(Bundle, String)> {
    let mut bundle = lab.script(script)?;
    let path = format!("/{}", lab.id());
    bundle
        .set("/linux/cgroupsPath", path.as_str())?
        .set("/linux/resources", resources)?;
    Ok((bundle, path))
}

pub(super) fn started<'lab>(lab: &'lab Lab, resources: Value) -> Result<(Container<'lab>, Limits)> {
    let (bundle, path) = with(lab, "exec sleep 1000", resources)?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    Ok((container, Limits::at(&path)))
}

/// The path of a process in the hierarchy that limits pids.
fn place(pid: i32, controller: &str) -> Result<String> {
    let all = kernel::cgroups(pid)?;
    let of = |name: &str| {
        all.iter()
            .find(|(list, _)| list.split(',').any(|one| one == name))
    };
    let found = of(controller).or_else(|| of(""));
    Ok(found.ok_or("in no cgroup")?.1.clone())
}

fn cgroups_path_is_respected(lab: &Lab) -> Result {
    let (bundle, path) = with(lab, "exec sleep 1000", json!({}))?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    for controller in ["memory", "pids", "cpu", "devices"] {
        same!(controller, place(pid, controller)?, path);
    }
    Ok(())
}

fn a_nested_cgroups_path_is_respected(lab: &Lab) -> Result {
    let (mut bundle, path) = with(lab, "exec sleep 1000", json!({}))?;
    let nested = format!("{path}/a/b");
    bundle.set("/linux/cgroupsPath", nested.as_str())?;
    let container = lab.started(&bundle)?;
    same!("pids", place(container.executes("sleep")?, "pids")?, nested);
    container.delete(&["-f"])?.ok()?;
    // A runtime may leave parents that it made; the case owns the name and takes them away.
    let mut left = kernel::directories_named(Path::new("/sys/fs/cgroup"), path.trim_matches('/'));
    let gone = left.iter().all(|dir| !dir.ends_with("a/b"));
    left.reverse();
    left.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
    for dir in left {
        std::fs::remove_dir(dir)?;
    }
    check!(gone, "the container's own cgroup is left");
    Ok(())
}

fn without_a_cgroups_path_the_id_names_it(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let path = place(container.executes("sleep")?, "memory")?;
    check!(
        path.ends_with(&container.id),
        "{path} does not end with the id"
    );
    Ok(())
}

fn init_is_the_only_process_in_its_cgroup(lab: &Lab) -> Result {
    let (container, limits) = started(lab, json!({}))?;
    same!(
        "processes",
        limits.processes(),
        [u64::try_from(container.pid()?)?]
    );
    Ok(())
}

fn the_cgroup_goes_with_the_container(lab: &Lab) -> Result {
    let (container, limits) = started(lab, json!({}))?;
    let dir = limits.directory("pids");
    check!(dir.is_dir(), "{} is missing", dir.display());
    container.delete(&["-f"])?.ok()?;
    let left = kernel::directories_named(Path::new("/sys/fs/cgroup"), lab.mark());
    check!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn sub_cgroups_go_with_the_container(lab: &Lab) -> Result {
    let (container, limits) = started(lab, json!({}))?;
    let sub = limits.directory("pids").join("sub/deep");
    std::fs::create_dir_all(&sub)?;
    container.delete(&["-f"])?.ok()?;
    check!(!sub.exists(), "{} is left", sub.display());
    Ok(())
}

fn exec_joins_the_cgroup(lab: &Lab) -> Result {
    let (bundle, path) = with(lab, "exec sleep 1000", json!({}))?;
    let container = lab.started(&bundle)?;
    let told = container.sh("cat /proc/self/cgroup")?.ok()?.out;
    check!(told.lines().any(|line| line.ends_with(&path)), "{told}");
    // In every hierarchy that limits: `0::` of a hybrid host may be left out.
    let outside: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("0::") && !line.contains("name="))
        .filter(|line| !line.ends_with(&path))
        .collect();
    check!(outside.is_empty(), "{outside:?}");
    Ok(())
}

fn children_stay_in_the_cgroup(lab: &Lab) -> Result {
    let script = "sleep 1000 & sleep 1000 & echo up; wait";
    let (bundle, path) = with(lab, script, json!({}))?;
    let container = lab.started(&bundle)?;
    container.says("up")?;
    same!("processes", Limits::at(&path).processes().len(), 3);
    Ok(())
}

const MIB: i64 = 1 << 20;

fn memory_limit_is_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"memory": {"limit": 64 * MIB}}))?;
    same!("limit", limits.memory_limit()?, 64 * MIB);
    Ok(())
}

fn memory_reservation_is_set(lab: &Lab) -> Result {
    let memory = json!({"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}});
    let (_container, limits) = started(lab, memory)?;
    same!("reservation", limits.memory_reservation()?, 32 * MIB);
    Ok(())
}

fn memory_and_swap_limit_is_set(lab: &Lab) -> Result {
    if !Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists() {
        return Err(crate::case::Failure::skip(
            "the kernel does not account swap",
        ));
    }
    let memory = json!({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}});
    let (_container, limits) = started(lab, memory)?;
    same!("memory and swap", limits.swap_limit()?, 96 * MIB);
    Ok(())
}

fn memory_swappiness_is_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"memory": {"swappiness": 33}}))?;
    same!("swappiness", limits.swappiness()?, 33);
    Ok(())
}

fn a_memory_hog_is_killed(lab: &Lab) -> Result {
    // A child eats; the shell stays small and tells what became of it.
    let script = "tail /dev/zero; echo status $?";
    let memory = json!({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}});
    let (bundle, _) = with(lab, script, memory)?;
    let output = lab.run(&bundle)?;
    check!(
        output.out.contains("status 137"),
        "{} {}",
        output.out,
        output.err
    );
    Ok(())
}

fn unlimited_memory_is_accepted(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"memory": {"limit": -1}}))?;
    let limit = limits.memory_limit()?;
    check!(!(0..=1 << 50).contains(&limit), "limit: {limit}");
    Ok(())
}

fn cpu_shares_are_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"cpu": {"shares": 512}}))?;
    if limits.v2() {
        let weight = limits.shares()?;
        check!((2..=60).contains(&weight), "weight of 512 shares: {weight}");
    } else {
        same!("shares", limits.shares()?, 512);
    }
    Ok(())
}

fn cpu_quota_and_period_are_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"cpu": {"quota": 30_000, "period": 60_000}}))?;
    same!("quota", limits.quota()?, 30_000);
    same!("period", limits.period()?, 60_000);
    Ok(())
}

fn cpu_quota_is_felt(lab: &Lab) -> Result {
    // So little that it is hit on a busy machine, too.
    let resources = json!({"cpu": {"quota": 2_000, "period": 100_000}});
    let (bundle, path) = with(lab, "while :; do :; done", resources)?;
    let _container = lab.started(&bundle)?;
    let limits = Limits::at(&path);
    until("throttling", || {
        limits.throttled().ok().filter(|count| *count > 0)
    })?;
    Ok(())
}

fn cpuset_is_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"cpu": {"cpus": "0", "mems": "0"}}))?;
    same!("cpus", limits.cpus()?, [(0, 0)]);
    same!("mems", limits.mems()?, [(0, 0)]);
    Ok(())
}

fn cpuset_is_felt(lab: &Lab) -> Result {
    let script = "grep Cpus_allowed_list /proc/self/status";
    let (bundle, _) = with(lab, script, json!({"cpu": {"cpus": "0"}}))?;
    same!(
        "cpus",
        lab.told(&bundle)?.split_whitespace().last(),
        Some("0")
    );
    Ok(())
}

fn pids_limit_is_set(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"pids": {"limit": 17}}))?;
    same!("limit", limits.pids()?, Some(17));
    Ok(())
}

fn pids_limit_stops_a_fork(lab: &Lab) -> Result {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done 2>&1; echo end";
    let (bundle, _) = with(lab, script, json!({"pids": {"limit": 5}}))?;
    let container = lab.create(&bundle)?;
    container.start()?.ok()?;
    until("a fork that fails", || {
        let told = format!("{}{}", container.out().ok()?, container.err().ok()?);
        told.contains("can't fork").then_some(())
    })
}

fn pids_limit_of_minus_one_is_none(lab: &Lab) -> Result {
    let (_container, limits) = started(lab, json!({"pids": {"limit": -1}}))?;
    same!("limit", limits.pids()?, None);
    Ok(())
}

fn blkio_throttle_is_set(lab: &Lab) -> Result {
    if !Path::new("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device").exists() {
        return Err(crate::case::Failure::skip("the kernel does not throttle"));
    }
    let mut disks = std::fs::read_dir("/sys/block")?.flatten();
    let numbers = disks.find_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok());
    let numbers = numbers.ok_or_else(|| crate::case::Failure::skip("no block device"))?;
    let (major, minor) = numbers.trim().split_once(':').ok_or("no numbers")?;
    let (major, minor): (i16, i16) = (major.parse()?, minor.parse()?);
    let device = json!({"major": major, "minor": minor, "rate": 1_048_576});
    let blkio = json!({"blockIO": {"throttleReadBpsDevice": [device]}});
    let (_container, limits) = started(lab, blkio)?;
    same!("limits", limits.read_bps()?, [(major, minor, 1_048_576)]);
    Ok(())
}

fn hugepage_limit_is_set(lab: &Lab) -> Result {
    if !Path::new("/sys/fs/cgroup/hugetlb").exists() {
        return Err(crate::case::Failure::skip("no hugetlb hierarchy"));
    }
    let limit = json!([{"pageSize": "2MB", "limit": 4 * MIB}]);
    let (_container, limits) = started(lab, json!({"hugepageLimits": limit}))?;
    let got = limits.file("hugetlb", "hugetlb.2MB.limit_in_bytes")?;
    same!("limit", got, (4 * MIB).to_string());
    Ok(())
}

fn unified_values_are_written(lab: &Lab) -> Result {
    let resources = json!({"unified": {"memory.high": "50000000", "pids.max": "33"}});
    let (_container, limits) = started(lab, resources)?;
    same!("pids", limits.pids()?, Some(33));
    let high: i64 = limits.file("memory", "memory.high")?.parse()?;
    check!(
        (49_990_000..=50_000_000).contains(&high),
        "memory.high: {high}"
    );
    Ok(())
}

fn no_limits_is_fine(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    bundle.unset("/linux/resources")?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}
