//! Things that cases set up around a container: helper processes and namespaces of their own.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{self, until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
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
