//! Facts of this machine, each probed at most once and only when something asks.
#![forbid(unsafe_code)]

use nix::sys::statfs::{FsType, statfs};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// What this host is and has.
#[derive(Debug, Default)]
pub struct Host {
    apparmor: OnceCell<bool>,
    selinux: OnceCell<bool>,
    in_user_ns: OnceCell<bool>,
    resctrl: OnceCell<Option<PathBuf>>,
}

impl Host {
    /// A host of which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For fuzzers: a host with both security modules and without Intel RDT, where root is root.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn fixed() -> Self {
        Self {
            apparmor: OnceCell::from(true),
            selinux: OnceCell::from(true),
            in_user_ns: OnceCell::from(false),
            resctrl: OnceCell::from(None),
        }
    }

    /// Whether AppArmor confines programs here (sysfs says `Y`).
    #[must_use]
    pub fn has_apparmor(&self) -> bool {
        *self.apparmor.get_or_init(|| {
            std::fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with(b"Y"))
        })
    }

    /// Whether SELinux is enabled: its filesystem is mounted.
    #[must_use]
    pub fn has_selinux(&self) -> bool {
        *self
            .selinux
            .get_or_init(|| Path::new("/sys/fs/selinux/enforce").exists())
    }

    /// Whether the runtime itself runs in a user namespace other than the first: its uid map is
    /// not the identity on all ids (user_namespaces(7)).
    #[must_use]
    pub fn in_user_namespace(&self) -> bool {
        *self.in_user_ns.get_or_init(in_user_namespace)
    }

    /// Where the resctrl filesystem is mounted, if it is.
    #[must_use]
    pub fn resctrl(&self) -> Option<&Path> {
        self.resctrl.get_or_init(find_resctrl).as_deref()
    }

    /// Whether the runtime may not do what root on the host may.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        !nix::unistd::geteuid().is_root() || self.in_user_namespace()
    }
}

/// At its usual place, or wherever else somebody has mounted it.
fn find_resctrl() -> Option<PathBuf> {
    const USUAL: &str = "/sys/fs/resctrl";
    /// RDTGROUP_SUPER_MAGIC, linux/magic.h.
    const MAGIC: FsType = FsType(0x0765_5821);
    if statfs(USUAL).is_ok_and(|fs| fs.filesystem_type() == MAGIC) {
        return Some(USUAL.into());
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    resctrl_in(&table).map(PathBuf::from)
}

/// Its mount point in the text of a mountinfo (proc_pid_mountinfo(5)).
fn resctrl_in(mountinfo: &str) -> Option<&str> {
    let line = mountinfo
        .lines()
        .find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4)
}

/// As [`Host::in_user_namespace`], for the rare question that has no `Host` at hand.
pub(crate) fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_mapped(&map))
}

fn is_mapped(uid_map: &str) -> bool {
    !uid_map.is_empty() && uid_map.split_whitespace().ne(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::{is_mapped, resctrl_in};

    #[test]
    fn resctrl_is_found_wherever_it_is_mounted() {
        let table = "22 20 0:5 / /dev rw - devtmpfs dev rw\n\
                     40 20 0:7 / /mnt/rdt rw,relatime shared:3 - resctrl resctrl rw\n";
        assert_eq!(resctrl_in(table), Some("/mnt/rdt"));
        assert_eq!(
            resctrl_in("22 20 0:5 / /resctrl rw - tmpfs resctrl rw\n"),
            None
        );
    }

    #[test]
    fn only_the_first_user_namespace_has_all_ids_one_to_one() {
        assert!(!is_mapped("         0          0 4294967295\n"));
        assert!(is_mapped("         0       1000          1\n"));
        assert!(!is_mapped(""), "a kernel without user namespaces");
    }
}
