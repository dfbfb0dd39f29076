//! `run`: what it returns, what it passes on, what it leaves; and the pid file.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::until;
use crate::lab::Lab;
use crate::{cases, check, same};

cases! {
    run_returns_0,
    run_returns_the_status_of_the_program,
    run_returns_128_and_the_signal,
    run_passes_signals_on,
    run_removes_the_container,
    run_of_a_missing_program_fails_and_leaves_nothing,
    run_detached_returns_while_it_runs,
    run_keep_leaves_a_stopped_container: [Creel],
    pid_file_holds_the_pid_and_nothing_else,
    pid_file_is_relative_to_the_working_directory,
}

fn run_returns_0(lab: &Lab) -> Result {
    same!("exit code", lab.run(&lab.bundle()?)?.code, 0);
    Ok(())
}

fn run_returns_the_status_of_the_program(lab: &Lab) -> Result {
    for code in [1, 7, 255] {
        same!(
            "exit code",
            lab.run(&lab.script(&format!("exit {code}"))?)?.code,
            code
        );
    }
    Ok(())
}

fn run_returns_128_and_the_signal(lab: &Lab) -> Result {
    // A child without handlers, in the host's pid namespace: pid 1 could not kill itself.
    for signal in [9, 15] {
        let mut bundle = lab.script(&format!("kill -{signal} $$"))?;
        bundle.drop_namespace("pid")?;
        same!("exit code", lab.run(&bundle)?.code, 128 + signal);
    }
    Ok(())
}

fn run_passes_signals_on(lab: &Lab) -> Result {
    let bundle = lab.script("trap 'exit 42' TERM; echo up; while :; do sleep 0.01; done")?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let (dir, out) = (bundle.dir.to_string_lossy(), lab.path("run.out"));
    let mut command = lab.command(&["run", "-b", &dir, &container.id]);
    let mut child = command
        .stdin(lab.null()?)
        .stdout(std::fs::File::create(&out)?)
        .spawn()?;
    until("the container's word", || {
        std::fs::read_to_string(&out)
            .ok()
            .filter(|text| text.contains("up"))
            .map(|_| ())
    })?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    same!("exit code", crate::lab::code(child.wait()?), 42);
    Ok(())
}

fn run_removes_the_container(lab: &Lab) -> Result {
    let bundle = lab.bundle()?;
    let id = lab.id();
    lab.launch("run", &bundle, &id, &[])?.ok()?;
    lab.call(&["state", &id])?.refused("state after run")?;
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn run_of_a_missing_program_fails_and_leaves_nothing(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/bin/no-such-program"])?;
    let output = lab.run(&bundle)?.refused("a missing program")?;
    check!(
        output.err.contains("no such file or directory"),
        "stderr: {}",
        output.err
    );
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn run_detached_returns_while_it_runs(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let container = lab.adopt(&lab.id(), &bundle);
    lab.launch("run", &bundle, &container.id, &["--detach"])?
        .ok()?;
    same!("status", container.status()?, "running");
    Ok(())
}

fn run_keep_leaves_a_stopped_container(lab: &Lab) -> Result {
    let bundle = lab.bundle()?;
    let container = lab.adopt(&lab.id(), &bundle);
    lab.launch("run", &bundle, &container.id, &["--keep"])?
        .ok()?;
    same!("status", container.status()?, "stopped");
    container.delete(&[])?.ok()?;
    Ok(())
}

fn pid_file_holds_the_pid_and_nothing_else(lab: &Lab) -> Result {
    let file = lab.path("pid");
    let flags = ["--pid-file", &file.to_string_lossy()];
    let bundle = lab.idle()?;
    let container = lab.create_with(&bundle, &flags)?;
    same!(
        "create",
        std::fs::read_to_string(&file)?,
        container.pid()?.to_string()
    );
    let other = lab.adopt(&lab.id(), &bundle);
    let flags = ["-d", flags[0], flags[1]];
    lab.launch("run", &bundle, &other.id, &flags)?.ok()?;
    same!(
        "run",
        std::fs::read_to_string(&file)?,
        other.pid()?.to_string()
    );
    Ok(())
}

fn pid_file_is_relative_to_the_working_directory(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let dir = bundle.dir.to_string_lossy();
    let mut command = lab.command(&["create", "-b", &dir, "--pid-file", "here", &container.id]);
    lab.finish(command.current_dir(&lab.dir).stdin(lab.null()?))?
        .ok()?;
    same!(
        "pid",
        std::fs::read_to_string(lab.path("here"))?,
        container.pid()?.to_string()
    );
    Ok(())
}
