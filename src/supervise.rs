//! What somebody who stays with a container needs besides its commands: its processes by handle,
//! how they ended, the terminal it sent, the files of its cgroup.
//!
//! A thin, safe face of what the runtime itself uses; the shim stands on it.
#![forbid(unsafe_code)]

use crate::container::Container;
use crate::error::{Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
use crate::sys::{pidfd, reap, tty};
use nix::errno::Errno;
use nix::libc::winsize;
use nix::sys::signal::Signal;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A handle of process `pid`, which no other process can take over.
///
/// # Errors
/// ESRCH: there is none.
pub fn open(pid: i32) -> nix::Result<OwnedFd> {
    pidfd::open(pid)
}

/// Sends a signal by number to the process behind a handle.
///
/// # Errors
/// ESRCH: it has ended; EINVAL: no such signal.
pub fn signal(process: BorrowedFd<'_>, number: i32) -> nix::Result<()> {
    pidfd::send_signal(process, number)
}

/// Reaps the child behind a handle if it has ended: its exit code, or 128 and the signal.
///
/// # Errors
/// ECHILD: it is not our child, or was reaped already.
pub fn ended(child: BorrowedFd<'_>) -> nix::Result<Option<i32>> {
    Ok(reap::try_wait(child)?.map(reap::Exit::status))
}

/// The id of a child of this thread that has ended and that nobody has reaped; it stays so, and
/// its id stays taken. Children that a subreaper is given belong to its first thread.
///
/// # Errors
/// The kernel does not answer.
pub fn unreaped() -> nix::Result<Option<i32>> {
    reap::peek()
}

/// Reaps a child that has ended.
///
/// # Errors
/// ECHILD: there is no such child.
pub fn reap(pid: i32) -> nix::Result<Option<i32>> {
    Ok(reap::try_wait_pid(pid)?.map(reap::Exit::status))
}

/// Sets the size of a terminal in characters.
///
/// # Errors
/// ENOTTY: it is none.
pub fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> nix::Result<()> {
    let size = winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tty::set_size(terminal, &size)
}

/// Receives the master of a terminal from a console socket's connection.
///
/// # Errors
/// The message bears no descriptor, or several.
pub fn receive_terminal(connection: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    tty::receive(connection)
}

impl Container {
    /// Every process of the container, in our pid namespace.
    ///
    /// # Errors
    /// Its cgroup cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Cgroup::open(&self.state().creel.cgroup)?.pids()
    }

    /// Kills every process in the container's cgroup, whether or not init lives.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill_all(&self) -> Result<()> {
        let group = Cgroup::open(&self.state().creel.cgroup)?;
        let done = match group.signal(Signal::SIGKILL) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
            other => other,
        };
        self.thaw();
        done.within(Doing::Kill).on(self.id())
    }

    /// Sends a signal to every process in the container's cgroup.
    ///
    /// # Errors
    /// There is no such signal, or the kernel refuses for one of them.
    pub fn signal_all(&self, number: i32) -> Result<()> {
        if number == Signal::SIGKILL as i32 {
            return self.kill_all();
        }
        for pid in self.pids()? {
            let sent = match pidfd::open(pid) {
                Ok(process) => pidfd::send_signal(std::os::fd::AsFd::as_fd(&process), number),
                Err(errno) => Err(errno),
            };
            match sent {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::os(Doing::Signal, errno).on(pid));
                }
            }
        }
        Ok(())
    }

    /// Whether the death of init leaves others alive: it has no pid namespace of its own.
    #[must_use]
    pub fn outlives_init(&self) -> bool {
        !self.state().creel.namespaces.owns("pid")
    }
}
