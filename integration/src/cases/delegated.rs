//! Containers of a plain user on cgroup v2, without systemd: in a subtree that root has delegated to the
//! user, as cgroup-v2.rst says under "Delegation", and where nothing is.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::until;
use crate::lab::{Lab, Output};
use crate::scene::{USER, plain_user};
use crate::{cases, check, same};
use nix::unistd::{Uid, chown};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

cases! {
    v2_delegated_limits_hold: [CgroupV2, Userns, Tool("setpriv")],
    v2_delegated_without_a_path_is_beside_the_runtime: [CgroupV2, Userns, Tool("setpriv")],
    v2_delegated_without_limits_runs: [CgroupV2, Userns, Tool("setpriv")],
    v2_nothing_delegated_runs_without_limits: [CgroupV2, Userns, Tool("setpriv")],
    v2_nothing_delegated_refuses_limits_with_the_reason: [CgroupV2, Userns, Tool("setpriv")],
    v2_nothing_delegated_refuses_a_path_with_the_reason: [CgroupV2, Userns, Tool("setpriv")],
}

/// A user, a cgroup around what the user calls, and a bundle.
struct Guest<'lab> {
    lab: &'lab Lab,
    runtime: PathBuf,
    tree: PathBuf,
    bundle: Bundle,
}

impl<'lab> Guest<'lab> {
    fn new(lab: &'lab Lab, script: &str, delegated: bool) -> Result<Self> {
        let (runtime, bundle) = plain_user(lab, script)?;
        let tree = Path::new("/sys/fs/cgroup").join(lab.id());
        std::fs::create_dir(&tree)?;
        let guest = Self {
            lab,
            runtime,
            tree,
            bundle,
        };
        std::fs::create_dir(guest.tree.join("caller"))?;
        if delegated {
            for of in ["", "caller"] {
                for file in [
                    "",
                    "cgroup.procs",
                    "cgroup.threads",
                    "cgroup.subtree_control",
                ] {
                    let path = guest.tree.join(of).join(file);
                    chown(&path, Some(Uid::from_raw(USER)), None)?;
                }
            }
        }
        Ok(guest)
    }

    /// A call of the runtime by the user, from inside of the tree.
    fn call(&self, args: &[&str]) -> Result<Output> {
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .arg(self.tree.join("caller/cgroup.procs"))
            .arg("setpriv")
            .args(["--reuid", &USER.to_string(), "--regid", &USER.to_string()])
            .arg("--clear-groups")
            .arg(&self.runtime)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.lab.path("home"))
            .env("XDG_RUNTIME_DIR", self.lab.path("xdg"))
            .stdin(self.lab.null()?);
        self.lab.finish(&mut command)
    }

    fn launch(&self, verb: &str, id: &str) -> Result<Output> {
        self.bundle.save()?;
        self.call(&[verb, "--bundle", &self.bundle.dir.to_string_lossy(), id])
    }

    /// What a file of a cgroup in the tree says.
    fn file(&self, path: &str) -> Result<String> {
        let path = self.tree.join(path);
        let text = std::fs::read_to_string(&path);
        Ok(text
            .map_err(|e| format!("{}: {e}", path.display()))?
            .trim()
            .to_owned())
    }

    /// The cgroupsPath of a cgroup in the tree.
    fn below(&self, name: &str) -> String {
        let path = self.tree.join(name);
        path.to_string_lossy().replacen("/sys/fs/cgroup", "", 1)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        // What is left below is the runtime's, and found by the supervisor.
        for dir in [self.tree.join("caller"), self.tree.clone()] {
            std::fs::remove_dir(dir).ok();
        }
    }
}

fn v2_delegated_limits_hold(lab: &Lab) -> Result {
    // A shell that cannot fork ends: not the first process.
    let script = "(for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done) 2>&1; exec sleep 1000";
    let mut guest = Guest::new(lab, script, true)?;
    let limits =
        json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 5}, "cpu": {"shares": 2048}});
    let path = guest.below("box");
    guest
        .bundle
        .set("/linux/cgroupsPath", path)?
        .set("/linux/resources", limits)?;
    let id = lab.id();
    guest.launch("create", &id)?.ok()?;
    for (file, want) in [
        ("memory.max", "67108864"),
        ("pids.max", "5"),
        ("cpu.weight", "174"),
    ] {
        same!(file, guest.file(&format!("box/{file}"))?, want);
    }
    guest.call(&["start", &id])?.ok()?;
    until("a fork that fails", || {
        let events = guest.file("box/pids.events").ok()?;
        let count = events.lines().find_map(|line| line.strip_prefix("max "));
        count.is_some_and(|count| count != "0").then_some(())
    })?;
    guest.call(&["pause", &id])?.ok()?;
    check!(
        guest.file("box/cgroup.events")?.contains("frozen 1"),
        "not frozen"
    );
    guest.call(&["resume", &id])?.ok()?;
    guest.call(&["delete", "-f", &id])?.ok()?;
    check!(!guest.tree.join("box").exists(), "the cgroup is left");
    Ok(())
}

fn v2_delegated_without_a_path_is_beside_the_runtime(lab: &Lab) -> Result {
    let mut guest = Guest::new(lab, "exec sleep 1000", true)?;
    guest
        .bundle
        .set("/linux/resources", json!({"pids": {"limit": 50}}))?;
    let id = lab.id();
    guest.launch("create", &id)?.ok()?;
    guest.call(&["start", &id])?.ok()?;
    same!("pids.max", guest.file(&format!("{id}/pids.max"))?, "50");
    let told = guest
        .call(&["exec", &id, "cat", "/proc/self/cgroup"])?
        .ok()?
        .out;
    check!(told.trim().ends_with(&id), "exec is in {told}");
    guest.call(&["delete", "-f", &id])?.ok()?;
    check!(!guest.tree.join(&id).exists(), "the cgroup is left");
    Ok(())
}

fn v2_delegated_without_limits_runs(lab: &Lab) -> Result {
    let guest = Guest::new(lab, "echo ran", true)?;
    same!("stdout", guest.launch("run", &lab.id())?.ok()?.out, "ran\n");
    Ok(())
}

fn v2_nothing_delegated_runs_without_limits(lab: &Lab) -> Result {
    let guest = Guest::new(lab, "echo ran", false)?;
    same!("stdout", guest.launch("run", &lab.id())?.ok()?.out, "ran\n");
    Ok(())
}

fn v2_nothing_delegated_refuses_limits_with_the_reason(lab: &Lab) -> Result {
    let mut guest = Guest::new(lab, "echo ran", false)?;
    let limits = json!({"memory": {"limit": 64 << 20}});
    guest.bundle.set("/linux/resources", limits)?;
    let err = guest.launch("run", &lab.id())?.refused("limits")?.err;
    check!(
        err.contains("rootless needs no limits + no cgrouppath") || err.contains("ermission"),
        "{err}"
    );
    Ok(())
}

fn v2_nothing_delegated_refuses_a_path_with_the_reason(lab: &Lab) -> Result {
    let mut guest = Guest::new(lab, "echo ran", false)?;
    let path = guest.below("box");
    guest.bundle.set("/linux/cgroupsPath", path)?;
    let err = guest
        .launch("run", &lab.id())?
        .refused("a path that may not be made")?
        .err;
    check!(err.contains("ermission"), "{err}");
    Ok(())
}
