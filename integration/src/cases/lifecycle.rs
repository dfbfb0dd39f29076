//! The life of a container: create, start, state, delete, run.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::Value;

cases! {
    create_then_state_is_created,
    create_does_not_run_the_program,
    create_waits_for_start_without_its_parent,
    start_makes_it_running,
    state_is_stopped_after_the_program_ends,
    state_is_stopped_after_a_kill_from_outside,
    state_has_the_documented_keys,
    state_of_a_missing_container_fails,
    state_holds_annotations,
    state_holds_no_annotations_if_there_are_none,
    create_with_a_taken_id_fails_and_harms_nothing,
    create_refuses_bad_ids,
    create_accepts_unusual_ids,
    create_takes_the_bundle_from_the_working_directory,
    create_makes_a_relative_bundle_absolute,
    create_without_a_bundle_fails,
    ids_are_per_root,
    start_twice_fails,
    start_of_a_stopped_container_fails,
    start_of_a_missing_container_fails,
    start_reads_nothing_from_the_bundle,
    delete_refuses_a_running_container,
    delete_of_a_created_container_works,
    delete_of_a_stopped_container_works,
    delete_force_ends_a_running_container,
    delete_of_a_missing_container_fails,
    delete_force_of_a_missing_container_succeeds,
    delete_frees_the_id,
}

fn create_then_state_is_created(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let container = lab.create(&bundle)?;
    let state = container.state()?;
    same!("status", state["status"], "created");
    same!("id", state["id"], container.id.as_str());
    same!(
        "bundle",
        state["bundle"],
        bundle.dir.to_string_lossy().as_ref()
    );
    check!(
        kernel::alive(container.pid()?),
        "pid {} is not alive",
        state["pid"]
    );
    Ok(())
}

fn create_does_not_run_the_program(lab: &Lab) -> Result {
    let bundle = lab.script("touch /ran; exec sleep 1000")?;
    let container = lab.create(&bundle)?;
    let line = kernel::command_line(u32::try_from(container.pid()?)?);
    check!(
        !line.contains("sleep"),
        "the program runs before start: {line}"
    );
    check!(
        !bundle.inside("ran").exists(),
        "the program ran before start"
    );
    container.start()?.ok()?;
    until("the program's file", || {
        bundle.inside("ran").exists().then_some(())
    })
}

fn create_waits_for_start_without_its_parent(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    let pid = container.pid()?;
    let parent = kernel::process(pid)?.stat()?.ppid;
    let line = kernel::command_line(u32::try_from(parent)?);
    check!(!line.contains(" create "), "the creator still runs: {line}");
    Ok(())
}

fn start_makes_it_running(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    same!("status", container.status()?, "running");
    container.executes("sleep")?;
    Ok(())
}

fn state_is_stopped_after_the_program_ends(lab: &Lab) -> Result {
    let container = lab.started(&lab.bundle()?)?;
    container.stopped()?;
    let state = container.state()?;
    same!("pid", state["pid"].as_i64().unwrap_or(0), 0);
    Ok(())
}

