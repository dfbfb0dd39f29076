//! `events`: numbers that agree with the kernel's, out of memory, and the end.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::cgroup::Limits;
use crate::container::Container;
use crate::kernel::until;
use crate::lab::{self, Lab};
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;

cases! {
    stats_under_load_agree_with_the_kernel,
    stats_have_the_keys_that_callers_read,
    stats_tell_pressure_on_v2: [CgroupV2],
    stats_tell_throttling_and_limits,
    events_repeat_each_interval_and_end_with_the_container,
    out_of_memory_is_told,
    events_of_a_stopped_container_are_refused,
    a_wrong_interval_is_refused,
}

const BUSY: &str = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; echo up;\
    sleep 1000 & while :; do cat /dev/shm/x >/dev/null; done";

fn with<'lab>(lab: &'lab Lab, script: &str, resources: Value) -> Result<(Container<'lab>, Limits)> {
    let mut bundle = lab.script(script)?;
    let path = format!("/{}", lab.id());
    bundle
        .set("/linux/cgroupsPath", path.as_str())?
        .set("/linux/resources", resources)?;
    Ok((lab.started(&bundle)?, Limits::at(&path)))
}

fn stats(container: &Container) -> Result<Value> {
    let out = container.call("events", &["--stats"], &[])?.ok()?.out;
    let start = format!(r#"{{"type":"stats","id":"{}","data":{{"#, container.id);
    check!(out.starts_with(&start) && out.ends_with("}}\n"), "{out}");
    same!("lines", out.lines().count(), 1);
    let mut line: Value = serde_json::from_str(&out)?;
    Ok(line["data"].take())
}

fn number(stats: &Value, pointer: &str) -> u64 {
    // Go leaves out what is zero.
    stats.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// What only grows must lie between two readings of the kernel's files, and what does not must be
/// the same once all stands still.
fn stats_under_load_agree_with_the_kernel(lab: &Lab) -> Result {
    let resources = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 20}});
    let (container, kernel) = with(lab, BUSY, resources)?;
    container.says("up")?;
    for _ in 0..5 {
        let before = (kernel.cpu_usage()?, kernel.page_faults()?);
        let told = stats(&container)?;
        let after = (kernel.cpu_usage()?, kernel.page_faults()?);
        for (what, before, told, after) in [
            ("cpu", before.0, number(&told, "/cpu/usage/total"), after.0),
            (
                "faults",
                before.1,
                number(&told, "/memory/raw/pgfault"),
                after.1,
            ),
        ] {
            check!(
                before > 0 && before <= told && told <= after,
                "{what}: {before}, {told}, {after}"
            );
        }
    }
    container.call("pause", &[], &[])?.ok()?;
    // Counts of memory are gathered lazily: they settle within a moment.
    until("memory that agrees", || {
        let told = stats(&container).ok()?;
        (number(&told, "/memory/usage/usage") == kernel.memory_usage().ok()?).then_some(())
    })?;
    let told = stats(&container)?;
    same!(
        "cpu at rest",
        number(&told, "/cpu/usage/total"),
        kernel.cpu_usage()?
    );
    same!(
        "peak",
        number(&told, "/memory/usage/max"),
        kernel.memory_peak()?
    );
    check!(
        number(&told, "/memory/usage/usage") > 8 << 20,
        "{}",
        told["memory"]["usage"]
    );
    same!("limit", number(&told, "/memory/usage/limit"), 64 << 20);
    same!("pids", number(&told, "/pids/current"), kernel.pids_now()?);
    same!("pids limit", number(&told, "/pids/limit"), 20);
    let raw = told["memory"]["raw"].as_object().ok_or("no raw")?;
    let lines = kernel.file("memory", "memory.stat")?;
    same!("memory.stat", raw.len(), lines.lines().count());
    container.call("resume", &[], &[])?.ok()?;
    Ok(())
}

fn stats_have_the_keys_that_callers_read(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let told = stats(&container)?;
    let keys: Vec<_> = told.as_object().ok_or("no object")?.keys().collect();
    let mut want = [
        "cpu",
        "cpuset",
        "memory",
        "pids",
        "blkio",
        "hugetlb",
        "intel_rdt",
        "network_interfaces",
    ];
    want.sort_unstable();
    same!("keys", keys, want);
    check!(
        told["network_interfaces"].is_null(),
        "{}",
        told["network_interfaces"]
    );
    for pointer in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpuset/sched_relax_domain_level",
        "/memory/usage/limit",
        "/memory/usage/failcnt",
    ] {
        check!(told.pointer(pointer).is_some(), "no {pointer}: {told}");
    }
    Ok(())
}

