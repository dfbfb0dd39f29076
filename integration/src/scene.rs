//! Things that cases set up around a container: helper processes and namespaces of their own.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Failure, Result};
use crate::kernel::{self, until};
use crate::lab::Lab;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chown};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process that keeps a namespace of each wanted kind alive, killed with the value.
pub struct Holder {
    child: Child,
}

impl Holder {
    /// Starts `unshare` with these flags around a sleep, and waits until it sleeps.
    pub fn new(flags: &[&str]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(flags).args(["--", "sleep", "1000"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let holder = Self { child };
        let pid = holder.child.id();
        until("the namespaces of the holder", || {
            let around = kernel::descendants(pid).into_iter().chain([pid]);
            let sleeps = |pid: u32| kernel::command_line(pid).starts_with("sleep");
            around.into_iter().any(sleeps).then_some(())
        })?;
        Ok(holder)
    }

    /// The path of the namespace of that kind (as in /proc/PID/ns).
    pub fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.child.id())
    }

    /// Its pid.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        for pid in kernel::descendants(self.child.id()) {
            if let Ok(raw) = i32::try_from(pid) {
                let pid = nix::unistd::Pid::from_raw(raw);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Leaves the host's mount namespace, so that the case may mount what it likes around containers.
pub fn own_mounts(propagation: MsFlags) -> Result {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // First cut loose, or a shared host tree would see what follows.
    for flags in [MsFlags::MS_PRIVATE, propagation] {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            flags | MsFlags::MS_REC,
            None::<&str>,
        )?;
    }
    Ok(())
}

/// Mounts a tmpfs at a host directory; only after [`own_mounts`].
pub fn tmpfs(at: &std::path::Path) -> Result {
    Ok(mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=1m"),
    )?)
}

/// A block device over a file of the case, detached with the value.
pub struct Loop {
    path: String,
    /// Its major and minor number.
    pub numbers: (i64, i64),
}

impl Loop {
    /// Of so many bytes.
    pub fn new(lab: &Lab, size: i64) -> Result<Self> {
        let file: PathBuf = lab.file(&lab.id(), "")?;
        File::options()
            .write(true)
            .open(&file)?
            .set_len(u64::try_from(size)?)?;
        let mut command = Command::new("losetup");
        let told = command.args(["--find", "--show"]).arg(&file).output()?;
        if !told.status.success() {
            return Err(Failure::skip(format!(
                "no loop device: {}",
                String::from_utf8_lossy(&told.stderr).trim()
            )));
        }
        let path = String::from_utf8(told.stdout)?.trim().to_owned();
        let name = path.rsplit('/').next().unwrap_or_default();
        let numbers = std::fs::read_to_string(format!("/sys/block/{name}/dev"))?;
        let (major, minor) = numbers.trim().split_once(':').ok_or("no numbers")?;
        let numbers = (major.parse()?, minor.parse()?);
        Ok(Self { path, numbers })
    }

    /// Changes its scheduler, if the kernel has that one.
    pub fn schedule(&self, scheduler: &str) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        std::fs::write(format!("/sys/block/{name}/queue/scheduler"), scheduler).is_ok()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup")
            .args(["-d", &self.path])
            .status()
            .ok();
    }
}

/// Nobody on this machine, and nobody needs to be.
pub const USER: u32 = 54321;

/// Gives directories to the plain user. Files may be shared with other bundles by hard links.
fn give(dir: &Path) -> Result {
    chown(dir, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER)))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path())?;
        }
    }
    Ok(())
}

/// What a plain user needs: a copy of the runtime, and a bundle whose process is a shell with this
/// script, as the user with the one id that needs nobody's leave.
pub fn plain_user(lab: &Lab, script: &str) -> Result<(PathBuf, Bundle)> {
    // Where the runtime was built, others may not look.
    let name = lab.runtime.file_name().ok_or("no name")?;
    let runtime = lab.directory("bin")?.join(name);
    std::fs::copy(&lab.runtime, &runtime)?;
    let mut bundle = lab.script(script)?;
    give(&bundle.dir)?;
    for dir in ["xdg", "home"] {
        let dir = lab.directory(dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        give(&dir)?;
    }
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    bundle
        .drop_namespace("network")?
        .namespace("user", None)?
        .set("/linux/uidMappings", map.clone())?
        .set("/linux/gidMappings", map)?
        .unset("/linux/resources")?;
    Ok((runtime, bundle))
}
