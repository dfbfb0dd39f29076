//! The moment the tree becomes the root: pivot_root(2), and what must be right around it.
#![forbid(unsafe_code)]

use super::Root;
use crate::error::{Act, Doing, Explain, Result};
use crate::sys::mount::{self, ATTR_RDONLY, MountAttr};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use std::os::fd::{AsFd, BorrowedFd};

/// The propagation that copies of the host's mounts have: slave by default, so that unmounts on the
/// host do reach the container.
pub(crate) fn kept(asked: Option<(u64, bool)>) -> MsFlags {
    match asked.map(|(flag, _)| MsFlags::from_bits_truncate(flag)) {
        // What is unbindable cannot be cloned: that is for the new root only.
        Some(MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE) => MsFlags::MS_PRIVATE,
        Some(MsFlags::MS_SHARED) => MsFlags::MS_SHARED,
        _ => MsFlags::MS_SLAVE,
    }
}

/// Stops mounts made in this namespace from reaching the host: propagation of `/`, recursively.
///
/// Copies taken afterwards inherit it: `flag` is [`kept`], never shared.
pub(crate) fn seclude(flag: MsFlags) -> Result<()> {
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        flag | MsFlags::MS_REC,
        None::<&str>,
    )
    .doing(Doing::SetPropagation)
    .on("/")
    .field("linux.rootfsPropagation")
}

/// Ends the sharing of a copy with what it was copied from.
pub(crate) fn part_from_peers(tree: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let private = MountAttr {
        propagation: super::libc_flag(MsFlags::MS_PRIVATE),
        ..Default::default()
    };
    mount::set_attributes(tree, &private, recursive)
        .doing(Doing::SetPropagation)
        .on("the root")
        .field("linux.rootfsPropagation")
}

/// Makes `root` read-only: its top mount, not the mounts below.
pub(crate) fn make_readonly(root: &Root) -> Result<()> {
    let readonly = MountAttr {
        set: ATTR_RDONLY,
        ..Default::default()
    };
    mount::set_attributes(root.top(), &readonly, false)
        .doing(Doing::MakeReadonly)
        .on("the root")
        .field("root.readonly")
}

/// Changes root and leaves the old one behind for good.
pub(crate) fn pivot(root: &Root) -> Result<()> {
    let change = || {
        root.surface()?;
        fchdir(root.top())?;
        // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one.
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")
    };
    change()
        .doing(Doing::Pivot)
        .on("the container's root")
        .field("root.path")
        .hint("EINVAL on a ramdisk: --no-pivot")
}

/// `--no-pivot`: moves the root over `/` instead, for hosts whose root is a ramdisk.
///
/// The host's /proc and /sys go first: a process that reached them could mount them anew in a user
/// namespace of its own, without the masks.
pub(crate) fn move_over(root: &Root) -> Result<()> {
    for path in ["/proc", "/sys"] {
        while umount2(path, MntFlags::MNT_DETACH).is_ok() {}
    }
    let change = || {
        if root.is_surfaced() {
            fchdir(root.top())?;
            nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        } else {
            let slash = openat(
                AT_FDCWD,
                "/",
                OFlag::O_PATH | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            mount::attach(root.top(), slash.as_fd())?;
            fchdir(root.top())?;
        }
        chroot(".")?;
        chdir("/")
    };
    change()
        .doing(Doing::Pivot)
        .on("the container's root")
        .field("root.path")
}

/// Gives the new root its propagation, now that nothing can leak to the host.
pub(crate) fn propagate(asked: Option<(u64, bool)>) -> Result<()> {
    let Some((flag, recursive)) = asked else {
        return Ok(());
    };
    let flag = MsFlags::from_bits_truncate(flag)
        | if recursive {
            MsFlags::MS_REC
        } else {
            MsFlags::empty()
        };
    nix::mount::mount(None::<&str>, "/", None::<&str>, flag, None::<&str>)
        .doing(Doing::SetPropagation)
        .on("/")
        .field("linux.rootfsPropagation")
}

/// Enters the root without leaving the old one, for a container in the host's mount namespace: it
/// surfaces in the state directory, where `delete` unmounts it.
pub(crate) fn enter(root: &Root, asked: Option<(u64, bool)>) -> Result<()> {
    root.surface()
        .doing(Doing::Pivot)
        .on("the container's root")
        .field("root.path")?;
    if let Some((propagation, recursive)) = asked {
        let attributes = MountAttr {
            propagation,
            ..Default::default()
        };
        mount::set_attributes(root.top(), &attributes, recursive)
            .doing(Doing::SetPropagation)
            .on("/")
            .field("linux.rootfsPropagation")?;
    }
    let change = || -> nix::Result<()> {
        fchdir(root.top())?;
        chroot(".")?;
        chdir("/")
    };
    change()
        .doing(Doing::Pivot)
        .on("the container's root")
        .field("root.path")
}

/// A container without mounts and without a mount namespace is chrooted: it has the host's mounts.
pub(crate) fn change_root(path: &std::ffi::CStr) -> Result<()> {
    let change = || -> nix::Result<()> {
        chdir(path)?;
        chroot(".")?;
        chdir("/")
    };
    change()
        .doing(Doing::Pivot)
        .on(path.to_string_lossy())
        .field("root.path")
}
