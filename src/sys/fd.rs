//! close_range(2) and fds that were handed to us by number.

use super::check;
use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// Marks every fd from `first` on close-on-exec (CVE-2024-21626: for the time until
/// [`close_all_but`]).
pub(crate) fn mark_from(first: u32) -> nix::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    range(first, u32::MAX, CLOSE_RANGE_CLOEXEC)
}

/// A refusal is an error: a guess where descriptors end would let one of the host's through.
fn range(first: u32, last: u32, flags: u32) -> nix::Result<()> {
    // SAFETY: integers only. Without CLOEXEC, fds that Rust values own are closed under them: the
    // callers do that only in a process that runs nothing but execve or _exit afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// For a container whose seccomp profile is older than close_range(2) and is on already.
///
/// Every fd from `first` on was closed just before the filter came, and the kernel gives new ones
/// the lowest free number: none that was opened since is as far above `first` as this looks.
fn one_by_one(first: u32, last: u32) {
    const FAR: u32 = 1024;
    for number in first..=last.min(first.saturating_add(FAR)) {
        // SAFETY: as for close_range above. What it returns does not matter: an fd is closed
        // whatever close(2) says, or was not open.
        let _closed = unsafe { libc::close(number.cast_signed()) };
    }
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
/// For a process that only runs execve or `_exit` afterwards, see `range`. `again` after a
/// first time that succeeded: a container's filter may be on by then, and refuse close_range(2).
pub(crate) fn close_all_but(first: u32, keep: &mut [u32], again: bool) -> nix::Result<()> {
    let close = |first, last| match range(first, last, 0) {
        Err(_) if again => {
            one_by_one(first, last);
            Ok(())
        }
        result => result,
    };
    keep.sort_unstable();
    let mut next = first;
    for kept in keep.iter().copied().filter(|kept| *kept >= first) {
        if kept > next {
            close(next, kept - 1)?;
        }
        next = kept + 1;
    }
    close(next, u32::MAX)
}
