//! The systemd driver: what becomes of a container's scope, whatever becomes of the container.
#![forbid(unsafe_code)]

use super::{MIB, Scope, limits, sleeping, systemctl};
use crate::bundle::Bundle;
use crate::case::{Case, Result};
use crate::container::Container;
use crate::kernel::{self, until};
use crate::lab::{Lab, Output};
use crate::{check, same};
use serde_json::json;

crate::cases! {
    in plain;
    a_scope_in_use_is_refused_and_left_alone,
    the_scope_goes_with_a_stopped_container,
    the_scope_goes_with_a_forced_delete,
    the_scope_goes_after_an_oom_kill,
    a_failed_scope_goes_with_its_container,
    a_failed_scope_left_by_another_is_no_obstacle,
    a_create_that_fails_leaves_no_scope,
    a_container_that_kills_itself_leaves_no_scope,
    only_making_and_removing_touch_the_bus,
    a_bus_that_is_away_is_told: [Creel],
    a_delete_without_a_bus_removes_the_container: [Creel],
}

/// The cases of this part.
pub fn cases() -> Vec<Case> {
    let mut all = plain();
    let hundred = Case::new(
        "a_hundred_lives_leave_no_scope",
        a_hundred_lives_leave_no_scope,
    );
    all.push(hundred.limit(200));
    all
}

fn a_scope_in_use_is_refused_and_left_alone(lab: &Lab) -> Result {
    let mut bundle = lab.script("exec sleep 1000")?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    lab.launch("create", &bundle, &lab.id(), &[])?
        .refused("the same scope twice")?;
    check!(kernel::alive(pid), "the first one's process is dead");
    scope.has(&[("ActiveState", "active")])?;
    same!("status", container.status()?, "running");
    Ok(())
}

fn the_scope_goes_with_a_stopped_container(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, json!({}))?;
    container.kill("KILL")?.ok()?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    scope.is_gone()
}

fn the_scope_goes_with_a_forced_delete(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, json!({}))?;
    container
        .sh("(sleep 1000 & sleep 1001 &) < /dev/null > /dev/null 2>&1")?
        .ok()?;
    container.delete(&["--force"])?.ok()?;
    scope.is_gone()
}

fn the_scope_goes_after_an_oom_kill(lab: &Lab) -> Result {
    let mut bundle = lab.script("exec tail /dev/zero")?;
    let memory = json!({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}});
    let scope = Scope::of(lab, &mut bundle, memory)?;
    let container = lab.started(&bundle)?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    scope.is_gone()
}

/// A container that systemd has killed, so that its scope counts as failed, and stays.
fn expired(lab: &Lab) -> Result<(Container<'_>, Scope, Bundle)> {
    let mut bundle = lab.script("exec sleep 1000")?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    let life = json!({
        "org.systemd.property.RuntimeMaxUSec": "uint64 500000",
        "org.systemd.property.TimeoutStopUSec": "uint64 100000",
    });
    bundle.set("/annotations", life)?;
    let container = lab.create(&bundle)?;
    until("the scope failed", || {
        (scope.property("ActiveState").ok()? == "failed").then_some(())
    })?;
    Ok((container, scope, bundle))
}

fn a_failed_scope_goes_with_its_container(lab: &Lab) -> Result {
    let (container, scope, _) = expired(lab)?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    scope.is_gone()
}

fn a_failed_scope_left_by_another_is_no_obstacle(lab: &Lab) -> Result {
    let (container, scope, mut bundle) = expired(lab)?;
    // As if the runtime's state had been lost.
    std::fs::remove_dir_all(lab.path("root").join(&container.id))?;
    bundle.unset("/annotations")?;
    let again = lab.create(&bundle)?;
    scope.has(&[("ActiveState", "active")])?;
    again.delete(&["--force"])?.ok()?;
    scope.is_gone()
}

fn a_create_that_fails_leaves_no_scope(lab: &Lab) -> Result {
    for pointer in ["/process/args", "/mounts/-"] {
        let mut bundle = lab.idle()?;
        let scope = Scope::of(lab, &mut bundle, json!({"pids": {"limit": 20}}))?;
        match pointer {
            "/process/args" => bundle.args(&["/no/such/program"])?,
            _ => bundle.mount("bind", "/no/such/source", "/mnt", &["bind"])?,
        };
        let output = lab
            .launch("create", &bundle, &lab.id(), &[])?
            .refused(pointer)?;
        check!(
            output.err.to_lowercase().contains("no such file"),
            "{}",
            output.err
        );
        check!(lab.states().is_empty(), "state left");
        scope.is_gone()?;
    }
    Ok(())
}

fn a_container_that_kills_itself_leaves_no_scope(lab: &Lab) -> Result {
    let mut bundle = lab.script("sleep 1000 & exit 7")?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    same!("exit", lab.run(&bundle)?.code, 7);
    scope.is_gone()
}

/// The names of all units that have to do with cgroups of containers, in whatever state.
fn groups() -> Result<Vec<String>> {
    let all = [
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "--full",
        "--type=scope,slice",
    ];
    let list = systemctl(&all)?;
    let names = list.lines().filter_map(|line| line.split(' ').next());
    Ok(names.map(str::to_owned).collect())
}

fn a_hundred_lives_leave_no_scope(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let scope = Scope::of(lab, &mut bundle, limits())?;
    let before = groups()?;
    for _ in 0..100 {
        let container = lab.create(&bundle)?;
        container.delete(&["--force"])?.ok()?;
    }
    scope.is_gone()?;
    same!("units", groups()?, before);
    Ok(())
}

/// A call that finds no bus where it looks.
pub fn deaf(lab: &Lab, args: &[&str]) -> Result<Output> {
    let mut command = lab.command(args);
    command.stdin(lab.null()?);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    lab.finish(&mut command)
}

fn only_making_and_removing_touch_the_bus(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, json!({}))?;
    let id = container.id.as_str();
    deaf(lab, &["state", id])?.ok()?;
    deaf(lab, &["exec", id, "/bin/true"])?.ok()?;
    deaf(lab, &["pause", id])?.ok()?;
    deaf(lab, &["resume", id])?.ok()?;
    deaf(lab, &["kill", id, "KILL"])?.ok()?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    scope.is_gone()
}

fn a_bus_that_is_away_is_told(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy().into_owned();
    let output = deaf(lab, &["create", "--bundle", &dir, &lab.id()])?.refused("no bus")?;
    let told = ["ask systemd", "/nowhere/bus", "ENOENT"];
    check!(
        told.iter().all(|word| output.err.contains(word)),
        "{}",
        output.err
    );
    check!(lab.states().is_empty(), "state left");
    scope.is_gone()
}

fn a_delete_without_a_bus_removes_the_container(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, json!({}))?;
    let output = deaf(lab, &["delete", "--force", &container.id])?.ok()?;
    check!(
        output.err.contains("/nowhere/bus"),
        "no warning: {}",
        output.err
    );
    check!(lab.states().is_empty(), "state left");
    scope.is_gone()
}
