//! The shim in trouble: killed, without containerd, with clients that hang or talk nonsense.
#![forbid(unsafe_code)]

use crate::case::{Case, Plain, Result};
use crate::engine::Containerd;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{check, same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

/// The cases; each starts a daemon.
pub fn cases() -> Vec<Case> {
    use crate::case::Need::{Creel, Tool};
    let cases: [(&str, Plain); 6] = [
        ("engine_shim_killed_leaves_what_delete_cleans", killed),
        (
            "engine_shim_killed_at_any_point_leaves_nothing",
            killed_early,
        ),
        ("engine_shim_keeps_exits_for_containerd", restarted),
        ("engine_shim_waits_for_no_client", hanging),
        ("engine_shim_stays_flat", flat),
        ("engine_shim_answers_nonsense", nonsense),
    ];
    let needs = [Tool("containerd"), Tool("ctr"), Tool("tar")];
    let all = cases.into_iter().map(|(name, run)| {
        let case = Case::new(name, run).needs(&needs).limit(180);
        // What is asked of creel's shim alone.
        match name {
            "engine_shim_stays_flat" | "engine_shim_answers_nonsense" => case.needs(&[Creel]),
            _ => case,
        }
    });
    all.collect()
}

/// The pid of the shim that serves a container.
fn shim_of(lab: &Lab, id: &str) -> Option<u32> {
    let all = kernel::descendants(nix::unistd::getppid().as_raw().cast_unsigned());
    all.into_iter().find(|pid| {
        let line = kernel::command_line(pid);
        let words: Vec<&str> = line.split(['\0', ' ']).collect();
        let program = words
            .first()
            .is_some_and(|word| word.contains("containerd-shim"));
        program && words.contains(&lab.mark()) && words.contains(&id) && !words.contains(&"start")
    })
}

fn end(pid: u32) -> Result {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?)
}

