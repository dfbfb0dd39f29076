//! LIMIT, before anything is made: which cgroup hierarchies this host has, and where we are in them.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Error, Explain, Result};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode as Permissions;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where every distribution mounts cgroups.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// The v2 tree that systemd's hybrid hosts have beside the v1 ones.
pub(super) const UNIFIED: &str = "unified";

/// What [`ROOT`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One v2 tree.
    V2,
    /// A directory of v1 hierarchies, perhaps with a v2 tree among them (hybrid).
    V1,
}

impl Mode {
    /// One system call, as runc decides it; with nothing there at all, what is missing is told of v1.
    pub(super) fn detect() -> Result<Self> {
        #[cfg(any(test, fuzzing))]
        if let Some(mode) = fixed::mode() {
            return Ok(mode);
        }
        match statfs(ROOT) {
            Ok(fs) if fs.filesystem_type() == CGROUP2_SUPER_MAGIC => Ok(Self::V2),
            Ok(_) | Err(Errno::ENOENT) => Ok(Self::V1),
            Err(errno) => Err(Error::os(Doing::PlanCgroup, errno).on(ROOT)),
        }
    }
}

/// The v1 controllers that a container joins: runc's list. Others (`debug`) are left alone.
const CONTROLLERS: &[&str] = &[
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
    "misc",
];

/// A mounted v1 hierarchy, or the v2 tree of a hybrid host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// `cpu,cpuacct`, `name=systemd`; empty for the v2 tree.
    pub(super) controllers: String,
    /// Its mount point.
    pub(super) mount: String,
    /// What of the hierarchy is mounted there; `/` but in containers without a cgroup namespace.
    pub(super) root: String,
}

impl Hierarchy {
    /// Of these controllers, mounted whole.
    fn whole(controllers: &str, mount: String) -> Self {
        Self {
            controllers: controllers.into(),
            mount,
            root: "/".into(),
        }
    }

    /// Whether it is one that only names processes: runc joins those where it can, and goes on
    /// where it cannot.
    pub(super) fn is_optional(controllers: &str) -> bool {
        controllers.is_empty() || controllers == "misc" || controllers.starts_with("name=")
    }
}

/// The hierarchies of a v1 host.
///
/// Listing [`ROOT`] costs four system calls on any host; mountinfo grows with every container that
/// runs, so it is read only where the names do not tell (`exact`: a path relative to our own
/// cgroup needs the mounts' roots).
pub(super) fn hierarchies(exact: bool) -> Result<Vec<Hierarchy>> {
    if !exact {
        let listed = listed()?;
        if !listed.is_empty() {
            return Ok(listed);
        }
    }
    Ok(parse_mountinfo(&proc_file("/proc/self/mountinfo")?))
}

/// A file of procfs, whole.
fn proc_file(path: &str) -> Result<String> {
    #[cfg(any(test, fuzzing))]
    if let Some(mode) = fixed::mode() {
        return Ok(fixed::proc_file(mode, path));
    }
    let bytes = std::fs::read(path).doing(Doing::ReadProc).on(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The hierarchies, by the names of their mount points.
fn listed() -> Result<Vec<Hierarchy>> {
    #[cfg(any(test, fuzzing))]
    if fixed::mode().is_some() {
        return Ok(Vec::new());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = match Dir::open(ROOT, flags, Permissions::empty()) {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(Error::os(Doing::ReadCgroup, errno).on(ROOT)),
    };
    let mut found = Vec::new();
    for entry in dir.iter() {
        let entry = entry.doing(Doing::ReadCgroup).on(ROOT)?;
        // `cpu -> cpu,cpuacct` and its like are links; mount points are directories.
        if entry.file_type() != Some(Type::Directory) {
            continue;
        }
        if let Ok(name) = entry.file_name().to_str() {
            found.extend(by_name(name));
        }
    }
    Ok(found)
}

/// The hierarchy that is mounted at [`ROOT`]`/name` by custom.
fn by_name(name: &str) -> Option<Hierarchy> {
    let controllers = match name {
        UNIFIED => "",
        "systemd" => "name=systemd",
        _ if name.split(',').all(|c| CONTROLLERS.contains(&c)) => name,
        _ => return None,
    };
    Some(Hierarchy::whole(controllers, format!("{ROOT}/{name}")))
}

/// The hierarchies of proc_pid_mountinfo(5); the first mount of each.
pub(super) fn parse_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        // 36 35 98:0 /root /mount rw,noatime shared:1 - cgroup cgroup rw,cpu,cpuacct
        let Some((head, tail)) = line.split_once(" - ") else {
            continue;
        };
        let mut head = head.split(' ').skip(3);
        let mut tail = tail.split(' ');
        let (Some(root), Some(mount)) = (head.next(), head.next()) else {
            continue;
        };
        let controllers = match (tail.next(), tail.nth(1)) {
            (Some("cgroup"), Some(options)) => options
                .split(',')
                .filter(|option| CONTROLLERS.contains(option) || *option == "name=systemd")
                .collect::<Vec<_>>()
                .join(","),
            (Some("cgroup2"), _) if mount.ends_with("/unified") => String::new(),
            _ => continue,
        };
        let known = found.iter().any(|one| one.controllers == controllers);
        if !known && (!controllers.is_empty() || mount.ends_with("/unified")) {
            found.push(Hierarchy {
                controllers,
                mount: mount.into(),
                root: root.into(),
            });
        }
    }
    found
}

/// A process's place in every hierarchy: proc_pid_cgroup(5), read once.
#[derive(Debug)]
pub(super) struct Own(String);

impl Own {
    /// Our own.
    pub(super) fn read() -> Result<Self> {
        proc_file("/proc/self/cgroup").map(Self)
    }

    /// The same of another process.
    pub(super) fn of_process(pid: i32) -> Result<Self> {
        proc_file(&format!("/proc/{pid}/cgroup")).map(Self)
    }

    /// Our cgroup's directory in a v1 hierarchy; `None` where we are in none.
    pub(super) fn place(&self, hierarchy: &Hierarchy) -> Option<String> {
        let first = hierarchy.controllers.split(',').next()?;
        let own = self.path(first)?;
        // Without a cgroup namespace a nested runtime sees the host's path and a mount of a part.
        let below = own
            .strip_prefix(hierarchy.root.trim_end_matches('/'))
            .filter(|below| below.is_empty() || below.starts_with('/'));
        let below = below.unwrap_or(own).trim_matches('/');
        Some(
            format!("{}/{below}", hierarchy.mount)
                .trim_end_matches('/')
                .to_owned(),
        )
    }

    /// For tests: as if procfs had said this.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of(text: &str) -> Self {
        Self(text.into())
    }

    /// The cgroup in the hierarchy of that controller; empty for v2.
    pub(super) fn path(&self, controller: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names
                .split(',')
                .any(|name| name == controller)
                .then_some(path)
        })
    }
}

