//! `linux.namespaces`: which are new, which are joined (config-linux.md, "Namespaces").
#![forbid(unsafe_code)]

use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::clone::{NEWTIME, bits, setns};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxNamespaceType as Kind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub(crate) const MOUNT: u64 = bits(CloneFlags::CLONE_NEWNS);
pub(crate) const CGROUP: u64 = bits(CloneFlags::CLONE_NEWCGROUP);
pub(crate) const UTS: u64 = bits(CloneFlags::CLONE_NEWUTS);
pub(crate) const IPC: u64 = bits(CloneFlags::CLONE_NEWIPC);
pub(crate) const USER: u64 = bits(CloneFlags::CLONE_NEWUSER);
pub(crate) const PID: u64 = bits(CloneFlags::CLONE_NEWPID);
pub(crate) const NET: u64 = bits(CloneFlags::CLONE_NEWNET);
pub(crate) const TIME: u64 = NEWTIME;

/// Every kind: its clone flag, its name in config.json and its name in `/proc/PID/ns`.
pub(crate) const KINDS: [(Kind, u64, &str, &str); 8] = [
    (Kind::Cgroup, CGROUP, "cgroup", "cgroup"),
    (Kind::Ipc, IPC, "ipc", "ipc"),
    (Kind::Mount, MOUNT, "mount", "mnt"),
    (Kind::Network, NET, "network", "net"),
    (Kind::Pid, PID, "pid", "pid"),
    (Kind::Time, TIME, "time", "time"),
    (Kind::User, USER, "user", "user"),
    (Kind::Uts, UTS, "uts", "uts"),
];

/// A kind's name in config.json: the spec's, not that which `Kind` prints.
pub(crate) fn word(kind: Kind) -> &'static str {
    let known = KINDS.iter().find(|one| one.0 == kind);
    known.map_or("", |one| one.2)
}

/// The namespaces of a container, decided.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW*` of those to be made.
    pub(crate) new: u64,
    /// `CLONE_NEW*` of those to be joined.
    pub(crate) joined: u64,
    joins: Vec<Join>,
}

#[derive(Debug)]
struct Join {
    flag: u64,
    path: PathBuf,
    field: String,
}

/// A namespace to be joined, opened while host paths still mean what the config meant.
#[derive(Debug)]
pub(crate) struct Opened {
    flag: u64,
    fd: OwnedFd,
    field: String,
    path: PathBuf,
}

impl Namespaces {
    pub(crate) fn plan(config: &Config) -> Result<Self> {
        let mut out = Self::default();
        for (index, namespace) in config.linux.namespaces.iter().enumerate() {
            let field = format!("linux.namespaces[{index}]");
            let Some((_, flag, name, _)) = KINDS.iter().find(|kind| kind.0 == namespace.typ) else {
                return Err(Error::rule(Doing::CheckConfig, "unknown namespace type").field(field));
            };
            if (out.new | out.joined) & flag != 0 {
                // config-linux.md: "an error if a namespaces field contains duplicated ... type".
                return Err(
                    Error::rule(Doing::CheckConfig, "namespace type is listed twice")
                        .on(name)
                        .field(format!("{field}.type")),
                );
            }
            if namespace.path.is_empty() {
                out.new |= flag;
                continue;
            }
            let path = PathBuf::from(&namespace.path);
            let field = format!("{field}.path");
            if !path.is_absolute() {
                // config-linux.md: "This value MUST be an absolute path".
                return Err(Error::rule(Doing::CheckConfig, "the path must be absolute")
                    .on(path.display())
                    .field(field));
            }
            out.joined |= flag;
            out.joins.push(Join {
                flag: *flag,
                path,
                field,
            });
        }
        Ok(out)
    }

    /// Whether the container has a namespace of this kind apart from the runtime's, new or joined.
    pub(crate) fn has(&self, flag: u64) -> bool {
        (self.new | self.joined) & flag != 0
    }

    /// Whether the clone takes two steps: what a user, time or joined pid namespace changes holds
    /// only for processes born afterwards.
    pub(crate) fn need_bridge(&self) -> bool {
        self.has(USER) || self.new & TIME != 0 || self.joined & PID != 0
    }

