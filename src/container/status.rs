//! Which state a container is in: derived each time, never believed from a file.
#![forbid(unsafe_code)]

use super::Container;
use super::store::EXEC_FIFO;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
use crate::sys::{pidfd, proc};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::os::fd::OwnedFd;

/// The spec's states, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Init waits for `start`.
    Created,
    /// The program runs, or is about to.
    Running,
    /// All processes are frozen.
    Paused,
    /// Init has ended, or never began.
    Stopped,
}

impl Status {
    /// The status in the spec's words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// All that the status depends on.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// state.json was last written by an unfinished `create`.
    creating: bool,
    /// Somebody holds the lock.
    locked: bool,
    /// A process with init's pid and start time exists and is no zombie.
    alive: bool,
    /// The cgroup is frozen.
    frozen: bool,
    /// Init reads at exec.fifo.
    waiting: bool,
}

/// `paused` comes before `created`, as in runc: a container may be paused before its start.
fn decide(facts: Facts) -> Status {
    match facts {
        Facts {
            creating: true,
            locked: true,
            ..
        }
        | Facts {
            creating: true,
            alive: true,
            ..
        } => Status::Creating,
        Facts { alive: false, .. } => Status::Stopped,
        Facts { frozen: true, .. } => Status::Paused,
        Facts { waiting: true, .. } => Status::Created,
        _ => Status::Running,
    }
}

impl Container {
    /// The status, asked of the kernel.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn status(&self) -> Result<Status> {
        let creating = self.state().status == Status::Creating;
        let mut alive = self.init()?.is_some();
        let waiting = alive && self.waits_for_start()?;
        if alive && !waiting {
            // One that waits no longer because it is being killed does not run.
            alive = !proc::is_ending(self.state().pid)
                .doing(Doing::FindContainer)
                .on(self.id())?;
        }
        Ok(decide(Facts {
            creating,
            alive,
            locked: creating && self.dir().try_lock()?.is_none(),
            frozen: alive && self.is_frozen(),
            waiting,
        }))
    }

    /// Init, if it lives: by descriptor, so that what is done to it is done to no other.
    ///
    /// # Errors
    /// The kernel refuses to show it.
    pub fn init(&self) -> Result<Option<OwnedFd>> {
        find(self.state().pid, self.state().creel.start_time)
            .doing(Doing::FindContainer)
            .on(self.id())
    }

    /// Whether somebody reads at exec.fifo. A `start` that was killed may have left the fifo.
    fn waits_for_start(&self) -> Result<bool> {
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
        match self.dir().open(EXEC_FIFO, flags) {
            Ok(_) => Ok(true),
            // There is no fifo any more, or nobody at its other end.
            Err(Errno::ENOENT | Errno::ENXIO) => Ok(false),
            Err(errno) => Err(Error::os(Doing::FindContainer, errno).on(self.id())),
        }
    }

    /// Whether the cgroup is frozen; one that is gone is not.
    fn is_frozen(&self) -> bool {
        Cgroup::open(&self.state().creel.cgroup)
            .and_then(|group| group.is_frozen())
            .unwrap_or(false)
    }
}

/// The process with that pid and start time. The descriptor is taken first: if the pid is then
/// found to have that start time, the descriptor is of that process too.
fn find(pid: i32, start_time: u64) -> nix::Result<Option<OwnedFd>> {
    if pid <= 0 {
        return Ok(None);
    }
    match pidfd::open(pid) {
        // EINVAL: the pid is now a thread of another process.
        Err(Errno::ESRCH | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
        Ok(pidfd) => Ok((self::start_time(pid)? == Some(start_time)).then_some(pidfd)),
    }
}

/// When a process started, in clock ticks since boot; `None` if it is gone or a zombie.
///
/// # Errors
/// It cannot be looked at, which does not mean that it is gone.
pub fn start_time(pid: i32) -> nix::Result<Option<u64>> {
    let alive = proc::stat(pid)?.filter(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'));
    Ok(alive.map(|stat| stat.starttime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    const RUNNING: Facts = Facts {
        creating: false,
        locked: false,
        alive: true,
        frozen: false,
        waiting: false,
    };

    #[test]
    fn the_status_follows_from_the_facts() {
        for (facts, status) in [
            (RUNNING, Status::Running),
            (
                Facts {
                    waiting: true,
                    ..RUNNING
                },
                Status::Created,
            ),
            (
                Facts {
                    frozen: true,
                    ..RUNNING
                },
                Status::Paused,
            ),
            (
                Facts {
                    frozen: true,
                    waiting: true,
                    ..RUNNING
                },
                Status::Paused,
            ),
            (
                Facts {
                    alive: false,
                    ..RUNNING
                },
                Status::Stopped,
            ),
            (
                Facts {
                    alive: false,
                    waiting: true,
                    ..RUNNING
                },
                Status::Stopped,
            ),
            (
                Facts {
                    creating: true,
                    ..RUNNING
                },
                Status::Creating,
            ),
            (
                Facts {
                    creating: true,
                    alive: false,
                    locked: true,
                    ..RUNNING
                },
                Status::Creating,
            ),
            (
                Facts {
                    creating: true,
                    alive: false,
                    ..RUNNING
                },
                Status::Stopped,
            ),
        ] {
            assert_eq!(decide(facts), status, "{facts:?}");
        }
    }

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let pid = id().cast_signed();
        let started = start_time(pid).expect("our own stat").expect("alive");
        assert!(find(pid, started).expect("ask").is_some());
        assert!(
            find(pid, started + 1).expect("ask").is_none(),
            "a recycled pid"
        );
        assert!(find(0, started).expect("ask").is_none());
    }

    #[test]
    fn a_zombie_is_no_process() {
        let mut child = Command::new("true").spawn().expect("true");
        let pid = child.id().cast_signed();
        let pidfd = pidfd::open(pid).expect("pidfd");
        let patience = std::time::Duration::from_secs(10);
        assert!(pidfd::wait(std::os::fd::AsFd::as_fd(&pidfd), patience).expect("wait"));
        assert_eq!(start_time(pid), Ok(None));
        child.wait().expect("reap");
    }
}
