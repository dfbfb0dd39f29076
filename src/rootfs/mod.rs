//! ROOTFS: the container's file tree, built from file descriptors out of everybody's sight.
//!
//! [`Root`] owns the top of a detached copy of the bundle's rootfs, and is the only thing that
//! resolves a path below it. Everything is attached to that copy; the copy is attached to the
//! world once, right before pivot_root.
#![forbid(unsafe_code)]

pub(crate) mod cgroupfs;
pub(crate) mod copyup;
pub(crate) mod devices;
pub(crate) mod hide;
pub(crate) mod idmap;
pub(crate) mod mounts;
pub(crate) mod options;
pub(crate) mod pivot;
pub(crate) mod procfs;

use crate::error::{Act, Doing, Explain, Result};
use crate::sys::mount;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    Dir,
    File,
}

/// The container's root while it is built.
#[derive(Debug)]
pub(crate) struct Root {
    /// The top of the tree. After [`surface`](Self::surface) it stays the same mount, attached.
    top: OwnedFd,
    /// The place to surface at, in this mount namespace.
    place: OwnedFd,
    surfaced: Cell<bool>,
    /// The kernel's own filesystems (proc, sysfs) by where they were mounted.
    anchors: RefCell<Vec<(String, OwnedFd)>>,
}

impl Root {
    /// Clones the tree at `path` (absolute, or relative to the current directory), where it surfaces
    /// if nothing else is said.
    pub(crate) fn open(path: &CStr) -> Result<Self> {
        Ok(Self::of_tree(Self::copy(path)?, Self::place(path)?))
    }

    /// A detached copy of the tree at `path`.
    pub(crate) fn copy(path: &CStr) -> Result<OwnedFd> {
        explain(mount::clone_tree(AT_FDCWD, path, true, true), path)
    }

