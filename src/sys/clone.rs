//! clone3(2) and setns(2): how we become two, and how one joins the other's namespaces.

use super::check;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A namespace kind that `nix` has no flag for: `CLONE_NEWTIME`, time_namespaces(7).
pub(crate) const NEWTIME: u64 = 0x80;
/// Put the child straight into a cgroup v2 (clone(2), Linux 5.7).
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a clone returns to the one who called it.
pub(crate) enum Cloned {
    /// We are the child.
    Child,
    /// We are the parent: the child's pid, in our pid namespace, and a pidfd for it.
    Parent(i32, OwnedFd),
}

/// Clones this process with `flags` (`CLONE_NEW*`, `CLONE_PARENT`), always with a pidfd.
///
/// With `cgroup`, an O_PATH or read-only fd of a cgroup v2 directory, the child is born in there.
///
/// The child is an ordinary copy of this program, free to allocate and to run destructors, because
/// **the runtime never has a second thread** (no thread holds malloc's lock at the time of the
/// clone) and because it never uses glibc's cached thread id (no pthread call follows).
///
/// clone(2); errors as listed there.
pub(crate) fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // With CLONE_PARENT the child is its grandparent's, and the kernel wants no exit signal here.
    let parent = flags & u64::from(libc::CLONE_PARENT.cast_unsigned()) != 0;
    let mut args = libc::clone_args {
        flags: flags | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: if parent {
            0
        } else {
            u64::from(libc::SIGCHLD.cast_unsigned())
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a whole clone_args and `pidfd` outlives the call. Without CLONE_VM the
    // child has its own copy of everything; it is single-threaded, as the doc comment promises, so
    // no lock is held by a thread that does not exist there.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut args),
            size_of_val(&args),
        )
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has put a new fd there, CLONE_PIDFD being set and the call a success.
    Ok(Cloned::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Joins the namespaces of kinds `flags` behind `fd`, a namespace's file or a pidfd (setns(2)).
///
/// nix's own takes `CloneFlags`, which has no bit for time namespaces.
pub(crate) fn setns(fd: BorrowedFd<'_>, flags: u64) -> nix::Result<()> {
    let flags = i32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    // SAFETY: setns takes two integers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// Leaves the namespaces of kinds `flags` for new ones (unshare(2)).
pub(crate) fn unshare(flags: u64) -> nix::Result<()> {
    // SAFETY: unshare takes one integer and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// A `CLONE_NEW*` constant of nix as the kernel's number.
pub(crate) const fn bits(flags: CloneFlags) -> u64 {
    flags.bits().cast_unsigned() as u64
}
