//! The session keyring: the container gets its own, not the caller's (`--no-new-keyring`).
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Explain, Result};
use crate::sys::keys;
use nix::errno::Errno;
use std::ffi::{CStr, CString};

/// The name of a container's keyring.
pub(crate) fn name_for(id: &str) -> Result<CString> {
    crate::rootfs::c_string(&format!("_ses.{id}"), "the container's id")
}

/// Joins a new session keyring that the container's processes may search.
///
/// Where the kernel has no keyrings, or a seccomp filter around the runtime hides them, the
/// container goes without, as under runc. Out of quota is an error: it would share the caller's.
pub(crate) fn join(name: &CStr) -> Result<()> {
    // keyctl(2): 0x3f... all for the possessor, view/read/search for the owner's user.
    const PERMISSIONS: u32 = 0x3f13_0000;
    match keys::join_session(name) {
        Ok(id) => keys::set_permissions(id, PERMISSIONS).doing(Doing::Keyring),
        Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno)
            .doing(Doing::Keyring)
            .hint("--no-new-keyring keeps the caller's keyring"),
    }
}
