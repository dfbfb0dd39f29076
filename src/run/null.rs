//! Stdio that is the host's `/dev/null` becomes the container's own.
//!
//! It is the same device, but a file of a mount that the container does not have: it could not be
//! found again by criu(8) or by whoever opens `/proc/self/fd/0` in there.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Result};
use crate::rootfs::Root;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::os::fd::{AsFd, OwnedFd};

/// Whether a file is the null device. What cannot be asked is not.
fn is_null(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| {
        SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
            && stat.st_rdev == makedev(1, 3)
    })
}

/// Replaces each of the three that is a null device, if the root has one.
pub(crate) fn reopen(root: &Root) -> Result<()> {
    let nulls = [
        is_null(std::io::stdin()),
        is_null(std::io::stdout()),
        is_null(std::io::stderr()),
    ];
    // Looked at before it is opened: it may be what an image put there.
    if !nulls.contains(&true) || !root.find("/dev/null").is_ok_and(is_null) {
        return Ok(());
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW;
    let null = root.open_at("/dev/null", flags).doing(Doing::SetStdio)?;
    if !is_null(&null) {
        return Ok(());
    }
    let replace: [fn(&OwnedFd) -> nix::Result<()>; 3] = [
        |null| dup2_stdin(null),
        |null| dup2_stdout(null),
        |null| dup2_stderr(null),
    ];
    for (replace, _) in replace.iter().zip(nulls).filter(|(_, is_null)| *is_null) {
        replace(&null).doing(Doing::SetStdio)?;
    }
    Ok(())
}
