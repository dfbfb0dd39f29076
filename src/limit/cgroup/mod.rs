//! LIMIT: the container's cgroup, from the plan to its removal; one layer over v2, v1 and hybrid
//! hosts.
//!
//! [`CgroupPlan`] decides and touches nothing; [`Cgroup`] is what exists; [`Record`] finds it
//! again. A new process gets in by itself, through [`Doors`], or is [placed](Cgroup::place).
//! The systemd driver will be one more arm of [`Cgroup`] and of its plan.
#![forbid(unsafe_code)]

mod devices;
mod dir;
mod host;
mod path;
mod resources;
mod v1;
mod v2;
mod view;

#[cfg(test)]
mod tests;

use crate::bundle::config::Resources;
use crate::error::{Act, Doing, Error, Explain, Result};
use dir::{Dir, is_gone, rmdir};
use host::{Mode, Own};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode as Permissions;
use nix::unistd::{mkdir, write};
use resources::{Limits, Mercy, Write};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is known before anything is touched: where the cgroup goes and what is written into it.
#[derive(Debug)]
pub(crate) struct CgroupPlan {
    spot: Spot,
    limits: Limits,
    /// `None` leaves the rules as they are.
    devices: Option<devices::Policy>,
    rootless: bool,
    /// No path was asked for: when rootless, being refused one is then no failure.
    is_default: bool,
}

#[derive(Debug)]
enum Spot {
    V2(String),
    V1(Vec<v1::Spot>),
    /// Of an update: wherever the cgroup is.
    There,
}

/// How a new process gets into the cgroup.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// v2: clone3 with CLONE_INTO_CGROUP and this directory.
    CloneInto(BorrowedFd<'a>),
    /// v1, hybrid: [`Cgroup::place`] after the clone, or much cheaper [`Cgroup::doors`] before it.
    MovePid,
    /// No cgroup is managed (rootless without delegation): nothing to do.
    Stay,
}

/// The way in for a child, opened by its parent: [`enter`](Doors::enter) is its first act.
///
/// On v1 a process that moves itself costs 0.1 ms for all hierarchies, one that is moved 14 ms
/// (see [`v1::Branch::door`]). The kernel judges the parent's credentials, taken at the opening.
#[derive(Debug)]
pub(crate) struct Doors<'a> {
    into: Option<BorrowedFd<'a>>,
    tasks: Vec<(OwnedFd, &'a v1::Branch)>,
    v2: Option<&'a v2::Group>,
}

/// What state.json keeps of the cgroup, enough to find it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Absolute paths by controllers, as runc's `cgroup_paths`: the key is empty for v2.
    #[serde(default)]
    paths: BTreeMap<String, String>,
}

impl Record {
    /// The cgroup's directories: controllers (`cpu,cpuacct`, `name=systemd`, empty for v2) and
    /// absolute path.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        self.paths
            .iter()
            .map(|(controllers, path)| (controllers.as_str(), path.as_str()))
    }
}

/// A cgroup that exists, opened. Once it is gone, it is empty and removed.
#[derive(Debug)]
pub(crate) enum Cgroup {
    V2(v2::Group),
    V1(v1::Groups),
    /// Rootless, and nothing could be made; nothing was asked either.
    Unmanaged,
}

