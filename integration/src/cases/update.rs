//! `update`: other limits for a container that runs, read back by a second opinion.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::cgroup::Limits;
use crate::container::Container;
use crate::kernel::until;
use crate::lab::{self, Lab, Output};
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::fs::File;

cases! {
    memory_is_updated_in_human_sizes,
    options_may_follow_the_id,
    pids_limit_zero_is_one_and_minus_one_is_none,
    a_quota_alone_keeps_the_period_and_the_other_way_round,
    shares_and_cpusets_are_updated,
    resources_come_from_a_file_or_from_stdin,
    flags_are_ignored_beside_a_file,
    memory_below_swap_is_refused_as_the_last_limits_say: [CgroupV1],
    a_refused_update_changes_nothing: [Creel],
    a_paused_container_stays_paused,
    device_rules_are_not_touched: [CgroupV1],
    throttled_devices_are_added: [CgroupV1, Creel],
    check_before_update_refuses_a_limit_below_the_usage: [CgroupV2, Creel],
    limits_are_written_on_v2: [CgroupV2],
    kernel_memory_is_accepted_and_ignored,
    a_value_that_does_not_read_is_named,
    rdt_schemas_are_refused_without_rdt,
    a_stopped_container_is_refused,
}

fn with<'lab>(lab: &'lab Lab, resources: Value) -> Result<(Container<'lab>, Limits)> {
    let (bundle, path) = bundle(lab, resources)?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    Ok((container, Limits::at(&path)))
}

fn bundle(lab: &Lab, resources: Value) -> Result<(Bundle, String)> {
    let mut bundle = lab.idle()?;
    let path = format!("/{}", lab.id());
    bundle
        .set("/linux/cgroupsPath", path.as_str())?
        .set("/linux/resources", resources)?;
    Ok((bundle, path))
}

fn update(container: &Container, flags: &[&str]) -> Result<Output> {
    container.call("update", flags, &[])?.ok()
}

/// `update -r -` with this on stdin.
fn from_stdin(lab: &Lab, container: &Container, resources: &Value) -> Result<Output> {
    let file = lab.file("stdin.json", &resources.to_string())?;
    let mut command = lab.command(&["update", "-r", "-", &container.id]);
    lab.finish(command.stdin(File::open(file)?))
}

fn memory_is_updated_in_human_sizes(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({"memory": {"limit": 32 << 20}}))?;
    for (text, bytes) in [
        ("50M", 50 << 20),
        ("65536k", 64 << 20),
        ("33554432", 32 << 20),
    ] {
        update(&container, &["--memory", text])?;
        same!(text, limits.memory_limit()?, bytes);
    }
    update(&container, &["--memory", "-1"])?;
    check!(
        !(0..1 << 40).contains(&limits.memory_limit()?),
        "{}",
        limits.memory_limit()?
    );
    Ok(())
}

fn options_may_follow_the_id(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({}))?;
    container
        .call("update", &[], &["--pids-limit", "7", "--memory", "32m"])?
        .ok()?;
    same!("pids", limits.pids()?, Some(7));
    same!("memory", limits.memory_limit()?, 32 << 20);
    Ok(())
}

fn pids_limit_zero_is_one_and_minus_one_is_none(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({"pids": {"limit": 10}}))?;
    update(&container, &["--pids-limit", "20"])?;
    same!("20", limits.pids()?, Some(20));
    update(&container, &["--pids-limit", "0"])?;
    same!("0", limits.pids()?, Some(1));
    update(&container, &["--pids-limit", "-1"])?;
    same!("-1", limits.pids()?, None);
    // Another update does not bring an old one back.
    update(&container, &["--memory", "32M"])?;
    same!("later", limits.pids()?, None);
    Ok(())
}

fn a_quota_alone_keeps_the_period_and_the_other_way_round(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({"cpu": {"quota": 20_000, "period": 50_000}}))?;
    update(&container, &["--cpu-quota", "30000"])?;
    same!(
        "quota",
        (limits.quota()?, limits.period()?),
        (30_000, 50_000)
    );
    update(&container, &["--cpu-period", "60000"])?;
    same!(
        "period",
        (limits.quota()?, limits.period()?),
        (30_000, 60_000)
    );
    update(
        &container,
        &["--cpu-period", "70000", "--cpu-quota", "35000"],
    )?;
    same!(
        "both",
        (limits.quota()?, limits.period()?),
        (35_000, 70_000)
    );
    update(&container, &["--memory", "32M"])?;
    same!(
        "neither",
        (limits.quota()?, limits.period()?),
        (35_000, 70_000)
    );
    Ok(())
}