/// For fuzzers: a host that is the same everywhere, and of which nothing is read.
#[cfg(any(test, fuzzing))]
pub(super) mod fixed {
    use super::{CONTROLLERS, Mode, ROOT};
    use std::cell::Cell;

    thread_local!(static MODE: Cell<Option<Mode>> = const { Cell::new(None) });

    /// What this thread's host is; `None`: what it is.
    pub(super) fn mode() -> Option<Mode> {
        MODE.get()
    }

    /// Acts on such a host.
    pub(in super::super) fn on<T>(mode: Mode, act: impl FnOnce() -> T) -> T {
        let before = MODE.replace(Some(mode));
        let done = act();
        MODE.set(before);
        done
    }

    pub(super) fn proc_file(mode: Mode, path: &str) -> String {
        let each = |line: &dyn Fn(usize, &str) -> String| match mode {
            Mode::V2 => String::new(),
            Mode::V1 => CONTROLLERS
                .iter()
                .enumerate()
                .map(|(index, name)| line(index, name))
                .collect(),
        };
        match path {
            "/proc/self/cgroup" => {
                each(&|index, name| format!("{}:{name}:/session\n", index + 1)) + "0::/session/1\n"
            }
            _ => each(&|index, name| {
                format!("{index} 1 0:{index} / {ROOT}/{name} rw - cgroup cgroup rw,{name}\n")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_known_by_name() {
        let of = |name| by_name(name).map(|one| one.controllers);
        assert_eq!(of("cpu,cpuacct").as_deref(), Some("cpu,cpuacct"));
        assert_eq!(of("systemd").as_deref(), Some("name=systemd"));
        assert_eq!(of("unified").as_deref(), Some(""));
        assert_eq!(of("debug"), None);
        assert_eq!(of("cpu,debug"), None);
    }

    #[test]
    fn mountinfo_gives_mounts_and_their_roots() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct rw,ro master:3 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:29 /docker/x /mnt rw - cgroup cgroup rw,cpu,cpuacct\n\
            34 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
            35 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = parse_mountinfo(text);
        let names: Vec<_> = found.iter().map(|one| one.controllers.as_str()).collect();
        assert_eq!(names, ["cpu,cpuacct", "name=systemd", ""]);
        assert_eq!(found[0].root, "/docker/x");
    }

    #[test]
    fn our_own_cgroup_is_below_the_root_of_its_mount() {
        let place = |root: &str, path: &str| {
            let hierarchy = Hierarchy {
                root: root.into(),
                ..Hierarchy::whole("pids", "/m".into())
            };
            Own(format!("1:pids:{path}\n")).place(&hierarchy)
        };
        assert_eq!(place("/", "/docker/x").as_deref(), Some("/m/docker/x"));
        assert_eq!(place("/docker", "/docker/x").as_deref(), Some("/m/x"));
        assert_eq!(place("/docker", "/docker").as_deref(), Some("/m"));
        assert_eq!(
            place("/docker", "/docker2/x").as_deref(),
            Some("/m/docker2/x")
        );
    }

    #[test]
    fn our_own_cgroup_is_found_by_controller() {
        let own = Own("4:memory:/a:b\n1:cpu,cpuacct:/c\n9:name=systemd:/s\n0::/u\n".into());
        assert_eq!(own.path("memory"), Some("/a:b"));
        assert_eq!(own.path("cpuacct"), Some("/c"));
        assert_eq!(own.path("name=systemd"), Some("/s"));
        assert_eq!(own.path(""), Some("/u"));
        assert_eq!(own.path("pids"), None);
    }
}
