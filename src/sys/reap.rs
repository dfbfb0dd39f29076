//! How children ended.
//!
//! waitid(2) as nix has it turns a real-time signal into EINVAL after the child is reaped, and so
//! loses how it ended; containers do die of those.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Exit {
    /// The status a shell would report: the code, or 128 plus the signal.
    pub(crate) fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// Waits until the child behind `pidfd` ends, and reaps it.
pub(crate) fn wait(pidfd: BorrowedFd) -> nix::Result<Exit> {
    match waitid(libc::P_PIDFD, pidfd.as_raw_fd(), 0)? {
        Some((_, exit)) => Ok(exit),
        None => Err(Errno::ECHILD),
    }
}

/// Reaps the child behind `pidfd` if it has ended.
pub(crate) fn try_wait(pidfd: BorrowedFd) -> nix::Result<Option<Exit>> {
    let ended = waitid(libc::P_PIDFD, pidfd.as_raw_fd(), libc::WNOHANG)?;
    Ok(ended.map(|(_, exit)| exit))
}

/// Waits until our child of that id ends, and reaps it.
pub(crate) fn wait_pid(pid: i32) -> nix::Result<Exit> {
    match waitid(libc::P_PID, pid, 0)? {
        Some((_, exit)) => Ok(exit),
        None => Err(Errno::ECHILD),
    }
}

/// Reaps our child of that id if it has ended.
pub(crate) fn try_wait_pid(pid: i32) -> nix::Result<Option<Exit>> {
    let ended = waitid(libc::P_PID, pid, libc::WNOHANG)?;
    Ok(ended.map(|(_, exit)| exit))
}

/// Reaps any one child that has ended, and says which; `None` if there is none.
///
/// Only children of this thread count, which to a process of one thread is no difference.
pub(crate) fn any() -> nix::Result<Option<(i32, Exit)>> {
    match waitid(libc::P_ALL, 0, libc::WNOHANG | libc::__WNOTHREAD) {
        Err(Errno::ECHILD) => Ok(None),
        other => other,
    }
}

/// The id of any one child of this thread that has ended; it is not reaped.
pub(crate) fn peek() -> nix::Result<Option<i32>> {
    let flags = libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD;
    match waitid(libc::P_ALL, 0, flags) {
        Err(Errno::ECHILD) => Ok(None),
        other => Ok(other?.map(|(pid, _)| pid)),
    }
}

/// See [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html).
fn waitid(kind: libc::idtype_t, id: i32, flags: i32) -> nix::Result<Option<(i32, Exit)>> {
    let id = libc::id_t::try_from(id).map_err(|_| Errno::EINVAL)?;
    loop {
        // SAFETY: all zeroes are a valid siginfo_t, a plain struct of integers.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is ours, and outlives the call that fills it.
        let done = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) };
        match Errno::result(done) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: waitid filled these two fields, or left the zeroes that mean "none has ended".
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok(match (pid, info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some((pid, Exit::Code(status))),
            _ => Some((pid, Exit::Killed(status))),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    fn ended(script: &str) -> Exit {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .spawn();
        let pid = i32::try_from(child.unwrap().id()).unwrap();
        wait(super::super::pidfd::open(pid).unwrap().as_fd()).unwrap()
    }

    #[test]
    fn an_exit_is_its_code_or_128_and_the_signal() {
        assert_eq!(ended("exit 7"), Exit::Code(7));
        assert_eq!(ended("kill -TERM $$").status(), 128 + libc::SIGTERM);
    }

    #[test]
    fn a_death_by_a_real_time_signal_is_told() {
        assert_eq!(ended("kill -40 $$"), Exit::Killed(40));
    }

    #[test]
    fn a_child_that_lives_is_not_reaped() {
        let child = Command::new("/bin/sleep").arg("60").spawn();
        let pid = i32::try_from(child.unwrap().id()).unwrap();
        let fd = super::super::pidfd::open(pid).unwrap();
        assert_eq!(try_wait(fd.as_fd()), Ok(None));
        assert_eq!(try_wait_pid(pid), Ok(None));
        assert_eq!(any(), Ok(None));
        super::super::pidfd::send_signal(fd.as_fd(), libc::SIGKILL).unwrap();
        assert_eq!(wait(fd.as_fd()), Ok(Exit::Killed(libc::SIGKILL)));
    }
}
