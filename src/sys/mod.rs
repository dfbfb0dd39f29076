//! The system calls that `nix` lacks, one file per subject: the only unsafe code of the runtime.
//!
//! Every wrapper returns [`nix::Result`] and io-safe file descriptors, links its man page, and
//! says in each `unsafe` block why the block is sound.

pub(crate) mod bpf;
pub(crate) mod cap;
pub(crate) mod clone;
pub(crate) mod fd;
pub(crate) mod keys;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod netlink;
pub(crate) mod pidfd;
pub(crate) mod proc;
pub(crate) mod program;
pub(crate) mod reap;
pub(crate) mod sched;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod sock;
pub(crate) mod tty;

use nix::errno::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// A syscall's return value as nix gives it: -1 means errno.
fn check(value: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(value)
}

/// Takes ownership of the fd that a syscall returned.
///
/// # Safety
/// `value` must be the return value of a syscall that returns a new fd owned by nobody else.
unsafe fn owned(value: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(check(value)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the caller vouches that the fd is new and unowned; it is not -1, checked above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
