//! `checkpoint` and `restore`: processes that go on where they were. They need a criu that works.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::container::Container;
use crate::kernel::{alive, until};
use crate::lab::{self, Lab, Output};
use crate::{cases, check, same};
use std::path::Path;

cases! {
    a_counter_and_an_open_file_go_on_where_they_were: [Criu],
    leave_running_leaves_it_running: [Criu],
    checkpoint_refuses_what_does_not_run,
    parent_path_must_be_relative_and_exist,
    odd_checkpoint_options_are_refused,
    restore_without_images_leaves_nothing: [Criu],
    without_criu_the_error_says_so: [Creel],
}

/// Counts in memory, and writes to a file that it opened at its start.
const COUNT: &str = "exec 5>/tmp/count; i=0; while :; do i=$((i+1)); echo $i >&5; sleep 0.01; done";

/// Runs a bundle detached, with a null device as stdio: files of the host cannot be checkpointed.
fn launch<'lab>(lab: &'lab Lab, bundle: &Bundle) -> Result<Container<'lab>> {
    bundle.save()?;
    let container = lab.adopt(&lab.id(), bundle);
    let dir = bundle.dir.to_string_lossy();
    detached(lab, &["run", "--detach", "--bundle", &dir, &container.id])?;
    Ok(container)
}

/// A command whose stdio a container inherits; its errors go to a log.
fn detached(lab: &Lab, args: &[&str]) -> Result {
    let log = lab.path("log");
    let log_path = log.to_string_lossy().into_owned();
    let mut all = vec!["--log", log_path.as_str()];
    all.extend(args);
    let null = || lab.null();
    let status = lab
        .command(&all)
        .stdin(null()?)
        .stdout(null()?)
        .stderr(null()?)
        .status()?;
    match lab::code(status) {
        0 => Ok(()),
        code => Err(format!("{args:?}: exit {code}: {}", lab::text(&log)?).into()),
    }
}

fn checkpoint(container: &Container, images: &Path, flags: &[&str]) -> Result<Output> {
    let images = images.to_string_lossy();
    let mut all = vec!["--image-path", &*images];
    all.extend(flags);
    container.call("checkpoint", &all, &[])
}

fn restore(
    lab: &Lab,
    container: &Container,
    bundle: &Bundle,
    images: &Path,
    flags: &[&str],
) -> Result {
    let dir = bundle.dir.to_string_lossy();
    let images = images.to_string_lossy();
    let mut all = vec![
        "restore",
        "--detach",
        "--bundle",
        &dir,
        "--image-path",
        &images,
    ];
    all.extend(flags);
    all.push(&container.id);
    detached(lab, &all)
}

fn count(bundle: &Bundle) -> u64 {
    let text = lab::text(&bundle.inside("tmp/count")).unwrap_or_default();
    text.lines()
        .last()
        .and_then(|line| line.parse().ok())
        .unwrap_or(0)
}

/// Waits until the counter has passed a number.
fn counts_past(bundle: &Bundle, past: u64) -> Result<u64> {
    until(&format!("a count above {past}"), || {
        Some(count(bundle)).filter(|count| *count > past)
    })
}

/// Every number once and in order: neither memory nor the file's offset were lost.
fn without_a_gap(bundle: &Bundle) -> Result {
    let text = lab::text(&bundle.inside("tmp/count"))?;
    for (index, line) in text.lines().enumerate() {
        same!("line", line, (index + 1).to_string());
    }
    Ok(())
}

fn a_counter_and_an_open_file_go_on_where_they_were(lab: &Lab) -> Result {
    let bundle = lab.script(COUNT)?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let before = container.pid()?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    check!(!alive(before), "{before} still runs");
    check!(
        images.join("descriptors.json").is_file(),
        "no descriptors.json"
    );
    let stood = count(&bundle);
    restore(lab, &container, &bundle, &images, &[])?;
    same!("status", container.status()?, "running");
    counts_past(&bundle, stood + 5)?;
    let told = container
        .sh("echo from within; cat /tmp/count | wc -l")?
        .ok()?
        .out;
    check!(told.starts_with("from within"), "{told}");
    without_a_gap(&bundle)?;
    let pid = container.pid()?;
    let listed = container.call("ps", &["--format", "json"], &[])?.ok()?.out;
    check!(listed.contains(&pid.to_string()), "{listed}");
    container.call("events", &["--stats"], &[])?.ok()?;
    container.call("pause", &[], &[])?.ok()?;
    same!("status", container.status()?, "paused");
    container.call("resume", &[], &[])?.ok()?;
    container.kill("KILL")?.ok()?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    Ok(())
}

fn leave_running_leaves_it_running(lab: &Lab) -> Result {
    let bundle = lab.script(COUNT)?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let before = container.pid()?;
    let images = lab.path("images");
    checkpoint(&container, &images, &["--leave-running"])?.ok()?;
    same!("pid", container.pid()?, before);
    same!("status", container.status()?, "running");
    counts_past(&bundle, count(&bundle) + 5)?;
    without_a_gap(&bundle)
}

fn checkpoint_refuses_what_does_not_run(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    let images = lab.path("images");
    let output = checkpoint(&container, &images, &[])?.refused("a created container")?;
    let why = "Container cannot be checkpointed in created state";
    check!(output.err.contains(why), "{}", output.err);
    container.start()?.ok()?;
    container.kill("KILL")?.ok()?;
    container.stopped()?;
    let output = checkpoint(&container, &images, &[])?.refused("a stopped container")?;
    let why = "Container cannot be checkpointed in stopped state";
    check!(output.err.contains(why), "{}", output.err);
    Ok(())
}

fn parent_path_must_be_relative_and_exist(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let images = lab.path("images");
    let output = checkpoint(&container, &images, &["--parent-path", "/tmp"])?;
    let output = output.refused("an absolute parent")?;
    check!(output.err.contains("--parent-path"), "{}", output.err);
    let output = checkpoint(&container, &images, &["--parent-path", "../nobody"])?;
    let output = output.refused("a parent that is not there")?;
    check!(
        output.err.contains("invalid --parent-path"),
        "{}",
        output.err
    );
    same!("status", container.status()?, "running");
    Ok(())
}

fn odd_checkpoint_options_are_refused(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let images = lab.path("images");
    for (flags, why) in [
        (["--manage-cgroups-mode", "wild"], "manage-cgroups-mode"),
        (
            ["--page-server", "1.2.3.4"],
            "Use --page-server ADDRESS:PORT",
        ),
        (["--page-server", "1.2.3.4:x"], "Invalid port number"),
        (["--empty-ns", "uts"], "is not supported"),
    ] {
        let output = checkpoint(&container, &images, &flags)?.refused(flags[1])?;
        check!(output.err.contains(why), "{}", output.err);
    }
    same!("status", container.status()?, "running");
    Ok(())
}

fn restore_without_images_leaves_nothing(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let images = lab.directory("images")?;
    std::fs::write(images.join("descriptors.json"), "[]")?;
    let failed = restore(lab, &container, &bundle, &images, &[]);
    check!(failed.is_err(), "nothing was restored");
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    Ok(())
}

fn without_criu_the_error_says_so(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let mut command = lab.command(&["checkpoint", &container.id]);
    command.env("PATH", "/nowhere").current_dir(&lab.dir);
    let output = lab.finish(&mut command)?.refused("a host without criu")?;
    let why = "exec: \"criu\": executable file not found in $PATH";
    check!(output.err.replace('\\', "").contains(why), "{}", output.err);
    same!("status", container.status()?, "running");
    Ok(())
}
