//! pidfds: processes by a handle that no other process can take over (pidfd_open(2)).

use super::{check, owned};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A handle of process `pid`; ESRCH: there is none.
pub(crate) fn open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: integers only; the result is a new fd, close-on-exec by definition.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }
}

/// Sends signal number `signal` (0 only asks) to the process: pidfd_send_signal(2).
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: the info pointer may be null; the rest are integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// A copy of fd `number` of the process: pidfd_getfd(2).
pub(crate) fn get_fd(pidfd: BorrowedFd<'_>, number: i32) -> nix::Result<OwnedFd> {
    // SAFETY: integers only; the result is a new fd, close-on-exec by definition.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0)) }
}