fn init(containerd: &Containerd<'_>, id: &str) -> Option<i32> {
    let list = containerd.call(&["tasks", "ls"]).ok()?.out;
    let words = |line: &str| {
        line.split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = list.lines().map(words).collect();
    let line = lines
        .iter()
        .find(|words| words.first().is_some_and(|word| word == id))?;
    line.get(1)?.parse().ok()
}

/// containerd notices, and has `delete` clean up: the container is gone with all that it had.
fn killed(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    containerd.run(&["-d"], "c", &["sleep", "1000"])?.ok()?;
    let init = init(&containerd, "c").ok_or("no task")?;
    end(shim_of(lab, "c").ok_or("no shim")?)?;
    until("init is killed", || (!kernel::alive(init)).then_some(()))?;
    until("the task is gone", || {
        let status = containerd.status("c").ok()?;
        (status.is_none() || status.as_deref() == Some("STOPPED")).then_some(())
    })?;
    containerd.call(&["tasks", "rm", "-f", "c"])?;
    containerd.call(&["containers", "rm", "c"])?.ok()?;
    // containerd forgets the task a moment after it has stopped to show it.
    until("the id is free again", || {
        let again = containerd.run(&["--rm"], "c", &["true"]).ok()?;
        (again.code == 0).then_some(())
    })
}

/// At moments spread over a container's whole start.
fn killed_early(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    for step in 0..12_u64 {
        let id = format!("c{step}");
        let mut command = containerd.run_command(&["-d"], &id, &["sleep", "1000"]);
        let mut run = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let shim = until("a shim", || {
            shim_of(lab, &id).or_else(|| run.try_wait().ok().flatten().map(|_| 0))
        })?;
        std::thread::sleep(std::time::Duration::from_millis(step * step));
        if shim != 0 {
            end(shim).ok();
        }
        run.wait()?;
        until("no process is left", || {
            containerd.call(&["tasks", "rm", "-f", &id]).ok();
            containerd.call(&["containers", "rm", &id]).ok();
            let all = kernel::descendants(nix::unistd::getppid().as_raw().cast_unsigned());
            let mut lines = all.into_iter().map(kernel::command_line);
            (!lines.any(|line| line.starts_with("sleep"))).then_some(())
        })?;
    }
    Ok(())
}

/// Exits while containerd is away, under others that go on, are known when it is back.
fn restarted(lab: &Lab) -> Result {
    let mut containerd = Containerd::own_shim(lab)?;
    let dir = lab.directory("gate")?;
    let mount = format!("type=bind,src={},dst=/mnt,options=rbind:ro", dir.display());
    let ids: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    for (number, id) in ids.iter().enumerate() {
        let script = format!(
            "until test -e /mnt/go; do sleep 0.01; done; exit {}",
            number + 10
        );
        let flags = ["-d", "--mount", &mount];
        containerd.run(&flags, id, &["sh", "-c", &script])?.ok()?;
    }
    let inits: Vec<i32> = ids.iter().filter_map(|id| init(&containerd, id)).collect();
    same!("tasks", inits.len(), ids.len());
    containerd.restart(|| {
        std::fs::write(dir.join("go"), "")?;
        until("all have ended", || {
            (!inits.iter().any(|pid| kernel::alive(*pid))).then_some(())
        })
    })?;
    // Whose task has no process is deleted by containerd 2 at its start, which tells listeners then.
    let deletes = crate::engine::major(lab, "containerd")? >= 2;
    for (number, id) in ids.iter().enumerate() {
        let status = until("it is known to have stopped", || {
            let status = containerd.status(id).ok()?;
            (status.as_deref() != Some("RUNNING")).then_some(status)
        })?;
        if deletes && status.is_none() {
            containerd.call(&["containers", "rm", id])?.ok()?;
            containerd.run(&["--rm"], id, &["true"])?.ok()?;
            continue;
        }
        same!(id, status.as_deref(), Some("STOPPED"));
        let removed = containerd.call(&["tasks", "rm", id])?;
        let said = format!("exit code {}", number + 10);
        check!(
            removed.err.contains(&said),
            "{id}: {} {}",
            removed.code,
            removed.err
        );
    }
    Ok(())
}

/// One whose output nobody reads stands still; others do not notice.
fn hanging(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    let words = ["sh", "-c", "yes"];
    let (reader, writer) = std::io::pipe()?;
    // Our pipe is full soon, then the client's, then the fifo, then the container's.
    let mut command = containerd.run_command(&[], "c", &words);
    let mut stuck = command.stdout(writer).stderr(Stdio::null()).spawn()?;
    command.stdout(Stdio::null());
    until("it runs", || {
        (containerd.status("c").ok()?.as_deref() == Some("RUNNING")).then_some(())
    })?;
    for number in 0..5 {
        let id = format!("e{number}");
        let exec = ["tasks", "exec", "--exec-id", &id, "c", "echo", "in"];
        same!("exec", containerd.call(&exec)?.ok()?.out, "in\n");
    }
    containerd.call(&["tasks", "pause", "c"])?.ok()?;
    containerd.call(&["tasks", "resume", "c"])?.ok()?;
    containerd
        .call(&["tasks", "kill", "-s", "SIGKILL", "c"])?
        .ok()?;
    until("it is stopped", || {
        (containerd.status("c").ok()?.as_deref() != Some("RUNNING")).then_some(())
    })?;
    drop(reader);
    stuck.kill()?;
    stuck.wait()?;
    containerd.call(&["tasks", "rm", "-f", "c"])?;
    Ok(())
}

/// Descriptors, threads, and kilobytes that are the shim's own.
fn weight(pid: u32) -> Result<(usize, u64, u64)> {
    let status = crate::lab::text(&PathBuf::from(format!("/proc/{pid}/status")))?;
    let value = |name: &str| {
        let field = kernel::field(&status, name).unwrap_or_default();
        let number = field.split_whitespace().next().unwrap_or_default();
        number.parse::<u64>().unwrap_or(0)
    };
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok((fds, value("Threads"), value("RssAnon")))
}

/// Many execs (`$EXECS`, 60 if it says nothing) leave nothing in the shim.
fn flat(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    containerd.run(&["-d"], "c", &["sleep", "1000"])?.ok()?;
    let shim = shim_of(lab, "c").ok_or("no shim")?;
    let count = std::env::var("EXECS")
        .ok()
        .and_then(|text| text.parse().ok());
    let exec = |number: u32| -> Result {
        let id = format!("e{number}");
        let args = ["tasks", "exec", "--exec-id", &id, "c", "true"];
        containerd.call(&args)?.ok()?;
        Ok(())
    };
    let idle = || {
        until("the shim is idle", || {
            weight(shim).ok().filter(|(_, threads, _)| *threads == 2)
        })
    };
    (0..20).try_for_each(exec)?;
    let before = idle()?;
    (20..20 + count.unwrap_or(60)).try_for_each(exec)?;
    let after = idle()?;
    same!("descriptors", after.0, before.0);
    check!(
        after.2 <= before.2 + 100,
        "kB: {} then {}",
        before.2,
        after.2
    );
    println!("descriptors, threads, kB: {before:?} then {after:?}");
    Ok(())
}

fn nonsense(lab: &Lab) -> Result {
    let containerd = Containerd::own_shim(lab)?;
    containerd.run(&["-d"], "c", &["sleep", "1000"])?.ok()?;
    let shim = shim_of(lab, "c").ok_or("no shim")?;
    let bundle = format!(
        "containerd/state/io.containerd.runtime.v2.task/{}/c",
        lab.mark()
    );
    let address = crate::lab::text(&lab.path(&bundle).join("address"))?;
    let address = address.trim_start_matches("unix://");
    let connect = || UnixStream::connect(address);
    let frame = |length: u32, kind: u8, payload: &[u8]| {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 1, kind, 0]);
        bytes.extend(payload);
        bytes
    };
    // Each is answered with an error, or the line is closed; never is it silence or a crash.
    let requests: [Vec<u8>; 5] = [
        frame(4, 1, b"\xff\xff\xff\xff"),
        frame(0, 1, b""),
        frame(0, 7, b""),
        frame(u32::MAX, 1, b""),
        // service "x", method "y", payload of one byte
        frame(9, 1, b"\x0a\x01x\x12\x01y\x1a\x01\xff"),
    ];
    for (number, bytes) in requests.iter().enumerate() {
        let mut line = connect()?;
        line.set_read_timeout(Some(kernel::patience()))?;
        line.write_all(bytes)?;
        let mut header = [0; 10];
        line.read_exact(&mut header)
            .map_err(|error| format!("request {number}: {error}"))?;
        same!("kind", header[8], 2);
    }
    // Cut off in the middle, at every place of a header and after.
    for length in 0..12 {
        let mut line = connect()?;
        line.write_all(frame(100, 1, b"abc").get(..length).unwrap_or_default())?;
    }
    let mut noise = File::open("/dev/urandom")?;
    for _ in 0..50 {
        let mut bytes = [0; 4096];
        noise.read_exact(&mut bytes)?;
        // It may hang up on us.
        connect()?.write_all(&bytes).ok();
    }
    check!(shim_of(lab, "c") == Some(shim), "the shim has died");
    let exec = ["tasks", "exec", "--exec-id", "e", "c", "echo", "in"];
    same!("exec", containerd.call(&exec)?.ok()?.out, "in\n");
    Ok(())
}
