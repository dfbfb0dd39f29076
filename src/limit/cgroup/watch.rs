//! LIMIT, watched: the kernel tells when memory ran out, and when all is over.
//!
//! v1 signals an eventfd that was registered in cgroup.event_control, also when the cgroup is
//! removed; v2 changes memory.events and cgroup.events, which inotify(7) sees.
#![forbid(unsafe_code)]

use super::dir::Dir;
use super::{Cgroup, v2};
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The container ran out of memory.
    Oom,
    /// Nothing of note.
    Nothing,
    /// Nothing will happen any more: the cgroup is removed, or on v2 empty.
    Gone,
}

/// Whoever polls it for reading, and then asks for a [`notice`](Self::notice) until there is
/// nothing, misses no OOM.
#[derive(Debug)]
pub struct Watch {
    cgroup: Cgroup,
    source: Source,
}

#[derive(Debug)]
enum Source {
    V1(EventFd),
    V2 {
        inotify: Inotify,
        /// The OOM kills that were told already.
        seen: u64,
    },
}

impl Watch {
    /// Starts to watch: what came before is not told.
    pub(crate) fn new(cgroup: Cgroup) -> Result<Self> {
        let source = match cgroup.files() {
            Cgroup::V2(group) => v2(group)?,
            files => match files.dir("memory")? {
                Some(dir) => v1(dir)?,
                None => return Err(Error::rule(Doing::WatchCgroup, "memory controller missing")),
            },
        };
        Ok(Self { cgroup, source })
    }

    /// What happened since the last call; does not wait.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn notice(&mut self) -> Result<Notice> {
        match &mut self.source {
            Source::V1(event) => {
                match read(&*event, &mut [0; 8]) {
                    Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Notice::Nothing),
                    other => other.doing(Doing::WatchCgroup)?,
                };
                // The removal signals, too.
                let dir = self.cgroup.dir("memory")?;
                let exists = dir.is_some_and(|dir| dir.read("memory.oom_control").is_ok());
                Ok(if exists { Notice::Oom } else { Notice::Gone })
            }
            Source::V2 { inotify, seen } => {
                match inotify.read_events() {
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(Error::os(Doing::WatchCgroup, errno)),
                }
                let Some(dir) = self.cgroup.dir("memory")? else {
                    return Ok(Notice::Gone);
                };
                let kills = dir.number("memory.events", "oom_kill ").unwrap_or(*seen);
                if kills > *seen {
                    *seen = kills;
                    return Ok(Notice::Oom);
                }
                Ok(match dir.number("cgroup.events", "populated ") {
                    Some(1) => Notice::Nothing,
                    _ => Notice::Gone,
                })
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(event) => event.as_fd(),
            Source::V2 { inotify, .. } => inotify.as_fd(),
        }
    }
}

fn v1(dir: &Dir) -> Result<Source> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = EventFd::from_value_and_flags(0, flags).doing(Doing::WatchCgroup)?;
    // The kernel takes what it needs of the file during the write.
    let control = dir
        .file("memory.oom_control", OFlag::O_RDONLY)
        .doing(Doing::WatchCgroup)
        .on(dir.path())?;
    let line = format!("{} {} ", event.as_fd().as_raw_fd(), control.as_raw_fd());
    dir.must_write("cgroup.event_control", &line)?;
    Ok(Source::V1(event))
}

fn v2(group: &v2::Group) -> Result<Source> {
    let gone = || Error::os(Doing::WatchCgroup, Errno::ENOENT).on(&group.path);
    let dir = group.dir.as_ref().ok_or_else(gone)?;
    let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
    let inotify = Inotify::init(flags).doing(Doing::WatchCgroup)?;
    for file in ["memory.events", "cgroup.events"] {
        let path = format!("{}/{file}", dir.path());
        inotify
            .add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)
            .doing(Doing::WatchCgroup)
            .on(path)?;
    }
    let seen = dir.number("memory.events", "oom_kill ").unwrap_or(0);
    Ok(Source::V2 { inotify, seen })
}
