//! A mount of type `cgroup`: the container's own cgroup, in the host's kind of hierarchy.
//!
//! On v2 one cgroup2 filesystem. On v1 and hybrid hosts what every engine expects of such a mount:
//! a tmpfs with a directory per hierarchy, and links for controllers that share one.
#![forbid(unsafe_code)]

use super::mounts::Mount;
use super::options::Options;
use super::{Leaf, Root};
use crate::error::{Doing, Result};
use crate::sys::mount::{
    self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Context, MountAttr,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// The hierarchies that a container is shown.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The container has a cgroup namespace of its own.
    pub(crate) namespaced: bool,
    /// On a pure v2 host: the cgroup's directory there.
    pub(crate) unified: Option<CString>,
    /// On v1 and hybrid hosts: every v1 hierarchy.
    pub(crate) legacy: Vec<Hierarchy>,
}

/// One v1 hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// The directory name of its mount: `cpu,cpuacct`, `systemd`.
    pub(crate) name: String,
    /// The mount options that select it: the controllers, or `none` and a `name`.
    pub(crate) options: Vec<(CString, Option<CString>)>,
    /// The container's cgroup in it, on the host.
    pub(crate) path: CString,
}

const ATTRIBUTES: u64 = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;

/// Mounts the view at `at`'s destination.
pub(crate) fn mount(at: &Mount, root: &Root, view: &View, options: &Options) -> Result<()> {
    let readonly = options.attr.set & ATTR_RDONLY;
    let target = at.make_target(root, Leaf::Dir)?;
    if let Some(own) = &view.unified {
        // Without a cgroup namespace, and where the kernel refuses a new instance to a user
        // namespace, a bind of the cgroup itself shows the same and no more (CVE-2023-25809).
        let fresh = if view.namespaced {
            instance(c"cgroup2", None, options)
        } else {
            Err(Errno::EPERM)
        };
        let tree = match fresh {
            Err(Errno::EPERM | Errno::EBUSY) => bind(own, options.attr.set),
            result => result,
        };
        let tree = at.explain(Doing::Mount, tree)?;
        at.finish(tree.as_fd(), false)?;
        return at.attach(root, &tree, &target);
    }
    let shelf = at.explain(Doing::Mount, shelf())?;
    let mut attached = false;
    for hierarchy in &view.legacy {
        let tree = at.explain(Doing::Mount, open(hierarchy, view.namespaced, readonly))?;
        let place = at.explain(Doing::MakeTarget, make_place(&shelf, &hierarchy.name))?;
        match mount::attach(tree.as_fd(), place.as_fd()) {
            // Before 6.15 nothing attaches to what is itself detached.
            Err(Errno::EINVAL) if !attached => {
                at.attach(root, &shelf, &target)?;
                attached = true;
                at.attach(root, &tree, &place)?;
            }
            result => at.explain(Doing::Mount, result)?,
        }
    }
    // While it is the root of its own tree: later the kernel refuses (mount_setattr(2)).
    let seal = MountAttr {
        set: readonly,
        ..Default::default()
    };
    at.explain(
        Doing::SetMountAttributes,
        mount::set_attributes(shelf.as_fd(), &seal, false),
    )?;
    at.finish(shelf.as_fd(), false)?;
    if attached {
        Ok(())
    } else {
        at.attach(root, &shelf, &target)
    }
}

/// The tmpfs that holds the v1 hierarchies.
fn shelf() -> nix::Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    context.set(c"mode", c"755")?;
    context.mount(ATTRIBUTES)
}

/// The directory of a hierarchy, and links to it where several controllers share it.
fn make_place(shelf: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    mkdirat(shelf, name, Mode::from_bits_truncate(0o755))?;
    if name.contains(',') {
        for controller in name.split(',') {
            nix::unistd::symlinkat(name, shelf, controller)?;
        }
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(shelf, name, flags, Mode::empty())
}

fn open(hierarchy: &Hierarchy, namespaced: bool, readonly: u64) -> nix::Result<OwnedFd> {
    if !namespaced {
        return bind(&hierarchy.path, ATTRIBUTES | readonly);
    }
    let context = Context::open(c"cgroup")?;
    for (key, value) in &hierarchy.options {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(ATTRIBUTES | readonly)
}

fn instance(
    typ: &std::ffi::CStr,
    source: Option<&std::ffi::CStr>,
    options: &Options,
) -> nix::Result<OwnedFd> {
    let context = Context::open(typ)?;
    context.set(c"source", source.unwrap_or(c"cgroup"))?;
    for (key, value) in &options.data {
        match value {
            Some(value) => context.set(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(options.attr.set)
}

fn bind(path: &CString, attributes: u64) -> nix::Result<OwnedFd> {
    let tree = mount::clone_tree(AT_FDCWD, path, false, true)?;
    mount::set_attributes(
        tree.as_fd(),
        &MountAttr {
            set: attributes,
            ..Default::default()
        },
        false,
    )?;
    Ok(tree)
}
