//! keyctl(2): a session keyring of the container's own.

use super::check;
use std::ffi::CStr;

/// Joins a new session keyring named `name` and returns its id (KEYCTL_JOIN_SESSION_KEYRING).
pub(crate) fn join_session(name: &CStr) -> nix::Result<i64> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: `name` is a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
}

/// Sets the permission bits of key `id` (KEYCTL_SETPERM).
pub(crate) fn set_permissions(id: i64, permissions: u32) -> nix::Result<()> {
    const KEYCTL_SETPERM: libc::c_int = 5;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, id, permissions) }).map(drop)
}
