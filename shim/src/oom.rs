//! Whether the kernel has killed for want of memory: told by an eventfd on cgroup v1, by a file
//! that changes on v2.
#![forbid(unsafe_code)]

use crate::process::Container;
use crate::status::{Doing, Result};
use crate::watch::{Handle, Next, Source};
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Weak};

#[derive(Debug)]
enum Bell {
    V1(EventFd),
    V2(Inotify),
}

/// The watch over one memory cgroup.
#[derive(Debug)]
pub struct Oom {
    bell: Bell,
    /// The one with a line `oom_kill N`: open, for the thread that serves opens none.
    file: File,
    last: u64,
}

impl Oom {
    /// Over the cgroup among those directories that counts memory; `None` if there is none.
    pub fn watch<'a>(paths: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>> {
        let mut unified = None;
        for (controllers, path) in paths {
            if controllers.is_empty() {
                unified = Some(path);
            }
            if controllers.split(',').any(|name| name == "memory") {
                return Self::v1(Path::new(path)).map(Some);
            }
        }
        unified.map_or(Ok(None), |path| Self::v2(Path::new(path)))
    }

    fn v1(dir: &Path) -> Result<Self> {
        let file = dir.join("memory.oom_control");
        let file = File::open(&file).doing(file.display())?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let line = format!("{} {}", bell.as_fd().as_raw_fd(), file.as_raw_fd());
        std::fs::write(dir.join("cgroup.event_control"), line).doing("cgroup.event_control")?;
        Ok(Self {
            bell: Bell::V1(bell),
            last: count(&file).unwrap_or(0),
            file,
        })
    }

    fn v2(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("memory.events");
        let file = match File::open(&path) {
            // Without the memory controller.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.doing(path.display())?,
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify
            .add_watch(&path, AddWatchFlags::IN_MODIFY)
            .doing(path.display())?;
        Ok(Some(Self {
            bell: Bell::V2(inotify),
            last: count(&file).unwrap_or(0),
            file,
        }))
    }

    /// Whether there was a kill since the last time.
    pub fn struck(&mut self) -> bool {
        let rung = match &self.bell {
            Bell::V1(bell) => bell.read().is_ok_and(|count| count > 0),
            Bell::V2(inotify) => {
                // What matters is in the file.
                drop(inotify.read_events());
                false
            }
        };
        let Some(now) = count(&self.file) else {
            return false; // the bell of v1 rings when the cgroup is removed, too
        };
        // v1 rings before it has killed; the count follows, and must not be told twice.
        let struck = rung || now > self.last;
        if struck {
            self.last = now.max(self.last + u64::from(rung && now <= self.last));
        }
        struck
    }

    fn bell(&self) -> Result<OwnedFd> {
        Ok(match &self.bell {
            Bell::V1(bell) => bell.as_fd().try_clone_to_owned()?,
            Bell::V2(inotify) => inotify.as_fd().try_clone_to_owned()?,
        })
    }

    /// What rings for that container.
    pub fn source(&self, container: &Arc<Container>) -> Result<Ring> {
        Ok(Ring {
            bell: self.bell()?,
            container: Arc::downgrade(container),
        })
    }
}

/// The number in the line `oom_kill N`.
fn count(file: &File) -> Option<u64> {
    let mut text = [0; 512];
    // A few lines; of a cgroup that was removed, there are none.
    let length = file.read_at(&mut text, 0).ok()?;
    let mut lines = std::str::from_utf8(text.get(..length)?).ok()?.lines();
    let line = lines.find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

/// Waits for the bell of one container.
pub struct Ring {
    bell: OwnedFd,
    container: Weak<Container>,
}

impl Source for Ring {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        vec![(self.bell.as_fd(), EpollFlags::EPOLLIN | EpollFlags::EPOLLET)]
    }

    fn serve(&mut self, _watch: &Handle, _buffer: &mut [u8]) -> Next {
        match self.container.upgrade() {
            Some(container) if !container.is_gone() => {
                container.check_memory();
                Next::Keep
            }
            _ => Next::Done,
        }
    }

    fn is_cancelled(&self) -> bool {
        self.container
            .upgrade()
            .is_none_or(|container| container.is_gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_that_of_kills() {
        let dir = std::env::temp_dir().join(format!("shim-oom-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("memory.events");
        std::fs::write(&file, "low 0\noom 3\noom_kill 2\noom_group_kill 1\n").unwrap();
        assert_eq!(count(&File::open(&file).unwrap()), Some(2));
        let mut oom = Oom::v2(&dir).unwrap().unwrap();
        assert!(!oom.struck());
        std::fs::write(&file, "oom_kill 3\n").unwrap();
        assert!(oom.struck());
        assert!(!oom.struck());
        std::fs::write(&file, "").unwrap();
        assert!(!oom.struck());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
