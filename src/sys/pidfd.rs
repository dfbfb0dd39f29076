//! Processes by descriptor: a signal or a wait that a recycled pid cannot misdirect.
//!
//! See `pidfd_open(2)` (Linux 5.3) and `pidfd_send_signal(2)` (5.1).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Opens a process; close-on-exec.
pub(crate) fn open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers and returns a descriptor or -1; no memory is involved.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal, by number: the real-time ones have no name in `nix`. 0 only asks.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: the siginfo pointer may be null: the kernel then fills it in as for kill(2).
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(done).map(drop)
}

/// Waits until the process has ended, reaped or not; `false` if it outlives `patience`.
///
/// Works for processes that are not our children.
pub(crate) fn wait(pidfd: BorrowedFd<'_>, patience: Duration) -> nix::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, id};

    #[test]
    fn a_living_process_can_be_asked_and_outlives_a_short_wait() {
        let own = open(id().cast_signed()).expect("pidfd of ourselves");
        assert_eq!(send_signal(own.as_fd(), 0), Ok(()));
        assert_eq!(wait(own.as_fd(), Duration::from_millis(1)), Ok(false));
        assert_eq!(send_signal(own.as_fd(), 4096), Err(Errno::EINVAL));
    }

    #[test]
    fn a_killed_process_ends_the_wait() {
        let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
        let pidfd = open(child.id().cast_signed()).expect("pidfd");
        assert_eq!(send_signal(pidfd.as_fd(), libc::SIGKILL), Ok(()));
        assert_eq!(wait(pidfd.as_fd(), Duration::from_secs(10)), Ok(true));
        child.wait().expect("reap");
        assert_eq!(send_signal(pidfd.as_fd(), 0), Err(Errno::ESRCH));
    }

    #[test]
    fn a_pid_that_is_none_is_refused() {
        assert_eq!(open(0).err(), Some(Errno::EINVAL));
    }
}
