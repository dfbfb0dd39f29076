//! How a new process gets into its cgroup.
#![forbid(unsafe_code)]

use super::dir::Dir;
use super::{Cgroup, v1, v2};
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::errno::Errno;
use nix::unistd::write;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The way in for a child, opened by its parent: [`enter`](Doors::enter) is its first act.
///
/// On v1 a process that moves itself costs 0.1 ms for all hierarchies, one that is moved 14 ms
/// (see [`v1::Branch::door`]). The kernel judges the parent's credentials, taken at the opening.
#[derive(Debug)]
pub(crate) struct Doors<'a> {
    pub(super) into: Option<BorrowedFd<'a>>,
    pub(super) tasks: Vec<(OwnedFd, &'a v1::Branch)>,
    pub(super) v2: Option<&'a v2::Group>,
}

impl Cgroup {
    /// Opens the way in for a child that is about to be cloned.
    pub(crate) fn doors(&self) -> Result<Doors<'_>> {
        if let Self::Systemd(unit) = self {
            return unit.files().doors();
        }
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
            Self::Systemd(_) | Self::Unmanaged => {}
        }
        Ok(doors)
    }
}

impl Cgroup {
    /// Moves another process in, for those that cannot go themselves.
    pub(crate) fn place(&self, pid: i32) -> Result<()> {
        match self {
            Self::V2(group) => {
                let dir = group.dir.as_ref().ok_or(Errno::ENOENT);
                dir.and_then(|dir| dir.write("cgroup.procs", &pid.to_string()))
                    .doing(Doing::JoinCgroup)
                    .on(&group.path)
            }
            Self::V1(groups) => groups.place(pid),
            Self::Systemd(unit) => unit.files().place(pid),
            Self::Unmanaged => Ok(()),
        }
    }
}

impl Doors<'_> {
    /// For clone3 with CLONE_INTO_CGROUP: the v2 cgroup, also a hybrid host's. Optional: without
    /// it, [`enter`](Self::enter) does the whole way.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.into
    }

    /// The cgroup's path on a v2 host, where one may refuse processes.
    pub(crate) fn v2_path(&self) -> Option<&str> {
        self.v2.map(|group| &*group.path)
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
