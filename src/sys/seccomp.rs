//! seccomp(2), <https://man7.org/linux/man-pages/man2/seccomp.2.html>: confining the calling thread.

use nix::errno::Errno;
use seccompiler::sock_filter;
use std::os::fd::{FromRawFd, OwnedFd};

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: libc::c_ushort,
    filter: *const sock_filter,
}

/// `SECCOMP_SET_MODE_FILTER`; the descriptor is the listener's, if `flags` asked for one.
pub(crate) fn set_filter(flags: u64, filter: &[sock_filter]) -> nix::Result<Option<OwnedFd>> {
    let program = Program {
        length: filter.len().try_into().map_err(|_| Errno::EINVAL)?,
        filter: filter.as_ptr(),
    };
    // SAFETY: `program` points to `length` instructions, which the kernel copies and verifies.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    let value = Errno::result(result)?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let descriptor = i32::try_from(value).map_err(|_| Errno::EBADF)?;
    // SAFETY: with NEW_LISTENER the result is a new descriptor (close-on-exec), ours alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Whether the kernel takes those filter flags together.
///
/// Flags are checked before the program is read, so with a null program unknown ones fail with
/// EINVAL and known ones with EFAULT: nothing is ever loaded.
pub(crate) fn flags_known(flags: u64) -> bool {
    let nothing = std::ptr::null::<Program>();
    // SAFETY: the kernel refuses the null pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            nothing,
        )
    };
    Errno::result(result) == Err(Errno::EFAULT)
}
