//! The last mile, shared by a container's first process and by exec'd ones: give up what the
//! program must not have, wait for `start`, become the program.
//!
//! The order is a chain of needs: the bounding set needs CAP_SETPCAP, the ids need CAP_SETUID,
//! the sets come after the ids, a filter without no_new_privs needs CAP_SYS_ADMIN and comes
//! first, one with it comes last, so that profiles need allow no more than execve.
#![forbid(unsafe_code)]

use super::prepare::Gate;
use super::wire::{ChildEnd, ToChild};
use crate::confine::labels::Labels;
use crate::confine::seccomp::Seccomp;
use crate::error::{Act, Doing, Error, Result};
use crate::plan::ProcessPlan;
use crate::run::console::{Console, fix_stdio_owner};
use crate::run::hooks::{Hooks, Kind};
use crate::sys::program::{self, Strings};
use crate::sys::{fd, signal};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the last mile needs.
pub(crate) struct Ending<'a> {
    pub(crate) process: &'a ProcessPlan,
    pub(crate) console: Option<Console>,
    /// startContainer hooks, and the state for their stdin.
    pub(crate) hooks: Option<(&'a Hooks, Vec<u8>)>,
    pub(crate) gate: Option<&'a Gate>,
}

/// The first acts of every child.
pub(crate) fn enter() -> Result<()> {
    die_with_parent()?;
    // The runtime's own dispositions and mask are not the program's.
    signal::reset().doing(Doing::Signal)?;
    nix::unistd::setsid().map(drop).doing(Doing::Clone)
}

/// A child whose parent is killed must not linger half-made.
pub(crate) fn die_with_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).doing(Doing::Clone)
}

/// How the kernel schedules and places the process: needs privileges that are given up later.
pub(crate) fn tune(process: &ProcessPlan) -> Result<()> {
    if let Some(scheduler) = &process.scheduler {
        scheduler.adopt()?;
    }
    if let Some(io_priority) = &process.io_priority {
        io_priority.adopt()?;
    }
    if let Some(policy) = &process.memory_policy {
        policy.adopt()?;
    }
    if let Some(personality) = &process.personality {
        personality.adopt()?;
    }
    Ok(())
}

/// Asks for the labels that execve is to apply.
pub(crate) fn set_labels(labels: &Labels, proc: Option<&OwnedFd>) -> Result<()> {
    match proc {
        Some(proc) => labels.set_on_exec(proc.as_fd()),
        None => Ok(()),
    }
}

/// Becomes the program, or ends.
pub(crate) fn run(ending: Ending<'_>, channel: ChildEnd) -> ! {
    let gate = ending.gate;
    let mut channel = Some(channel);
    let error = match become_program(ending, &mut channel) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    match (&channel, gate) {
        (Some(channel), _) => channel.send_failure(&error),
        (None, Some(gate)) => {
            // `start` reads this; if it is gone, nobody needs it.
            nix::unistd::write(&gate.outcome, &error.encode(4096)).ok();
        }
        (None, None) => {}
    }
    program::exit(1)
}

fn become_program(
    ending: Ending<'_>,
    channel: &mut Option<ChildEnd>,
) -> Result<std::convert::Infallible> {
    let Ending {
        process,
        console,
        hooks,
        gate,
    } = ending;
    let seccomp = process.seccomp.as_ref();
    // The host's descriptors have served: none is there to be reached by a path of the image's,
    // or to count against a low limit.
    let mut keep: Vec<_> = channel.iter().map(|channel| channel.as_fd()).collect();
    keep.extend(
        gate.iter()
            .flat_map(|gate| [gate.exec.as_fd(), gate.outcome.as_fd()]),
    );
    keep.extend(console.iter().flat_map(Console::fds));
    close_all_but(process, &keep, false)?;
    // Before a filter that may know no getcwd(2).
    let there = process.program.enter_cwd(false)?;
    if process.no_new_privileges {
        prctl::set_no_new_privs().doing(Doing::SetNoNewPrivileges)?;
    } else {
        load(seccomp, channel.as_ref())?;
    }
    process.caps.drop_bounding()?;
    prctl::set_keepcaps(true).doing(Doing::SetCapabilities)?;
    if let Some(console) = console {
        console.take()?;
    }
    fix_stdio_owner(process.user.uid)?;
    process.user.adopt()?;
    if !there {
        // Perhaps only the user may go there, where root was squashed by the filesystem.
        process.program.enter_cwd(true)?;
    }
    process.caps.adopt()?;
    // A change of ids clears it (prctl(2)); without one it must not reach the program.
    prctl::set_pdeathsig(None).doing(Doing::Clone)?;
    let path = process.program.find(process.env.path())?;
    let args = Strings::new(process.program.args.clone());
    let env = Strings::new(process.env.settle(process.user.uid, process.fds.env()));
    let notifies = seccomp.is_some_and(|seccomp| seccomp.listener().is_some());
    let last = process.no_new_privileges && !notifies;
    if process.no_new_privileges && notifies {
        // The agent gets its listener from the parent, which leaves before `start`.
        load(seccomp, channel.as_ref())?;
    }
    process.fds.mark()?;
    if let Some(gate) = gate {
        // The end of file tells `create` that all went well.
        drop(channel.take());
        // No descriptor of the host's stays open while we wait (CVE-2024-21626, CVE-2016-9962).
        close_all_but(process, &[gate.exec.as_fd(), gate.outcome.as_fd()], true)?;
        signal::end_politely().doing(Doing::AwaitStart)?;
        await_start(gate)?;
    }
    if let Some((hooks, state)) = hooks {
        hooks.run(Kind::StartContainer, &state)?;
    }
    let report = match (gate, channel.as_ref()) {
        (Some(gate), _) => gate.outcome.as_fd(),
        (None, Some(channel)) => channel.as_fd(),
        (None, None) => return Err(Error::rule(Doing::Talk, "nobody to report to")),
    };
    close_all_but(process, &[report], true)?;
    if last {
        load(seccomp, None)?;
    }
    let errno = program::execve(&path, &args, &env);
    Err(Error::os(Doing::ExecProgram, errno).on(path.to_string_lossy()))
}

/// Loads the filter, and hands its listener over if it has one.
fn load(seccomp: Option<&Seccomp>, channel: Option<&ChildEnd>) -> Result<()> {
    let Some(listener) = seccomp.map(Seccomp::load).transpose()?.flatten() else {
        return Ok(());
    };
    if let Some(channel) = channel {
        channel.send_listener(listener.as_fd())?;
        channel.await_message(ToChild::Taken)?;
    }
    Ok(())
}

/// Waits for the byte that `start` writes.
fn await_start(gate: &Gate) -> Result<()> {
    let mut byte = [0u8; 1];
    loop {
        match nix::unistd::read(&gate.exec, &mut byte) {
            Err(Errno::EINTR) => {}
            result => return result.map(drop).doing(Doing::AwaitStart),
        }
    }
}

/// Closes for real all that neither the program gets nor we need. What is left is close-on-exec.
fn close_all_but(process: &ProcessPlan, keep: &[BorrowedFd<'_>], again: bool) -> Result<()> {
    let mut keep: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().cast_unsigned())
        .collect();
    fd::close_all_but(process.fds.end(), &mut keep, again).doing(Doing::CloseFds)
}