fn stats_tell_pressure_on_v2(lab: &Lab) -> Result {
    let (container, kernel) = with(lab, "exec sleep 1000", json!({}))?;
    let Ok(file) = kernel.file("memory", "memory.pressure") else {
        return Err(crate::case::Failure::skip("the kernel tells no pressure"));
    };
    let told = stats(&container)?;
    for part in ["cpu", "memory", "blkio"] {
        let psi = told[part]["psi"]
            .as_object()
            .ok_or(format!("no psi of {part}"))?;
        check!(
            psi.keys().all(|key| key == "some" || key == "full"),
            "{psi:?}"
        );
    }
    check!(file.starts_with("some avg10="), "{file}");
    Ok(())
}

fn stats_tell_throttling_and_limits(lab: &Lab) -> Result {
    // So little that it is hit on a busy machine, too.
    let resources = json!({"cpu": {"quota": 2000, "period": 100_000}});
    let (container, kernel) = with(lab, "while :; do :; done", resources)?;
    until("throttling", || {
        // The kernel counts a wait when it ends, and may count one of no time.
        let felt = kernel.throttled_time().is_ok_and(|time| time > 0);
        kernel.throttled().ok().filter(|count| felt && *count > 2)
    })?;
    let before = kernel.throttled()?;
    let told = stats(&container)?;
    let got = number(&told, "/cpu/throttling/throttledPeriods");
    check!(
        before <= got && got <= kernel.throttled()?,
        "{}",
        told["cpu"]["throttling"]
    );
    check!(
        number(&told, "/cpu/throttling/throttledTime") > 0,
        "{}",
        told["cpu"]
    );
    Ok(())
}

/// `events` at work, its lines in a file; killed with the value.
struct Watcher {
    child: Child,
    lines: PathBuf,
}

impl Watcher {
    fn new(lab: &Lab, container: &Container, flags: &[&str]) -> Result<Self> {
        let lines = lab.path("events");
        let mut args = vec!["events"];
        args.extend(flags);
        args.push(&container.id);
        let child = lab
            .command(&args)
            .stdin(lab.null()?)
            .stdout(File::create(&lines)?)
            .spawn()?;
        Ok(Self { child, lines })
    }

    fn tells(&self, line: &str, times: usize) -> Result {
        until(&format!("{times} times {line}"), || {
            let text = lab::text(&self.lines).ok()?;
            (text.lines().filter(|one| one.starts_with(line)).count() >= times).then_some(())
        })
    }

    fn ends(&mut self) -> Result<i32> {
        until("the end of events", || {
            self.child.try_wait().ok().flatten().map(lab::code)
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn events_repeat_each_interval_and_end_with_the_container(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let mut watcher = Watcher::new(lab, &container, &["--interval", "50ms"])?;
    let line = format!(r#"{{"type":"stats","id":"{}","data":{{"cpu""#, container.id);
    watcher.tells(&line, 3)?;
    container.delete(&["-f"])?.ok()?;
    same!("exit code", watcher.ends()?, 0);
    Ok(())
}

fn out_of_memory_is_told(lab: &Lab) -> Result {
    let script = "read go; dd if=/dev/zero of=/dev/shm/x bs=1M count=40; exec sleep 1000";
    let script = script.replace("read go", "while ! [ -e /go ]; do sleep 0.01; done");
    let resources = json!({"memory": {"limit": 16 << 20}});
    let mut bundle = lab.script(&script)?;
    bundle.set("/linux/resources", resources)?;
    let container = lab.started(&bundle)?;
    let mut watcher = Watcher::new(lab, &container, &["--interval", "20ms"])?;
    // Its first numbers say that it watches.
    watcher.tells(r#"{"type":"stats""#, 1)?;
    std::fs::write(bundle.inside("go"), "")?;
    watcher.tells(&format!(r#"{{"type":"oom","id":"{}"}}"#, container.id), 1)?;
    container.delete(&["-f"])?.ok()?;
    same!("exit code", watcher.ends()?, 0);
    let text = lab::text(&lab.path("events"))?;
    let odd = |line: &&str| serde_json::from_str::<Value>(line).is_err();
    check!(!text.lines().any(|line| odd(&line)), "{text}");
    Ok(())
}

fn events_of_a_stopped_container_are_refused(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("exit 0")?)?;
    container.stopped()?;
    for flags in [&[][..], &["--stats"]] {
        let output = container.call("events", flags, &[])?;
        let output = output.refused("a stopped container")?;
        check!(output.err.contains("is not running"), "{}", output.err);
    }
    Ok(())
}

fn a_wrong_interval_is_refused(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    for interval in ["0", "-1s"] {
        let output = container.call("events", &["--interval", interval], &[])?;
        let output = output.refused(interval)?;
        let why = "duration interval must be greater than 0";
        check!(output.err.contains(why), "{}", output.err);
    }
    let output = container.call("events", &["--interval", "5"], &[])?;
    output.refused("a number without a unit")?;
    Ok(())
}
