//! close_range(2) and fds that were handed to us by number.

use super::check;
use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// Marks every fd from `first` on close-on-exec, or with `now` closes it.
///
/// CVE-2024-21626: the mark is for the time in between, the closing for the last moment.
pub(crate) fn close_from(first: u32, now: bool) -> nix::Result<()> {
    range(first, u32::MAX, now)
}

fn range(first: u32, last: u32, now: bool) -> nix::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    let flags = if now { 0 } else { CLOSE_RANGE_CLOEXEC };
    // SAFETY: integers only. With `now`, fds that Rust values own are closed under them: the
    // callers do that only in a process that runs nothing but execve or _exit afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
        .map(drop)
        .or_else(|errno| one_by_one(first, last, now, errno))
}

/// For a container whose seccomp profile is older than close_range(2) and is on already.
///
/// Every fd from `first` on was closed just before the filter came, and the kernel gives new ones
/// the lowest free number: none that was opened since is as far above `first` as this looks.
fn one_by_one(first: u32, last: u32, now: bool, refused: Errno) -> nix::Result<()> {
    const FAR: u32 = 1024;
    for number in first..=last.min(first.saturating_add(FAR)) {
        let number = number.cast_signed();
        let done = if now {
            // SAFETY: as for close_range above.
            unsafe { libc::close(number) }
        } else {
            // SAFETY: fcntl F_SETFD takes integers only.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }
        };
        match Errno::result(done) {
            Ok(_) | Err(Errno::EBADF) => {}
            Err(_) => return Err(refused),
        }
    }
    Ok(())
}

/// Whether fd `number` is open and came from whoever started this process: all of our own are
/// close-on-exec, and nothing that crosses an exec is.
pub(crate) fn is_inherited(number: i32) -> bool {
    // SAFETY: fcntl F_GETFD takes integers only.
    unsafe { libc::fcntl(number, libc::F_GETFD) == 0 }
}

/// Takes over fd `number`, which came from whoever started this process. At most once each.
pub(crate) fn adopt(number: i32) -> nix::Result<OwnedFd> {
    if !is_inherited(number) {
        return Err(Errno::EBADF);
    }
    // SAFETY: it is open, and no value of ours owns it: those are all close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Clears close-on-exec on fd `number`, which the container is to inherit.
pub(crate) fn keep_across_exec(number: i32) -> nix::Result<()> {
    // SAFETY: fcntl F_SETFD takes integers only.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }).map(drop)
}

/// Closes every fd from `first` on, except those in `keep`.
///
/// For a process that only runs execve or `_exit` afterwards, see [`close_from`].
pub(crate) fn close_all_but(first: u32, keep: &mut [u32]) -> nix::Result<()> {
    keep.sort_unstable();
    let mut next = first;
    for kept in keep.iter().copied().filter(|kept| *kept >= first) {
        if kept > next {
            range(next, kept - 1, true)?;
        }
        next = kept + 1;
    }
    close_from(next, true)
}
