//! LIMIT, live: one cgroup directory, opened once; files and children relative to it.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Error, Explain, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, UnlinkatFlags, read, unlinkat, write};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a removal waits for killed processes to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cgroup, opened.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: Box<str>,
}

/// Whether an errno says that the cgroup is no more: never there, or removed after it was opened.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

/// Removes one empty cgroup.
pub(super) fn rmdir(path: &str) -> nix::Result<()> {
    loop {
        match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
            Err(Errno::EINTR) => {}
            Err(errno) if is_gone(errno) => return Ok(()),
            result => return result,
        }
    }
}

impl Dir {
    /// Opens a cgroup; `None` if there is none.
    ///
    /// cgroupfs holds no links, and only root can mount below it.
    pub(super) fn open(path: &str) -> Result<Option<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: path.into(),
            })),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(Error::os(Doing::ReadCgroup, errno).on(path)),
        }
    }

    /// Its descriptor: a door for clone3, a target for bpf.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Opens one of its files.
    pub(super) fn file(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        openat(
            &self.fd,
            name,
            flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
    }

    /// Writes a value in one call, which is how cgroup files take it.
    pub(super) fn write(&self, name: &str, value: &str) -> nix::Result<()> {
        let file = self.file(name, OFlag::O_WRONLY)?;
        write(file, value.as_bytes()).map(drop)
    }

    /// Reads a file whole.
    pub(super) fn read(&self, name: &str) -> nix::Result<String> {
        read_all(self.file(name, OFlag::O_RDONLY)?.as_fd())
    }

    /// [`read`](Self::read), or why not.
    pub(super) fn must_read(&self, name: &str) -> Result<String> {
        self.read(name)
            .doing(Doing::ReadCgroup)
            .on(format_args!("{}/{name}", self.path))
    }

    /// [`write`](Self::write), or why not.
    pub(super) fn must_write(&self, name: &str, value: &str) -> Result<()> {
        let subject = format_args!("{}/{name} ({value:?})", self.path);
        self.write(name, value)
            .doing(Doing::WriteCgroup)
            .on(subject)
    }

    /// The number after `key ` in a file of such lines.
    pub(super) fn number(&self, name: &str, key: &str) -> Option<u64> {
        let text = self.read(name).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    }

    /// The cgroups right below this one.
    fn children(&self) -> nix::Result<Vec<CString>> {
        // kernfs counts them in the link count: most cgroups have none, and need no listing.
        if fstat(&self.fd)?.st_nlink == 2 {
            return Ok(Vec::new());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut list = nix::dir::Dir::openat(&self.fd, ".", flags, Mode::empty())?;
        let mut found = Vec::new();
        for entry in list.iter() {
            let entry = entry?;
            let name = entry.file_name();
            let is_dir = entry.file_type() == Some(nix::dir::Type::Directory);
            if is_dir && !matches!(name.to_bytes(), b"." | b"..") {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }

    fn child(&self, name: &CString) -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self {
            fd: openat(&self.fd, name.as_c_str(), flags, Mode::empty())?,
            path: format!("{}/{}", self.path, name.to_string_lossy()).into(),
        })
    }

    /// Every process in here and below. Cgroups that vanish meanwhile are empty.
    pub(super) fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        self.collect(&mut pids)
            .doing(Doing::ReadCgroup)
            .on(&self.path)?;
        Ok(pids)
    }

    fn collect(&self, pids: &mut Vec<i32>) -> nix::Result<()> {
        let text = match self.read("cgroup.procs") {
            // A threaded cgroup lists its processes only at the domain's top, its threads here.
            Err(Errno::EOPNOTSUPP) => self.read("cgroup.threads"),
            result => result,
        };
        match text {
            // 0 is a process that our pid namespace does not see; kill(0) would be ourselves.
            Ok(text) => pids.extend(
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|pid: &i32| *pid > 0),
            ),
            Err(errno) if is_gone(errno) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        let children = match self.children() {
            Err(errno) if is_gone(errno) => return Ok(()),
            result => result?,
        };
        for name in children {
            match self.child(&name) {
                Ok(child) => child.collect(pids)?,
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Signals every process in here and below; those that are gone already count as done.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        for pid in self.pids()? {
            match kill(Pid::from_raw(pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::os(Doing::Signal, errno).on(pid)),
            }
        }
        Ok(())
    }

    /// Removes what is below, bottom-up.
    fn clear(&self) -> nix::Result<()> {
        for name in self.children()? {
            match self.child(&name) {
                Ok(child) => child.clear()?,
                Err(errno) if is_gone(errno) => continue,
                Err(errno) => return Err(errno),
            }
            match unlinkat(&self.fd, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Err(errno) if !is_gone(errno) => return Err(errno),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes this cgroup and those below, calling `kill` until no process is left in them.
    pub(super) fn remove(&self, mut kill: impl FnMut(&Self) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(100);
        loop {
            kill(self)?;
            let errno = match self.clear().and_then(|()| rmdir(&self.path)) {
                Ok(()) => return Ok(()),
                Err(errno) if is_gone(errno) => return Ok(()),
                Err(errno) => errno,
            };
            if errno != Errno::EBUSY || start.elapsed() > PATIENCE {
                return Err(Error::os(Doing::RemoveCgroup, errno).on(&self.path));
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// The rest of an open file.
pub(super) fn read_all(file: BorrowedFd<'_>) -> nix::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read(file, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(count) => bytes.extend(buffer.iter().take(count)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
