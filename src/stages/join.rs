//! The script of an exec'd process: join the container, last mile.
#![forbid(unsafe_code)]

use super::last_mile::{self, Ending};
use super::parent::{Child, Entry, child, clone_into, entry, fail};
use super::wire::{self, ChildEnd, ToChild};
use crate::error::{Act, Doing, Explain, Result};
use crate::isolate::keyring;
use crate::isolate::namespaces::{PID, USER};
use crate::limit::cgroup::Cgroup;
use crate::plan::ProcessPlan;
use crate::rootfs::procfs;
use crate::run::console::Console;
use crate::sys::clone::{Cloned, clone3, setns};
use crate::sys::program;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chroot, fchdir};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// A process to join a container.
#[derive(Debug)]
pub(crate) struct Join<'a> {
    pub(crate) process: &'a ProcessPlan,
    /// The container's first process.
    pub(crate) init: OwnedFd,
    /// The namespaces of init that are not the runtime's.
    pub(crate) namespaces: u64,
    pub(crate) cgroup: &'a Cgroup,
    /// Whose cgroup it is to be, by pid, where the container's own takes no process any more; `None`
    /// if a certain one is wanted.
    pub(crate) beside: Option<i32>,
    /// Where the pty's master is sent.
    pub(crate) console: Option<OwnedFd>,
    /// The container's session keyring, unless it has the caller's.
    pub(crate) keyring: Option<CString>,
    /// init's root directory, for a container in the host's mount namespace.
    pub(crate) root: Option<OwnedFd>,
}

/// Makes the process, up to its waiting for the parent's part.
pub(crate) fn spawn(join: &Join<'_>) -> Result<Child> {
    let (ours, theirs) = wire::pair()?;
    let beside;
    let mut doors = join.cgroup.doors()?;
    let has_labels = !join.process.labels.is_empty();
    let proc = has_labels.then(procfs::private).transpose()?;
    // Without the host's root privileges, those of the container's user namespace must come first.
    let by_bridge = join.namespaces & USER != 0 && !nix::unistd::geteuid().is_root();
    if !by_bridge && join.namespaces & PID != 0 {
        // Processes in there see the child in /proc from its birth on (CVE-2016-9962). Root needs
        // no dumpability for its own files.
        prctl::set_dumpable(false).doing(Doing::Clone)?;
        // Holds for processes that we make from now on, not for ourselves.
        enter(join, PID)?;
    }
    let mut cloned = clone_into(0, &doors);
    if let (Err(error), Some(init)) = (&cloned, join.beside)
        && error.errno() == Some(Errno::EBUSY)
    {
        // It has given controllers to cgroups below it, as systemd does, and moved into one.
        beside = Cgroup::of(init)?;
        doors = beside.doors()?;
        cloned = clone_into(0, &doors);
    }
    match cloned? {
        (Cloned::Child, cloned) => {
            drop(ours);
            run(
                join,
                &entry(doors, cloned),
                by_bridge,
                proc.as_ref(),
                theirs,
            )
        }
        (Cloned::Parent(pid, pidfd), _) => {
            drop(theirs);
            let mut child = child(pid, pidfd, ours);
            if by_bridge {
                child.await_bridged(None, None)?;
            }
            Ok(child)
        }
    }
}

fn run(
    join: &Join<'_>,
    entry: &Entry<'_>,
    by_bridge: bool,
    proc: Option<&OwnedFd>,
    channel: ChildEnd,
) -> ! {
    let made = || -> Result<bool> {
        last_mile::die_with_parent()?;
        // While we are dumpable: after that the file is root's.
        join.process.oom.set_own()?;
        prctl::set_dumpable(false).doing(Doing::Clone)?;
        join.process.affinity.set_initial()?;
        entry.enter()?;
        let rest = if by_bridge {
            join.namespaces
        } else {
            join.namespaces & !PID
        };
        if rest != 0 {
            enter(join, rest)?;
        }
        if !by_bridge {
            return Ok(true);
        }
        let parent = u64::from(libc::CLONE_PARENT.cast_unsigned());
        match clone3(parent, None).doing(Doing::Clone)? {
            Cloned::Child => Ok(true),
            Cloned::Parent(pid, pidfd) => {
                channel.send_bridged(pid, pidfd.as_fd())?;
                Ok(false)
            }
        }
    };
    match made().and_then(|init| init.then(|| prepare(join, proc, &channel)).transpose()) {
        Ok(Some(console)) => {
            let ending = Ending {
                process: join.process,
                console,
                hooks: None,
                gate: None,
            };
            last_mile::run(ending, channel)
        }
        Ok(None) => program::exit(0),
        Err(error) => fail(&channel, &error),
    }
}

/// Everything between the join and the last mile.
fn prepare(join: &Join<'_>, proc: Option<&OwnedFd>, channel: &ChildEnd) -> Result<Option<Console>> {
    let process = join.process;
    last_mile::enter()?;
    if let Some(keyring) = &join.keyring {
        keyring::join(keyring)?;
    }
    if let Some(root) = &join.root {
        fchdir(root)
            .and_then(|()| chroot("."))
            .doing(Doing::Pivot)
            .on("the container's root")?;
    }
    umask(Mode::empty());
    if process.affinity.is_empty() {
        crate::tune::affinity::reset();
    } else {
        process.affinity.set_final()?;
    }
    let console = match process.terminal {
        Some(size) => {
            // The container's own devpts, known by its magic, whatever the path leads to.
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let devpts = open("/dev/pts", flags, Mode::empty())
                .doing(Doing::OpenConsole)
                .on("/dev/pts")
                .hint("a terminal needs a devpts at /dev/pts of the container")?;
            let console = Console::open(devpts.as_fd())?;
            console.resize(size)?;
            console.give(process.user.uid)?;
            if let Some(socket) = &join.console {
                console.send(socket.as_fd())?;
            }
            Some(console)
        }
        None => None,
    };
    last_mile::tune(process)?;
    last_mile::set_labels(&process.labels, proc)?;
    channel.send_ready()?;
    channel.await_message(ToChild::Proceed)?;
    Ok(console)
}

/// All namespaces of `kinds` in one call: setns(2) with a pidfd, Linux 5.8.
fn enter(join: &Join<'_>, kinds: u64) -> Result<()> {
    setns(join.init.as_fd(), kinds)
        .doing(Doing::JoinNamespace)
        .on("of the container's init")
}
