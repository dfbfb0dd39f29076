//! LIMIT: the container's cgroup, from the plan to its removal; one layer over v2, v1 and hybrid
//! hosts.
//!
//! [`CgroupPlan`] decides and touches nothing; [`Cgroup`] is what exists; [`Record`] finds it
//! again. A new process gets in by itself, through [`Doors`].
#![forbid(unsafe_code)]

mod apply;
mod devices;
mod dir;
mod doors;
mod host;
mod owner;
mod path;
mod resources;
pub mod stats;
pub mod systemd;
mod v1;
mod v2;
mod view;
mod watch;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests;

use crate::bundle::config::{Config, Resources};
use crate::error::{Doing, Error, Result};
use crate::isolate::ids::IdMaps;
use crate::isolate::namespaces::Namespaces;
use crate::lexical;
use dir::{Dir, is_gone, rmdir};
pub(crate) use doors::Doors;
use host::{Mode, Own};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode as Permissions;
use nix::unistd::mkdir;
use resources::{Limits, Write};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
pub use watch::{Notice, Watch};

/// What is known before anything is touched: where the cgroup goes and what is written into it.
#[derive(Debug)]
pub(crate) struct CgroupPlan {
    spot: Spot,
    limits: Limits,
    /// `None` leaves the rules as they are.
    devices: Option<devices::Policy>,
    /// Made through systemd.
    unit: Option<systemd::UnitPlan>,
    rootless: bool,
    /// The host's id of the user who may part the cgroup; `None` leaves it ours.
    owner: Option<u32>,
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

/// What state.json keeps of the cgroup, enough to find it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Absolute paths by controllers, as runc's `cgroup_paths`: the key is empty for v2.
    #[serde(default)]
    paths: BTreeMap<String, String>,
    /// The scope that it belongs to, if systemd made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    unit: String,
    /// The scope is of the user's own systemd.
    #[serde(default, skip_serializing_if = "is_false")]
    user: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(yes: &bool) -> bool {
    !yes
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
    /// One of those, which systemd owns.
    Systemd(systemd::Unit),
    /// Rootless, and nothing could be made; nothing was asked either.
    Unmanaged,
}

impl CgroupPlan {
    /// Pure apart from host facts: parses cgroupsPath, converts the limits, checks every rule.
    /// `systemd` asks for a scope, with what the annotations say of it.
    pub(crate) fn new(
        cgroups_path: &str,
        id: &str,
        resources: Option<&Resources>,
        systemd: Option<&BTreeMap<String, String>>,
        rootless: bool,
    ) -> Result<Self> {
        let nothing = Resources::default();
        let resources = resources.unwrap_or(&nothing);
        let mode = Mode::detect()?;
        let mut limits = Limits::plan(mode, resources)?;
        let policy = devices::Policy::plan(&resources.devices)?;
        let mut unit = None;
        let mut path = String::new();
        if let Some(annotations) = systemd {
            systemd::round(&mut limits.writes);
            let writes = &limits.writes;
            let user = rootless;
            let one = systemd::UnitPlan::new(cgroups_path, id, user, annotations, writes, &policy)?;
            path = one.path("");
            unit = Some(one);
        }
        let wanted = match unit {
            Some(_) => path::Wanted::parse(&path, id)?,
            None => path::Wanted::parse(cgroups_path, id)?,
        };
        let own = if wanted.is_relative() {
            Some(Own::read()?)
        } else {
            None
        };
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
            devices: Some(policy),
            unit,
            rootless,
            owner: None,
            is_default: wanted.is_default(),
        })
    }

    /// Decides whose it will be.
    pub(crate) fn owned(
        self,
        config: &Config,
        namespaces: &Namespaces,
        maps: Option<&IdMaps>,
    ) -> Self {
        Self {
            owner: owner::plan(config, namespaces, maps),
            ..self
        }
    }

    /// For `update`: what is set in `resources` is written, all else stays; so do device rules.
    pub(crate) fn update(resources: &Resources) -> Result<Self> {
        Ok(Self {
            spot: Spot::There,
            limits: Limits::plan(Mode::detect()?, resources)?,
            devices: None,
            unit: None,
            rootless: false,
            owner: None,
            is_default: false,
        })
    }

    /// Where the cgroup will be, to be written down before it is made.
    pub(crate) fn record(&self) -> Record {
        let user = self.unit.as_ref().is_some_and(|unit| unit.user);
        let paths = match &self.spot {
            Spot::There => BTreeMap::new(),
            // Where the user's systemd keeps its units, only it knows.
            Spot::V2(_) if user => BTreeMap::new(),
            Spot::V2(path) => BTreeMap::from([(String::new(), path.clone())]),
            Spot::V1(spots) => spots
                .iter()
                .map(|spot| (spot.controllers.clone(), spot.path.clone()))
                .collect(),
        };
        let unit = self.unit.as_ref().map(systemd::UnitPlan::unit);
        Record {
            paths,
            unit: unit.unwrap_or_default().into(),
            user,
        }
    }

    /// Makes the directories, refusing a frozen or populated cgroup. Undoes itself on failure.
    pub(crate) fn make(&self) -> Result<Cgroup> {
        let mut made = Made::default();
        let lenient = self.rootless && self.is_default;
        let writes = &self.limits.writes;
        let cgroup = match &self.spot {
            Spot::There => return Err(Error::rule(Doing::MakeCgroup, "an update makes no cgroup")),
            Spot::V2(_) if let Some(unit) = &self.unit => {
                return unit.make(Cgroup::Unmanaged).map(Cgroup::Systemd);
            }
            Spot::V2(path) => match v2::Group::make(path, writes, &mut made) {
                Ok(group) => Cgroup::V2(group),
                Err(error) if lenient && is_refusal(&error) => {
                    if let Some(write) = writes.first() {
                        let why = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";
                        return Err(error
                            .within(Doing::MakeCgroup)
                            .on(path)
                            .field(format_args!("linux.resources.{}", write.field))
                            .hint(why));
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
        Ok(match &self.unit {
            Some(unit) => Cgroup::Systemd(unit.make(cgroup)?),
            None => cgroup,
        })
    }
}

impl Cgroup {
    /// The cgroup of a record; also when it is gone meanwhile.
    pub(crate) fn open(record: &Record) -> Result<Self> {
        let mut paths = record.paths();
        let files = match (paths.next(), paths.next()) {
            (None, _) => Self::Unmanaged,
            (Some(("", path)), None) => Self::V2(v2::Group::open(path)?),
            _ => Self::V1(v1::Groups {
                branches: record
                    .paths()
                    .map(|(names, path)| v1::Branch::new(names, path))
                    .collect(),
                fresh: false,
            }),
        };
        Ok(match &*record.unit {
            "" => files,
            unit => Self::Systemd(systemd::Unit::open(unit, record.user, files)),
        })
    }

    /// The v2 cgroup that a process is in.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let own = Own::of_process(pid)?;
        let path = lexical::clean(own.path("").unwrap_or_default());
        Ok(Self::V2(v2::Group::open(&format!(
            "{}/{path}",
            host::ROOT
        ))?))
    }

    /// What [`open`](Self::open) needs.
    pub(crate) fn record(&self) -> Record {
        let paths = match self {
            Self::Systemd(unit) => {
                let mut record = unit.files().record();
                if record.paths.is_empty() && unit.is_new() {
                    record.paths.insert(String::new(), unit.path().into());
                }
                record.unit = unit.name().into();
                record.user = unit.is_users();
                return record;
            }
            Self::V2(group) => BTreeMap::from([(String::new(), group.path.to_string())]),
            Self::V1(groups) => {
                let branches = groups.branches.iter();
                branches
                    .map(|one| (one.controllers.to_string(), one.path.to_string()))
                    .collect()
            }
            Self::Unmanaged => BTreeMap::new(),
        };
        Record {
            paths,
            ..Record::default()
        }
    }

    /// Whether systemd is still to put the container's process in, by [`put_in`](Self::put_in).
    pub(crate) fn awaits_process(&self) -> bool {
        matches!(self, Self::Systemd(unit) if unit.is_new())
    }

    /// Has systemd make the scope around the container's first process.
    pub(crate) fn put_in(&self, plan: &CgroupPlan, pid: i32) -> Result<()> {
        match (self, &plan.unit) {
            (Self::Systemd(unit), Some(asked)) => unit.start(asked, pid, &plan.limits.writes),
            _ => Ok(()),
        }
    }

    /// The cgroup below this one that `exec --cgroup` names: a path for all controllers (its name
    /// empty), or paths for some. It must exist when a process enters.
    pub(crate) fn below(&self, wishes: &[(&str, &str)]) -> Result<Self> {
        let refuse = |why: String| Err(Error::rule(Doing::JoinCgroup, why));
        let mut record = self.record();
        let paths = &mut record.paths;
        for (controllers, sub) in wishes {
            if sub.split('/').any(|part| part == "..") {
                return refuse(format!("bad sub cgroup path: {sub}"));
            }
            let sub = lexical::clean(sub);
            for controller in controllers.split(',') {
                let mut known = false;
                for (names, path) in &mut *paths {
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
        Self::open(&record)
    }

    /// The cgroup in which the files are, whoever owns it.
    fn files(&self) -> &Self {
        match self {
            Self::Systemd(unit) => unit.files(),
            files => files,
        }
    }

    /// The directory that holds a controller's files.
    fn dir(&self, controller: &str) -> Result<Option<&Dir>> {
        match self {
            Self::Systemd(unit) => unit.files().dir(controller),
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

    /// Stops every process in the cgroup; returns when they stand still.
    pub(crate) fn freeze(&self) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.files().freeze(),
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
            Self::Systemd(unit) => unit.files().thaw(),
            Self::V2(group) => group.thaw(),
            Self::V1(groups) => groups.thaw(),
            Self::Unmanaged => Ok(()),
        }
    }

    /// Whether this cgroup itself was frozen.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match self {
            Self::Systemd(unit) => unit.files().is_frozen(),
            Self::V2(group) => group.is_frozen(),
            Self::V1(groups) => groups.is_frozen(),
            Self::Unmanaged => Ok(false),
        }
    }

    /// Every process in the cgroup and below it, in this process's pid namespace.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        match self {
            Self::Systemd(unit) => unit.files().pids(),
            Self::V2(group) => group.dir.as_ref().map_or(Ok(Vec::new()), Dir::pids),
            Self::V1(groups) => groups.pids(),
            Self::Unmanaged => Ok(Vec::new()),
        }
    }

    /// Signals every process in the cgroup and below it (SIGKILL by cgroup.kill where there is one).
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.files().signal(signal),
            Self::V2(group) => group.signal(signal),
            Self::V1(groups) => groups.signal(signal),
            Self::Unmanaged => Ok(()),
        }
    }

    /// Kills what is left, waits until empty, removes the directories bottom-up. Absent is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.remove(),
            Self::V2(group) => group.remove(),
            Self::V1(groups) => groups.remove(),
            Self::Unmanaged => Ok(()),
        }
    }

    /// Whether the kernel's OOM killer has struck in here.
    pub(crate) fn oom_killed(&self) -> bool {
        let file = match self {
            Self::Systemd(unit) => return unit.files().oom_killed(),
            Self::V2(_) => "memory.events",
            _ => "memory.oom_control",
        };
        let dir = self.dir("memory").ok().flatten();
        dir.and_then(|dir| dir.number(file, "oom_kill "))
            .is_some_and(|count| count > 0)
    }
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