    /// Where the bundle keeps its rootfs, as a place to surface at.
    pub(crate) fn place(path: &CStr) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let place = openat(AT_FDCWD, path, flags, Mode::empty())
            // A directory on the way may be closed to the container's root; `/` never is.
            .or_else(|_| openat(AT_FDCWD, c"/", flags, Mode::empty()));
        explain(place, path)
    }

    /// Takes a detached tree, that surfaces at `place`.
    pub(crate) fn of_tree(top: OwnedFd, place: OwnedFd) -> Self {
        Self {
            top,
            place,
            surfaced: Cell::new(false),
            anchors: RefCell::default(),
        }
    }

    /// Cuts the top, or the whole tree, off the peers of the mounts that were cloned: nothing that
    /// is mounted in here may travel there.
    pub(crate) fn part_from_peers(&self, recursive: bool) -> Result<()> {
        pivot::part_from_peers(self.top(), recursive)
    }

    /// The mount at the top.
    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// What lies below `path` is from now on found through `mount`, attached there, whatever
    /// becomes of the names that lead to it: who shares the image may rename them, and a mask would
    /// cover something else (CVE-2023-28642). `None`: the names count again.
    pub(crate) fn anchor(&self, path: &str, mount: Option<OwnedFd>) {
        let mut anchors = self.anchors.borrow_mut();
        anchors.retain(|(place, _)| below(place, path).is_none());
        anchors.extend(mount.map(|mount| (path.to_owned(), mount)));
    }

    fn open_in_anchor(&self, path: &str, flags: OFlag) -> Option<nix::Result<OwnedFd>> {
        let anchors = self.anchors.borrow();
        let (rest, mount) = anchors
            .iter()
            .find_map(|(place, mount)| Some((below(path, place)?, mount)))?;
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(mount, if rest.is_empty() { "." } else { rest }, how) {
            // A link out of it.
            Err(Errno::EXDEV) => None,
            result => Some(result),
        }
    }

    /// Whether `target` lies in the container's /proc.
    pub(crate) fn is_in_proc(&self, target: &OwnedFd) -> nix::Result<bool> {
        let anchors = self.anchors.borrow();
        let proc = anchors.iter().find(|(place, _)| place == "/proc");
        proc.map_or(Ok(false), |(_, proc)| {
            Ok(fstat(proc)?.st_dev == fstat(target)?.st_dev)
        })
    }

    /// Opens what is at `path` below this root, whatever symlinks say, without creating anything.
    pub(crate) fn open_at(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        if let Some(found) = self.open_in_anchor(path, flags) {
            return found;
        }
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = path.trim_start_matches('/');
        let path = if path.is_empty() { "." } else { path };
        // openat2(2): EAGAIN when a rename elsewhere kept the kernel from vouching for `..`.
        for _ in 0..128 {
            match openat2(&self.top, path, how) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// An O_PATH handle of what is at `path`.
    pub(crate) fn find(&self, path: &str) -> nix::Result<OwnedFd> {
        self.open_at(path, OFlag::O_PATH)
    }

    /// As [`find`](Self::find), making the directories on the way and the leaf where they lack.
    pub(crate) fn make(&self, path: &str, leaf: Leaf) -> nix::Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::ENOENT) => self.walk(path, leaf),
            result => result,
        }
    }

    /// Resolves component by component, so that a missing one can be made where it belongs.
    ///
    /// Symlinks are followed by their text, `..` by going back to the directory we came through:
    /// no step can leave the tree, whatever is renamed meanwhile.
    fn walk(&self, path: &str, leaf: Leaf) -> nix::Result<OwnedFd> {
        const MAX_LINKS: usize = 40;
        let here = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut trail = vec![openat(&self.top, ".", here, Mode::empty())?];
        let mut ahead: VecDeque<String> = path.split('/').map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name.is_empty() || name == "." {
                continue;
            }
            if name == ".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let dir = trail.last().ok_or(Errno::ENOENT)?;
            let next = match openat(dir, name.as_str(), here, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    let last = ahead.iter().all(|name| name.is_empty() || name == ".");
                    let kind = if last { leaf } else { Leaf::Dir };
                    make_one(dir, &name, kind)?;
                    openat(dir, name.as_str(), here, Mode::empty())?
                }
                result => result?,
            };
            if file_type(&next)? != SFlag::S_IFLNK {
                trail.push(next);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            let text = readlinkat(&next, "")?
                .into_string()
                .map_err(|_| Errno::EILSEQ)?;
            if text.starts_with('/') {
                trail.truncate(1);
            }
            for part in text.split('/').rev() {
                ahead.push_front(part.to_owned());
            }
        }
        trail.pop().ok_or(Errno::ENOENT)
    }

    /// Attaches a detached mount onto a place found in this root.
    ///
    /// Kernels before 6.15 cannot attach to a detached tree: there the root surfaces first, as a
    /// rule in the mount namespace that only this process is in yet.
    pub(crate) fn attach(&self, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
        match mount::attach(mount, target) {
            Err(Errno::EINVAL) if !self.surfaced.get() => {
                self.surface()?;
                mount::attach(mount, target)
            }
            result => result,
        }
    }

    pub(crate) fn is_surfaced(&self) -> bool {
        self.surfaced.get()
    }

    /// Attaches the whole tree at its place, once.
    pub(crate) fn surface(&self) -> nix::Result<()> {
        if !self.surfaced.replace(true) {
            mount::attach(self.top.as_fd(), self.place.as_fd())?;
        }
        Ok(())
    }
}

/// `path` as it goes on below `place`.
fn below<'a>(path: &'a str, place: &str) -> Option<&'a str> {
    match path.strip_prefix(place)? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

fn explain<T>(result: nix::Result<T>, path: &CStr) -> Result<T> {
    result
        .doing(Doing::OpenRootfs)
        .on(path.to_string_lossy())
        .field("root.path")
}

fn make_one(dir: &OwnedFd, name: &str, leaf: Leaf) -> nix::Result<()> {
    let made = match leaf {
        Leaf::Dir => mkdirat(dir, name, Mode::from_bits_truncate(0o755)),
        Leaf::File => openat(
            dir,
            name,
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o644),
        )
        .map(drop),
    };
    match made {
        // Somebody else who shares the rootfs was quicker.
        Err(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

/// The type bits of what `fd` stands for.
pub(crate) fn file_type(fd: &OwnedFd) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(
        fstat(fd)?.st_mode & SFlag::S_IFMT.bits(),
    ))
}

/// A `MS_*` constant of nix as mount_setattr(2) takes it.
pub(crate) fn libc_flag(flags: nix::mount::MsFlags) -> u64 {
    flags.bits()
}

/// `text` for the kernel; a NUL in it is an error of `field`'s.
pub(crate) fn c_string(text: &str, field: &str) -> Result<CString> {
    CString::new(text).map_err(|_| {
        crate::error::Error::rule(Doing::CheckConfig, "contains a NUL byte").field(field)
    })
}
