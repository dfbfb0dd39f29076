//! LIMIT, live on v1 and hybrid hosts: one directory in each hierarchy
//! (Documentation/admin-guide/cgroup-v1).
#![forbid(unsafe_code)]

use super::Made;
use super::apply::{write_again, write_one};
use super::dir::{Dir, is_gone, rmdir};
use super::host::Hierarchy;
use super::resources::{Limits, Write};
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use nix::unistd::write;
use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

/// What a v1 cpuset must have before it takes a process.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Where one directory goes, before it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) controllers: String,
    pub(super) mount: String,
    pub(super) path: String,
}

/// The container's directory in one hierarchy; opened when first needed: most commands need one.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(super) controllers: Box<str>,
    pub(super) path: Box<str>,
    dir: OnceCell<Option<Dir>>,
}

/// The container's directories.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(super) branches: Vec<Branch>,
    /// Made by this process: cpuset and realtime values were written on the way.
    pub(super) fresh: bool,
}

impl Branch {
    pub(super) fn new(controllers: &str, path: &str) -> Self {
        Self {
            controllers: controllers.into(),
            path: path.into(),
            dir: OnceCell::new(),
        }
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }

    pub(super) fn is_optional(&self) -> bool {
        Hierarchy::is_optional(&self.controllers)
    }

