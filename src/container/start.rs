//! `start`: lets the waiting init go, and learns whether it became the program.
//!
//! Init blocks reading a byte from exec.fifo. It holds the other end of outcome.fifo too, with
//! close-on-exec: an error comes as bytes, success as the end of the file.
#![forbid(unsafe_code)]

use super::Container;
use super::delete::PATIENCE;
use super::status::Status;
use super::store::{EXEC_FIFO, OUTCOME_FIFO, missing};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::run::notify::{self, Proxy};
use crate::sys::pidfd;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{read, write};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Why a container of that status cannot be started, in runc's words.
fn refusal(status: Status) -> Option<String> {
    match status {
        Status::Created => None,
        Status::Stopped => Some("cannot start a container that has stopped".into()),
        Status::Running => Some("cannot start an already running container".into()),
        other => Some(format!("cannot start a container in the {other} state")),
    }
}

fn refusal_of(container: &Container) -> Option<String> {
    container.status().ok().and_then(refusal)
}

impl Container {
    /// Starts the container's program, then runs the poststart hooks.
    ///
    /// # Errors
    /// The container is not in the `created` state, init could not become the program (its own
    /// error is given), or a poststart hook failed: the container is killed then, as the spec asks.
    pub fn start(&self) -> Result<()> {
        let lock = self.dir().lock()?;
        // Somebody may have deleted it while we waited for the lock.
        self.dir().state()?.ok_or_else(|| missing(self.id()))?;
        let refused = |why: String| Error::rule(Doing::Start, why).on(self.id());
        if let Some(why) = refusal(self.status()?) {
            return Err(refused(why));
        }
        let init = self
            .init()?
            .ok_or_else(|| refused("init has died".into()))?;
        self.release(init.as_fd())
            .within(Doing::Start)
            .on(self.id())?;

        // A hook that hangs must not keep `delete` out.
        drop(lock);
        let done = self.run_poststart();
        if done.is_err()
            && let Err(error) = self
                .kill(Signal::SIGKILL as i32)
                .and_then(|()| ended(init.as_fd()))
        {
            crate::log::warning(&error);
        }
        done
    }

    /// [`start`](Self::start) for a supervisor that listens at `$NOTIFY_SOCKET`, whose socket `create`
    /// knew of, too: returns once the program is ready, or gone.
    ///
    /// # Errors
    /// As `start`; and there can be no socket for the container, or none is at the other end.
    pub fn start_for(&self, supervisor: Option<&OsStr>) -> Result<()> {
        let Some(supervisor) = supervisor.filter(|_| refusal_of(self).is_none()) else {
            return self.start();
        };
        let dir = self
            .dir()
            .open(notify::DIR, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .doing(Doing::Notify)
            .on(self.id())
            .hint("NOTIFY_SOCKET was not set when the container was created")?;
        let proxy = Proxy::bind(dir.as_fd(), supervisor)?;
        self.start()?;
        match self.init()? {
            Some(init) => proxy.finish(init.as_fd(), self.state().pid),
            None => Ok(()),
        }
    }

    /// Tells init to go on and waits until it has, or says why it cannot.
    fn release(&self, init: BorrowedFd<'_>) -> Result<()> {
        // Both ends that init holds are open for writing as well, so neither open blocks; without
        // O_NONBLOCK, one whose init has died would.
        let outcome = self
            .dir()
            .open(OUTCOME_FIFO, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
            .doing(Doing::AwaitStart)
            .on(OUTCOME_FIFO)?;
        let exec = match self
            .dir()
            .open(EXEC_FIFO, OFlag::O_WRONLY | OFlag::O_NONBLOCK)
        {
            // Nobody reads: init has died just now, or has gone on with a `start` that was killed
            // before it could remove the fifo.
            Err(Errno::ENXIO) => {
                self.forget_fifos()?;
                let status = self.status()?;
                return Err(Error::rule(
                    Doing::AwaitStart,
                    refusal(status).unwrap_or_default(),
                ));
            }
            other => other.doing(Doing::AwaitStart).on(EXEC_FIFO)?,
        };
        write(&exec, b"1").doing(Doing::AwaitStart).on(EXEC_FIFO)?;
        let told = await_outcome(outcome.as_fd(), init);
        self.forget_fifos()?;
        let told = told?;
        if told.is_empty() {
            return Ok(());
        }
        ended(init).unwrap_or_else(|error| crate::log::warning(&error));
        Err(Error::decode(&told).unwrap_or_else(|| {
            Error::rule(Doing::AwaitStart, "init failed, and its error was garbled")
        }))
    }

    fn forget_fifos(&self) -> Result<()> {
        self.dir().unlink(EXEC_FIFO)?;
        self.dir().unlink(OUTCOME_FIFO)
    }
}

/// Waits for the end of an init that is about to end: whoever hears that a start failed may look.
fn ended(init: BorrowedFd<'_>) -> Result<()> {
    pidfd::wait(init, PATIENCE)
        .doing(Doing::AwaitStart)
        .map(drop)
}

/// Reads until the end of the file, or until init is gone and nothing is left to read: a hook
/// that stole the descriptor must not keep us.
fn await_outcome(outcome: BorrowedFd<'_>, init: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [
            PollFd::new(outcome, PollFlags::POLLIN),
            PollFd::new(init, PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.doing(Doing::AwaitStart)?,
        };
        let gone = fds.last().is_some_and(|init| init.any().unwrap_or(false));
        match read(outcome, &mut buffer) {
            Ok(0) => return Ok(told),
            Ok(count) => told.extend(buffer.iter().take(count)),
            Err(Errno::EAGAIN) if gone => return Ok(told),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(Error::os(Doing::AwaitStart, errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_created_container_can_be_started() {
        assert_eq!(refusal(Status::Created), None);
        let texts = [
            Status::Stopped,
            Status::Running,
            Status::Paused,
            Status::Creating,
        ]
        .map(|status| refusal(status).expect("refused"));
        assert_eq!(
            texts,
            [
                "cannot start a container that has stopped",
                "cannot start an already running container",
                "cannot start a container in the paused state",
                "cannot start a container in the creating state",
            ]
        );
    }
}
