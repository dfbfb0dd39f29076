//! containerd's Go shim, `io.containerd.runc.v2`, with the runtime under test as its BinaryName.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::engine::Containerd;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{check, same};

/// The cases; each starts a daemon.
pub fn cases() -> Vec<crate::case::Case> {
    use crate::case::Need::Tool;
    let cases: [(&str, crate::case::Plain); 6] = [
        ("engine_containerd_runc_v2_run", run),
        ("engine_containerd_runc_v2_exec", exec),
        ("engine_containerd_runc_v2_pause_resume", pause_resume),
        ("engine_containerd_runc_v2_metrics", metrics),
        ("engine_containerd_runc_v2_kill_and_rm", kill_and_rm),
        ("engine_containerd_runc_v2_errors", errors),
    ];
    let needs = [
        Tool("containerd"),
        Tool("ctr"),
        Tool("containerd-shim-runc-v2"),
        Tool("tar"),
    ];
    cases
        .into_iter()
        .map(|(name, run)| crate::case::Case::new(name, run).needs(&needs).limit(120))
        .collect()
}

fn started(lab: &Lab) -> Result<Containerd<'_>> {
    let containerd = Containerd::new(lab)?;
    containerd.run(&["-d"], "c", &["sleep", "1000"])?.ok()?;
    same!(
        "status",
        containerd.status("c")?.as_deref(),
        Some("RUNNING")
    );
    Ok(containerd)
}

fn pid(containerd: &Containerd<'_>) -> Result<i32> {
    let list = containerd.call(&["tasks", "ls"])?.ok()?.out;
    let line = list.lines().find(|line| line.starts_with("c "));
    let pid = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(pid.ok_or("no task")?.parse()?)
}

fn run(lab: &Lab) -> Result {
    let containerd = Containerd::new(lab)?;
    let output = containerd.run(
        &["--rm"],
        "c",
        &["sh", "-c", "echo out; echo err >&2; exit 4"],
    )?;
    same!("stdout", output.out, "out\n");
    // ctr may warn of something on the line before.
    check!(
        output.err.lines().any(|line| line == "err"),
        "stderr: {}",
        output.err
    );
    same!("exit code", output.code, 4);
    same!("task", containerd.status("c")?, None);
    Ok(())
}

fn exec(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let exec = |id: &str, words: &[&str]| {
        let mut args = vec!["tasks", "exec", "--exec-id", id, "c"];
        args.extend(words);
        containerd.call(&args)
    };
    same!("stdout", exec("e1", &["echo", "in"])?.ok()?.out, "in\n");
    same!("exit code", exec("e2", &["sh", "-c", "exit 6"])?.code, 6);
    let user = containerd.call(&[
        "tasks",
        "exec",
        "--exec-id",
        "e3",
        "--user",
        "1000",
        "--cwd",
        "/tmp",
        "c",
        "sh",
        "-c",
        "id -u; pwd",
    ])?;
    same!("as asked", user.ok()?.out, "1000\n/tmp\n");
    Ok(())
}

fn pause_resume(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let processes = containerd.call(&["tasks", "ps", "c"])?.ok()?.out;
    let init = pid(&containerd)?.to_string();
    check!(processes.contains(&init), "ps: {processes}");
    containerd.call(&["tasks", "pause", "c"])?.ok()?;
    same!("status", containerd.status("c")?.as_deref(), Some("PAUSED"));
    containerd.call(&["tasks", "resume", "c"])?.ok()?;
    same!(
        "status",
        containerd.status("c")?.as_deref(),
        Some("RUNNING")
    );
    Ok(())
}

fn metrics(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let text = containerd.call(&["tasks", "metrics", "c"])?.ok()?.out;
    let value = |name: &str| {
        let mut lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find_map(|words| match words.as_slice() {
            [key, value, ..] if *key == name => value.parse::<u64>().ok(),
            _ => None,
        })
    };
    same!("pids.current", value("pids.current"), Some(1));
    let memory = value("memory.usage_in_bytes").or(value("memory.usage"));
    check!(memory.is_some_and(|bytes| bytes > 0), "{text}");
    Ok(())
}

fn kill_and_rm(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let init = pid(&containerd)?;
    containerd
        .call(&["tasks", "kill", "-s", "SIGKILL", "c"])?
        .ok()?;
    until("the task is stopped", || {
        let status = containerd.status("c").ok()?;
        (status.as_deref() == Some("STOPPED")).then_some(())
    })?;
    check!(!kernel::alive(init), "pid {init} lives");
    containerd.call(&["tasks", "rm", "c"])?.ok()?;
    same!("task", containerd.status("c")?, None);
    containerd.call(&["containers", "rm", "c"])?.ok()?;
    Ok(())
}

/// What the shim makes of the runtime's words.
fn errors(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let missing = containerd
        .run(&["--rm"], "n", &["nosuch"])?
        .refused("run of nothing")?;
    check!(
        missing.err.contains("executable file not found in $PATH"),
        "{}",
        missing.err
    );
    let exec = containerd.call(&["tasks", "exec", "--exec-id", "e", "c", "nosuch"])?;
    let exec = exec.refused("exec of nothing")?;
    check!(
        exec.err.contains("executable file not found in $PATH"),
        "{}",
        exec.err
    );
    containerd
        .call(&["tasks", "kill", "-s", "SIGKILL", "c"])?
        .ok()?;
    until("the task is stopped", || {
        let status = containerd.status("c").ok()?;
        (status.as_deref() == Some("STOPPED")).then_some(())
    })?;
    let late = containerd.call(&["tasks", "kill", "-s", "SIGTERM", "c"])?;
    check!(
        late.err.contains("process already finished"),
        "{}: {}",
        late.code,
        late.err
    );
    Ok(())
}
