//! The systemd driver for others than root: a user's own instance, and Podman.
#![forbid(unsafe_code)]

use super::{MIB, Scope, cgroup, systemctl, tool, trim, units};
use crate::bundle::Bundle;
use crate::case::{Case, Need, Result};
use crate::kernel::until;
use crate::lab::{Lab, Output};
use crate::{check, same};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The cases of this part.
pub fn cases() -> Vec<Case> {
    let users = [
        Case::new(
            "a_user_has_a_scope_of_his_own_systemd",
            a_user_has_a_scope_of_his_own_systemd,
        ),
        Case::new(
            "a_user_without_a_session_is_told",
            a_user_without_a_session_is_told,
        )
        .needs(&[Need::Creel]),
    ];
    let tools = [Need::Tool("setpriv"), Need::Userns];
    let add = |case: Case| case.needs(&tools).limit(60);
    let mut all: Vec<Case> = users.into_iter().map(add).collect();
    let podman = Case::new(
        "podman_shows_the_limits_of_a_scope",
        podman_shows_the_limits_of_a_scope,
    );
    let tools = [
        Need::Tool("podman"),
        Need::Tool("conmon"),
        Need::Tool("tar"),
    ];
    all.push(podman.needs(&tools).limit(120));
    all
}

/// A user with a systemd of his own, which ends with the value if it was not there before.
struct User {
    stop: bool,
}

const UID: u32 = 1000;

impl User {
    fn new() -> Result<Self> {
        if tool("id", &["-un", &UID.to_string()]).is_err() {
            return Err(crate::case::Failure::skip(format!(
                "there is no user {UID}"
            )));
        }
        let unit = format!("user@{UID}.service");
        let stop = systemctl(&["is-active", &unit]).is_err();
        systemctl(&["start", &unit])?;
        Ok(Self { stop })
    }

    /// A bundle that this user may run.
    fn bundle(&self, lab: &Lab, resources: Value) -> Result<Bundle> {
        let mut bundle = lab.script("cat /proc/self/cgroup; exec sleep 1000")?;
        let map = json!([{"containerID": 0, "hostID": UID, "size": 1}]);
        bundle
            .namespace("user", None)?
            .namespace("cgroup", None)?
            .set("/linux/uidMappings", map.clone())?
            .set("/linux/gidMappings", map)?
            .set("/linux/cgroupsPath", format!(":case:{}", lab.id()))?
            .set("/linux/resources", resources)?
            .save()?;
        let dir = bundle.dir.to_string_lossy();
        tool("chown", &["-R", &format!("{UID}:{UID}"), &dir])?;
        Ok(bundle)
    }

    /// The runtime, called by the user.
    fn call(&self, lab: &Lab, session: bool, args: &[&str]) -> Result<Output> {
        let state = lab.directory("states")?;
        std::os::unix::fs::chown(&state, Some(UID), Some(UID))?;
        let mut command = Command::new("setpriv");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if session {
            command.env("XDG_RUNTIME_DIR", format!("/run/user/{UID}"));
        }
        let id = UID.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--init-groups"]);
        command.arg(&lab.runtime).arg("--root").arg(state);
        command
            .arg("--systemd-cgroup")
            .args(args)
            .stdin(lab.null()?);
        lab.finish(&mut command)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if self.stop {
            systemctl(&["stop", &format!("user@{UID}.service")]).ok();
        }
    }
}

fn a_user_has_a_scope_of_his_own_systemd(lab: &Lab) -> Result {
    let user = User::new()?;
    let limits = json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 17}});
    let bundle = user.bundle(lab, limits)?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    user.call(lab, true, &["create", "--bundle", &dir, &id])?
        .ok()?;
    let state = user.call(lab, true, &["state", &id])?.ok()?.out;
    let state: Value = serde_json::from_str(&state)?;
    let path = cgroup(i32::try_from(state["pid"].as_i64().unwrap_or(0))?)?;
    let directory = Path::new("/sys/fs/cgroup").join(trim(&path).trim_start_matches('/'));
    let seen = std::fs::read_to_string(directory.join("memory.max"));
    user.call(lab, true, &["delete", "--force", &id])?.ok()?;
    let manager = format!("/user.slice/user-{UID}.slice/user@{UID}.service/user.slice/case-");
    check!(path.starts_with(&manager), "{path}");
    same!("memory.max", seen?.trim(), "67108864");
    until("the scope is gone", || (!directory.exists()).then_some(()))
}

fn a_user_without_a_session_is_told(lab: &Lab) -> Result {
    let user = User::new()?;
    let bundle = user.bundle(lab, json!({}))?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let output = user.call(lab, false, &["create", "--bundle", &dir, &id])?;
    let output = output.refused("a user without a session")?;
    check!(output.err.contains("XDG_RUNTIME_DIR"), "{}", output.err);
    Ok(())
}

fn podman_shows_the_limits_of_a_scope(lab: &Lab) -> Result {
    let podman = crate::engine::Podman::new(lab)?;
    // The last word about the manager counts. Podman takes slices only, and keeps them.
    let slice = format!("{}.slice", lab.mark());
    let parent = format!("--cgroup-parent={slice}");
    let manager = ["--cgroup-manager", "systemd"];
    let run = [
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "none",
        &parent,
        "--memory",
        "64m",
    ];
    let rest = [
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        crate::engine::IMAGE,
        "sleep",
        "1000",
    ];
    let all: Vec<&str> = manager.iter().chain(&run).chain(&rest).copied().collect();
    let id = podman.call(&all)?.ok()?.out.trim().to_owned();
    let call = |args: &[&str]| {
        let all: Vec<&str> = manager.iter().chain(args).copied().collect();
        podman.call(&all)
    };
    let stats = call(&[
        "stats",
        "--no-stream",
        "--format",
        "{{.MemUsage}}|{{.PIDS}}",
        "c",
    ])?
    .ok()?;
    let scope = Scope {
        unit: format!("libpod-{id}.scope"),
    };
    scope.has(&[
        ("Slice", &slice),
        ("MemoryMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TasksMax", "50"),
    ])?;
    call(&["rm", "-f", "-t", "0", "c"])?.ok()?;
    check!(stats.out.contains("/ 67.11MB|1"), "stats: {}", stats.out);
    systemctl(&["stop", &slice])?;
    until("the scope is gone", || {
        units(&scope.unit).ok()?.is_empty().then_some(())
    })
}
