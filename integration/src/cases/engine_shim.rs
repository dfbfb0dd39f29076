//! `ctr` on the runtime's own shim; with other runtimes, on containerd's runc shim.
#![forbid(unsafe_code)]

use crate::case::{Case, Plain, Result};
use crate::engine::Containerd;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::pty::Pty;
use crate::{check, same};
use std::fs::File;
use std::process::Stdio;

/// The cases; each starts a daemon.
pub fn cases() -> Vec<Case> {
    use crate::case::Need::{Criu, Tool};
    let cases: [(&str, Plain); 9] = [
        ("engine_shim_run", run),
        ("engine_shim_run_tty", tty),
        ("engine_shim_exec", exec),
        ("engine_shim_pause_kill_and_rm", pause),
        ("engine_shim_metrics", metrics),
        ("engine_shim_tells_events_in_order", events),
        ("engine_shim_serves_a_group", group),
        ("engine_shim_logs_to_programs_and_files", logs),
        ("engine_shim_checkpoints_and_restores", checkpoint),
    ];
    let needs = [Tool("containerd"), Tool("ctr"), Tool("tar")];
    cases
        .into_iter()
        .map(|(name, run)| {
            let case = Case::new(name, run).needs(&needs).limit(120);
            match name {
                "engine_shim_checkpoints_and_restores" => case.needs(&[Criu]),
                _ => case,
            }
        })
        .collect()
}

fn run(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let script = "echo out; echo err >&2; exit 4";
    let output = containerd.run(&["--rm"], "c", &["sh", "-c", script])?;
    same!("stdout", output.out, "out\n");
    // ctr may warn of something on the line before.
    check!(
        output.err.lines().any(|line| line == "err"),
        "stderr: {}",
        output.err
    );
    same!("exit code", output.code, 4);
    let signal = containerd.run(&["--rm"], "k", &["sh", "-c", "kill -TERM $$; sleep 9"])?;
    check!(signal.code == 0 || signal.code == 143, "{}", signal.code);
    same!("task", containerd.status("c")?, None);
    let missing = containerd
        .run(&["--rm"], "n", &["nosuch"])?
        .refused("nosuch")?;
    let words = "executable file not found in $PATH";
    check!(missing.err.contains(words), "{}", missing.err);
    Ok(())
}

fn tty(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let script =
        "tty; until test \"$(stty size)\" = '24 80'; do sleep 0.05; done 2>/dev/null; exit 3";
    let mut command = containerd.run_command(&["--rm", "-t"], "c", &["sh", "-c", script]);
    let (code, text) = Pty::new(24, 80)?.run(&mut command)?;
    same!("exit code", code, 3);
    check!(text.contains("/dev/pts/0"), "{text:?}");
    Ok(())
}

fn started(lab: &Lab) -> Result<Containerd<'_>> {
    let containerd = Containerd::own_shim(lab)?;
    containerd.run(&["-d"], "c", &["sleep", "1000"])?.ok()?;
    Ok(containerd)
}

fn exec(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let command = |id: &str, words: &[&str]| {
        let mut args = vec!["tasks", "exec", "--exec-id", id, "c"];
        args.extend(words);
        containerd.command(&args)
    };
    let call = |id: &str, words: &[&str]| lab.finish(&mut command(id, words));
    same!("stdout", call("e1", &["echo", "in"])?.ok()?.out, "in\n");
    same!("exit code", call("e2", &["sh", "-c", "exit 6"])?.code, 6);
    let input = lab.file("input", "data\n")?;
    let mut cat = command("e3", &["cat"]);
    let cat = lab.finish(cat.stdin(File::open(&input)?))?.ok()?;
    same!("stdin, to its end", cat.out, "data\n");
    let nothing = call("e4", &["nosuch"])?.refused("exec of nothing")?;
    let words = "executable file not found in $PATH";
    check!(nothing.err.contains(words), "{}", nothing.err);
    Ok(())
}

fn pause(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    containerd.call(&["tasks", "pause", "c"])?.ok()?;
    same!("status", containerd.status("c")?.as_deref(), Some("PAUSED"));
    containerd.call(&["tasks", "resume", "c"])?.ok()?;
    same!(
        "status",
        containerd.status("c")?.as_deref(),
        Some("RUNNING")
    );
    let early = containerd.call(&["tasks", "rm", "c"])?;
    early.refused("the removal of what runs")?;
    containerd
        .call(&["tasks", "kill", "-s", "SIGKILL", "c"])?
        .ok()?;
    stopped(&containerd)?;
    let late = containerd.call(&["tasks", "kill", "-s", "SIGTERM", "c"])?;
    check!(
        late.err.contains("process already finished"),
        "{}",
        late.err
    );
    let removed = containerd.call(&["tasks", "rm", "c"])?;
    same!(
        "exit code",
        removed.err.contains("137") || removed.code == 0,
        true
    );
    same!("task", containerd.status("c")?, None);
    Ok(())
}

fn stopped(containerd: &Containerd<'_>) -> Result {
    until("the task is stopped", || {
        let status = containerd.status("c").ok()?;
        (status.as_deref() == Some("STOPPED")).then_some(())
    })
}

fn metrics(lab: &Lab) -> Result {
    let containerd = started(lab)?;
    let text = containerd.call(&["tasks", "metrics", "c"])?.ok()?.out;
    let value = |name: &str| {
        let mut lines = text.lines().map(str::split_whitespace);
        lines.find_map(|mut words| {
            (words.next()? == name).then(|| words.next()?.parse::<u64>().ok())?
        })
    };
    same!("pids.current", value("pids.current"), Some(1));
    let memory = value("memory.usage_in_bytes").or(value("memory.usage"));
    check!(memory.is_some_and(|bytes| bytes > 0), "{text}");
    let ps = containerd.call(&["tasks", "ps", "c"])?.ok()?.out;
    same!("processes", ps.lines().count(), 2);
    Ok(())
}

