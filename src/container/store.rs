//! Where containers are remembered: one directory each below the state root.
//!
//! `<root>/<id>/` holds `state.json`, `config.json`, `lock`, until `start` the two fifos, and after
//! `update` its `resources.json`. The root of a container that shares our mount namespace is
//! mounted at its `root`.
//! Every act on it is relative to a directory descriptor. The root is trusted: it is ours, on a
//! tmpfs, so nothing is ever synced.
#![forbid(unsafe_code)]

use super::id::check_id;
use super::slot::Slot;
use super::state::State;
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, Flock, FlockArg, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat,
};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};
use std::ffi::{CStr, OsStr};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) const STATE: &str = "state.json";
pub(super) const CONFIG: &str = "config.json";
pub(super) const RESOURCES: &str = "resources.json";
pub(super) const EXEC_FIFO: &str = "exec.fifo";
pub(super) const OUTCOME_FIFO: &str = "outcome.fifo";
pub(super) const ROOT: &str = "root";
const LOCK: &str = "lock";

const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_RDONLY);

/// How long an act waits for another one on the same container.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state root.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    given: bool,
}

impl Store {
    /// The root that the caller named: it must exist to be listed.
    #[must_use]
    pub fn given(path: PathBuf) -> Self {
        Self { path, given: true }
    }

    /// The usual root: not there means no containers yet.
    #[must_use]
    pub fn standard(path: PathBuf) -> Self {
        Self { path, given: false }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes an id for a container to be. Dropping the slot gives it back.
    ///
    /// # Errors
    /// The id is malformed or taken, or the root cannot be written.
    pub fn reserve(&self, id: &str) -> Result<Slot> {
        check_id(id)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            // Told of what is there but cannot be looked at, too: opening it tells more.
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
            .doing(Doing::OpenStore)
            .on(self.path.display())?;
        let root = open(
            &self.path,
            OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .doing(Doing::OpenStore)
        .on(self.path.display())?;
        match mkdirat(&root, id, Mode::from_bits_truncate(0o711)) {
            Err(Errno::EEXIST) => Err(Error::rule(
                Doing::ReserveState,
                "container with given ID already exists",
            )),
            other => other.doing(Doing::ReserveState),
        }
        .on(id)?;
        let opened = openat(&root, id, DIRECTORY, Mode::empty());
        if opened.is_err() {
            // It is empty, and of no use to anybody; the failure to open it says why.
            unlinkat(&root, id, UnlinkatFlags::RemoveDir).ok();
        }
        let fd = opened.doing(Doing::ReserveState).on(id)?;
        let dir = StateDir {
            root,
            fd,
            id: id.into(),
            path: self.path.join(id),
        };
        let lock = match dir.lock() {
            // A full disk: the directory alone would keep the id, and `delete` out.
            Err(error) => {
                dir.remove()?;
                return Err(error);
            }
            lock => lock?,
        };
        Ok(Slot::new(dir, lock))
    }

    /// The directory of a container, whatever is in it; `None` if there is none.
    ///
    /// # Errors
    /// The id is malformed or the directory cannot be opened.
    pub fn dir(&self, id: &str) -> Result<Option<StateDir>> {
        check_id(id)?;
        let root = match open(
            &self.path,
            OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.doing(Doing::OpenStore).on(self.path.display())?,
        };
        match openat(&root, id, DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            other => {
                let fd = other.doing(Doing::FindContainer).on(id)?;
                Ok(Some(StateDir {
                    root,
                    fd,
                    id: id.into(),
                    path: self.path.join(id),
                }))
            }
        }
    }

    /// The names of all directories in the root, sorted.
    ///
    /// # Errors
    /// The root cannot be read, or was named by the caller and is not there.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.given => {
                return Ok(Vec::new());
            }
            other => other.doing(Doing::OpenStore).on(self.path.display())?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.doing(Doing::OpenStore).on(self.path.display())?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ids.extend(entry.file_name().into_string().ok());
            }
        }
        ids.sort();
        Ok(ids)
    }
}

/// The state directory of one container.
#[derive(Debug)]
pub struct StateDir {
    root: OwnedFd,
    fd: OwnedFd,
    id: Box<str>,
    path: PathBuf,
}

