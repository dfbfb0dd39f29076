//! Id-mapped mounts: `uidMappings` and `gidMappings` of a mount, `idmap`, `ridmap` (config.md,
//! mount_setattr(2) "ID-mapped mounts"). Binds, and filesystems made for the container.
#![forbid(unsafe_code)]

use crate::bundle::config::Mount as Asked;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::isolate::ids::IdMaps;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::mount::{ATTR_IDMAP, ATTR_RDONLY, MountAttr, attach, clone_tree, set_attributes};
use crate::sys::{pidfd, program, reap};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::pause;
use oci_spec::runtime::LinuxIdMapping;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How a mount's ids are mapped.
#[derive(Debug)]
pub(crate) struct IdMapping {
    /// `None`: as in the container's user namespace.
    maps: Option<IdMaps>,
    recursive: bool,
}

impl IdMapping {
    /// `None` where no mapping is asked. `can_map`: it is a tree of its own, a bind or a new
    /// filesystem. `field` is the mount's.
    pub(crate) fn plan(asked: &Asked, can_map: bool, field: &str) -> Result<Option<Self>> {
        let option = |word: &str| asked.options.iter().any(|option| option == word);
        let given = !asked.uid_mappings.is_empty() || !asked.gid_mappings.is_empty();
        if !given && !option("idmap") && !option("ridmap") {
            return Ok(None);
        }
        let wrong = |why: &str| Err(Error::rule(Doing::CheckConfig, why).field(field));
        if !can_map {
            return wrong("the ids of a remount or of a cgroup view cannot be mapped");
        }
        if !nix::unistd::geteuid().is_root() {
            return wrong("id-mapped mounts are not supported for rootless containers");
        }
        if asked.uid_mappings.is_empty() != asked.gid_mappings.is_empty() {
            return wrong("id-mapped mounts must have both uid and gid mappings specified");
        }
        let maps = given.then(|| {
            IdMaps::of(
                &asked.uid_mappings,
                &asked.gid_mappings,
                [
                    &format!("{field}.uidMappings"),
                    &format!("{field}.gidMappings"),
                ],
            )
        });
        Ok(Some(Self {
            maps: maps.transpose()?,
            recursive: option("ridmap"),
        }))
    }

    /// Maps the ids of the detached tree `tree`. `own` is the container's user namespace: its
    /// maps if it is new, its descriptor if it is joined.
    pub(crate) fn apply<'a>(
        &'a self,
        tree: BorrowedFd<'_>,
        own: (Option<&'a IdMaps>, Option<BorrowedFd<'_>>),
        mappers: &mut Mappers<'a>,
    ) -> Result<()> {
        let user_namespace = match (&self.maps, own) {
            (Some(maps), _) | (None, (Some(maps), _)) => mappers.of(maps)?,
            (None, (None, Some(joined))) => joined,
            (None, (None, None)) => {
                let why = "idmap without mappings needs a user namespace of the container's";
                return Err(Error::rule(Doing::CheckConfig, why));
            }
        };
        map(tree, user_namespace, MountAttr::default(), self.recursive).on("idmap")
    }
}

/// Maps the ids of a detached tree, and sets what else is in `attr`.
fn map(
    tree: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    mut attr: MountAttr,
    recursive: bool,
) -> Result<()> {
    attr.set |= ATTR_IDMAP;
    attr.userns_fd = user_namespace.as_raw_fd().unsigned_abs().into();
    let done = set_attributes(tree, &attr, recursive);
    let hint = match done {
        Err(Errno::EPERM) => "who owns the filesystem's user namespace may map its ids",
        _ => "EINVAL: the filesystem cannot map ids, or its mount is mapped already",
    };
    done.doing(Doing::SetMountAttributes).hint(hint)
}

/// Shows what is mounted at `from` and below at `to`, too, with its ids mapped: for who prepares a
/// rootfs in our place, as a shim does.
pub fn attach_mapped(
    from: &Path,
    to: &Path,
    [uids, gids]: [&[LinuxIdMapping]; 2],
    read_only: bool,
) -> Result<()> {
    let maps = IdMaps::of(uids, gids, ["uidmap", "gidmap"])?;
    let name = CString::new(from.as_os_str().as_bytes());
    let name = name.map_err(|_| Error::os(Doing::Mount, Errno::EINVAL))?;
    let tree = clone_tree(AT_FDCWD, &name, true, true);
    let tree = tree.doing(Doing::Mount).on(from.display())?;
    let user_namespace = make(&maps)?;
    let attr = MountAttr {
        set: if read_only { ATTR_RDONLY } else { 0 },
        propagation: libc::MS_PRIVATE,
        ..Default::default()
    };
    map(tree.as_fd(), user_namespace.as_fd(), attr, true).on(from.display())?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let place = open(to, flags, Mode::empty()).doing(Doing::Mount);
    attach(tree.as_fd(), place.on(to.display())?.as_fd())
        .doing(Doing::Mount)
        .on(to.display())
}

/// The user namespaces that serve as maps, each made once however many mounts are mapped by it.
#[derive(Debug, Default)]
pub(crate) struct Mappers<'a>(Vec<(&'a IdMaps, OwnedFd)>);

impl<'a> Mappers<'a> {
    fn of(&mut self, maps: &'a IdMaps) -> Result<BorrowedFd<'_>> {
        let at = match self.0.iter().position(|(made, _)| *made == maps) {
            Some(at) => at,
            None => {
                self.0.push((maps, make(maps)?));
                self.0.len() - 1
            }
        };
        let kept = self.0.get(at).map(|(_, kept)| kept.as_fd());
        kept.ok_or_else(|| Error::os(Doing::MapIds, Errno::EBADF))
    }
}

/// A user namespace with these maps, held by its descriptor alone.
fn make(maps: &IdMaps) -> Result<OwnedFd> {
    let user = crate::isolate::namespaces::USER;
    match clone3(user, None).doing(Doing::MapIds)? {
        Cloned::Child => {
            // Waits to be killed, by the parent or by its death.
            if nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_ok() {
                pause();
            }
            program::exit(0)
        }
        Cloned::Parent(pid, child) => {
            let namespace = maps.write(pid).and_then(|()| {
                let path = format!("/proc/{pid}/ns/user");
                open(
                    path.as_str(),
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .doing(Doing::MapIds)
                .on(path)
            });
            // It has served; if it is gone already, so much the better.
            pidfd::send_signal(child.as_fd(), libc::SIGKILL).ok();
            reap::wait(child.as_fd()).ok();
            namespace
        }
    }
}
