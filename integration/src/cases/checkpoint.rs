//! `checkpoint` and `restore`: processes that go on where they were. They need a criu that works.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Failure, Result};
use crate::cgroup::Limits;
use crate::container::Container;
use crate::kernel::{self, alive, until};
use crate::lab::{self, Lab, Output};
use crate::pty::{Receiver, readable};
use crate::scene::Holder;
use crate::{cases, check, same};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

cases! {
    a_counter_and_an_open_file_go_on_where_they_were: [Criu],
    leave_running_leaves_it_running: [Criu],
    a_pre_dump_is_the_parent_of_a_dump: [Criu],
    a_paused_container_is_checkpointed: [Criu],
    a_terminal_comes_back: [Criu],
    a_foreground_restore_has_the_programs_status: [Criu],
    pipes_are_replaced_by_those_of_the_restore: [Criu],
    binds_and_masks_are_given_anew: [Criu],
    a_supervised_container_goes_on_without_its_supervisor: [Criu, Creel],
    limits_are_in_force_after_a_restore: [Criu],
    a_joined_network_stays_out_and_is_joined_again: [Criu],
    early_hooks_run_again_at_a_restore: [Criu],
    a_failed_restore_runs_poststop_hooks: [Criu],
    a_user_namespace_is_restored: [Criu, Userns],
    the_annotation_names_criu_s_configuration: [Criu],
    a_failed_checkpoint_quotes_criu_and_leaves_it_running: [Criu, Creel],
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

pub(super) fn checkpoint(container: &Container, images: &Path, flags: &[&str]) -> Result<Output> {
    let images = images.to_string_lossy();
    let mut all = vec!["--image-path", &*images];
    all.extend(flags);
    container.call("checkpoint", &all, &[])
}

pub(super) fn restore(
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
    same!(
        "mode",
        std::fs::metadata(&images)?.permissions().mode() & 0o077,
        0
    );
    let mode = images.join("descriptors.json").metadata()?.permissions();
    same!("mode", mode.mode() & 0o077, 0);
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

fn a_pre_dump_is_the_parent_of_a_dump(lab: &Lab) -> Result {
    let bundle = lab.script(COUNT)?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let (first, last) = (lab.path("first"), lab.path("last"));
    let output = checkpoint(&container, &first, &["--pre-dump"])?;
    if output.err.contains("missing features") {
        return Err(Failure::skip("the kernel does not track memory"));
    }
    output.ok()?;
    same!("status", container.status()?, "running");
    counts_past(&bundle, count(&bundle) + 5)?;
    checkpoint(&container, &last, &["--parent-path", "../first"])?.ok()?;
    let link = std::fs::read_link(last.join("parent"))?;
    same!("parent", link, Path::new("../first"));
    let stood = count(&bundle);
    restore(lab, &container, &bundle, &last, &[])?;
    counts_past(&bundle, stood + 5)?;
    without_a_gap(&bundle)
}

fn a_paused_container_is_checkpointed(lab: &Lab) -> Result {
    let bundle = lab.script(COUNT)?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    container.call("pause", &[], &[])?.ok()?;
    let images = lab.path("images");
    checkpoint(&container, &images, &["--leave-running"])?.ok()?;
    same!("status", container.status()?, "paused");
    container.call("resume", &[], &[])?.ok()?;
    counts_past(&bundle, count(&bundle) + 5)?;
    Ok(())
}

fn a_terminal_comes_back(lab: &Lab) -> Result {
    let mut bundle = lab.script("i=0; while read x; do i=$((i+1)); echo got $i $x; done")?;
    bundle.set("/process/terminal", true)?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let dir = bundle.dir.to_string_lossy();
    let first = Receiver::new(&lab.path("first"))?;
    let path = first.path.to_string_lossy();
    detached(
        lab,
        &[
            "run",
            "-d",
            "-b",
            &dir,
            "--console-socket",
            &path,
            &container.id,
        ],
    )?;
    let (_, master) = first.receive()?;
    let mut master = File::from(master);
    master.write_all(b"one\n")?;
    hears(&master, "got 1 one")?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    drop(master);
    let second = Receiver::new(&lab.path("second"))?;
    let path = second.path.to_string_lossy();
    restore(
        lab,
        &container,
        &bundle,
        &images,
        &["--console-socket", &path],
    )?;
    let (_, master) = second.receive()?;
    let mut master = File::from(master);
    master.write_all(b"two\n")?;
    hears(&master, "got 2 two")
}

/// Reads a terminal until it has shown this.
fn hears(mut master: &File, what: &str) -> Result {
    let (mut text, mut buffer) = (String::new(), [0; 512]);
    while !text.contains(what) {
        check!(readable(master)?, "the terminal shows only {text:?}");
        let count = master.read(&mut buffer)?;
        text += &String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
    }
    Ok(())
}

fn a_foreground_restore_has_the_programs_status(lab: &Lab) -> Result {
    let script = "i=0; while ! [ -e /tmp/go ]; do i=$((i+1)); echo $i > /tmp/count; sleep 0.01; done; exit 7";
    let bundle = lab.script(script)?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 3)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    std::fs::write(bundle.inside("tmp/go"), "")?;
    let dir = bundle.dir.to_string_lossy();
    let images = images.to_string_lossy();
    let args = [
        "restore",
        "--bundle",
        &dir,
        "--image-path",
        &images,
        &container.id,
    ];
    same!("exit code", lab.call(&args)?.code, 7);
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    Ok(())
}

fn pipes_are_replaced_by_those_of_the_restore(lab: &Lab) -> Result {
    let bundle = lab.script("i=0; while :; do i=$((i+1)); echo number $i; sleep 0.05; done")?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let dir = bundle.dir.to_string_lossy();
    let images = lab.path("images");
    let piped = |args: &[&str]| -> Result<std::process::Child> {
        let null = || lab.null();
        let mut command = lab.command(args);
        command
            .stdin(null()?)
            .stdout(Stdio::piped())
            .stderr(null()?);
        Ok(command.spawn()?)
    };
    let mut first = piped(&["run", "-d", "-b", &dir, &container.id])?;
    let mut out = BufReader::new(first.stdout.take().ok_or("no pipe")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    same!("first", line, "number 1\n");
    first.wait()?;
    checkpoint(&container, &images, &[])?.ok()?;
    let path = images.to_string_lossy();
    let mut second = piped(&[
        "restore",
        "-d",
        "-b",
        &dir,
        "--image-path",
        &path,
        &container.id,
    ])?;
    let mut rest = String::new();
    out.read_to_string(&mut rest)?;
    let before = rest.lines().count() + 1;
    let mut out = BufReader::new(second.stdout.take().ok_or("no pipe")?);
    line.clear();
    out.read_line(&mut line)?;
    same!("restored", line, format!("number {}\n", before + 1));
    same!("exit code", lab::code(second.wait()?), 0);
    container.kill("KILL")?.ok()?;
    Ok(())
}

fn binds_and_masks_are_given_anew(lab: &Lab) -> Result {
    let mut bundle = lab.script(COUNT)?;
    let data = lab.directory("data")?;
    let file = lab.file("file", "of the host")?;
    std::os::unix::fs::symlink("/run", bundle.inside("var/run"))?;
    bundle
        .mount("tmpfs", "tmpfs", "/run", &["mode=755"])?
        .mount("bind", &data, "/mnt/data", &["rbind", "rw"])?
        .mount("bind", &file, "/etc/file", &["bind", "ro"])?
        .mount("bind", &data, "/var/run/data", &["rbind"])?
        .mount("sysfs", "sysfs", "/sys", &["ro"])?
        .mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro"])?
        .set(
            "/linux/maskedPaths",
            json!(["/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware"]),
        )?
        .set("/linux/readonlyPaths", json!(["/proc/bus", "/proc/sys"]))?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    let stood = count(&bundle);
    std::fs::write(data.join("new"), "new")?;
    restore(lab, &container, &bundle, &images, &[])?;
    counts_past(&bundle, stood + 5)?;
    let script = "cat /mnt/data/new /var/run/data/new /etc/file; wc -c < /proc/keys;\
        ls /sys/fs/cgroup | wc -l; echo x > /mnt/data/back; (echo x > /etc/file) 2>/dev/null || echo ro";
    let told = container.sh(script)?.ok()?;
    check!(told.out.starts_with("newnewof the host0\n"), "{}", told.out);
    check!(told.out.ends_with("ro\n"), "{}", told.out);
    same!("back", lab::text(&data.join("back"))?, "x\n");
    Ok(())
}

fn a_supervised_container_goes_on_without_its_supervisor(lab: &Lab) -> Result {
    let bundle = lab.script(COUNT)?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let dir = bundle.dir.to_string_lossy();
    let null = || lab.null();
    // It waits for the readiness of a program that says nothing, until that ends.
    let mut runtime = lab
        .command(&["run", "-d", "-b", &dir, &container.id])
        .env("NOTIFY_SOCKET", lab.path("host.sock"))
        .stdin(null()?)
        .stdout(null()?)
        .stderr(null()?)
        .spawn()?;
    for round in ["first", "second"] {
        counts_past(&bundle, count(&bundle) + 5)?;
        let images = lab.path(round);
        checkpoint(&container, &images, &[])?.ok()?;
        let stood = count(&bundle);
        restore(lab, &container, &bundle, &images, &[])?;
        counts_past(&bundle, stood + 5)?;
    }
    same!("exit code", lab::code(runtime.wait()?), 0);
    container
        .sh("grep ' /run/notify ro,' /proc/self/mountinfo")?
        .ok()?;
    without_a_gap(&bundle)
}

fn limits_are_in_force_after_a_restore(lab: &Lab) -> Result {
    let mut bundle = lab.script(COUNT)?;
    let path = format!("/{}", lab.id());
    bundle
        .set("/linux/cgroupsPath", path.as_str())?
        .set("/linux/resources/memory", json!({"limit": 64 << 20}))?
        .set("/linux/resources/pids", json!({"limit": 33}))?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    restore(lab, &container, &bundle, &images, &[])?;
    let limits = Limits::at(&path);
    same!("memory", limits.memory_limit()?, 64 << 20);
    same!("pids", limits.pids()?, Some(33));
    let pid = u64::try_from(container.pid()?)?;
    check!(limits.processes().contains(&pid), "{pid} is not in {path}");
    container
        .call("update", &["--pids-limit", "44"], &[])?
        .ok()?;
    same!("pids", limits.pids()?, Some(44));
    Ok(())
}

fn a_joined_network_stays_out_and_is_joined_again(lab: &Lab) -> Result {
    let holder = Holder::new(&["--net"])?;
    let mut bundle = lab.script(COUNT)?;
    bundle.namespace("network", Some(&holder.path("net")))?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    restore(lab, &container, &bundle, &images, &[])?;
    let ours = kernel::namespace(container.pid()?, "net")?;
    same!("network", ours, kernel::namespace(holder.pid()?, "net")?);
    counts_past(&bundle, count(&bundle) + 5)?;
    Ok(())
}

fn early_hooks_run_again_at_a_restore(lab: &Lab) -> Result {
    let mut bundle = lab.script(COUNT)?;
    let told = lab.path("told");
    for kind in ["prestart", "createRuntime", "poststop"] {
        let script = format!("echo {kind} >> {}", told.display());
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        bundle.set(&format!("/hooks/{kind}"), hook)?;
    }
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    restore(lab, &container, &bundle, &images, &[])?;
    let want = [
        "prestart",
        "createRuntime",
        "poststop",
        "prestart",
        "createRuntime",
    ];
    let text = lab::text(&told)?;
    same!("hooks", text.lines().collect::<Vec<_>>(), want);
    Ok(())
}

fn a_failed_restore_runs_poststop_hooks(lab: &Lab) -> Result {
    let mut bundle = lab.script(COUNT)?;
    let (told, fail) = (lab.path("told"), lab.path("fail"));
    for kind in ["createRuntime", "poststop"] {
        let (told, fail) = (told.display(), fail.display());
        let script = format!("echo {kind} >> {told}; [ {kind} = poststop ] || ! [ -e {fail} ]");
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        bundle.set(&format!("/hooks/{kind}"), hook)?;
    }
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    std::fs::write(&fail, "")?;
    let failed = restore(lab, &container, &bundle, &images, &[]);
    check!(failed.is_err(), "it was restored despite its hook");
    check!(lab.states().is_empty(), "left: {:?}", lab.states());
    let want = ["createRuntime", "poststop", "createRuntime", "poststop"];
    let text = lab::text(&told)?;
    same!("hooks", text.lines().collect::<Vec<_>>(), want);
    Ok(())
}

fn a_user_namespace_is_restored(lab: &Lab) -> Result {
    let mut bundle = lab.script(COUNT)?;
    bundle.mapped()?;
    // The container's root counts as somebody else on the host.
    for dir in [bundle.inside("tmp"), bundle.inside("")] {
        std::os::unix::fs::chown(dir, Some(100_000), Some(100_000))?;
    }
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let images = lab.path("images");
    checkpoint(&container, &images, &[])?.ok()?;
    let stood = count(&bundle);
    restore(lab, &container, &bundle, &images, &[])?;
    counts_past(&bundle, stood + 5)?;
    let map = lab::text(Path::new(&format!("/proc/{}/uid_map", container.pid()?)))?;
    same!(
        "map",
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
    same!("exec", container.sh("id -u")?.ok()?.out, "0\n");
    Ok(())
}

fn the_annotation_names_criu_s_configuration(lab: &Lab) -> Result {
    let mut bundle = lab.script(COUNT)?;
    let conf = lab.file("criu.conf", "log-file other.log\n")?;
    bundle.set(
        "/annotations/org.criu.config",
        conf.to_string_lossy().into_owned(),
    )?;
    let container = launch(lab, &bundle)?;
    counts_past(&bundle, 5)?;
    let (images, work) = (lab.path("images"), lab.path("work"));
    let work_path = work.to_string_lossy();
    checkpoint(
        &container,
        &images,
        &["--leave-running", "--work-path", &work_path],
    )?
    .ok()?;
    check!(
        work.join("other.log").is_file(),
        "criu did not read its configuration"
    );
    Ok(())
}

fn a_failed_checkpoint_quotes_criu_and_leaves_it_running(lab: &Lab) -> Result {
    // Its stdout is a file of the host's, which criu cannot find in the container.
    let bundle = lab.script(COUNT)?;
    let container = lab.started(&bundle)?;
    counts_past(&bundle, 5)?;
    let output =
        checkpoint(&container, &lab.path("images"), &[])?.refused("a file of the host's")?;
    for part in ["criu failed: type DUMP", "dump.log says: Error", "fd=1"] {
        check!(output.err.contains(part), "no {part:?}: {}", output.err);
    }
    same!("lines", output.err.lines().count(), 1);
    counts_past(&bundle, count(&bundle) + 5)?;
    Ok(())
}
