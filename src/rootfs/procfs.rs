//! A procfs that nobody else can reach, for the runtime's own reads and writes in a container.
//!
//! The container's /proc may have been replaced, mounted over, or be missing (CVE-2025-52881).
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Explain, Result};
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Context};
use std::os::fd::OwnedFd;

/// Of this process's pid namespace, detached: it goes away with its descriptor.
pub(crate) fn private() -> Result<OwnedFd> {
    Context::open(c"proc")
        .and_then(|context| context.mount(ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC))
        .doing(Doing::Mount)
        .on("a private proc")
        .hint("the runtime writes kernel parameters and labels through a procfs of its own")
}