impl CgroupPlan {
    /// Pure apart from host facts: parses cgroupsPath, converts the limits, checks every rule.
    pub(crate) fn new(
        cgroups_path: &str,
        id: &str,
        resources: Option<&Resources>,
        systemd: bool,
        rootless: bool,
    ) -> Result<Self> {
        if systemd {
            return Err(
                Error::rule(Doing::PlanCgroup, "the systemd driver is not built yet")
                    .hint("leave out --systemd-cgroup, and give cgroupsPath as a path"),
            );
        }
        let nothing = Resources::default();
        let resources = resources.unwrap_or(&nothing);
        let wanted = path::Wanted::parse(cgroups_path, id)?;
        let own = if wanted.is_relative() {
            Some(Own::read()?)
        } else {
            None
        };
        let mode = Mode::detect();
        let limits = Limits::plan(mode, resources)?;
        let spot = match mode {
            Mode::V2 => Spot::V2(wanted.on_v2(own.as_ref())?),
            Mode::V1 => {
                let mut spots = Vec::new();
                for one in host::hierarchies(wanted.is_relative())? {
                    if let Some(path) = wanted.on_v1(&one, own.as_ref()) {
                        spots.push(v1::Spot {
                            controllers: one.controllers,
                            mount: one.mount,
                            path,
                        });
                    }
                }
                let has = |name: &str| {
                    spots
                        .iter()
                        .any(|one| one.controllers.split(',').any(|c| c == name))
                };
                if let Some(write) = limits.writes.iter().find(|write| !has(&write.controller)) {
                    return Err(unjoined(write, "it is not mounted on this host"));
                }
                if !has("devices") && !rootless {
                    let why =
                        "no cgroup hierarchy for devices is mounted: devices could not be denied";
                    return Err(Error::rule(Doing::PlanCgroup, why));
                }
                Spot::V1(spots)
            }
        };
        Ok(Self {
            spot,
            limits,
            devices: Some(devices::Policy::plan(&resources.devices)?),
            rootless,
            is_default: wanted.is_default(),
        })
    }

    /// For `update`: what is set in `resources` is written, all else stays; so do device rules.
    pub(crate) fn update(resources: &Resources) -> Result<Self> {
        Ok(Self {
            spot: Spot::There,
            limits: Limits::plan(Mode::detect(), resources)?,
            devices: None,
            rootless: false,
            is_default: false,
        })
    }

    /// Where the cgroup will be, to be written down before it is made.
    pub(crate) fn record(&self) -> Record {
        let paths = match &self.spot {
            Spot::There => BTreeMap::new(),
            Spot::V2(path) => BTreeMap::from([(String::new(), path.clone())]),
            Spot::V1(spots) => spots
                .iter()
                .map(|spot| (spot.controllers.clone(), spot.path.clone()))
                .collect(),
        };
        Record { paths }
    }

    /// Makes the directories, refusing a frozen or populated cgroup. Undoes itself on failure.
    pub(crate) fn make(&self) -> Result<Cgroup> {
        let mut made = Made::default();
        let lenient = self.rootless && self.is_default;
        let writes = &self.limits.writes;
        let cgroup = match &self.spot {
            Spot::There => return Err(Error::rule(Doing::MakeCgroup, "an update makes no cgroup")),
            Spot::V2(path) => match v2::Group::make(path, writes, &mut made) {
                Ok(group) => Cgroup::V2(group),
                Err(error) if lenient && is_refusal(&error) => {
                    if !writes.is_empty() {
                        let why = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
                        return Err(error.within(Doing::MakeCgroup).on(path).hint(why));
                    }
                    return Ok(Cgroup::Unmanaged);
                }
                Err(error) => return Err(error),
            },
            Spot::V1(spots) => {
                let groups = v1::Groups::make(spots, writes, lenient, &mut made)?;
                let refused = writes
                    .iter()
                    .find(|write| groups.branch(&write.controller).is_none());
                if let Some(write) = refused {
                    return Err(unjoined(write, "permission denied"));
                }
                if groups.branches.is_empty() {
                    return Ok(Cgroup::Unmanaged);
                }
                Cgroup::V1(groups)
            }
        };
        made.keep();
        Ok(cgroup)
    }
}

impl Cgroup {
    /// The cgroup of a record; also when it is gone meanwhile.
    pub(crate) fn open(record: &Record) -> Result<Self> {
        let mut paths = record.paths();
        Ok(match (paths.next(), paths.next()) {
            (None, _) => Self::Unmanaged,
            (Some(("", path)), None) => Self::V2(v2::Group::open(path)?),
            _ => Self::V1(v1::Groups {
                branches: record
                    .paths()
                    .map(|(names, path)| v1::Branch::new(names, path))
                    .collect(),
                fresh: false,
            }),
        })
    }

