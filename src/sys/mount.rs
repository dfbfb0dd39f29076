//! The mount API of file descriptors: fsopen(2), fsconfig(2), fsmount(2), open_tree(2),
//! move_mount(2), mount_setattr(2).

use super::{check, owned};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
/// The mask of the three atime modes; `relatime` is 0.
pub(crate) const ATTR_ATIME: u64 = 0x70;
pub(crate) const ATTR_NOATIME: u64 = 0x10;
pub(crate) const ATTR_STRICTATIME: u64 = 0x20;
pub(crate) const ATTR_NODIRATIME: u64 = 0x80;
pub(crate) const ATTR_IDMAP: u64 = 0x0010_0000;
pub(crate) const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// Act on the mount and everything mounted below it.
pub(crate) const RECURSIVE: u32 = 0x8000;
const EMPTY_PATH: u32 = 0x1000;

/// A filesystem being configured: fsopen(2).
#[derive(Debug)]
pub(crate) struct Context(OwnedFd);

impl Context {
    /// Starts configuring a filesystem of type `name`; ENODEV: the kernel has no such type.
    pub(crate) fn open(name: &CStr) -> nix::Result<Self> {
        const FSOPEN_CLOEXEC: u32 = 1;
        // SAFETY: `name` is a C string that outlives the call; the result is a new fd.
        unsafe {
            owned(libc::syscall(
                libc::SYS_fsopen,
                name.as_ptr(),
                FSOPEN_CLOEXEC,
            ))
        }
        .map(Self)
    }

    /// Sets a parameter that has a value (FSCONFIG_SET_STRING).
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> nix::Result<()> {
        self.config(1, key.as_ptr(), value.as_ptr())
    }

    /// Sets a parameter that is a mere word (FSCONFIG_SET_FLAG).
    pub(crate) fn flag(&self, key: &CStr) -> nix::Result<()> {
        self.config(0, key.as_ptr(), std::ptr::null())
    }

    /// Makes the superblock and a detached mount of it with `attributes` (FSCONFIG_CMD_CREATE,
    /// fsmount(2)).
    pub(crate) fn mount(&self, attributes: u64) -> nix::Result<OwnedFd> {
        const FSMOUNT_CLOEXEC: u32 = 1;
        self.config(6, std::ptr::null(), std::ptr::null())?;
        // SAFETY: three integers; the result is a new fd.
        unsafe {
            owned(libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            ))
        }
    }

    /// What the filesystem says of the last failure: its log, less the severity prefix.
    pub(crate) fn complaint(&self) -> Option<String> {
        let mut buffer = [0u8; 512];
        let length = nix::unistd::read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..length)?);
        let text = text.trim();
        Some(
            text.split_once(' ')
                .map_or(text, |(_, rest)| rest)
                .to_owned(),
        )
    }

    fn config(
        &self,
        command: u32,
        key: *const libc::c_char,
        value: *const libc::c_char,
    ) -> nix::Result<()> {
        // SAFETY: key and value are null or C strings that the callers hold across the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key,
                value,
                0,
            )
        })
        .map(drop)
    }
}

/// A detached copy of the mount at `path` (with `recursive`, of the tree there): open_tree(2) with
/// OPEN_TREE_CLONE. An empty path means `dir` itself.
pub(crate) fn clone_tree(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    follow: bool,
) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: u32 = 1;
    const NOFOLLOW: u32 = 0x100;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    if recursive {
        flags |= RECURSIVE;
    }
    if !follow {
        flags |= NOFOLLOW;
    }
    if path.is_empty() {
        flags |= EMPTY_PATH;
    }
    // SAFETY: `path` is a C string that outlives the call; the result is a new fd.
    unsafe {
        owned(libc::syscall(
            libc::SYS_open_tree,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
        ))
    }
}

/// Attaches the detached mount `mount` at the place that `target` stands for (move_mount(2)).
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    const F_EMPTY_PATH: u32 = 0x4;
    const T_EMPTY_PATH: u32 = 0x40;
    // SAFETY: both paths are static C strings; the rest are integers.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// What mount_setattr(2) changes; `MountAttr::default()` changes nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountAttr {
    /// Attributes to set.
    pub(crate) set: u64,
    /// Attributes to clear.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0.
    pub(crate) propagation: u64,
    /// With [`ATTR_IDMAP`]: the fd number of the user namespace that maps.
    pub(crate) userns_fd: u64,
}

/// Changes the attributes of the mount `mount`, and with `recursive` of all below it.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    attr: &MountAttr,
    recursive: bool,
) -> nix::Result<()> {
    let flags = EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    // SAFETY: `attr` is a whole struct mount_attr, read only, and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