/// The right to change a container: held by one process at a time.
///
/// Released when dropped, by an explicit unlock: a forked child that still has a copy of the
/// descriptor cannot keep it.
#[derive(Debug)]
#[must_use]
pub struct Lock(Option<Flock<OwnedFd>>);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(Err((lock, errno))) = self.0.take().map(Flock::unlock) {
            crate::log::warning(&Error::os(Doing::LockState, errno));
            // Its own drop would try again and panic; our end lets go of it, too.
            std::mem::forget(lock);
        }
    }
}

impl StateDir {
    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is, for messages and for what takes paths only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the container, waiting for whoever else is at it.
    ///
    /// # Errors
    /// Somebody holds it for longer than ten seconds.
    pub fn lock(&self) -> Result<Lock> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if Instant::now() > end {
                return Err(Error::os(Doing::LockState, Errno::ETIMEDOUT)
                    .on(&self.id)
                    .hint("another command is at work on it"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Locks the container unless somebody else has.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>> {
        let flags = OFlag::O_CREAT | OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = match openat(&self.fd, LOCK, flags, Mode::from_bits_truncate(0o600)) {
            // The directory itself has been removed.
            Err(Errno::ENOENT) => return Err(missing(&self.id)),
            other => other.doing(Doing::LockState).on(&self.id)?,
        };
        match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(Some(lock)))),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(Error::os(Doing::LockState, errno).on(&self.id)),
        }
    }

