//! LIMIT, live on v2: one directory, its controllers, its events
//! (Documentation/admin-guide/cgroup-v2.rst).
#![forbid(unsafe_code)]

use super::dir::{Dir, is_gone, read_all, rmdir};
use super::host::ROOT;
use super::resources::Write;
use super::{Made, missing};
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek, mkdir};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a freeze may take: as long as runc waits.
const FREEZE: Duration = Duration::from_secs(10);

/// Controllers that cannot be in a threaded cgroup.
const DOMAIN: &[&str] = &["memory", "io", "hugetlb", "rdma", "misc"];

/// The container's cgroup; without a directory once it is gone.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) path: Box<str>,
    pub(super) dir: Option<Dir>,
    /// Made by this process: it has no device filter yet.
    pub(super) fresh: bool,
}

impl Group {
    /// The cgroup of a container that exists.
    pub(super) fn open(path: &str) -> Result<Self> {
        Ok(Self {
            path: path.into(),
            dir: Dir::open(path)?,
            fresh: false,
        })
    }

    /// Makes the cgroup and gives it every controller there is, as runc does: what runs in the
    /// container may want to limit its own parts.
    pub(super) fn make(path: &str, writes: &[Write], made: &mut Made) -> Result<Self> {
        let fresh = match mkdir(path, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                made.push(path);
                true
            }
            Err(Errno::EEXIST) => false,
            Err(Errno::ENOENT) => {
                made.parents(path, ROOT)?;
                true
            }
            Err(errno) => return Err(Error::os(Doing::MakeCgroup, errno).on(path)),
        };
        let gone = || Error::os(Doing::MakeCgroup, Errno::ENOENT).on(path);
        let dir = Dir::open(path)?.ok_or_else(gone)?;
        let group = Self {
            path: path.into(),
            dir: None,
            fresh,
        };
        if !fresh {
            group.must_be_unused(&dir)?;
        }
        group.enable(&dir, writes)?;
        Ok(Self {
            dir: Some(dir),
            ..group
        })
    }

    /// A cgroup that systemd has just made: gives it the controllers that systemd does not know.
    pub(super) fn adopt(path: &str, writes: &[Write]) -> Result<Self> {
        let group = Self::open(path)?;
        let dir = group
            .dir
            .as_ref()
            .ok_or_else(|| group.gone(Doing::MakeCgroup))?;
        group.enable(dir, writes)?;
        Ok(group)
    }

    /// Refuses a cgroup that another uses: runc's rule and words.
    fn must_be_unused(&self, dir: &Dir) -> Result<()> {
        let count = dir.pids()?.len();
        if count != 0 {
            return Err(super::not_empty(count).on(&self.path));
        }
        if dir
            .read("cgroup.freeze")
            .is_ok_and(|state| state.starts_with('1'))
        {
            return Err(super::unexpectedly_frozen().on(&self.path));
        }
        Ok(())
    }

    /// Enables controllers in the cgroups above, unless they are already.
    fn enable(&self, dir: &Dir, writes: &[Write]) -> Result<()> {
        let root =
            Dir::open(ROOT)?.ok_or_else(|| Error::os(Doing::ReadCgroup, Errno::ENOENT).on(ROOT))?;
        let all = root.must_read("cgroup.controllers")?;
        let mut ours = dir.must_read("cgroup.controllers")?;
        let mut refusal = None;
        if ours != all {
            refusal = self.enable_above(&root, &all, writes)?;
            ours = dir.must_read("cgroup.controllers")?;
            self.settle_type(dir, writes)?;
        }
        let has = |name: &str| name == "cgroup" || ours.split_whitespace().any(|one| one == name);
        let Some(write) = writes.iter().find(|write| !has(&write.controller)) else {
            return Ok(());
        };
        let error = missing(
            write,
            &format!("controller {:?} not available", write.controller),
        );
        Err(match refusal {
            Some((path, Errno::EBUSY)) => error.hint(format_args!(
                "{path} holds processes itself, so it cannot give controllers to cgroups below it"
            )),
            Some((path, errno)) => error.hint(format_args!("{path} refused it: {}", errno.desc())),
            None => error,
        })
    }

    /// Walks down from the root; what is refused is told back, for it may not matter.
    fn enable_above(
        &self,
        root: &Dir,
        all: &str,
        writes: &[Write],
    ) -> Result<Option<(String, Errno)>> {
        let mut refusal = None;
        let below = self.path.strip_prefix(ROOT).unwrap_or_default();
        let ends = below.match_indices('/').map(|(at, _)| at);
        for end in ends {
            let path = format!("{ROOT}{}", below.get(..end).unwrap_or_default());
            let opened;
            let dir = if end == 0 {
                root
            } else {
                opened = Dir::open(&path)?;
                let Some(dir) = &opened else { continue };
                // From the top down: below an invalid one, nothing can be made threaded.
                self.settle_type(dir, writes)?;
                dir
            };
            let enabled = dir.must_read("cgroup.subtree_control")?;
            let is_enabled = |name: &&str| enabled.split_whitespace().any(|one| one == *name);
            let missing: Vec<&str> = all
                .split_whitespace()
                .filter(|name| !is_enabled(name))
                .collect();
            if missing.is_empty() {
                continue;
            }
            let wish = format!("+{}", missing.join(" +"));
            if dir.write("cgroup.subtree_control", &wish).is_ok() {
                continue;
            }
            // All or nothing was nothing: take what can be had.
            for name in missing {
                if let Err(errno) = dir.write("cgroup.subtree_control", &format!("+{name}")) {
                    refusal = Some((path.clone(), errno));
                }
            }
        }
        Ok(refusal)
    }

    /// Below a threaded cgroup a new one is invalid until it is threaded too, which is right only
    /// for limits that count threads.
    fn settle_type(&self, dir: &Dir, writes: &[Write]) -> Result<()> {
        let Ok(kind) = dir.read("cgroup.type") else {
            return Ok(()); // the root has none
        };
        let kind = kind.trim();
        if kind == "domain" {
            return Ok(());
        }
        let needs_domain = |write: &&Write| DOMAIN.contains(&&*write.controller);
        if let Some(write) = writes.iter().find(needs_domain) {
            let why = match kind {
                "domain invalid" => {
                    "cannot enter cgroupv2 with domain controllers -- it is in an invalid state"
                        .into()
                }
                kind => {
                    format!("cannot enter cgroupv2 with domain controllers -- it is in {kind} mode")
                }
            };
            return Err(Error::rule(Doing::MakeCgroup, why)
                .on(&self.path)
                .field(format_args!("linux.resources.{}", write.field)));
        }
        if kind == "domain invalid" {
            dir.must_write("cgroup.type", "threaded")?;
        }
        Ok(())
    }

    /// Whether `cgroup.freeze` is set.
    pub(super) fn is_frozen(&self) -> Result<bool> {
        let Some(dir) = &self.dir else {
            return Ok(false);
        };
        match dir.read("cgroup.freeze") {
            Ok(state) => Ok(state.starts_with('1')),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(Error::os(Doing::ReadCgroup, errno).on(&self.path)),
        }
    }

    /// Stops every process in here, and waits until the kernel says that they stand still.
    pub(super) fn freeze(&self) -> Result<()> {
        let dir = self.dir.as_ref().ok_or_else(|| self.gone(Doing::Freeze))?;
        dir.write("cgroup.freeze", "1")
            .doing(Doing::Freeze)
            .on(&self.path)?;
        if self.await_event(dir, "frozen 1", FREEZE)? {
            return Ok(());
        }
        // Half frozen is worse than not at all.
        self.thaw()?;
        Err(Error::os(Doing::Freeze, Errno::ETIMEDOUT).on(&self.path))
    }

    /// Lets them go on. Nothing to do where there is nothing.
    pub(super) fn thaw(&self) -> Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        match dir.write("cgroup.freeze", "0") {
            Err(errno) if !is_gone(errno) => Err(Error::os(Doing::Thaw, errno).on(&self.path)),
            _ => Ok(()),
        }
    }

    fn gone(&self, doing: Doing) -> Error {
        Error::os(doing, Errno::ENOENT).on(&self.path)
    }

    /// Waits until `cgroup.events` has that line: the kernel announces changes as POLLPRI.
    fn await_event(&self, dir: &Dir, line: &str, patience: Duration) -> Result<bool> {
        let subject = format_args!("{}/cgroup.events", self.path);
        let doing = Doing::ReadCgroup;
        let events = dir
            .file("cgroup.events", OFlag::O_RDONLY)
            .doing(doing)
            .on(subject)?;
        let start = Instant::now();
        loop {
            match read_all(events.as_fd()) {
                Ok(text) if text.lines().any(|one| one == line) => return Ok(true),
                Ok(_) => {}
                Err(errno) if is_gone(errno) => return Ok(false),
                Err(errno) => return Err(Error::os(doing, errno).on(subject)),
            }
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let mut polled = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os(doing, errno).on(subject)),
            }
            lseek(&events, 0, Whence::SeekSet)
                .doing(doing)
                .on(subject)?;
        }
    }

    /// Signals all in here: SIGKILL in one act where the kernel (5.14) has it, so that no fork
    /// escapes; else frozen meanwhile.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        if signal == Signal::SIGKILL {
            match dir.write("cgroup.kill", "1") {
                Err(Errno::ENOENT) => {}
                Err(Errno::ENODEV) => return Ok(()),
                result => return result.doing(Doing::Signal).on(&self.path),
            }
        }
        let was_frozen = self.is_frozen()?;
        // A freeze that fails only lets a fork slip through; the signal is still wanted.
        let frozen = !was_frozen && self.freeze().is_ok();
        let result = dir.signal(signal);
        if frozen {
            self.thaw()?;
        }
        result
    }

    /// Kills what is left and removes the directory and those below.
    pub(super) fn remove(&self) -> Result<()> {
        if rmdir(&self.path).is_ok() {
            return Ok(());
        }
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        dir.remove(|dir| {
            if !dir.pids()?.is_empty() {
                self.signal(Signal::SIGKILL)?;
            }
            self.await_event(dir, "populated 0", Duration::from_millis(500))
                .map(drop)
        })
    }
}