    /// What [`open`](Self::open) needs.
    pub(crate) fn record(&self) -> Record {
        let paths = match self {
            Self::V2(group) => BTreeMap::from([(String::new(), group.path.to_string())]),
            Self::V1(groups) => {
                let branches = groups.branches.iter();
                branches
                    .map(|one| (one.controllers.to_string(), one.path.to_string()))
                    .collect()
            }
            Self::Unmanaged => BTreeMap::new(),
        };
        Record { paths }
    }

    /// The cgroup below this one that `exec --cgroup` names: a path for all controllers (its name
    /// empty), or paths for some. It must exist when a process enters.
    pub(crate) fn below(&self, wishes: &[(&str, &str)]) -> Result<Self> {
        let refuse = |why: String| Err(Error::rule(Doing::JoinCgroup, why));
        let mut paths = self.record().paths;
        for (controllers, sub) in wishes {
            if sub.split('/').any(|part| part == "..") {
                return refuse(format!("bad sub cgroup path: {sub}"));
            }
            let sub = path::clean(sub);
            for controller in controllers.split(',') {
                let mut known = false;
                for (names, path) in &mut paths {
                    let short = |name: &str| {
                        name == controller || name.strip_prefix("name=") == Some(controller)
                    };
                    if controller.is_empty() || names.split(',').any(short) {
                        known = true;
                        if !sub.is_empty() {
                            *path = format!("{path}/{sub}");
                        }
                    }
                }
                if !known {
                    return refuse(format!("unknown controller {controller}"));
                }
            }
        }
        Self::open(&Record { paths })
    }