fn shares_and_cpusets_are_updated(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({}))?;
    update(
        &container,
        &[
            "--cpu-share",
            "2048",
            "--cpuset-cpus",
            "0",
            "--cpuset-mems",
            "0",
        ],
    )?;
    let shares = if limits.v2() { 174 } else { 2048 };
    same!("shares", limits.shares()?, shares);
    same!("cpus", limits.cpus()?, [(0, 0)]);
    same!("mems", limits.mems()?, [(0, 0)]);
    Ok(())
}

fn resources_come_from_a_file_or_from_stdin(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({"memory": {"limit": 32 << 20}}))?;
    let resources = json!({"memory": {"limit": 48 << 20}, "pids": {"limit": 9}});
    let file = lab.file("resources.json", &resources.to_string())?;
    update(&container, &["-r", &file.to_string_lossy()])?;
    same!(
        "file",
        (limits.memory_limit()?, limits.pids()?),
        (48 << 20, Some(9))
    );
    let resources = json!({"memory": {"limit": 40 << 20}, "pids": {"limit": 11}});
    from_stdin(lab, &container, &resources)?.ok()?;
    same!(
        "stdin",
        (limits.memory_limit()?, limits.pids()?),
        (40 << 20, Some(11))
    );
    Ok(())
}

fn flags_are_ignored_beside_a_file(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({"memory": {"limit": 32 << 20}}))?;
    let file = lab.file("resources.json", r#"{"pids": {"limit": 9}}"#)?;
    update(
        &container,
        &["--memory", "64M", "-r", &file.to_string_lossy()],
    )?;
    same!(
        "limits",
        (limits.memory_limit()?, limits.pids()?),
        (32 << 20, Some(9))
    );
    Ok(())
}

fn memory_below_swap_is_refused_as_the_last_limits_say(lab: &Lab) -> Result {
    let memory = json!({"memory": {"limit": 32 << 20, "swap": 48 << 20}});
    let (container, limits) = with(lab, memory)?;
    container
        .call("update", &["--memory", "64M"], &[])?
        .refused("memory above swap")?;
    update(&container, &["--memory", "64M", "--memory-swap", "96M"])?;
    same!(
        "both",
        (limits.memory_limit()?, limits.swap_limit()?),
        (64 << 20, 96 << 20)
    );
    update(&container, &["--memory-swap", "128M"])?;
    same!(
        "swap",
        (limits.memory_limit()?, limits.swap_limit()?),
        (64 << 20, 128 << 20)
    );
    Ok(())
}

fn a_refused_update_changes_nothing(lab: &Lab) -> Result {
    let (container, limits) = with(
        lab,
        json!({"pids": {"limit": 10}, "memory": {"limit": 32 << 20}}),
    )?;
    let flags = [
        "--pids-limit",
        "20",
        "--memory",
        "64M",
        "--cpuset-cpus",
        "4000",
    ];
    let output = container
        .call("update", &flags, &[])?
        .refused("a cpu that is not there")?;
    check!(output.err.contains("cpuset.cpus"), "{}", output.err);
    same!(
        "limits",
        (limits.pids()?, limits.memory_limit()?),
        (Some(10), 32 << 20)
    );
    Ok(())
}

fn a_paused_container_stays_paused(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({}))?;
    container.call("pause", &[], &[])?.ok()?;
    update(&container, &["--memory", "32M", "--cpu-share", "512"])?;
    same!("status", container.status()?, "paused");
    same!("memory", limits.memory_limit()?, 32 << 20);
    container.call("resume", &[], &[])?.ok()?;
    same!("status", container.status()?, "running");
    Ok(())
}

fn device_rules_are_not_touched(lab: &Lab) -> Result {
    let devices = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let (container, limits) = with(lab, devices)?;
    // As a plugin does that knows better than config.json.
    let allow = limits.directory("devices").join("devices.allow");
    std::fs::write(allow, "c 10:200 rwm")?;
    let before = limits.file("devices", "devices.list")?;
    update(&container, &["--memory", "32M"])?;
    let denied = json!({"devices": [{"allow": true, "access": "rwm"}], "pids": {"limit": 9}});
    from_stdin(lab, &container, &denied)?.ok()?;
    same!("rules", limits.file("devices", "devices.list")?, before);
    check!(before.contains("c 10:200 rwm"), "{before}");
    Ok(())
}

fn throttled_devices_are_added(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({}))?;
    let disk = std::fs::read_dir("/sys/block")?.flatten().next();
    let Some(disk) = disk else {
        return Err(crate::case::Failure::skip("no block device"));
    };
    let numbers = lab::text(&disk.path().join("dev"))?;
    let (major, minor) = numbers.trim().split_once(':').ok_or("no numbers")?;
    let (major, minor): (i16, i16) = (major.parse()?, minor.parse()?);
    for rate in [1_000_000, 2_000_000] {
        let device = json!([{"major": major, "minor": minor, "rate": rate}]);
        let resources = json!({"blockIO": {"throttleReadBpsDevice": device}});
        from_stdin(lab, &container, &resources)?.ok()?;
        same!("rate", limits.read_bps()?, [(major, minor, rate)]);
    }
    Ok(())
}

