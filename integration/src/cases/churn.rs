//! Many containers, one after another and all at once, some of their creators killed: nothing stays.
#![forbid(unsafe_code)]

use crate::case::{Case, Result};
use crate::kernel;
use crate::lab::Lab;
use crate::{check, same};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The cases of this part; they take longer than others.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("churn_of_200_in_a_row_leaves_nothing", in_a_row).limit(180),
        Case::new("churn_of_50_at_once_leaves_nothing", at_once).limit(180),
        Case::new("churn_with_killed_creators_leaves_nothing", killed_creators).limit(180),
        Case::new("churn_with_killed_starters_leaves_nothing", killed_starters).limit(180),
        Case::new("churn_of_execs_leaves_nothing", execs).limit(120),
        Case::new("one_id_by_many_at_once_is_won_once", one_id).limit(60),
    ]
}

/// Nothing of this case is in the cgroup tree or in the state root.
fn nothing_left(lab: &Lab) -> Result {
    let cgroups = kernel::directories_named(Path::new("/sys/fs/cgroup"), lab.mark());
    check!(cgroups.is_empty(), "cgroups are left: {cgroups:?}");
    let states = lab.states();
    check!(states.is_empty(), "state is left: {states:?}");
    Ok(())
}

fn in_a_row(lab: &Lab) -> Result {
    let bundle = lab.bundle()?;
    let fds = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = fds();
    for _ in 0..200 {
        let container = lab.create(&bundle)?;
        container.start()?.ok()?;
        container.stopped()?;
        container.delete(&[])?.ok()?;
    }
    same!("our own descriptors", fds(), before);
    nothing_left(lab)
}

/// Starts a runtime command without waiting for it.
fn spawn(lab: &Lab, args: &[&str]) -> Result<Child> {
    let mut command: Command = lab.command(args);
    command
        .stdin(lab.null()?)
        .stdout(lab.null()?)
        .stderr(lab.null()?);
    Ok(command.spawn()?)
}

/// Runs a command for each id, all at once; those that failed.
fn all(lab: &Lab, ids: &[String], args: &[&str]) -> Result<Vec<String>> {
    let mut running = Vec::new();
    for id in ids {
        let mut line = args.to_vec();
        line.push(id);
        running.push((id, spawn(lab, &line)?));
    }
    let mut failed = Vec::new();
    for (id, mut child) in running {
        if !child.wait()?.success() {
            failed.push(id.clone());
        }
    }
    Ok(failed)
}

fn at_once(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    let ids: Vec<String> = (0..50).map(|_| lab.id()).collect();
    for args in [
        &["create", "-b", &dir][..],
        &["start"],
        &["kill", "--all"],
        &["delete", "-f"],
    ] {
        let failed = match args {
            ["kill", ..] => all(lab, &ids, &["kill"])?,
            args => all(lab, &ids, args)?,
        };
        if let ["start"] = args {
            let told = lab.call(&["list", "-q"])?.ok()?.out;
            same!("containers", told.lines().count(), 50);
        }
        if !failed.is_empty() {
            all(lab, &ids, &["delete", "-f"])?;
            return Err(format!("{args:?} failed for {} of 50", failed.len()).into());
        }
    }
    nothing_left(lab)
}

/// Waits for some part of the time that a create takes, another each round: a sweep over all its
/// moments does what chance would do, and does it again the same way.
fn after(round: u32, rounds: u32, usual: Duration) {
    let deadline = Instant::now() + usual * round / rounds;
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
}

/// How long the command takes when nobody disturbs it.
fn usual(lab: &Lab, args: &[&str]) -> Result<Duration> {
    let begun = Instant::now();
    let status = spawn(lab, args)?.wait()?;
    check!(status.success(), "{args:?}: {status}");
    Ok(begun.elapsed())
}

fn killed_creators(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    let first = lab.id();
    let usual = usual(lab, &["create", "-b", &dir, &first])?;
    lab.call(&["delete", "-f", &first])?.ok()?;
    const ROUNDS: u32 = 60;
    for round in 0..ROUNDS {
        let id = lab.id();
        let mut child = spawn(lab, &["create", "-b", &dir, &id])?;
        if round % 3 == 0 {
            after(round, ROUNDS, usual);
            child.kill()?;
        }
        child.wait()?;
        lab.call(&["delete", "--force", &id])?.ok()?;
        check!(
            !lab.states().contains(&id),
            "state of {id} is left in round {round}"
        );
    }
    nothing_left(lab)
}

fn killed_starters(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    const ROUNDS: u32 = 30;
    for round in 0..ROUNDS {
        let container = lab.create(&bundle)?;
        let mut child = spawn(lab, &["start", &container.id])?;
        if round % 3 == 0 {
            after(round, ROUNDS, Duration::from_millis(20));
            child.kill()?;
        }
        child.wait()?;
        container.status()?;
        container.delete(&["--force"])?.ok()?;
    }
    nothing_left(lab)
}

fn execs(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let init = u32::try_from(container.executes("sleep")?)?;
    for round in 0..30 {
        let mut child = spawn(lab, &["exec", &container.id, "true"])?;
        if round % 3 == 0 {
            after(round, 30, Duration::from_millis(30));
            child.kill()?;
        }
        child.wait()?;
    }
    kernel::until("the end of all execs", || {
        let told = container.exec(&["ls", "/proc"]).ok()?.out;
        let pids = told
            .split_whitespace()
            .filter(|word| word.parse::<u32>().is_ok())
            .count();
        (pids == 2 && kernel::children(init).is_empty()).then_some(())
    })?;
    container.delete(&["-f"])?.ok()?;
    nothing_left(lab)
}

fn one_id(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    let container = lab.adopt(&lab.id(), &bundle);
    let ids = vec![container.id.clone(); 8];
    let failed = all(lab, &ids, &["create", "-b", &dir])?;
    same!("losers", failed.len(), 7);
    same!("status", container.status()?, "created");
    container.delete(&["-f"])?.ok()?;
    nothing_left(lab)
}