    /// What state.json says; `None` if it was never written.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn state(&self) -> Result<Option<State>> {
        let Some(bytes) = self.read(STATE)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::rule(Doing::ReadState, error.to_string()).on(&self.id))
    }

    /// The config.json that the container was created from; `None` if it was never kept.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn config(&self) -> Result<Option<Vec<u8>>> {
        self.read(CONFIG)
    }

    /// The limits that `update` left in force; `None` if there was none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn resources(&self) -> Result<Option<Vec<u8>>> {
        self.read(RESOURCES)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.doing(Doing::ReadState).on(&self.id)?,
        };
        let mut bytes = Vec::new();
        File::from(file)
            .read_to_end(&mut bytes)
            .doing(Doing::ReadState)
            .on(&self.id)?;
        Ok(Some(bytes))
    }

    /// Replaces state.json: readers see the old or the new one, whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&self, state: &State) -> Result<()> {
        let json = serde_json::to_vec(state)
            .map_err(|error| Error::rule(Doing::WriteState, error.to_string()).on(&self.id))?;
        self.write(STATE, &json)
    }

    /// Replaces a file: readers see the old or the new one, whole.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let new = unfinished(name);
        let flags = OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(
            &self.fd,
            new.as_str(),
            flags,
            Mode::from_bits_truncate(0o600),
        )
        .doing(Doing::WriteState)
        .and_then(|fd| File::from(fd).write_all(bytes).doing(Doing::WriteState))
        .and_then(|()| renameat(&self.fd, new.as_str(), &self.fd, name).doing(Doing::WriteState))
        .on(&self.id)
    }

    /// Opens one of the fifos.
    pub(super) fn open(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        openat(
            &self.fd,
            name,
            flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        )
    }

    /// Makes one of the fifos, and opens it for both reading and writing, which never blocks.
    pub(super) fn make_fifo(&self, name: &str) -> Result<OwnedFd> {
        mkfifoat(&self.fd, name, Mode::from_bits_truncate(0o600))
            .and_then(|()| self.open(name, OFlag::O_RDWR))
            .doing(Doing::WriteState)
            .on(&self.id)
    }

    /// Makes a directory in there, for the container to see, and opens it.
    pub(super) fn make_dir(&self, name: &str) -> Result<OwnedFd> {
        mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755))
            .and_then(|()| self.open(name, OFlag::O_PATH | OFlag::O_DIRECTORY))
            .doing(Doing::WriteState)
            .on(&self.id)
    }

    /// Removes a file; gone already is fine.
    pub(super) fn unlink(&self, name: &str) -> Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            other => other.doing(Doing::RemoveState).on(&self.id),
        }
    }

    /// Lets nobody but the owner pass.
    pub(super) fn close_to_others(&self) -> Result<()> {
        fchmod(&self.fd, Mode::S_IRWXU)
            .doing(Doing::WriteState)
            .on(&self.id)
    }

    /// Removes the directory and all that is in it, unmounting what is mounted there; gone already
    /// is fine.
    pub(super) fn remove(&self) -> Result<()> {
        /// How often somebody who waits for the lock may make its file anew under our hands.
        const ROUNDS: u32 = 100;
        let mut rounds = 0..ROUNDS;
        loop {
            match self.remove_once() {
                Err(error)
                    if error.errno() == Some(Errno::ENOTEMPTY) && rounds.next().is_some() => {}
                result => return result,
            }
        }
    }

    /// Removes all files that are ever made in there.
    fn unlink_known(&self) -> nix::Result<()> {
        let names = [STATE, CONFIG, RESOURCES, EXEC_FIFO, OUTCOME_FIFO, LOCK];
        let all = names
            .iter()
            .flat_map(|name| [(*name).to_owned(), unfinished(name)]);
        for name in all {
            match unlinkat(&self.fd, name.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn remove_once(&self) -> Result<()> {
        let emptied = empty(self.fd.as_fd());
        emptied
            // What has run out must not be needed to clean up: these need no descriptor.
            .or_else(|_| self.unlink_known())
            .and_then(|()| {
                // A new container may have taken the id since: its directory is not ours.
                let ours = fstat(&self.fd)?.st_ino;
                match fstatat(&self.root, &*self.id, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(stat) if stat.st_ino == ours => {
                        unlinkat(&self.root, &*self.id, UnlinkatFlags::RemoveDir)
                    }
                    Ok(_) => Ok(()),
                    Err(errno) => Err(errno),
                }
            })
            .or_else(|errno| match errno {
                Errno::ENOENT => Ok(()),
                // What is left is what could not be removed, for the first reason.
                Errno::ENOTEMPTY => Err(emptied.err().unwrap_or(errno)),
                errno => Err(errno),
            })
            .doing(Doing::RemoveState)
            .on(&self.id)
    }
}

/// What a file is called while it is written.
fn unfinished(name: &str) -> String {
    format!(".{name}.new")
}

/// Removes what is in a directory, without following links or going into what is mounted there.
fn empty(dir: BorrowedFd<'_>) -> nix::Result<()> {
    let how = OpenHow::new()
        .flags(DIRECTORY)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV);
    let open = |name: &CStr| match openat2(dir, name, how) {
        Err(Errno::EXDEV) => {
            // There is no umount that takes a descriptor.
            let way = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let mounted = Path::new(&way).join(OsStr::from_bytes(name.to_bytes()));
            umount2(&mounted, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
            openat2(dir, name, how)
        }
        result => result,
    };
    let mut entries = Dir::openat(dir, ".", DIRECTORY, Mode::empty())?;
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry.map(|e| e.file_name().to_owned()))
        .collect::<nix::Result<_>>()?;
    for name in names {
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        let kind = match fstatat(dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            other => SFlag::from_bits_truncate(other?.st_mode & SFlag::S_IFMT.bits()),
        };
        let flag = if kind == SFlag::S_IFDIR {
            empty(open(&name)?.as_fd())?;
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        match unlinkat(dir, name.as_c_str(), flag) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The error for a container that is not there, in the words that callers look for.
pub(super) fn missing(id: &str) -> Error {
    Error::rule(Doing::FindContainer, "container does not exist").on(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_let_go_though_a_forked_child_still_has_its_descriptor() {
        let root = std::env::temp_dir().join(format!("creel-lock-{}", std::process::id()));
        let slot = Store::given(root.clone()).reserve("web").expect("slot");
        assert!(
            slot.dir().try_lock().expect("asked").is_none(),
            "a slot is locked"
        );
        let state = crate::container::state::tests::sample();
        let container = slot.commit(state).expect("committed");
        let lock = container.dir().lock().expect("a committed slot is not");
        let held = lock.0.as_ref().expect("held");
        let copy = held.try_clone().expect("what a child would have");
        drop(lock);
        assert!(container.dir().try_lock().expect("asked").is_some());
        drop(copy);
        std::fs::remove_dir_all(root).expect("removed");
    }
}
