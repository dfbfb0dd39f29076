//! `delete`: the shim was killed, at each point of a container's life, and containerd cleans up.
#![forbid(unsafe_code)]

use super::of;
use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::proto::Message;
use crate::task::{self, delete};
use crate::{cases, check, same};
use serde_json::json;
use std::path::Path;

cases! {
    shim_delete_cleans_up_after_a_shim_that_made_nothing: [Creel],
    shim_delete_cleans_up_a_created_container,
    shim_delete_cleans_up_a_running_container_with_execs,
    shim_delete_cleans_up_a_paused_container,
    shim_delete_cleans_up_a_stopped_container,
    shim_delete_cleans_up_after_a_create_that_was_cut_off: [Creel],
}

/// A container that `reach` brings to some point, its shim killed there, and `delete` twice.
fn killed(lab: &Lab, reach: impl Fn(&mut task::Shim, &str) -> Result) -> Result {
    let mut bundle = lab.idle()?;
    let gone = lab.path("gone");
    let script = format!("echo gone >>{}", gone.display());
    bundle.set(
        "/hooks/poststop/-",
        json!({"path": "/bin/sh", "args": ["sh", "-c", script]}),
    )?;
    let (events, mut shim, id, bundle) = of(lab, bundle)?;
    // containerd has mounted the root, and it is the shim's to unmount.
    let rootfs = bundle.dir.join("rootfs");
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&rootfs), &rootfs, None::<&str>, bind, None::<&str>)?;
    let pid = shim.create(lab, &id, &bundle)?;
    reach(&mut shim, &id)?;
    let socket = shim.path.clone();
    shim.destroy()?;
    let said = delete(lab, &events, &id, &bundle)?;
    same!(
        "status",
        (said.number(1), said.number(2)),
        (u64::try_from(pid)?, 137)
    );
    check!(!said.bytes(3).is_empty(), "no time");
    clean(lab, &bundle.dir)?;
    // Of the Go shim's, containerd itself takes care.
    check!(!lab.is_creel() || !socket.exists(), "the socket is there");
    same!("poststop", crate::lab::text(&gone)?, "gone\n");
    delete(lab, &events, &id, &bundle)?;
    same!("poststop, once", crate::lab::text(&gone)?, "gone\n");
    Ok(())
}

/// No process, state or mount is left. (Cgroups are the supervisor's to find.)
fn clean(lab: &Lab, bundle: &Path) -> Result {
    let own = nix::unistd::getppid().as_raw().cast_unsigned();
    until("no process is left", || {
        let all = kernel::descendants(own)
            .into_iter()
            .map(kernel::command_line);
        (!all.into_iter().any(|line| line.contains("sleep 1000"))).then_some(())
    })?;
    let state = lab.path("state").join(lab.mark());
    let left: Vec<_> = std::fs::read_dir(state).into_iter().flatten().collect();
    check!(left.is_empty(), "state is left: {left:?}");
    same!("mounts", kernel::mounts_below(bundle).len(), 0);
    Ok(())
}

fn shim_delete_cleans_up_after_a_shim_that_made_nothing(lab: &Lab) -> Result {
    let (events, shim, id, bundle) = of(lab, lab.idle()?)?;
    let socket = shim.path.clone();
    shim.destroy()?;
    same!("status", delete(lab, &events, &id, &bundle)?.number(2), 137);
    clean(lab, &bundle.dir)?;
    check!(!socket.exists(), "the socket is there");
    Ok(())
}

fn shim_delete_cleans_up_a_created_container(lab: &Lab) -> Result {
    killed(lab, |_, _| Ok(()))
}

fn shim_delete_cleans_up_a_running_container_with_execs(lab: &Lab) -> Result {
    killed(lab, |shim, id| {
        shim.of("Start", id, "")?.ok()?;
        for exec in ["e", "f"] {
            shim.exec(id, exec, "sleep 1000; sleep 1000")?.ok()?;
            shim.of("Start", id, exec)?.ok()?;
        }
        Ok(())
    })
}

fn shim_delete_cleans_up_a_paused_container(lab: &Lab) -> Result {
    killed(lab, |shim, id| {
        shim.of("Start", id, "")?.ok()?;
        shim.of("Pause", id, "")?.ok()?;
        Ok(())
    })
}

fn shim_delete_cleans_up_a_stopped_container(lab: &Lab) -> Result {
    killed(lab, |shim, id| {
        shim.of("Start", id, "")?.ok()?;
        shim.kill(id)?;
        shim.of("Wait", id, "")?.ok()?;
        Ok(())
    })
}

/// A hook holds the runtime up when the shim dies; what it was making is not made any more.
fn shim_delete_cleans_up_after_a_create_that_was_cut_off(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let here = lab.path("here");
    let script = format!("echo >{}; exec sleep 1000", here.display());
    bundle.set(
        "/hooks/createRuntime/-",
        json!({"path": "/bin/sh", "args": ["sh", "-c", script]}),
    )?;
    let (events, mut shim, id, bundle) = of(lab, bundle)?;
    shim.send("Create", task::creation(lab, &id, &bundle))?;
    until("the hook is at work", || here.exists().then_some(()))?;
    // Others are answered meanwhile, and it is no task yet.
    let state = shim.call("State", Message::new().bytes(1, &id))?;
    same!("state", state.code, task::NOT_FOUND);
    shim.destroy()?;
    delete(lab, &events, &id, &bundle)?;
    clean(lab, &bundle.dir)
}
