//! Processes by file descriptor: a handle that cannot come to mean another process.
//!
//! nix has neither call. Man pages: pidfd_open(2), pidfd_send_signal(2).

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor of the process with that id, close-on-exec. It polls readable once the process ends.
pub(crate) fn open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process behind `fd`, which may be a real-time one or 0 (only a check).
pub(crate) fn send_signal(fd: BorrowedFd, signal: i32) -> nix::Result<()> {
    // SAFETY: a null siginfo asks for the one kill(2) would send; the other arguments are integers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(sent).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_process_can_be_opened_and_checked() {
        let own = i32::try_from(std::process::id()).unwrap();
        let fd = open(own).unwrap();
        assert_eq!(send_signal(fd.as_fd(), 0), Ok(()));
        assert_eq!(open(-1).unwrap_err(), Errno::EINVAL);
    }
}