fn state_is_stopped_after_a_kill_from_outside(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = nix::unistd::Pid::from_raw(container.pid()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    container.stopped()
}

fn state_has_the_documented_keys(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let container = lab.create(&bundle)?;
    let state = container.state()?;
    let version = state["ociVersion"].as_str().unwrap_or_default();
    check!(version.starts_with("1."), "ociVersion: {version:?}");
    for key in ["id", "status", "bundle", "rootfs", "created", "owner"] {
        check!(state[key].is_string(), "{key}: {}", state[key]);
    }
    check!(state["pid"].is_u64(), "pid: {}", state["pid"]);
    same!(
        "rootfs",
        state["rootfs"],
        bundle.inside("").to_string_lossy().trim_end_matches('/')
    );
    let created = state["created"].as_str().unwrap_or_default();
    check!(
        created.len() >= 20 && created.ends_with('Z'),
        "created is not UTC: {created}"
    );
    Ok(())
}

fn state_of_a_missing_container_fails(lab: &Lab) -> Result {
    let output = lab
        .call(&["state", &lab.id()])?
        .refused("state of nothing")?;
    same!("exit code", output.code, 1);
    check!(output.out.is_empty(), "stdout: {}", output.out);
    check!(
        output.err.contains("does not exist"),
        "stderr: {}",
        output.err
    );
    Ok(())
}

fn state_holds_annotations(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set(
        "/annotations",
        serde_json::json!({"org.example.a": "1", "b": ""}),
    )?;
    let state = lab.create(&bundle)?.state()?;
    same!("a", state["annotations"]["org.example.a"], "1");
    same!("b", state["annotations"]["b"], "");
    Ok(())
}

fn state_holds_no_annotations_if_there_are_none(lab: &Lab) -> Result {
    let state = lab.create(&lab.idle()?)?.state()?;
    let empty = match &state["annotations"] {
        Value::Null => true,
        Value::Object(map) => !map.contains_key("org.example.a"),
        _ => false,
    };
    check!(empty, "annotations: {}", state["annotations"]);
    Ok(())
}

fn create_with_a_taken_id_fails_and_harms_nothing(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.pid()?;
    let other = lab.idle()?;
    let output = lab
        .launch("create", &other, &container.id, &[])?
        .refused("a taken id")?;
    check!(output.err.contains("exist"), "stderr: {}", output.err);
    same!("status", container.status()?, "running");
    same!("pid", container.pid()?, pid);
    Ok(())
}

fn create_refuses_bad_ids(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    for id in [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "/x",
        "a b",
        "a\nb",
        "b\u{fc}chse",
        "a;b",
        "a*",
    ] {
        let output = lab.launch("create", &bundle, id, &[])?;
        if output.code == 0 {
            drop(lab.adopt(id, &bundle));
        }
        output.refused(&format!("id {id:?}"))?;
    }
    let left = lab.states();
    check!(left.is_empty(), "state of refused ids: {left:?}");
    Ok(())
}

fn create_accepts_unusual_ids(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    for tail in ["_", "+x", ".y", "-z", "UPPER"] {
        let id = format!("{}{tail}", lab.id());
        let container = lab.adopt(&id, &bundle);
        lab.launch("create", &bundle, &id, &[])?.ok()?;
        same!("id", container.state()?["id"], id.as_str());
    }
    Ok(())
}

fn create_takes_the_bundle_from_the_working_directory(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let mut command = lab.command(&["create", &container.id]);
    lab.finish(command.current_dir(&bundle.dir).stdin(lab.null()?))?
        .ok()?;
    same!(
        "bundle",
        container.state()?["bundle"],
        bundle.dir.to_string_lossy().as_ref()
    );
    Ok(())
}

fn create_makes_a_relative_bundle_absolute(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let name = bundle.dir.file_name().unwrap_or_default().to_string_lossy();
    let mut command = lab.command(&["create", "-b", &name, &container.id]);
    lab.finish(command.current_dir(&lab.dir).stdin(lab.null()?))?
        .ok()?;
    same!(
        "bundle",
        container.state()?["bundle"],
        bundle.dir.to_string_lossy().as_ref()
    );
    Ok(())
}

fn create_without_a_bundle_fails(lab: &Lab) -> Result {
    let missing = lab.path("nowhere");
    let output = lab.call(&["create", "-b", &missing.to_string_lossy(), &lab.id()])?;
    output.refused("a missing bundle")?;
    check!(
        lab.states().is_empty(),
        "state of a container that is not: {:?}",
        lab.states()
    );
    Ok(())
}

fn ids_are_per_root(lab: &Lab) -> Result {
    let (mine, other) = (lab.idle()?, lab.idle()?);
    let mut other = other;
    // Two containers of one name must not share a cgroup.
    other.set("/linux/cgroupsPath", format!("/{}other", lab.mark()))?;
    let container = lab.create(&mine)?;
    other.save()?;
    let dir = other.dir.to_string_lossy();
    let create = lab.finish(
        lab.command_in("root2", &["create", "-b", &dir, &container.id])
            .stdin(lab.null()?),
    )?;
    let delete = lab.finish(&mut lab.command_in("root2", &["delete", "-f", &container.id]))?;
    create.ok()?;
    delete.ok()?;
    same!("status", container.status()?, "created");
    Ok(())
}

fn start_twice_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.start()?.refused("a second start")?;
    same!("exit code", output.code, 1);
    same!("status", container.status()?, "running");
    Ok(())
}

fn start_of_a_stopped_container_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.bundle()?)?;
    container.stopped()?;
    container.start()?.refused("start of a stopped container")?;
    same!("status", container.status()?, "stopped");
    Ok(())
}

fn start_of_a_missing_container_fails(lab: &Lab) -> Result {
    let output = lab
        .call(&["start", &lab.id()])?
        .refused("start of nothing")?;
    check!(
        output.err.contains("does not exist"),
        "stderr: {}",
        output.err
    );
    Ok(())
}

fn start_reads_nothing_from_the_bundle(lab: &Lab) -> Result {
    let bundle = lab.script("echo asked; exec sleep 1000")?;
    let container = lab.create(&bundle)?;
    // Any change to config.json after create must have no effect.
    let mut changed = lab.script("echo changed")?;
    changed.dir.clone_from(&bundle.dir);
    changed.save()?;
    container.start()?.ok()?;
    container.says("asked\n")
}

fn delete_refuses_a_running_container(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.pid()?;
    container
        .delete(&[])?
        .refused("delete of a running container")?;
    same!("status", container.status()?, "running");
    check!(kernel::alive(pid), "the refused delete killed it");
    Ok(())
}

fn delete_of_a_created_container_works(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    let pid = container.pid()?;
    container.delete(&[])?.ok()?;
    check!(!kernel::alive(pid), "init is still alive");
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn delete_of_a_stopped_container_works(lab: &Lab) -> Result {
    let container = lab.started(&lab.bundle()?)?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    container
        .call("state", &[], &[])?
        .refused("state after delete")?;
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn delete_force_ends_a_running_container(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("sleep 1000 & exec sleep 1000")?)?;
    let pid = container.executes("sleep")?;
    container.delete(&["--force"])?.ok()?;
    check!(!kernel::alive(pid), "init is still alive");
    Ok(())
}

fn delete_of_a_missing_container_fails(lab: &Lab) -> Result {
    let output = lab
        .call(&["delete", &lab.id()])?
        .refused("delete of nothing")?;
    check!(
        output.err.contains("does not exist"),
        "stderr: {}",
        output.err
    );
    Ok(())
}

fn delete_force_of_a_missing_container_succeeds(lab: &Lab) -> Result {
    let output = lab.call(&["delete", "-f", &lab.id()])?;
    same!("exit code", output.code, 0);
    Ok(())
}

fn delete_frees_the_id(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let mut container = lab.create(&bundle)?;
    container.delete(&["-f"])?.ok()?;
    container.create(&[])
}
