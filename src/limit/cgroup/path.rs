//! LIMIT, planned: cgroupsPath becomes the absolute path of each cgroup; the only parser of it.
#![forbid(unsafe_code)]

use super::host::{self, Hierarchy, Own};
use crate::error::{Doing, Error, Result};
use crate::lexical::clean;

/// The field that all refusals here are about.
const FIELD: &str = "linux.cgroupsPath";

/// config-linux.md "Cgroups path", cleaned of `.`, `..` and double slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `/a/b`: below the mount point of each hierarchy.
    Absolute(String),
    /// `a/b`: below the runtime's own cgroup; kept without a leading slash.
    Relative(String),
    /// Nothing was asked: the container's id, as if it were relative.
    Default(String),
}

/// What the kernel takes for a path, its NUL included; there is one for each hierarchy.
const PATH_MAX: usize = 4096;

impl Wanted {
    /// Reads cgroupsPath for the cgroupfs driver.
    ///
    /// `..` never leads out: it is resolved as at the root of a tree, as runc does.
    pub(super) fn parse(cgroups_path: &str, id: &str) -> Result<Self> {
        if cgroups_path.contains('\0') {
            return Err(refuse("a path cannot hold a NUL byte"));
        }
        if cgroups_path.len() >= PATH_MAX {
            return Err(refuse("no path is that long"));
        }
        let clean = clean(cgroups_path);
        match (cgroups_path.starts_with('/'), clean.is_empty()) {
            (true, true) => Err(refuse("the root cgroup cannot be a container's")
                .hint("name a cgroup below it, as /my-container")),
            (true, false) => Ok(Self::Absolute(clean)),
            (false, true) => Ok(Self::Default(id.into())),
            (false, false) => Ok(Self::Relative(clean)),
        }
    }

    /// Whether the user left the choice to us; rootless errors are forgiven only then.
    pub(super) fn is_default(&self) -> bool {
        matches!(self, Self::Default(_))
    }

    /// Whether our own cgroup must be known to place it.
    pub(super) fn is_relative(&self) -> bool {
        !matches!(self, Self::Absolute(_))
    }

    /// The path without a leading slash, whatever it is relative to.
    fn tail(&self) -> &str {
        match self {
            Self::Absolute(path) | Self::Relative(path) | Self::Default(path) => path,
        }
    }

    /// The cgroup's path on a v2 host.
    ///
    /// A relative one goes *beside* our own cgroup, not below it: ours holds processes, so it
    /// cannot give controllers to children (cgroup-v2.rst, "No Internal Process Constraint").
    pub(super) fn on_v2(&self, own: Option<&Own>) -> Result<String> {
        let tail = self.tail();
        if !self.is_relative() {
            return Ok(format!("{}/{tail}", host::ROOT));
        }
        let own = own.and_then(|own| own.path(""));
        let own = own.ok_or_else(|| refuse("our own cgroup is not in /proc/self/cgroup"))?;
        let beside = own.rsplit_once('/').map_or("", |(parent, _)| parent);
        Ok(join(host::ROOT, &join(&clean(beside), tail)))
    }

    /// The cgroup's path in one hierarchy of a v1 host; `None` where we are in no cgroup of it.
    pub(super) fn on_v1(&self, hierarchy: &Hierarchy, own: Option<&Own>) -> Option<String> {
        let tail = self.tail();
        if !self.is_relative() {
            return Some(join(&hierarchy.mount, tail));
        }
        // The v2 tree of a hybrid host is used from its top, as runc does.
        let first = hierarchy.controllers.split(',').next().unwrap_or_default();
        if first.is_empty() {
            return Some(join(&hierarchy.mount, tail));
        }
        let own = own?.path(first)?;
        // Without a cgroup namespace a nested runtime sees the host's path and a mount of a part.
        let below = own
            .strip_prefix(hierarchy.root.trim_end_matches('/'))
            .unwrap_or(own);
        Some(join(&hierarchy.mount, &join(&clean(below), tail)))
    }
}

/// An error about cgroupsPath.
fn refuse(why: &str) -> Error {
    Error::rule(Doing::PlanCgroup, why).field(FIELD)
}

/// `a/b`, or whichever is not empty.
fn join(a: &str, b: &str) -> String {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.into(),
        (_, true) => a.into(),
        _ => format!("{a}/{b}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(path: &str, own: &str) -> String {
        let own = Own::of(&format!("0::{own}\n"));
        Wanted::parse(path, "id")
            .unwrap()
            .on_v2(Some(&own))
            .unwrap()
    }

    fn v1(path: &str, root: &str, own: &str) -> Option<String> {
        let own = Own::of(&format!("4:cpu,cpuacct:{own}\n0::/x\n"));
        let hierarchy = Hierarchy {
            controllers: "cpu,cpuacct".into(),
            mount: "/m".into(),
            root: root.into(),
        };
        Wanted::parse(path, "id")
            .unwrap()
            .on_v1(&hierarchy, Some(&own))
    }

    #[test]
    fn an_absolute_path_is_below_the_mount_point() {
        assert_eq!(v2("/docker/abc", "/s"), "/sys/fs/cgroup/docker/abc");
        assert_eq!(v1("/docker//abc/", "/", "/s").unwrap(), "/m/docker/abc");
    }

    #[test]
    fn a_relative_path_is_below_our_cgroup_on_v1_and_beside_it_on_v2() {
        assert_eq!(v2("a/b", "/user/session"), "/sys/fs/cgroup/user/a/b");
        assert_eq!(v2("a", "/"), "/sys/fs/cgroup/a");
        assert_eq!(v1("a/b", "/", "/own").unwrap(), "/m/own/a/b");
        assert_eq!(v1("a", "/", "/").unwrap(), "/m/a");
        assert_eq!(v1("a", "/docker/x", "/docker/x/sub").unwrap(), "/m/sub/a");
    }

    #[test]
    fn no_path_means_the_id() {
        assert_eq!(v2("", "/user/session"), "/sys/fs/cgroup/user/id");
        assert_eq!(v1("", "/", "/own").unwrap(), "/m/own/id");
        assert!(Wanted::parse("", "id").unwrap().is_default());
    }

    #[test]
    fn dots_never_lead_out() {
        assert_eq!(v2("/../../etc", "/"), "/sys/fs/cgroup/etc");
        assert_eq!(v1("../../../x", "/", "/own").unwrap(), "/m/own/x");
        assert_eq!(v1("a/../../b/./c", "/", "/own").unwrap(), "/m/own/b/c");
    }

    #[test]
    fn the_root_cgroup_and_nul_bytes_are_refused() {
        for path in ["/", "/..", "//./", "/a\0b"] {
            let error = Wanted::parse(path, "id").unwrap_err().to_string();
            assert!(error.contains("linux.cgroupsPath"), "{error}");
        }
    }
}