    /// Whether the namespaces given by path are joined before the new user namespace is made: they
    /// belong to others, and whoever is in there may not join them. Without root's privileges it
    /// is only in there that anything may be joined.
    pub(crate) fn join_before_user(&self) -> bool {
        self.new & USER != 0 && self.joined != 0 && nix::unistd::geteuid().is_root()
    }

    /// Opens the namespaces to be joined; the user namespace, which changes what may be done to
    /// the others, comes last.
    pub(crate) fn open(&self) -> Result<Vec<Opened>> {
        let mut opened = Vec::with_capacity(self.joins.len());
        for join in &self.joins {
            let fd = open(
                &join.path,
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
            .doing(Doing::JoinNamespace)
            .on(join.path.display())
            .field(&join.field)?;
            opened.push(Opened {
                flag: join.flag,
                fd,
                field: join.field.clone(),
                path: join.path.clone(),
            });
        }
        opened.sort_by_key(|join| join.flag == USER);
        Ok(opened)
    }

    /// The names of the kinds in `flags`, as config.json writes them.
    pub(crate) fn names(flags: u64) -> Vec<String> {
        KINDS
            .iter()
            .filter(|kind| kind.1 & flags != 0)
            .map(|kind| kind.2.to_owned())
            .collect()
    }
}

impl Opened {
    /// The descriptor, if it is of a namespace of that kind.
    pub(crate) fn of_kind(&self, flag: u64) -> Option<BorrowedFd<'_>> {
        (self.flag == flag).then(|| self.fd.as_fd())
    }
}

/// Joins namespaces given by path, except the kinds in `but`.
///
/// Some joins need the privileges of the user namespace we are in, some those of the one we are
/// going to: what EPERM refuses before the user namespace is tried again behind it.
pub(crate) fn join(opened: &[Opened], but: u64) -> Result<()> {
    let enters_user = opened
        .iter()
        .any(|join| join.flag == USER && join.flag & but == 0);
    let mut later = Vec::new();
    for join in opened.iter().filter(|join| join.flag & but == 0) {
        match setns(join.fd.as_fd(), join.flag) {
            Err(Errno::EPERM) if enters_user && join.flag != USER => later.push(join),
            result => explain(result, join)?,
        }
    }
    for join in later {
        explain(setns(join.fd.as_fd(), join.flag), join)?;
    }
    Ok(())
}

fn explain(result: nix::Result<()>, join: &Opened) -> Result<()> {
    let failed = result
        .doing(Doing::JoinNamespace)
        .on(join.path.display())
        .field(&join.field);
    match result {
        // setns(2): the file is no namespace, or one of another kind.
        Err(Errno::EINVAL) => failed.hint("is it a namespace of the type given?"),
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(namespaces: &str) -> Config {
        serde_json::from_str(&format!("{{\"linux\":{{\"namespaces\":{namespaces}}}}}")).unwrap()
    }

    #[test]
    fn new_and_joined_namespaces_are_told_apart() {
        let plan = Namespaces::plan(&config(
            r#"[{"type":"pid"},{"type":"network","path":"/proc/1/ns/net"}]"#,
        ))
        .unwrap();
        assert_eq!((plan.new, plan.joined), (PID, NET));
        assert!(!plan.need_bridge());
    }

    #[test]
    fn a_type_given_twice_is_an_error() {
        let error = Namespaces::plan(&config(r#"[{"type":"pid"},{"type":"pid"}]"#)).unwrap_err();
        assert!(error.to_string().contains("linux.namespaces[1].type"));
    }

    #[test]
    fn a_relative_path_is_an_error() {
        let error = Namespaces::plan(&config(r#"[{"type":"pid","path":"ns"}]"#)).unwrap_err();
        assert!(error.to_string().contains("linux.namespaces[0].path"));
    }

    #[test]
    fn user_time_and_joined_pid_namespaces_need_the_bridge() {
        for json in [
            r#"[{"type":"user"}]"#,
            r#"[{"type":"time"}]"#,
            r#"[{"type":"pid","path":"/proc/1/ns/pid"}]"#,
        ] {
            assert!(Namespaces::plan(&config(json)).unwrap().need_bridge());
        }
    }
}
