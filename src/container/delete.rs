//! `delete`: the end. Copes with every half state that a killed command can leave behind.
#![forbid(unsafe_code)]

use super::status::Status;
use super::store::{StateDir, Store, missing};
use super::{Container, RunHooks};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
use crate::sys::pidfd;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long a killed init may take to end, as in runc.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is done with a container of that status.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Its resources are released.
    Release,
    /// Init is killed first.
    KillFirst,
    Refuse,
}

fn verdict(status: Status, force: bool) -> Verdict {
    match status {
        Status::Stopped if !force => Verdict::Release,
        // `created` is not `stopped`, but engines delete a container whose start they gave up on.
        Status::Created => Verdict::KillFirst,
        _ if force => Verdict::KillFirst,
        _ => Verdict::Refuse,
    }
}

/// Deletes a container: kills what is left if `force`d, releases its cgroup and its id, runs the
/// poststop hooks.
///
/// # Errors
/// There is no such container (unless forced), it is not stopped (unless forced), or something
/// of it cannot be released; the state then stays, to try again.
pub fn delete(store: &Store, id: &str, force: bool, run: RunHooks) -> Result<()> {
    let Some(dir) = store.dir(id)? else {
        return if force { Ok(()) } else { Err(missing(id)) };
    };
    match dir.state() {
        Ok(Some(state)) => Container::new(dir, state).delete(force, run),
        // No container yet, or what is left of one: nothing is known of it but the directory.
        Ok(None) => remove_remains(&dir, force),
        Err(error) => {
            crate::log::warning(&error);
            remove_remains(&dir, force)
        }
    }
}

fn remove_remains(dir: &StateDir, force: bool) -> Result<()> {
    let lock = if force {
        Some(dir.lock()?)
    } else {
        dir.try_lock()?
    };
    if lock.is_none() {
        return Err(refusal(dir.id(), Status::Creating));
    }
    dir.remove()
}

fn refusal(id: &str, status: Status) -> Error {
    let why = format!("cannot delete container {id} that is not stopped: {status}");
    Error::rule(Doing::Delete, why).on(id)
}

impl Container {
    fn delete(&self, force: bool, run: RunHooks) -> Result<()> {
        let status = self.status()?;
        match verdict(status, force) {
            Verdict::Refuse => return Err(refusal(self.id(), status)),
            Verdict::KillFirst => self.end().within(Doing::Delete).on(self.id())?,
            Verdict::Release => {}
        }
        // Only now: a `create` or `start` that hangs lets go of its lock when init is dead.
        let lock = match self.dir().lock() {
            // It undid itself when we killed its init.
            Err(error) if force && error.involves(Doing::FindContainer) => return Ok(()),
            other => other?,
        };
        self.release_cgroup().within(Doing::Delete).on(self.id())?;
        let hooks = self.hooks();
        self.dir().remove()?;
        drop(lock);
        // The spec: a failing poststop hook is a warning, the container is gone all the same.
        let done = hooks.and_then(|hooks| {
            self.run_hooks("poststop", hooks.poststop().as_ref(), Status::Stopped, run)
        });
        if let Err(error) = done {
            crate::log::warning(&error);
        }
        Ok(())
    }

    /// Kills init and waits until it is gone; gone already is fine.
    fn end(&self) -> Result<()> {
        let Some(init) = self.init()? else {
            return Ok(());
        };
        match pidfd::send_signal(init.as_fd(), Signal::SIGKILL as i32) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::os(Doing::Signal, errno).on("init")),
        }
        self.thaw();
        if pidfd::wait(init.as_fd(), PATIENCE).doing(Doing::Await)? {
            Ok(())
        } else {
            Err(Error::rule(Doing::Await, "container init still running"))
        }
    }

    /// Kills what is left in the cgroup (processes of a container without a pid namespace of its
    /// own survive their init) and removes it.
    fn release_cgroup(&self) -> Result<()> {
        match Cgroup::open(&self.state().creel.cgroup).and_then(|group| group.remove()) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stopped_and_created_containers_go_without_force() {
        assert_eq!(verdict(Status::Stopped, false), Verdict::Release);
        assert_eq!(verdict(Status::Created, false), Verdict::KillFirst);
        for status in [Status::Running, Status::Paused, Status::Creating] {
            assert_eq!(verdict(status, false), Verdict::Refuse);
            assert_eq!(verdict(status, true), Verdict::KillFirst);
        }
        assert_eq!(verdict(Status::Stopped, true), Verdict::KillFirst);
    }
}
