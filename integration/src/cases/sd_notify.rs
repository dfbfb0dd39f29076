//! NOTIFY_SOCKET: a container's readiness reaches the runtime's supervisor.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::until;
use crate::lab::{self, Lab};
use crate::pty::{readable, receive};
use crate::{cases, check, same};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitCode};

cases! {
    readiness_of_a_detached_run_names_its_init,
    readiness_of_a_started_container_names_its_init,
    readiness_of_a_foreground_run_names_the_runtime,
    the_notify_directory_is_mounted_readonly,
    start_returns_though_nobody_was_ready,
    a_foreground_run_returns_though_nobody_was_ready,
}

/// What this program does inside the container.
pub fn say(text: &str) -> Result<ExitCode> {
    let path = std::env::var("NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.send(text.replace("\\n", "\n").as_bytes())?;
    // The runtime need not have read it when we end.
    Ok(ExitCode::SUCCESS)
}

/// A container that says this to its notify socket, then something on stdout, then waits.
fn talkative(lab: &Lab, text: &str) -> Result<Bundle> {
    let script = format!("/it --notify '{text}'; echo said; exec sleep 1000");
    let mut bundle = lab.script(&script)?;
    let me = std::env::current_exe()?;
    std::fs::write(bundle.inside("it"), "")?;
    bundle.mount("none", me, "/it", &["bind", "ro"])?;
    bundle.save()?;
    Ok(bundle)
}

/// The runtime with a supervisor.
fn under(lab: &Lab, args: &[&str]) -> Command {
    let mut command = lab.command(args);
    command.env("NOTIFY_SOCKET", lab.path("host.sock"));
    command
}

fn supervisor(lab: &Lab) -> Result<UnixDatagram> {
    Ok(UnixDatagram::bind(lab.path("host.sock"))?)
}

/// Reads readiness, and the pid that it is said of; answers the barrier.
fn told(supervisor: &UnixDatagram) -> Result<i32> {
    let word = || -> Result<String> {
        check!(readable(supervisor)?, "the supervisor was told nothing");
        let mut buffer = [0; 256];
        let count = supervisor.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..count])
            .trim_end()
            .to_owned())
    };
    same!("first", word()?, "READY=1");
    let pid = word()?;
    let pid = pid.strip_prefix("MAINPID=").ok_or("no MAINPID")?.parse()?;
    let (barrier, pipe) = receive(supervisor)?;
    same!("last", barrier, "BARRIER=1");
    drop(pipe);
    Ok(pid)
}

fn readiness_of_a_detached_run_names_its_init(lab: &Lab) -> Result {
    let supervisor = supervisor(lab)?;
    let bundle = talkative(lab, "READY=1")?;
    let id = lab.id();
    let container = lab.adopt(&id, &bundle);
    let dir = bundle.dir.to_string_lossy();
    let mut runtime = under(lab, &["run", "-d", "-b", &dir, &id])
        .stdin(lab.null()?)
        .spawn()?;
    let pid = told(&supervisor)?;
    same!("exit code", lab::code(runtime.wait()?), 0);
    same!("MAINPID", pid, container.pid()?);
    Ok(())
}

fn readiness_of_a_started_container_names_its_init(lab: &Lab) -> Result {
    let supervisor = supervisor(lab)?;
    let bundle = talkative(lab, "READY=1")?;
    let id = lab.id();
    let container = lab.adopt(&id, &bundle);
    let dir = bundle.dir.to_string_lossy();
    let created = under(lab, &["create", "-b", &dir, &id])
        .stdin(lab.null()?)
        .status()?;
    same!("create", lab::code(created), 0);
    let mut runtime = under(lab, &["start", &id]).spawn()?;
    let pid = told(&supervisor)?;
    same!("start", lab::code(runtime.wait()?), 0);
    same!("MAINPID", pid, container.pid()?);
    Ok(())
}

fn readiness_of_a_foreground_run_names_the_runtime(lab: &Lab) -> Result {
    let supervisor = supervisor(lab)?;
    let bundle = talkative(lab, "READY=1")?;
    let id = lab.id();
    let container = lab.adopt(&id, &bundle);
    let dir = bundle.dir.to_string_lossy();
    let mut runtime = under(lab, &["run", "-b", &dir, &id])
        .stdin(lab.null()?)
        .spawn()?;
    same!("MAINPID", told(&supervisor)?, i32::try_from(runtime.id())?);
    container.kill("KILL")?.ok()?;
    same!("exit code", lab::code(runtime.wait()?), 137);
    Ok(())
}

fn the_notify_directory_is_mounted_readonly(lab: &Lab) -> Result {
    let _supervisor = supervisor(lab)?;
    let bundle = lab.script("echo $NOTIFY_SOCKET; grep ' /run/notify ' /proc/self/mounts")?;
    bundle.save()?;
    let id = lab.id();
    let container = lab.adopt(&id, &bundle);
    let dir = bundle.dir.to_string_lossy();
    let out = lab.path("told");
    let created = under(lab, &["create", "-b", &dir, &id])
        .stdin(lab.null()?)
        .stdout(std::fs::File::create(&out)?)
        .status()?;
    same!("create", lab::code(created), 0);
    // It dies without being ready: start notices.
    let exec = container
        .exec(&["sh", "-c", "echo .$NOTIFY_SOCKET."])?
        .ok()?
        .out;
    same!("in exec", exec, "..\n");
    same!("start", lab::code(under(lab, &["start", &id]).status()?), 0);
    let text = lab::text(&out)?;
    check!(text.starts_with("/run/notify/notify.sock\n"), "{text}");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        let line = text.lines().nth(1).unwrap_or_default();
        let options = line.split(' ').nth(3).unwrap_or_default();
        check!(
            options.split(',').any(|one| one == option),
            "no {option}: {line}"
        );
    }
    Ok(())
}

fn start_returns_though_nobody_was_ready(lab: &Lab) -> Result {
    let _supervisor = supervisor(lab)?;
    let bundle = lab.script("exit 3")?;
    bundle.save()?;
    let id = lab.id();
    let container = lab.adopt(&id, &bundle);
    let dir = bundle.dir.to_string_lossy();
    let created = under(lab, &["create", "-b", &dir, &id])
        .stdin(lab.null()?)
        .status()?;
    same!("create", lab::code(created), 0);
    same!("start", lab::code(under(lab, &["start", &id]).status()?), 0);
    container.stopped()
}

fn a_foreground_run_returns_though_nobody_was_ready(lab: &Lab) -> Result {
    let _supervisor = supervisor(lab)?;
    let bundle = lab.script("exit 3")?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    let mut runtime = under(lab, &["run", "-b", &dir, &lab.id()])
        .stdin(lab.null()?)
        .spawn()?;
    let code = until("run returns", || runtime.try_wait().ok().flatten())?;
    same!("exit code", lab::code(code), 3);
    Ok(())
}
