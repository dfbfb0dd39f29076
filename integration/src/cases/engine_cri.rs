//! What a kubelet does with a runtime handler: pods, containers in them, and all that it asks of those.
#![forbid(unsafe_code)]

use crate::case::{Case, Failure, Plain, Result};
use crate::cri::Cri;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::pty::Pty;
use crate::{check, same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::Path;

/// The cases; each starts a daemon.
pub fn cases() -> Vec<Case> {
    use crate::case::Need::Tool;
    let cases: [(&str, Plain); 8] = [
        ("engine_cri_life_of_a_pod", life),
        ("engine_cri_exec", exec),
        ("engine_cri_containers_of_a_pod_share", share),
        ("engine_cri_tells_who_ran_out_of_memory", memory),
        ("engine_cri_updates", update),
        ("engine_cri_confines", confines),
        ("engine_cri_maps_the_users_of_a_pod", users),
        ("engine_cri_outlives_containerd", restarted),
    ];
    let needs = [Tool("containerd"), Tool("ctr"), Tool("crictl"), Tool("tar")];
    cases
        .into_iter()
        .map(|(name, run)| Case::new(name, run).needs(&needs).limit(180))
        .collect()
}

const ENDLESS: &str =
    "echo up; echo down >&2; trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done";

fn logged(cri: &Cri<'_>, id: &str, words: &str) -> Result {
    until("it is in the logs", || {
        let logs = cri.call(&["logs", id]).ok()?;
        (logs.out.contains(words) || logs.err.contains(words)).then_some(())
    })
}

fn life(lab: &Lab) -> Result {
    let cri = Cri::new(lab)?;
    let pod = cri.pod("pod", false)?;
    let id = pod.start("c", ENDLESS, &Value::Null)?;
    same!("state", cri.status(&id, "state")?, "CONTAINER_RUNNING");
    logged(&cri, &id, "up")?;
    logged(&cri, &id, "down")?;
    let stats = until("statistics", || {
        let text = cri.told(&["stats", "-o", "json", &id]).ok()?;
        let stats: Value = serde_json::from_str(&text).ok()?;
        let stats = stats["stats"][0].clone();
        let value = stats["memory"]["workingSetBytes"]["value"].clone();
        value
            .as_str()?
            .parse::<u64>()
            .ok()
            .filter(|bytes| *bytes > 0)?;
        Some(stats)
    })?;
    check!(
        stats["cpu"]["usageCoreNanoSeconds"]["value"] != "0",
        "{stats}"
    );
    cri.told(&["stop", "--timeout", "10", &id])?;
    same!("state", cri.status(&id, "state")?, "CONTAINER_EXITED");
    same!("exit code", cri.status(&id, "exitCode")?, 7);
    same!("reason", cri.status(&id, "reason")?, "Error");
    logged(&cri, &id, "bye")?;
    let done = pod.start("d", "true", &Value::Null)?;
    cri.ended(&done)?;
    same!("reason", cri.status(&done, "reason")?, "Completed");
    for id in [&id, &done] {
        cri.told(&["rm", id])?;
    }
    same!("containers", cri.told(&["ps", "-aq"])?, "");
    cri.told(&["stopp", &pod.id])?;
    cri.told(&["rmp", &pod.id])?;
    same!("pods", cri.told(&["pods", "-q"])?, "");
    let shims = shims(lab);
    check!(shims.is_empty(), "shims left: {shims:?}");
    Ok(())
}

fn exec(lab: &Lab) -> Result {
    let cri = Cri::new(lab)?;
    let pod = cri.pod("pod", false)?;
    let id = pod.start("c", ENDLESS, &Value::Null)?;
    let words = |script: &'static str| ["exec", "--sync", &id, "sh", "-c", script];
    // As probes do it; crictl prints nothing of what failed.
    let output = cri.call(&words("echo out; echo err >&2"))?.ok()?;
    // Newer ones put both on stdout.
    let said = format!("{}{}", output.out, output.err);
    same!(
        "sync",
        said.split_whitespace().collect::<Vec<_>>(),
        ["out", "err"]
    );
    let failed = cri.call(&words("exit 6"))?.refused("exit 6")?;
    let told = ["exit code 6", "exited with 6"].map(|words| failed.err.contains(words));
    check!(failed.code == 6 || told.contains(&true), "{}", failed.err);
    // As `kubectl exec` does.
    let [verb, _, rest @ ..] = words("echo out; echo err >&2; exit 6");
    let output = cri
        .call(&[&[verb], &rest[..]].concat())?
        .refused("exit 6")?;
    same!("stdout", output.out, "out\n");
    check!(output.err.starts_with("err\n"), "{}", output.err);
    check!(
        output.err.contains("exit code 6") || output.code == 6,
        "{}",
        output.err
    );
    let missing = cri.call(&["exec", "--sync", &id, "nosuch"])?;
    let words = "executable file not found in $PATH";
    check!(missing.err.contains(words), "{}", missing.err);
    let input = lab.file("input", "data\n")?;
    let mut cat = cri.command(&["exec", "-i", &id, "cat"]);
    let cat = lab.finish(cat.stdin(std::fs::File::open(input)?))?;
    same!("stdin", cat.ok()?.out, "data\n");
    let script = "tty; until test \"$(stty size)\" = '24 80'; do sleep 0.05; done 2>/dev/null";
    let mut command = cri.command(&["exec", "-it", &id, "sh", "-c", script]);
    let (code, text) = Pty::new(24, 80)?.run(&mut command)?;
    same!("exit code", code, 0);
    check!(text.contains("/dev/pts/0"), "{text:?}");
    Ok(())
}

/// The shims of this case.
fn shims(lab: &Lab) -> Vec<u32> {
    let all = kernel::descendants(nix::unistd::getppid().as_raw().cast_unsigned());
    let of = lab.dir.to_string_lossy().into_owned();
    let shim = |pid: &u32| {
        let line = kernel::command_line(pid);
        line.contains("containerd-shim") && line.contains(&of)
    };
    all.into_iter().filter(shim).collect()
}

/// One shim, one network, one ipc namespace, and processes, where the pod says so.
fn share(lab: &Lab) -> Result {
    let cri = Cri::new(lab)?;
    let pod = cri.pod("pod", true)?;
    let first = pod.start("c", "exec sleep 1000", &Value::Null)?;
    let second = pod.start("d", "exec sleep 2000", &Value::Null)?;
    same!("shims", shims(lab).len(), 1);
    for kind in ["net", "ipc", "uts", "pid"] {
        let link = format!("/proc/self/ns/{kind}");
        let seen = |id: &str| cri.told(&["exec", "--sync", id, "readlink", &link]);
        same!(kind, seen(&first)?, seen(&second)?);
    }
    let processes = cri.told(&["exec", "--sync", &first, "ps"])?;
    check!(processes.contains("sleep 2000"), "{processes}");
    cri.told(&["stop", "--timeout", "0", &second])?;
    same!("state", cri.status(&first, "state")?, "CONTAINER_RUNNING");
    same!("exit code", cri.status(&second, "exitCode")?, 137);
    Ok(())
}

fn memory(lab: &Lab) -> Result {
    let cri = Cri::new(lab)?;
    let pod = cri.pod("pod", false)?;
    let limit = json!({"resources": {
        "memory_limit_in_bytes": 16 << 20,
        "memory_swap_limit_in_bytes": 16 << 20
    }});
    let eater = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";
    let id = pod.start("c", eater, &limit)?;
    cri.ended(&id)?;
    same!("exit code", cri.status(&id, "exitCode")?, 137);
    same!("reason", cri.status(&id, "reason")?, "OOMKilled");
    Ok(())
}

/// From within, of either kind of cgroup.
fn update(lab: &Lab) -> Result {
    let cri = Cri::new(lab)?;
    let pod = cri.pod("pod", false)?;
    let limits = json!({"resources": {
        "memory_limit_in_bytes": 64 << 20, "cpu_quota": 50_000, "cpu_period": 100_000
    }});
    let id = pod.start("c", ENDLESS, &limits)?;
    let script = "cd /sys/fs/cgroup; if test -e cgroup.controllers; \
                  then cat memory.max; cut -d ' ' -f 1 cpu.max; \
                  else cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us; fi";
    let seen = || cri.told(&["exec", "--sync", &id, "sh", "-c", script]);
    same!("before", seen()?, "67108864\n50000");
    let flags = ["--memory", "33554432", "--cpu-quota", "25000"];
    cri.told(&[&["update"], &flags[..], &[&id]].concat())?;
    same!("after", seen()?, "33554432\n25000");
    Ok(())
}

/// As a pod's securityContext asks.
fn confines(lab: &Lab) -> Result {
    let cri = Cri::new(lab)?;
    let pod = cri.pod("pod", false)?;
    let context = json!({"security_context": {
        "run_as_user": {"value": 1000},
        "run_as_group": {"value": 2000},
        "supplemental_groups": [3000],
        "readonly_rootfs": true,
        "no_new_privs": true,
        "capabilities": {"drop_capabilities": ["ALL"]},
        "seccomp": {"profile_type": 0},
        "masked_paths": ["/proc/timer_list"],
        "readonly_paths": ["/proc/sys"]
    }});
    let id = pod.start("c", "exec sleep 1000", &context)?;
    let seen = |script: &str| cri.told(&["exec", "--sync", &id, "sh", "-c", script]);
    same!("user", seen("id -u; id -g")?, "1000\n2000");
    let groups = seen("id -G")?;
    check!(groups.split(' ').any(|group| group == "3000"), "{groups}");
    let confined = "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2";
    same!("confined", seen(confined)?, "0000000000000000\n1\n2");
    let paths = "cat /proc/timer_list | wc -c; touch /x 2>&1 | grep -c Read-only";
    same!("paths", seen(paths)?, "0\n1");
    Ok(())
}

/// `hostUsers: false`: its root is nobody of the host's, and owns its files all the same.
fn users(lab: &Lab) -> Result {
    if crate::engine::major(lab, "containerd")? < 2 {
        return Err(Failure::skip("this containerd maps no users"));
    }
    let cri = Cri::on(lab, "overlayfs")?;
    let map = json!([{"host_id": 700_000, "container_id": 0, "length": 65536}]);
    let mut namespaces = Cri::namespaces(false);
    namespaces["userns_options"] = json!({"mode": 0, "uids": map, "gids": map});
    // containerd adds to the options who owns the pipes, and knows only runc's.
    let pod = cri.pod_in("pod", "as-runc", namespaces)?;
    let script = "stat -c '%u %g' /bin/sh; touch /x && stat -c %u /x; exec sleep 1000";
    let id = pod.start("c", script, &Value::Null)?;
    logged(&cri, &id, "0 0\n0\n")?;
    let text = cri.told(&["inspect", "-o", "json", &id])?;
    let all: Value = serde_json::from_str(&text)?;
    let pid = all["info"]["pid"].as_i64().ok_or("no pid")?;
    let uids = kernel::status_line(i32::try_from(pid)?, "Uid")?;
    same!("on the host", uids, "700000 700000 700000 700000");
    let mounts = kernel::mounts_below(&lab.dir);
    let lower: Vec<_> = mounts
        .iter()
        .filter(|path| path.ends_with("lower"))
        .collect();
    check!(lower.is_empty(), "still mounted: {lower:?}");
    Ok(())
}

/// What runs is not disturbed, and what ended meanwhile is known.
fn restarted(lab: &Lab) -> Result {
    let mut cri = Cri::new(lab)?;
    let (stays, ends) = {
        let pod = cri.pod("pod", false)?;
        let start = |name| pod.start(name, ENDLESS, &Value::Null);
        (start("c")?, start("d")?)
    };
    logged(&cri, &ends, "up")?;
    let text = cri.told(&["inspect", "-o", "json", &ends])?;
    let all: Value = serde_json::from_str(&text)?;
    let pid = all["info"]["pid"].as_i64().ok_or("no pid")?;
    let pid = i32::try_from(pid)?;
    check!(
        Path::new(&format!("/proc/{pid}")).exists(),
        "no process {pid}"
    );
    cri.restart(|| {
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        until("it has ended", || (!kernel::alive(pid)).then_some(()))
    })?;
    same!("state", cri.status(&stays, "state")?, "CONTAINER_RUNNING");
    same!(
        "exec",
        cri.told(&["exec", "--sync", &stays, "echo", "in"])?,
        "in"
    );
    cri.ended(&ends)?;
    let code = cri.status(&ends, "exitCode")?;
    // Whose task has no process is deleted by containerd 2 at its start, before CRI asks.
    let lost = crate::engine::major(lab, "containerd")? >= 2 && code == 255;
    check!(code == 7 || lost, "exit code {code}");
    cri.told(&["stop", "--timeout", "10", &stays])?;
    same!("exit code", cri.status(&stays, "exitCode")?, 7);
    Ok(())
}