fn check_before_update_refuses_a_limit_below_the_usage(lab: &Lab) -> Result {
    let script =
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=16 2>/dev/null; echo up; exec sleep 1000";
    let mut bundle = lab.script(script)?;
    let path = format!("/{}", lab.id());
    bundle.set("/linux/cgroupsPath", path.as_str())?;
    let container = lab.started(&bundle)?;
    container.says("up")?;
    let resources = json!({"memory": {"limit": 8 << 20, "checkBeforeUpdate": true}});
    let output = from_stdin(lab, &container, &resources)?.refused("less than is in use")?;
    check!(
        output
            .err
            .contains("rejecting memory limit 8388608 <= usage"),
        "{}",
        output.err
    );
    same!("status", container.status()?, "running");
    Ok(())
}

fn limits_are_written_on_v2(lab: &Lab) -> Result {
    let memory = json!({"memory": {"limit": 32 << 20, "swap": 48 << 20}});
    let (container, limits) = with(lab, memory)?;
    update(
        &container,
        &[
            "--memory",
            "64M",
            "--memory-swap",
            "96M",
            "--memory-reservation",
            "16M",
        ],
    )?;
    same!("memory", limits.file("memory", "memory.max")?, "67108864");
    same!("low", limits.file("memory", "memory.low")?, "16777216");
    if let Ok(swap) = limits.file("memory", "memory.swap.max") {
        same!("swap", swap, "33554432");
    }
    update(&container, &["--cpu-quota", "30000"])?;
    same!("quota", limits.file("cpu", "cpu.max")?, "30000 100000");
    update(&container, &["--cpu-idle", "1"])?;
    same!("idle", limits.file("cpu", "cpu.idle")?, "1");
    from_stdin(lab, &container, &json!({"unified": {"pids.max": "17"}}))?.ok()?;
    same!("unified", limits.pids()?, Some(17));
    Ok(())
}

fn kernel_memory_is_accepted_and_ignored(lab: &Lab) -> Result {
    let (container, _) = with(lab, json!({}))?;
    let flags = ["--kernel-memory", "32M", "--kernel-memory-tcp", "-1"];
    let output = update(&container, &flags)?;
    let why = "Kernel memory settings are ignored and will be removed";
    check!(output.err.contains(why), "{}", output.err);
    Ok(())
}

fn a_value_that_does_not_read_is_named(lab: &Lab) -> Result {
    let (container, limits) = with(lab, json!({"pids": {"limit": 10}}))?;
    for (flag, value) in [
        ("memory", "5x"),
        ("memory-swap", "-2"),
        ("cpu-share", "-1"),
        ("cpu-quota", "much"),
        ("cpu-period", "1.5"),
        ("cpu-idle", "yes"),
    ] {
        let output = container.call(
            "update",
            &["--pids-limit", "20", &format!("--{flag}={value}")],
            &[],
        )?;
        let output = output.refused(value)?;
        check!(
            output.err.contains(&format!("invalid value for {flag}: ")),
            "{}",
            output.err
        );
    }
    let file = lab.file("odd.json", r#"{"memory": {"limit": "much"}}"#)?;
    container
        .call("update", &["-r", &file.to_string_lossy()], &[])?
        .refused("text")?;
    container
        .call("update", &["-r", "/no/such"], &[])?
        .refused("no file")?;
    same!("pids", limits.pids()?, Some(10));
    Ok(())
}

fn rdt_schemas_are_refused_without_rdt(lab: &Lab) -> Result {
    let (container, _) = with(lab, json!({}))?;
    for (flag, why) in [
        ("--l3-cache-schema", "l3 cache schema is not enabled"),
        ("--mem-bw-schema", "memory bandwidth schema is not enabled"),
    ] {
        let output = container
            .call("update", &[flag, "L3:0=f"], &[])?
            .refused(flag)?;
        check!(output.err.contains(why), "{}", output.err);
    }
    Ok(())
}

fn a_stopped_container_is_refused(lab: &Lab) -> Result {
    let (container, _) = with(lab, json!({}))?;
    container.kill("KILL")?.ok()?;
    container.stopped()?;
    let output = container.call("update", &["--memory", "32M"], &[])?;
    let output = output.refused("a stopped container")?;
    check!(
        output.err.contains("container not running"),
        "{}",
        output.err
    );
    until("gone", || {
        container.delete(&[]).ok().filter(|output| output.code == 0)
    })?;
    Ok(())
}
