//! What the daemon does while nobody types: health, restarts, and a life after its own.
#![forbid(unsafe_code)]

use super::{ENDLESS, Lesson};
use crate::case::Result;
use crate::docker::Docker;
use crate::engine::IMAGE;
use crate::kernel::until;
use crate::same;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(super) const LESSONS: &[Lesson] = &[
    ("docker run --health-cmd, of one that is well", well),
    ("docker run --health-cmd, of one that is not", ill),
    ("docker run --restart on-failure:2", restarts),
    ("docker run --restart always", always),
    (
        "live-restore, dockerd killed and started again",
        live_restore,
    ),
    ("live-restore, an exit while dockerd is away", missed),
];

fn well(docker: &mut Docker<'_>) -> Result<String> {
    let health = ["--health-cmd", "test -e /ok", "--health-interval", "200ms"];
    docker.detached("c1", &health, ENDLESS)?;
    docker.call(&["exec", "c1", "touch", "/ok"])?.ok()?;
    docker.until("c1", "{{.State.Health.Status}}", "healthy")
}

fn ill(docker: &mut Docker<'_>) -> Result<String> {
    let mut health = vec!["--health-cmd", "echo ill; exit 1", "--health-retries", "2"];
    health.extend(["--health-interval", "200ms"]);
    docker.detached("c1", &health, ENDLESS)?;
    let state = docker.until("c1", "{{.State.Health.Status}}", "unhealthy")?;
    let log = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    let log = docker.inspect("c1", log)?;
    same!("log", log, "1 ill");
    Ok(format!("{state}, {log}"))
}

fn restarts(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &["--restart", "on-failure:2"], "echo run; exit 9")?;
    let state = docker.until("c1", "{{.RestartCount}} {{.State.Status}}", "2 exited")?;
    same!("code", docker.inspect("c1", "{{.State.ExitCode}}")?, "9");
    let logs = docker.call(&["logs", "c1"])?.ok()?;
    same!("runs", logs.words(), ["run", "run", "run"]);
    Ok(format!("{}, {state}", logs.out))
}

/// As often as it ends, until it is stopped.
fn always(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &["--restart", "always"], ENDLESS)?;
    docker.says("c1", "up")?;
    docker.call(&["exec", "c1", "kill", "1"])?.ok()?;
    let state = "{{.RestartCount}} {{.State.Status}}";
    let again = docker.until("c1", state, "1 running")?;
    docker.call(&["stop", "c1"])?.ok()?;
    let stopped = docker.inspect("c1", "{{.State.Status}}")?;
    same!("stopped", stopped, "exited");
    Ok(format!("{again}, then {stopped}"))
}

fn init(docker: &Docker<'_>, name: &str) -> Result<Pid> {
    let pid = docker.inspect(name, "{{.State.Pid}}")?;
    Ok(Pid::from_raw(pid.parse()?))
}

/// The daemon goes and comes; what runs, and what it says, does not notice.
fn live_restore(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached(
        "c1",
        &[],
        "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done",
    )?;
    docker.says("c1", "3\n")?;
    docker.detached(
        "c2",
        &[],
        "until test -e /go; do sleep 0.1; done; echo last; exit 8",
    )?;
    docker
        .call(&["run", "-d", "-i", "--name", "c3", IMAGE, "cat"])?
        .ok()?;
    let before = init(docker, "c1")?;
    docker.restart(|| Ok(()))?;
    same!("pid", init(docker, "c1")?, before);
    let state = docker.inspect("c1", "{{.State.Status}}")?;
    same!("state", state, "running");
    let last = |docker: &Docker<'_>| -> Option<u32> {
        let logs = docker.call(&["logs", "--tail", "1", "c1"]).ok()?.out;
        logs.trim().parse().ok()
    };
    let then = last(docker).ok_or("no logs")?;
    until("more in the logs", || {
        last(docker).filter(|now| *now > then + 3)
    })?;
    let all = docker.call(&["logs", "c1"])?.ok()?.out;
    let numbers: Vec<u32> = all.lines().filter_map(|line| line.parse().ok()).collect();
    let want: Vec<u32> = (1..).take(numbers.len()).collect();
    same!("every number once", numbers, want);
    super::life::talk(docker, "c3")?;
    // However it ends: the container may be gone before it is.
    docker.call(&["exec", "c2", "touch", "/go"])?;
    docker.until("c2", "{{.State.ExitCode}} {{.State.Status}}", "8 exited")?;
    docker.says("c2", "last")?;
    docker.call(&["stop", "c1"])?.ok()?;
    let code = docker.inspect("c1", "{{.State.ExitCode}}")?;
    same!("code", code, "5");
    Ok(format!(
        "{state}, the same pid, every line once, exit {code}"
    ))
}

/// The shim keeps the code for the next daemon, which starts what shall always run.
fn missed(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], ENDLESS)?;
    docker.detached("c2", &["--restart", "always"], ENDLESS)?;
    docker.says("c1", "up")?;
    docker.says("c2", "up")?;
    let (first, second) = (init(docker, "c1")?, init(docker, "c2")?);
    docker.restart(|| {
        kill(first, Signal::SIGTERM)?;
        kill(second, Signal::SIGKILL)?;
        until("both have ended", || {
            let alive = [first, second].map(|pid| crate::kernel::alive(pid.as_raw()));
            (alive == [false, false]).then_some(())
        })
    })?;
    let state = docker.until("c1", "{{.State.Status}} {{.State.ExitCode}}", "exited 7")?;
    docker.until("c2", "{{.State.Status}}", "running")?;
    let again = init(docker, "c2")?;
    same!("another pid", again != second, true);
    Ok(format!("{state}; restarted where asked"))
}