    /// How a new process gets in, if not through [`doors`](Self::doors).
    pub(crate) fn entry(&self) -> Entry<'_> {
        match self {
            Self::V2(group) => group
                .dir
                .as_ref()
                .map_or(Entry::MovePid, |dir| Entry::CloneInto(dir.fd())),
            Self::V1(_) => Entry::MovePid,
            Self::Unmanaged => Entry::Stay,
        }
    }

    /// Opens the way in for a child that is about to be cloned.
    pub(crate) fn doors(&self) -> Result<Doors<'_>> {
        let mut doors = Doors {
            into: None,
            tasks: Vec::new(),
            v2: None,
        };
        match self {
            Self::V2(group) => {
                let gone = || Error::os(Doing::JoinCgroup, Errno::ENOENT).on(&group.path);
                doors.into = Some(group.dir.as_ref().ok_or_else(gone)?.fd());
                doors.v2 = Some(group);
            }
            Self::V1(groups) => {
                for branch in &groups.branches {
                    if branch.controllers.is_empty() {
                        doors.into = branch.dir()?.map(Dir::fd);
                    }
                    match branch.door() {
                        Ok(door) => doors.tasks.push((door, branch)),
                        Err(_) if branch.is_optional() => {}
                        Err(errno) => {
                            return Err(Error::os(Doing::JoinCgroup, errno).on(&branch.path));
                        }
                    }
                }
            }
            Self::Unmanaged => {}
        }
        Ok(doors)
    }

    /// Moves a process in (v1 in every hierarchy, v2 as fallback).
    pub(crate) fn place(&self, pid: i32) -> Result<()> {
        match self {
            Self::V2(group) => {
                let subject = format_args!("{} (adding pid {pid})", group.path);
                let dir = group.dir.as_ref().ok_or(Errno::ENOENT);
                let placed = dir.and_then(|dir| dir.write("cgroup.procs", &pid.to_string()));
                placed.doing(Doing::JoinCgroup).on(subject)
            }
            Self::V1(groups) => groups.place(pid),
            Self::Unmanaged => Ok(()),
        }
    }

    /// The directory that holds a controller's files.
    fn dir(&self, controller: &str) -> Result<Option<&Dir>> {
        match self {
            Self::V2(group) => Ok(group.dir.as_ref()),
            Self::V1(groups) => groups.branch(controller).map_or(Ok(None), v1::Branch::dir),
            Self::Unmanaged => Ok(None),
        }
    }

    /// Reads one of the cgroup's files; `None` if there is none.
    pub(crate) fn read(&self, controller: &str, file: &str) -> Result<Option<String>> {
        let Some(dir) = self.dir(controller)? else {
            return Ok(None);
        };
        match dir.read(file) {
            Ok(text) => Ok(Some(text)),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => {
                let subject = format_args!("{}/{file}", dir.path());
                Err(Error::os(Doing::ReadCgroup, errno).on(subject))
            }
        }
    }

    /// Writes the limits.
    pub(crate) fn apply_limits(&self, plan: &CgroupPlan) -> Result<()> {
        self.check_usage(&plan.limits)?;
        let written =
            matches!(self, Self::V1(groups) if groups.fresh) && !matches!(plan.spot, Spot::There);
        let mut later = Vec::new();
        for write in &plan.limits.writes {
            if written && Limits::is_early(write) {
                continue;
            }
            let dir = self.dir(&write.controller)?;
            let dir = dir.ok_or_else(|| unjoined(write, "the cgroup is not there"))?;
            write_one(dir, write, &mut later)?;
        }
        for write in later {
            if let Some(dir) = self.dir(&write.controller)? {
                write_again(dir, write)?;
            }
        }
        Ok(())
    }

    /// Puts the device rules in force. Not while init makes its devices: rules are replaced by
    /// denying everything first.
    pub(crate) fn apply_rules(&self, plan: &CgroupPlan) -> Result<()> {
        let Some(policy) = &plan.devices else {
            return Ok(());
        };
        match self.apply_devices(policy) {
            // Device files are out of reach for such users, and the rules too.
            Err(error) if plan.rootless || (is_refusal(&error) && host::in_user_namespace()) => {
                Ok(())
            }
            result => result.field("linux.resources.devices"),
        }
    }

    fn apply_devices(&self, policy: &devices::Policy) -> Result<()> {
        match self {
            // A new cgroup has no filter, which allows everything already.
            Self::V2(group) if group.fresh && policy.allows_all() => Ok(()),
            Self::V2(group) => {
                let gone = || Error::os(Doing::LoadDeviceFilter, Errno::ENOENT).on(&group.path);
                let dir = group.dir.as_ref().ok_or_else(gone)?;
                devices::attach(dir.fd(), policy, group.fresh).on(&group.path)
            }
            Self::V1(_) => {
                let Some(dir) = self.dir("devices")? else {
                    return Err(Error::rule(Doing::WriteCgroup, "no devices cgroup"));
                };
                let mut opened: Option<(&str, OwnedFd)> = None;
                for (name, line) in policy.lines()? {
                    let subject = format_args!("{}/{name} ({line:?})", dir.path());
                    let file = match opened.take() {
                        Some((known, file)) if known == name => file,
                        _ => dir
                            .file(name, OFlag::O_WRONLY)
                            .doing(Doing::WriteCgroup)
                            .on(subject)?,
                    };
                    write(&file, line.as_bytes())
                        .doing(Doing::WriteCgroup)
                        .on(subject)?;
                    opened = Some((name, file));
                }
                Ok(())
            }
            Self::Unmanaged => Ok(()),
        }
    }

    /// `checkBeforeUpdate`: refuses a limit below what is used now.
    fn check_usage(&self, limits: &Limits) -> Result<()> {
        let (Some((limit, swap)), Some(dir)) = (limits.below, self.dir("memory")?) else {
            return Ok(());
        };
        let Some(usage) = dir.number("memory.current", "") else {
            return Ok(()); // as far as it can be known
        };
        for (name, value, field) in [("memory+swap", swap, "swap"), ("memory", limit, "limit")] {
            if value > 0 && u64::try_from(value).is_ok_and(|value| value <= usage) {
                let why = format!("rejecting {name} limit {value} <= usage {usage}");
                let field = format_args!("linux.resources.memory.{field}");
                return Err(Error::rule(Doing::WriteCgroup, why)
                    .field(field)
                    .on(dir.path()));
            }
        }
        Ok(())
    }

    /// Stops every process in the cgroup; returns when they stand still.
    pub(crate) fn freeze(&self) -> Result<()> {
        match self {
            Self::V2(group) => group.freeze(),
            Self::V1(groups) => groups.freeze(),
            Self::Unmanaged => {
                let why = "cannot toggle freezer: cgroups not configured for container";
                Err(Error::rule(Doing::Freeze, why))
            }
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        match self {
            Self::V2(group) => group.thaw(),
            Self::V1(groups) => groups.thaw(),
            Self::Unmanaged => Ok(()),
        }
    }

    /// Whether this cgroup itself was frozen.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match self {
            Self::V2(group) => group.is_frozen(),
            Self::V1(groups) => groups.is_frozen(),
            Self::Unmanaged => Ok(false),
        }
    }

    /// Every process in the cgroup and below it, in this process's pid namespace.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        match self {
            Self::V2(group) => group.dir.as_ref().map_or(Ok(Vec::new()), Dir::pids),
            Self::V1(groups) => groups.pids(),
            Self::Unmanaged => Ok(Vec::new()),
        }
    }

    /// Signals every process in the cgroup and below it (SIGKILL by cgroup.kill where there is one).
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match self {
            Self::V2(group) => group.signal(signal),
            Self::V1(groups) => groups.signal(signal),
            Self::Unmanaged => Ok(()),
        }
    }

    /// Kills what is left, waits until empty, removes the directories bottom-up. Absent is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        match self {
            Self::V2(group) => group.remove(),
            Self::V1(groups) => groups.remove(),
            Self::Unmanaged => Ok(()),
        }
    }

    /// Whether the kernel's OOM killer has struck in here.
    pub(crate) fn oom_killed(&self) -> bool {
        let file = match self {
            Self::V2(_) => "memory.events",
            _ => "memory.oom_control",
        };
        let dir = self.dir("memory").ok().flatten();
        dir.and_then(|dir| dir.number(file, "oom_kill "))
            .is_some_and(|count| count > 0)
    }
}