    /// The directory; `None` once it is gone.
    pub(super) fn dir(&self) -> Result<Option<&Dir>> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir.as_ref());
        }
        let opened = Dir::open(&self.path)?;
        Ok(self.dir.get_or_init(|| opened).as_ref())
    }

    /// The file that takes the process which writes 0 to it.
    ///
    /// On v1 this is `tasks`: a thread that moves only itself need not wait until no process forks
    /// anywhere, as a write to cgroup.procs must (cgroup_threadgroup_rwsem: an RCU grace period,
    /// 14 ms measured on Linux 6.18 against 0.1 ms; since Linux 5.5).
    pub(super) fn door(&self) -> nix::Result<OwnedFd> {
        let name = if self.controllers.is_empty() {
            "cgroup.procs"
        } else {
            "tasks"
        };
        let path = format!("{}/{name}", self.path);
        open(
            path.as_str(),
            OFlag::O_WRONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
    }

    /// Moves another process in.
    fn place(&self, pid: i32) -> nix::Result<()> {
        let path = format!("{}/cgroup.procs", self.path);
        let file = open(
            path.as_str(),
            OFlag::O_WRONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let text = pid.to_string();
        for _ in 0..5 {
            match write(&file, text.as_bytes()) {
                // The process may be too new to be moved (TASK_NEW); runc waits as long.
                Err(Errno::EINVAL) => sleep(Duration::from_millis(30)),
                result => return result.map(drop),
            }
        }
        Err(Errno::EINVAL)
    }

    /// Kills all in here. The frozen get the signal only when they go on.
    fn kill(&self, dir: &Dir) -> Result<()> {
        dir.signal(Signal::SIGKILL)?;
        if self.has("freezer") {
            match dir.write("freezer.state", "THAWED") {
                Err(errno) if !is_gone(errno) => {
                    return Err(Error::os(Doing::Thaw, errno).on(&self.path));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Groups {
    /// Makes a directory in each hierarchy. With `lenient` (rootless, and no path was asked for)
    /// hierarchies that refuse are left out, as by runc.
    pub(super) fn make(
        spots: &[Spot],
        writes: &[Write],
        lenient: bool,
        made: &mut Made,
    ) -> Result<Self> {
        let mut branches = Vec::with_capacity(spots.len());
        let mut existing = Vec::new();
        for spot in spots {
            match spot.make(writes, made) {
                Ok(fresh) => {
                    if !fresh {
                        existing.push(branches.len());
                    }
                    branches.push(Branch::new(&spot.controllers, &spot.path));
                }
                Err(_) if Hierarchy::is_optional(&spot.controllers) => {}
                Err(error) if lenient && super::is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let groups = Self {
            branches,
            fresh: true,
        };
        for index in existing {
            if let Some(branch) = groups.branches.get(index) {
                groups.must_be_unused(branch)?;
            }
        }
        Ok(groups)
    }

    /// Refuses a directory that another uses. As runc, looks for processes where devices are
    /// decided, and for frost where it is made; all hierarchies would cost too much.
    fn must_be_unused(&self, branch: &Branch) -> Result<()> {
        let Some(dir) = branch.dir()? else {
            return Ok(());
        };
        if self.main().is_some_and(|main| main.path == branch.path) {
            let count = dir.pids()?.len();
            if count != 0 {
                return Err(super::not_empty(count).on(&branch.path));
            }
        }
        if branch.has("freezer") && self.is_frozen()? {
            return Err(super::unexpectedly_frozen().on(&branch.path));
        }
        Ok(())
    }

    pub(super) fn branch(&self, controller: &str) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.has(controller))
    }

    /// The hierarchy whose processes are the container's: runc's choice, or the next best.
    fn main(&self) -> Option<&Branch> {
        self.branch("devices").or_else(|| self.branches.first())
    }

    /// Moves a process into every hierarchy.
    pub(super) fn place(&self, pid: i32) -> Result<()> {
        for branch in &self.branches {
            match branch.place(pid) {
                Err(errno) if !branch.is_optional() => {
                    let subject = format_args!("{} (adding pid {pid})", branch.path);
                    return Err(Error::os(Doing::JoinCgroup, errno).on(subject));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn freezer(&self) -> Result<Option<&Dir>> {
        self.branch("freezer").map_or(Ok(None), Branch::dir)
    }

    /// Whether we froze it; an ancestor's frost is not ours.
    pub(super) fn is_frozen(&self) -> Result<bool> {
        let Some(dir) = self.freezer()? else {
            return Ok(false);
        };
        match dir.read("freezer.state") {
            Ok(state) if state.starts_with("THAWED") => Ok(false),
            Ok(_) => Ok(dir
                .read("freezer.self_freezing")
                .map_or(true, |own| !own.starts_with('0'))),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(Error::os(Doing::ReadCgroup, errno).on(dir.path())),
        }
    }

    /// Stops every process in here.
    ///
    /// FREEZING lasts while processes appear (fork, or an exec that joins); asking again, and
    /// thawing now and then, is the only way on v1. It lasts, too, until each process was on a cpu
    /// to notice: the waits grow, so that a busy machine gets some 50 ms before we thaw.
    pub(super) fn freeze(&self) -> Result<()> {
        let absent = || Error::rule(Doing::Freeze, "no freezer cgroup for this container");
        let dir = self.freezer()?.ok_or_else(absent)?;
        let set = |state| {
            dir.write("freezer.state", state)
                .doing(Doing::Freeze)
                .on(dir.path())
        };
        for round in 1..=1000 {
            if round % 50 == 0 {
                set("THAWED")?;
                sleep(Duration::from_millis(10));
            }
            set("FROZEN")?;
            if dir.must_read("freezer.state")?.starts_with("FROZEN") {
                return Ok(());
            }
            sleep(Duration::from_micros(10 << (round % 50).min(7)));
        }
        set("THAWED")?;
        Err(Error::rule(Doing::Freeze, "unable to freeze: processes keep appearing").on(dir.path()))
    }

    /// Lets them go on.
    pub(super) fn thaw(&self) -> Result<()> {
        let Some(dir) = self.freezer()? else {
            return Ok(());
        };
        match dir.write("freezer.state", "THAWED") {
            Err(errno) if !is_gone(errno) => Err(Error::os(Doing::Thaw, errno).on(dir.path())),
            _ => Ok(()),
        }
    }

    /// Every process in here and below.
    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        let dir = self.main().map_or(Ok(None), Branch::dir)?;
        dir.map_or(Ok(Vec::new()), Dir::pids)
    }

    /// Signals all, frozen meanwhile so that no fork escapes. A paused container stays paused,
    /// unless it is to die: the frozen cannot.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(dir) = self.main().map_or(Ok(None), Branch::dir)? else {
            return Ok(());
        };
        let was_frozen = self.is_frozen()?;
        // A freeze that fails only lets a fork slip through; the signal is still wanted.
        let frozen = !was_frozen && self.freeze().is_ok();
        let result = dir.signal(signal);
        if frozen || signal == Signal::SIGKILL {
            self.thaw()?;
        }
        result
    }

    /// Kills what is left and removes every directory; the first failure is told when all were
    /// tried.
    pub(super) fn remove(&self) -> Result<()> {
        let mut result = Ok(());
        for branch in &self.branches {
            if rmdir(&branch.path).is_ok() {
                continue;
            }
            let removed = match branch.dir() {
                Ok(Some(dir)) => dir.remove(|dir| branch.kill(dir)),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            result = result.and(removed);
        }
        result
    }
}

impl Spot {
    /// Makes the directory; tells whether it was not there before.
    fn make(&self, writes: &[Write], made: &mut Made) -> Result<bool> {
        let fresh = match mkdir(self.path.as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                made.push(&self.path);
                true
            }
            Err(Errno::EEXIST) => false,
            Err(Errno::ENOENT) => {
                made.parents(&self.path, &self.mount)?;
                true
            }
            Err(errno) => return Err(Error::os(Doing::MakeCgroup, errno).on(&self.path)),
        };
        let has = |name: &str| self.controllers.split(',').any(|one| one == name);
        let mut early = writes
            .iter()
            .filter(|write| Limits::is_early(write) && has(&write.controller))
            .peekable();
        if early.peek().is_none() && !has("cpuset") {
            return Ok(fresh);
        }
        let gone = || Error::os(Doing::MakeCgroup, Errno::ENOENT).on(&self.path);
        let dir = Dir::open(&self.path)?.ok_or_else(gone)?;
        // What is asked for goes first: what the parent has may be exclusive to another child.
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let inherited = if has("cpuset") {
            Some(self.fill_cpuset(parent)?)
        } else {
            None
        };
        let (mut later, mut asked) = (Vec::new(), Vec::new());
        for write in early {
            write_one(&dir, write, &mut later)?;
            asked.push(&*write.file);
        }
        for write in later {
            write_again(&dir, write)?;
        }
        let Some(inherited) = inherited else {
            return Ok(fresh);
        };
        if !fresh {
            self.fill_cpuset(&self.path)?;
            return Ok(fresh);
        }
        for (file, value) in CPUSET.into_iter().zip(inherited) {
            if !asked.contains(&file) {
                dir.must_write(file, value.trim())?;
            }
        }
        Ok(fresh)
    }

    /// Gives a cpuset what its parent has, where it has nothing: v1 starts empty, and an empty one
    /// takes no process. Returns cpus and mems.
    fn fill_cpuset(&self, path: &str) -> Result<[String; 2]> {
        let gone = || Error::os(Doing::ReadCgroup, Errno::ENOENT).on(path);
        let dir = Dir::open(path)?.ok_or_else(gone)?;
        let [cpus, mems] = CPUSET;
        let mut values = [dir.must_read(cpus)?, dir.must_read(mems)?];
        let is_empty = |value: &String| value.trim().is_empty();
        if path.len() <= self.mount.len() || !values.iter().any(is_empty) {
            return Ok(values);
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let inherited = self.fill_cpuset(parent)?;
        for ((value, inherited), file) in values.iter_mut().zip(inherited).zip(CPUSET) {
            if is_empty(value) {
                dir.must_write(file, inherited.trim())?;
                *value = inherited;
            }
        }
        Ok(values)
    }
}
