//! Facts of this machine, each probed at most once and only when something asks.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::path::Path;

/// What this host is and has.
#[derive(Debug, Default)]
pub struct Host {
    apparmor: OnceCell<bool>,
    selinux: OnceCell<bool>,
    in_user_ns: OnceCell<bool>,
}

impl Host {
    /// A host of which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        *self.in_user_ns.get_or_init(|| {
            std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
                let mut words = map.split_ascii_whitespace();
                (words.next(), words.next(), words.next())
                    != (Some("0"), Some("0"), Some("4294967295"))
            })
        })
    }

    /// Whether the runtime may not do what root on the host may.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        !nix::unistd::geteuid().is_root() || self.in_user_namespace()
    }
}