impl Doors<'_> {
    /// For clone3 with CLONE_INTO_CGROUP: the v2 cgroup, also a hybrid host's. Optional: without
    /// it, [`enter`](Self::enter) does the whole way.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.into
    }

    /// The calling process goes in; it must have one thread. `cloned` says that it was cloned into
    /// [`clone_into`](Self::clone_into).
    pub(crate) fn enter(&self, cloned: bool) -> Result<()> {
        for (door, branch) in &self.tasks {
            if cloned && branch.controllers.is_empty() {
                continue;
            }
            match write(door, b"0") {
                Err(errno) if !branch.is_optional() => {
                    return Err(Error::os(Doing::JoinCgroup, errno).on(&branch.path));
                }
                _ => {}
            }
        }
        match self.v2 {
            Some(v2::Group { dir: Some(dir), .. }) if !cloned => dir
                .write("cgroup.procs", "0")
                .doing(Doing::JoinCgroup)
                .on(dir.path()),
            _ => Ok(()),
        }
    }
}

/// Writes one value; what the kernel may take only after others goes to `later`.
fn write_one<'a>(dir: &Dir, write: &'a Write, later: &mut Vec<&'a Write>) -> Result<()> {
    match (dir.write(&write.file, &write.value), &write.mercy) {
        (Err(Errno::ENOENT), Mercy::Absent | Mercy::LaterOrAbsent) => Ok(()),
        (Err(Errno::ENOENT), Mercy::Or(file, value)) => dir
            .write(file, value)
            .map_err(|errno| refused(dir, write, errno)),
        (Err(Errno::EINVAL), Mercy::Later | Mercy::LaterOrAbsent) => {
            later.push(write);
            Ok(())
        }
        (Ok(()), Mercy::ReadBack) => {
            let got = dir.number(&write.file, "");
            match (got, write.value.parse::<u64>().ok()) {
                (Some(got), Some(wanted)) if got != wanted => {
                    let bound = if wanted > got { "maximum" } else { "minimum" };
                    Err(missing(
                        write,
                        &format!("the {bound} allowed cpu-shares is {got}"),
                    ))
                }
                _ => Ok(()),
            }
        }
        (result, _) => result.map_err(|errno| refused(dir, write, errno)),
    }
}

