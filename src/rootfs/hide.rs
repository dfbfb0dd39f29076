//! `linux.maskedPaths` and `linux.readonlyPaths` (config-linux.md).
//!
//! Both act on the finished tree before anybody else can reach it. A mask is never the
//! container's own /dev/null, which the image could have replaced (CVE-2025-31133): it is the
//! host's, cloned and checked, or one shared empty directory.
#![forbid(unsafe_code)]

use super::{Root, file_type};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::isolate::namespaces::{MOUNT, Namespaces};
use crate::sys::mount::{
    ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, Context, MountAttr, clone_tree,
    set_attributes,
};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{SFlag, fstat, makedev};
use std::os::fd::{AsFd, OwnedFd};

/// Paths to cover and paths to make read-only.
#[derive(Debug)]
pub(crate) struct Hide {
    masked: Vec<String>,
    readonly: Vec<String>,
}

impl Hide {
    pub(crate) fn plan(config: &Config, namespaces: &Namespaces) -> Result<Self> {
        let linux = &config.linux;
        for (field, paths) in [
            ("maskedPaths", &linux.masked_paths),
            ("readonlyPaths", &linux.readonly_paths),
        ] {
            if !paths.is_empty() && !namespaces.has(MOUNT) {
                let why = "unable to restrict sys entries without a private MNT namespace";
                return Err(Error::rule(Doing::CheckConfig, why).field(format!("linux.{field}")));
            }
            if let Some(index) = paths.iter().position(|path| !path.starts_with('/')) {
                // config-linux.md: "The values MUST be absolute paths in the container namespace."
                return Err(Error::rule(Doing::CheckConfig, "not an absolute path")
                    .field(format!("linux.{field}[{index}]")));
            }
        }
        Ok(Self {
            masked: linux.masked_paths.clone(),
            readonly: linux.readonly_paths.clone(),
        })
    }

    /// Makes the read-only paths read-only, whatever is mounted below them included.
    pub(crate) fn make_readonly(&self, root: &Root) -> Result<()> {
        for (index, path) in self.readonly.iter().enumerate() {
            let Some(target) = found(root.find(path), path)? else {
                continue;
            };
            let cover = || {
                let tree = clone_tree(target.as_fd(), c"", true, true)?;
                let readonly = MountAttr {
                    set: ATTR_RDONLY,
                    ..Default::default()
                };
                set_attributes(tree.as_fd(), &readonly, true)?;
                root.attach(tree.as_fd(), target.as_fd())
            };
            match cover() {
                // Before 6.15 a detached tree cannot be cloned from: surface, and try again.
                Err(Errno::EINVAL) => root.surface().and_then(|()| cover()),
                result => result,
            }
            .doing(Doing::MakeReadonly)
            .on(path)
            .field(format_args!("linux.readonlyPaths[{index}]"))?;
        }
        Ok(())
    }

    /// Covers the masked paths. Must run while the host's /dev is in reach.
    pub(crate) fn mask(&self, root: &Root) -> Result<()> {
        let mut masks = Masks::default();
        for (index, path) in self.masked.iter().enumerate() {
            let Some(target) = found(root.find(path), path)? else {
                continue;
            };
            masks
                .cover(root, &target)
                .doing(Doing::Mask)
                .on(path)
                .field(format_args!("linux.maskedPaths[{index}]"))?;
        }
        Ok(())
    }
}

/// What is not there needs no hiding.
fn found(result: nix::Result<OwnedFd>, path: &str) -> Result<Option<OwnedFd>> {
    match result {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        result => result.map(Some).doing(Doing::OpenTarget).on(path),
    }
}

/// The covers, each made when first needed. The first use attaches the mount itself, which
/// stays a source for clones.
#[derive(Default)]
struct Masks {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Masks {
    fn cover(&mut self, root: &Root, target: &OwnedFd) -> nix::Result<()> {
        let is_dir = file_type(target)? == SFlag::S_IFDIR;
        let made = if is_dir {
            &mut self.empty
        } else {
            &mut self.null
        };
        let cover = match made {
            Some(made) => clone_tree(made.as_fd(), c"", false, true)?,
            None if is_dir => empty_directory()?,
            None => host_null()?,
        };
        root.attach(cover.as_fd(), target.as_fd())?;
        made.get_or_insert(cover);
        Ok(())
    }
}

/// An empty directory that stays empty.
fn empty_directory() -> nix::Result<OwnedFd> {
    let context = Context::open(c"tmpfs")?;
    context.set(c"nr_blocks", c"1")?;
    context.set(c"nr_inodes", c"1")?;
    context.mount(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)
}

/// The host's null device, verified.
fn host_null() -> nix::Result<OwnedFd> {
    let null = clone_tree(AT_FDCWD, c"/dev/null", false, false)?;
    let stat = fstat(&null)?;
    let is_null = file_type(&null)? == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3);
    if is_null {
        Ok(null)
    } else {
        Err(Errno::ENODEV)
    }
}
