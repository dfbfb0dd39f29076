//! A procfs that nobody in a container can reach, for the runtime's own reads and writes there.
//!
//! The container's /proc may have been replaced, mounted over, or be missing (CVE-2025-52881). It is
//! opened by the parent, before the clone: in a user namespace the kernel gives no procfs of a pid
//! namespace that belongs to another one, nor where the procfs in sight has masks. What is below
//! `self`, and the parameters of namespaces, are those of who asks, not of who has opened it.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Context};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::os::fd::OwnedFd;

/// A detached procfs of this process's pid namespace, which goes away with its descriptor; or,
/// for a runtime that may not mount, the one that the host has at /proc.
pub(crate) fn private() -> Result<OwnedFd> {
    let mine = Context::open(c"proc")
        .and_then(|context| context.mount(ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC));
    match mine {
        Err(Errno::EPERM) => hosts(),
        mine => mine.doing(Doing::Mount).on("a private proc"),
    }
    .hint("the runtime writes kernel parameters and labels through a procfs of its own")
}

/// Whoever uses it crosses no mount: what may lie over parts of it is refused then.
fn hosts() -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = open("/proc", flags, Mode::empty())
        .doing(Doing::OpenSource)
        .on("/proc")?;
    let is_proc = fstatfs(&proc).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC);
    match is_proc {
        true => Ok(proc),
        false => Err(Error::rule(Doing::OpenSource, "the host's /proc is no procfs").on("/proc")),
    }
}