/// Writes what had to wait.
fn write_again(dir: &Dir, write: &Write) -> Result<()> {
    dir.write(&write.file, &write.value)
        .map_err(|errno| refused(dir, write, errno))
}

/// The error of a value that the kernel did not take.
fn refused(dir: &Dir, write: &Write, errno: Errno) -> Error {
    if errno == Errno::EBUSY && write.file == "memory.limit_in_bytes" {
        let number = |name| dir.number(name, "").unwrap_or(0);
        let (usage, peak) = (
            number("memory.usage_in_bytes"),
            number("memory.max_usage_in_bytes"),
        );
        let limit = &write.value;
        let why = format!(
            "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
        );
        return missing(write, &why);
    }
    if errno == Errno::ENOENT {
        let controllers = dir.read("cgroup.controllers");
        let has = |all: String| all.split_whitespace().any(|one| *one == *write.controller);
        if controllers.is_ok_and(|all| !has(all)) && write.controller != "cgroup" {
            return missing(
                write,
                &format!("controller {:?} not available", write.controller),
            );
        }
    }
    Error::os(Doing::WriteCgroup, errno)
        .on(format_args!(
            "{}/{} ({:?})",
            dir.path(),
            write.file,
            write.value
        ))
        .field(format_args!("linux.resources.{}", write.field))
}

/// The error of a limit that cannot be had here.
fn missing(write: &Write, why: &str) -> Error {
    Error::rule(Doing::WriteCgroup, why)
        .on(&write.file)
        .field(format_args!("linux.resources.{}", write.field))
}

/// The same on v1, in runc's words.
fn unjoined(write: &Write, why: &str) -> Error {
    let limit = &write.controller;
    missing(
        write,
        &format!("cannot set {limit} limit: container could not join or create cgroup ({why})"),
    )
}

fn not_empty(count: usize) -> Error {
    let why = format!("container's cgroup is not empty: {count} process(es) found");
    Error::rule(Doing::MakeCgroup, why).hint("another container may use this cgroupsPath")
}

fn unexpectedly_frozen() -> Error {
    Error::rule(Doing::MakeCgroup, "container's cgroup unexpectedly frozen")
        .hint("thaw or remove it")
}

/// Whether we may not: the answers that a user without privileges gets.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS)
    )
}

/// The directories made so far: dropped, they are removed again, newest first.
#[derive(Debug, Default)]
struct Made(Vec<String>);

impl Made {
    fn push(&mut self, path: &str) {
        self.0.push(path.into());
    }

    /// Makes a directory and those of its parents below `floor` that are missing.
    fn parents(&mut self, path: &str, floor: &str) -> Result<()> {
        let from = floor.len() + 1;
        let below = path.get(from..).unwrap_or_default();
        let ends = below
            .match_indices('/')
            .map(|(at, _)| from + at)
            .chain([path.len()]);
        for end in ends {
            let one = path.get(..end).unwrap_or(path);
            match mkdir(one, Permissions::from_bits_truncate(0o755)) {
                Ok(()) => self.push(one),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Error::os(Doing::MakeCgroup, errno).on(one)),
            }
        }
        Ok(())
    }

    /// All went well: they stay.
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // The failure that led here is the one to tell.
            rmdir(path).unwrap_or_default();
        }
    }
}
