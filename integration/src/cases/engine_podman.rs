//! Podman with `--runtime`: conmon calls the runtime, and Podman reads its answers.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::engine::Podman;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::pty::Pty;
use crate::{check, same};
use serde_json::Value;
use std::path::PathBuf;

/// The cases; each starts an engine, which takes longer than a bare runtime.
pub fn cases() -> Vec<crate::case::Case> {
    use crate::case::Need::Tool;
    let cases: [(&str, crate::case::Plain); 8] = [
        ("engine_podman_run", run),
        ("engine_podman_run_tty", tty),
        ("engine_podman_exec", exec),
        ("engine_podman_errors", errors),
        ("engine_podman_pause_and_stats", pause_and_stats),
        ("engine_podman_stop", stop),
        ("engine_podman_pod", pod),
        ("engine_podman_limits", limits),
    ];
    let needs = [Tool("podman"), Tool("conmon"), Tool("tar")];
    cases
        .into_iter()
        .map(|(name, run)| crate::case::Case::new(name, run).needs(&needs).limit(120))
        .collect()
}

const ENDLESS: [&str; 3] = [
    "sh",
    "-c",
    "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done",
];

/// A container called `c` that has said that it is up.
fn started<'lab>(lab: &'lab Lab, flags: &[&str]) -> Result<Podman<'lab>> {
    let podman = Podman::new(lab)?;
    let all: Vec<&str> = ["-d", "--name", "c"].iter().chain(flags).copied().collect();
    podman.run(&all, &ENDLESS)?.ok()?;
    until("the container is up", || {
        let logs = podman.call(&["logs", "c"]).ok()?;
        logs.out.contains("up").then_some(())
    })?;
    Ok(podman)
}

fn inspect(podman: &Podman<'_>, what: &str) -> Result<String> {
    let output = podman.call(&["inspect", "--format", what, "c"])?.ok()?;
    Ok(output.out.trim().to_owned())
}

fn run(lab: &Lab) -> Result {
    let podman = Podman::new(lab)?;
    let output = podman.run(&["--rm", "--env", "A=b"], &["sh", "-c", "echo $A; exit 3"])?;
    same!("stdout", output.out, "b\n");
    same!("exit code", output.code, 3);
    same!("containers", podman.call(&["ps", "-aq"])?.ok()?.out, "");
    Ok(())
}

fn tty(lab: &Lab) -> Result {
    let podman = Podman::new(lab)?;
    let parent = format!("--cgroup-parent=/{}", lab.mark());
    let args = [
        "run",
        "--rm",
        "-t",
        "--network",
        "none",
        &parent,
        crate::engine::IMAGE,
        "sh",
        "-c",
        "tty; test -t 0 && echo both",
    ];
    let (code, text) = Pty::new(24, 80)?.run(&mut podman.command(&args)?)?;
    same!("exit code", code, 0);
    check!(
        text.contains("/dev/pts/0") && text.contains("both"),
        "{text}"
    );
    Ok(())
}

fn exec(lab: &Lab) -> Result {
    let podman = started(lab, &[])?;
    same!(
        "exec",
        podman
            .call(&["exec", "c", "hostname"])?
            .ok()?
            .out
            .trim()
            .len(),
        12
    );
    same!(
        "exit code",
        podman.call(&["exec", "c", "sh", "-c", "exit 5"])?.code,
        5
    );
    let output = podman.call(&[
        "exec",
        "-u",
        "1000",
        "-w",
        "/tmp",
        "-e",
        "X=y",
        "c",
        "sh",
        "-c",
        "id -u; pwd; echo $X",
    ])?;
    same!("as asked", output.ok()?.out, "1000\n/tmp\ny\n");
    let detached = podman.call(&["exec", "-d", "c", "sh", "-c", "echo there > /tmp/mark"])?;
    detached.ok()?;
    until("the detached exec has run", || {
        let output = podman.call(&["exec", "c", "cat", "/tmp/mark"]).ok()?;
        (output.out == "there\n").then_some(())
    })
}

/// What Podman makes of the runtime's words: the exit codes that scripts test.
fn errors(lab: &Lab) -> Result {
    let podman = started(lab, &[])?;
    same!(
        "run of nothing",
        podman.run(&["--rm"], &["nosuch"])?.code,
        127
    );
    same!(
        "run of a directory",
        podman.run(&["--rm"], &["/etc"])?.code,
        126
    );
    same!(
        "exec of nothing",
        podman.call(&["exec", "c", "nosuch"])?.code,
        127
    );
    same!(
        "exec of a plain file",
        podman.call(&["exec", "c", "/etc/passwd"])?.code,
        126
    );
    Ok(())
}

