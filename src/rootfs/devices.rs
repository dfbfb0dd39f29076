//! `/dev`: the default devices and links, and `linux.devices` (config-linux.md).
#![forbid(unsafe_code)]

use super::{Leaf, Root, c_string, file_type};
use crate::bundle::config::{Config, Device as Asked};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::mount;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// What is made in /dev; `None` in [`Devices::plan`] when /dev is the host's.
#[derive(Debug)]
pub(crate) struct Devices {
    nodes: Vec<Node>,
    /// In a user namespace mknod(2) is not ours to use: the host's nodes are bound instead.
    bind: bool,
}

#[derive(Debug)]
struct Node {
    /// Below the root.
    path: String,
    /// The host's node of the same path, to bind.
    host: CString,
    kind: SFlag,
    number: u64,
    mode: Mode,
    owner: (u32, u32),
    field: String,
}

/// config-linux.md, "Default Devices": all character devices of mode 0666 and root's.
const DEFAULTS: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// runtime-linux.md, "Dev symbolic links", and ptmx of config-linux.md.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

impl Devices {
    pub(crate) fn plan(config: &Config, user_namespace: bool) -> Result<Self> {
        let mut nodes = Vec::new();
        for (index, asked) in config.linux.devices.iter().enumerate() {
            nodes.push(Node::plan(asked, &format!("linux.devices[{index}]"))?);
        }
        for (path, major, minor) in DEFAULTS {
            if nodes.iter().any(|node| node.path == path) {
                continue;
            }
            nodes.push(Node {
                path: path.to_owned(),
                host: c_string(path, "")?,
                kind: SFlag::S_IFCHR,
                number: makedev(major, minor),
                mode: Mode::from_bits_truncate(0o666),
                owner: (0, 0),
                field: "default device".to_owned(),
            });
        }
        Ok(Self {
            nodes,
            bind: user_namespace,
        })
    }

    /// Makes nodes and links; the umask must be 0.
    pub(crate) fn make(&self, root: &Root) -> Result<()> {
        let dev = root
            .make("/dev", Leaf::Dir)
            .doing(Doing::MakeTarget)
            .on("/dev")?;
        for node in &self.nodes {
            let made = if self.bind {
                node.bind(root)
            } else {
                node.make(root, &dev)
            };
            match made {
                // A runtime that may not mknod (in a container itself) can still bind.
                Err(Errno::EPERM) if !self.bind => node.bind(root),
                made => made,
            }
            .doing(Doing::MakeDevice)
            .on(&node.path)
            .field(&node.field)?;
        }
        for (name, target) in LINKS {
            link(&dev, name, target)
                .doing(Doing::MakeLink)
                .on(format_args!("/dev/{name}"))?;
        }
        Ok(())
    }
}

impl Node {
    fn plan(asked: &Asked, field: &str) -> Result<Self> {
        fn fail<T>(field: &str, part: &str, why: String) -> Result<T> {
            Err(Error::rule(Doing::CheckConfig, why).field(format!("{field}.{part}")))
        }
        let kind = match asked.typ.as_str() {
            "c" | "u" => SFlag::S_IFCHR,
            "b" => SFlag::S_IFBLK,
            "p" => SFlag::S_IFIFO,
            other => {
                return fail(
                    field,
                    "type",
                    format!("unknown device type {other:?}: c, b, u or p"),
                );
            }
        };
        if !asked.path.starts_with('/') {
            return fail(
                field,
                "path",
                format!("{:?} is not an absolute path", asked.path),
            );
        }
        let part = |name: &str, number: Option<i64>| match number.map(u32::try_from) {
            Some(Ok(number)) => Ok(u64::from(number)),
            // config-linux.md: "REQUIRED unless type is p".
            None => fail(field, name, "a device needs its numbers".to_owned()),
            Some(Err(_)) => fail(field, name, format!("{} is no number", number.unwrap_or(0))),
        };
        let number = match kind {
            SFlag::S_IFIFO => 0,
            _ => makedev(part("major", asked.major)?, part("minor", asked.minor)?),
        };
        Ok(Self {
            path: asked.path.clone(),
            host: c_string(&asked.path, &format!("{field}.path"))?,
            kind,
            number,
            mode: Mode::from_bits_truncate(asked.file_mode.unwrap_or(0o666) & 0o7777),
            owner: (asked.uid.unwrap_or(0), asked.gid.unwrap_or(0)),
            field: field.to_owned(),
        })
    }

    /// Makes the node in the directory that the path leads to inside the root
    /// (CVE-2026-41579: a /dev that is a symlink).
    fn make(&self, root: &Root, dev: &OwnedFd) -> nix::Result<()> {
        let (parent, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let deeper;
        let dir = if parent == "/dev" {
            dev
        } else {
            deeper = root.make(parent, Leaf::Dir)?;
            &deeper
        };
        match mknodat(dir, name, self.kind, self.mode, self.number) {
            // The image, or a mount of the user's, has it: it must be the same device.
            Err(Errno::EEXIST) => self.verify(dir, name),
            Err(errno) => Err(errno),
            Ok(()) if self.owner == (0, 0) => Ok(()),
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
                fchownat(
                    dir,
                    name,
                    Some(uid),
                    Some(gid),
                    AtFlags::AT_SYMLINK_NOFOLLOW,
                )
            }
        }
    }

    fn verify(&self, dir: &OwnedFd, name: &str) -> nix::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(dir, name, flags, Mode::empty())?;
        let same = file_type(&found)? == self.kind
            && (self.kind == SFlag::S_IFIFO || fstat(&found)?.st_rdev == self.number);
        if same { Ok(()) } else { Err(Errno::EEXIST) }
    }

    fn bind(&self, root: &Root) -> nix::Result<()> {
        let node = mount::clone_tree(AT_FDCWD, &self.host, false, true)?;
        let target = root.make(&self.path, Leaf::File)?;
        root.attach(node.as_fd(), target.as_fd())
    }
}

/// Makes a link, in place of a file that the image may have left there.
fn link(dev: &OwnedFd, name: &str, target: &str) -> nix::Result<()> {
    match symlinkat(target, dev, name) {
        Err(Errno::EEXIST) if name == "ptmx" => {
            unlinkat(dev, name, UnlinkatFlags::NoRemoveDir)?;
            symlinkat(target, dev, name)
        }
        Err(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Devices> {
        let config =
            serde_json::from_str(&format!(r#"{{"linux":{{"devices":[{json}]}}}}"#)).unwrap();
        Devices::plan(&config, false)
    }

    #[test]
    fn a_listed_device_replaces_the_default_of_its_path() {
        let plan =
            plan(r#"{"type":"c","path":"/dev/null","major":1,"minor":3,"fileMode":384,"uid":5}"#)
                .unwrap();
        assert_eq!(plan.nodes.len(), DEFAULTS.len());
        assert_eq!(
            (plan.nodes[0].mode.bits(), plan.nodes[0].owner),
            (0o600, (5, 0))
        );
    }

    #[test]
    fn type_path_and_numbers_are_checked() {
        for (json, field) in [
            (r#"{"type":"x","path":"/dev/a"}"#, "linux.devices[0].type"),
            (r#"{"type":"c","path":"dev/a"}"#, "linux.devices[0].path"),
            (
                r#"{"type":"c","path":"/dev/a","major":-1}"#,
                "linux.devices[0].major",
            ),
        ] {
            assert!(plan(json).unwrap_err().to_string().contains(field));
        }
    }
}
