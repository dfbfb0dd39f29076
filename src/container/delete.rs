//! `delete`: the end. Copes with every half state that a killed command can leave behind.
#![forbid(unsafe_code)]

use super::Container;
use super::status::Status;
use super::store::{StateDir, Store, missing};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
use crate::run::hooks::Kind;
use crate::sys::pidfd;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a killed init may take to end, as in runc.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

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
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    let Some(dir) = store.dir(id)? else {
        return if force { Ok(()) } else { Err(missing(id)) };
    };
    match dir.state() {
        Ok(Some(state)) => Container::new(dir, state).delete(force),
        // No container yet, or what is left of one: nothing is known of it but the directory.
        Ok(None) => remove_remains(dir, force),
        Err(error) => {
            crate::log::warning(&error);
            remove_remains(dir, force)
        }
    }
}

fn remove_remains(dir: StateDir, force: bool) -> Result<()> {
    let lock = if force {
        match dir.lock() {
            // Another `delete` was faster.
            Err(error) if error.involves(Doing::FindContainer) => return Ok(()),
            other => Some(other?),
        }
    } else {
        dir.try_lock()?
    };
    if lock.is_none() {
        return Err(refusal(dir.id(), Status::Creating));
    }
    if let Ok(Some(state)) = dir.state() {
        // A `create` that we waited for has finished it.
        drop(lock);
        return Container::new(dir, state).delete(force);
    }
    dir.remove()?;
    // As runc: there was no container, only its place.
    if force {
        Ok(())
    } else {
        Err(missing(dir.id()))
    }
}

fn refusal(id: &str, status: Status) -> Error {
    let why = format!("cannot delete container {id} that is not stopped: {status}");
    Error::rule(Doing::Delete, why).on(id)
}

impl Container {
    /// As [`delete`], of this very container: one that has taken the id meanwhile is not touched.
    pub(super) fn delete(&self, force: bool) -> Result<()> {
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
        // A `create` that we waited for has written more than we had read.
        match self.dir().state()? {
            Some(state) if state.pid != self.state().pid => {
                drop(lock);
                let dir = Arc::clone(&self.dir);
                return Self { dir, state }.delete(force);
            }
            _ => {}
        }
        self.release_cgroup().within(Doing::Delete).on(self.id())?;
        if let Some(rdt) = &self.state().creel.rdt {
            rdt.remove().within(Doing::Delete).on(self.id())?;
        }
        let hooks = self.hooks();
        self.dir().remove()?;
        drop(lock);
        // The spec: a failing poststop hook is a warning, the container is gone all the same.
        let failures = hooks.and_then(|hooks| {
            let state = self.state().for_hooks(Status::Stopped)?;
            Ok(hooks.run_all(Kind::Poststop, &state))
        });
        for error in failures.unwrap_or_else(|error| vec![error]) {
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
        let group = Cgroup::open(&self.state().creel.cgroup)?;
        if self.state().pid == 0 {
            // A scope of this name may be another's too; one around our dead init ends by itself.
            if self.state().creel.cgroup.paths().next().is_none() {
                return Ok(());
            }
            // `create` was killed before it had an init to show: one that was on its way dies with
            // it. Whatever stays is not ours; the cgroup may be another container's.
            let end = Instant::now() + PATIENCE;
            while !group.pids()?.is_empty() {
                if Instant::now() > end {
                    let why = "its cgroup holds processes that are not the container's";
                    return Err(Error::rule(Doing::RemoveCgroup, why));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        match group.remove() {
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

    #[test]
    fn what_another_delete_has_removed_meanwhile_is_deleted() {
        let root = std::env::temp_dir().join(format!("creel-delete-{}", std::process::id()));
        std::fs::create_dir_all(root.join("web")).expect("dir");
        let store = Store::standard(root.clone());
        let [forced, plain] = [(); 2].map(|()| store.dir("web").expect("asked").expect("there"));
        std::fs::remove_dir_all(root).expect("removed");
        assert_eq!(remove_remains(forced, true), Ok(()));
        assert_eq!(remove_remains(plain, false), Err(missing("web")));
    }
}