fn pause_and_stats(lab: &Lab) -> Result {
    let podman = started(lab, &[])?;
    podman.call(&["pause", "c"])?.ok()?;
    same!("status", inspect(&podman, "{{.State.Status}}")?, "paused");
    podman.call(&["unpause", "c"])?.ok()?;
    same!("status", inspect(&podman, "{{.State.Status}}")?, "running");
    let stats = podman
        .call(&["stats", "--no-stream", "--format", "json", "c"])?
        .ok()?;
    let stats: Value = serde_json::from_str(&stats.out)?;
    let pids = stats[0]["pids"].as_str().unwrap_or_default();
    check!(
        pids.parse::<u32>().is_ok_and(|pids| pids > 0),
        "pids: {stats}"
    );
    let top = podman.call(&["top", "c", "pid", "args"])?.ok()?.out;
    check!(top.contains("trap"), "top: {top}");
    Ok(())
}

fn stop(lab: &Lab) -> Result {
    let podman = started(lab, &[])?;
    let pid: i32 = inspect(&podman, "{{.State.Pid}}")?.parse()?;
    check!(kernel::alive(pid), "pid {pid} is not alive");
    podman.call(&["stop", "-t", "20", "c"])?.ok()?;
    same!("exit code", inspect(&podman, "{{.State.ExitCode}}")?, "7");
    same!("logs", podman.call(&["logs", "c"])?.ok()?.out, "up\nbye\n");
    podman.call(&["start", "c"])?.ok()?;
    same!("status", inspect(&podman, "{{.State.Status}}")?, "running");
    podman.call(&["kill", "-s", "KILL", "c"])?.ok()?;
    podman.call(&["wait", "c"])?.ok()?;
    same!("exit code", inspect(&podman, "{{.State.ExitCode}}")?, "137");
    podman.call(&["rm", "c"])?.ok()?;
    Ok(())
}

/// Two containers that share namespaces, as the infra container's are shared; without it, for its
/// image is not to be had offline.
fn pod(lab: &Lab) -> Result {
    let podman = Podman::new(lab)?;
    let parent = format!("--cgroup-parent=/{}", lab.mark());
    podman
        .call(&["pod", "create", "--infra=false", &parent, "--name", "p"])?
        .ok()?;
    let run = |name: &str, more: &[&str]| -> Result {
        let mut args = vec![
            "run",
            "-d",
            "--pod",
            "p",
            "--network",
            "none",
            "--name",
            name,
        ];
        args.extend(more);
        args.push(crate::engine::IMAGE);
        args.extend(ENDLESS);
        podman.call(&args)?.ok()?;
        Ok(())
    };
    run("c", &[])?;
    run("d", &["--ipc=container:c", "--pid=container:c"])?;
    let pid_namespace = |name: &str| -> Result<PathBuf> {
        let pid = podman.call(&["inspect", "--format", "{{.State.Pid}}", name])?;
        kernel::namespace(pid.ok()?.out.trim().parse()?, "pid")
    };
    same!("pid namespace", pid_namespace("d")?, pid_namespace("c")?);
    podman.call(&["pod", "pause", "p"])?.ok()?;
    same!("status", inspect(&podman, "{{.State.Status}}")?, "paused");
    podman.call(&["pod", "unpause", "p"])?.ok()?;
    podman.call(&["pod", "stop", "-t", "20", "p"])?.ok()?;
    same!("status", inspect(&podman, "{{.State.Status}}")?, "exited");
    podman.call(&["pod", "rm", "p"])?.ok()?;
    Ok(())
}

fn limits(lab: &Lab) -> Result {
    let podman = started(lab, &["--memory", "64m", "--pids-limit", "50"])?;
    let pid: i32 = inspect(&podman, "{{.State.Pid}}")?.parse()?;
    let of = |controller: &str| -> Result<String> {
        let all = kernel::cgroups(pid)?;
        let at = |name: &str| {
            all.iter()
                .find(|(list, _)| list.split(',').any(|c| c == name))
        };
        let (list, path) = at(controller).or(at("")).ok_or("no cgroup")?;
        Ok(format!(
            "/sys/fs/cgroup{}{path}",
            if list.is_empty() {
                String::new()
            } else {
                format!("/{list}")
            }
        ))
    };
    let memory = of("memory")?;
    let limit = ["memory.limit_in_bytes", "memory.max"]
        .iter()
        .find_map(|file| std::fs::read_to_string(format!("{memory}/{file}")).ok());
    same!("memory limit", limit.unwrap_or_default().trim(), "67108864");
    let pids = std::fs::read_to_string(format!("{}/pids.max", of("pids")?))?;
    same!("pids limit", pids.trim(), "50");
    Ok(())
}