/// Create, start, exit, delete; and of what was exec'd, nothing after the exit of the first.
fn events(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let log = lab.path("events");
    let mut command = containerd.command(&["events"]);
    let mut listener = command
        .stdout(File::create(&log)?)
        .stderr(Stdio::null())
        .spawn()?;
    let told = || -> Vec<String> {
        let text = crate::lab::text(&log).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains(" /tasks/"));
        let words = lines.filter_map(|line| {
            let topic = line.split("/tasks/").nth(1)?.split_whitespace().next()?;
            let event: serde_json::Value =
                serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
            let id = event["exec_id"].as_str().or(event["id"].as_str());
            let id = id.or(event["container_id"].as_str())?;
            Some(format!("{topic} {id}"))
        });
        words.collect()
    };
    let body = || -> Result {
        // It listens when it tells of something.
        until("the listener hears", || {
            containerd
                .call(&["namespaces", "label", lab.mark(), "a=b"])
                .ok()?;
            (!crate::lab::text(&log).ok()?.is_empty()).then_some(())
        })?;
        containerd.run(&["-d"], "c", &["sleep", "1000"])?.ok()?;
        let exec = ["tasks", "exec", "--exec-id", "e", "c", "sleep", "1000"];
        let mut running = containerd.command(&exec).stdout(Stdio::null()).spawn()?;
        until("the exec is started", || {
            told().contains(&"exec-started e".into()).then_some(())
        })?;
        containerd.call(&["tasks", "pause", "c"])?.ok()?;
        containerd.call(&["tasks", "resume", "c"])?.ok()?;
        containerd
            .call(&["tasks", "kill", "-s", "SIGKILL", "c"])?
            .ok()?;
        running.wait()?;
        stopped(&containerd)?;
        containerd.call(&["tasks", "rm", "c"])?;
        until("the end is told", || {
            told().contains(&"delete c".into()).then_some(())
        })?;
        same!(
            "events",
            told(),
            [
                "create c",
                "start c",
                "exec-added e",
                "exec-started e",
                "paused c",
                "resumed c",
                "exit e",
                "exit c",
                "delete c"
            ]
        );
        Ok(())
    };
    let verdict = body();
    listener.kill()?;
    listener.wait()?;
    verdict
}

/// Containers with the same annotation share a shim.
fn group(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let annotation = format!("io.containerd.runc.v2.group={}", lab.mark());
    for id in ["c", "d", "e"] {
        // The newer name of the flag and the older one.
        let flags = ["-d", "--label", &annotation, "--annotation", &annotation];
        let run = containerd.run(&flags, id, &["sleep", "1000"])?;
        if run.err.contains("flag provided but not defined") {
            return Err(crate::case::Failure::skip("this ctr sets no annotations"));
        }
        run.ok()?;
    }
    let shims = kernel::descendants(nix::unistd::getppid().as_raw().cast_unsigned());
    let shims = shims.into_iter().filter(|pid| {
        let line = kernel::command_line(pid);
        line.contains("containerd-shim") && line.contains(lab.mark())
    });
    same!("shims", shims.count(), 1);
    for id in ["c", "d", "e"] {
        containerd.call(&["tasks", "rm", "-f", id])?;
    }
    Ok(())
}

fn logs(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let log = lab.path("log");
    let uri = format!("file://{}", log.display());
    let script = ["sh", "-c", "echo out; echo err >&2"];
    containerd
        .run(&["-d", "--log-uri", &uri], "c", &script)?
        .ok()?;
    until("both lines", || {
        let text = crate::lab::text(&log).ok()?;
        (text.contains("out\n") && text.contains("err\n")).then_some(())
    })?;
    let program = lab.file(
        "logger",
        "#!/bin/sh\nexec 5>&-\n{ echo $1 $2 $CONTAINER_ID; cat <&3; } >$0.out\ncat <&4 >$0.err\n",
    )?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode)?;
    let uri = format!("binary://{}?k=v", program.display());
    containerd
        .run(&["-d", "--log-uri", &uri], "d", &script)?
        .ok()?;
    let told = |end: &str| crate::lab::text(&lab.path(&format!("logger.{end}")));
    // Go's shim ends the program's input when the task is deleted.
    until("the task is removed", || {
        (containerd.call(&["tasks", "rm", "d"]).ok()?.code == 0).then_some(())
    })?;
    until("the program has it", || {
        (told("err").ok()? == "err\n").then_some(())
    })?;
    same!("stdout", told("out")?, "k v d\nout\n");
    Ok(())
}

/// A shell goes on counting where it was.
fn checkpoint(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let count = "i=0; while :; do i=$((i+1)); echo $i >/n; sleep 0.05; done";
    containerd
        .run(&["-d", "--null-io"], "c", &["sh", "-c", count])?
        .ok()?;
    let counted = |least: u32, exec: &str| {
        until("it counts", || {
            let words = ["tasks", "exec", "--exec-id", exec, "c", "cat", "/n"];
            let told = containerd.call(&words).ok()?.out;
            told.trim().parse().ok().filter(|now| *now > least)
        })
    };
    let before: u32 = counted(3, "e1")?;
    let image = "localhost/checkpoint:latest";
    let flags = ["containers", "checkpoint", "--image", "--task", "c", image];
    containerd.call(&flags)?.ok()?;
    containerd.call(&["tasks", "rm", "-f", "c"])?;
    containerd.call(&["containers", "rm", "c"])?.ok()?;
    containerd
        .call(&["containers", "restore", "--live", "c", image])?
        .ok()?;
    // Its file is gone with its root: the number was in its memory.
    counted(before, "e2")?;
    Ok(())
}
