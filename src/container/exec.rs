//! `exec`: one more process in a container that runs.
#![forbid(unsafe_code)]

use super::create::{other_ends, send_listener, send_pid, tell};
use super::{Container, ExecRequest, State, Status};
use crate::bundle::config::{Config, Process};
use crate::bundle::parse;
use crate::error::{Act, Doing, Explain, Result};
use crate::host::Host;
use crate::isolate::keyring;
use crate::isolate::namespaces::{KINDS, USER};
use crate::limit::cgroup::Cgroup;
use crate::plan::ProcessPlan;
use crate::plan::wishes::Wishes;
use crate::run::foreground::Foreground;
use crate::stages::join::{Join, spawn};
use crate::stages::parent::{Child, Midwife};
use crate::sys::pidfd;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;

/// Runs a process in `container`: its exit status, or 0 when detached.
///
/// # Errors
/// The container is not running or paused, the request is wrong, or a step failed.
pub fn exec(container: &Container, request: &ExecRequest) -> Result<i32> {
    go(container, request)
        .within(Doing::Exec)
        .on(container.id())
}

fn go(container: &Container, request: &ExecRequest) -> Result<i32> {
    let state = container.state();
    let wishes = &Wishes {
        joins: true,
        ..request.wishes.clone()
    };
    let init = running_init(container, request)?;
    let bytes = container.dir().config()?.unwrap_or_default();
    let config: Config = parse(&bytes, "config.json")?;
    let process = asked_process(state, &config, &bytes, request)?;
    let host = Host::new();
    let mut warnings = Vec::new();
    let plan = ProcessPlan::new(&process, &config, None, wishes, &host, &mut warnings)?;
    tell(&plan, &warnings);
    plan.fds.guard_rest()?;
    let (console, mut foreground) = other_ends(wishes, &plan, true, false)?;
    let mut cgroup = Cgroup::open(&state.creel.cgroup)?;
    if !request.cgroup.is_empty() {
        let below: Vec<_> = request
            .cgroup
            .iter()
            .map(|(names, path)| (names.as_str(), path.as_str()))
            .collect();
        cgroup = cgroup.below(&below)?;
    }
    let mut join = Join {
        process: &plan,
        namespaces: kinds_to_enter(state)?,
        init,
        cgroup: &cgroup,
        beside: request.cgroup.is_empty().then_some(state.pid),
        console,
        keyring: (!state.creel.no_new_keyring)
            .then(|| keyring::name_for(container.id()))
            .transpose()?,
        root: own_root(state)?,
    };
    let mut child = spawn(&join)?;
    join.console = None;
    if let Some(rdt) = &state.creel.rdt {
        rdt.enter(child.pid)?;
    }
    let mut joining = Joining {
        plan: &plan,
        state,
        foreground: foreground.as_mut(),
    };
    child.finish(&plan, &cgroup, None, &mut joining)?;
    send_pid(wishes, child.pid, child.pidfd())?;
    child.release();
    match foreground {
        Some(foreground) => foreground.wait(child.pid, child.pidfd()),
        None => Ok(0),
    }
}

/// A handle of the container's first process, which must be the one that was started.
fn running_init(container: &Container, request: &ExecRequest) -> Result<OwnedFd> {
    let pid = container.state().pid;
    // First the handle, then the look: what we looked at is what we hold.
    let init = pidfd::open(pid);
    request.check_status(container.status()?)?;
    init.doing(Doing::FindContainer).on(container.id())
}

fn asked_process(
    state: &State,
    config: &Config,
    kept: &[u8],
    request: &ExecRequest,
) -> Result<Process> {
    if let Some(path) = &request.process {
        let bytes = std::fs::read(path)
            .doing(Doing::ReadConfig)
            .on(path.display())?;
        let mut process: Process = parse(&bytes, path.display())?;
        if let Some(first) = &config.process {
            inherit(&mut process, first);
        }
        return Ok(process);
    }
    // As runc: what the bundle says today, where it can still be read.
    let today = std::fs::read(state.bundle.join("config.json")).ok();
    let today: Option<Config> = today
        .filter(|bytes| bytes != kept)
        .map(|bytes| parse(&bytes, "config.json"))
        .transpose()?;
    let process = today
        .and_then(|config| config.process)
        .or_else(|| config.process.clone())
        .unwrap_or_default();
    // The first process's own: they say nothing of another one.
    let process = Process {
        oom_score_adj: None,
        console_size: None,
        ..process
    };
    request.bend(process)
}

/// What a process.json does not say is the container's, as runc has it: an exec'd process is no
/// less confined than the first.
pub(super) fn inherit(process: &mut Process, first: &Process) {
    fn unless<T: Clone>(mine: &mut Option<T>, first: &Option<T>) {
        if mine.is_none() {
            mine.clone_from(first);
        }
    }
    unless(&mut process.capabilities, &first.capabilities);
    unless(&mut process.scheduler, &first.scheduler);
    unless(&mut process.io_priority, &first.io_priority);
    unless(&mut process.exec_cpu_affinity, &first.exec_cpu_affinity);
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&first.rlimits);
    }
    if process.apparmor_profile.is_empty() {
        process.apparmor_profile.clone_from(&first.apparmor_profile);
    }
    if process.selinux_label.is_empty() {
        process.selinux_label.clone_from(&first.selinux_label);
    }
}

/// init's root, if it is no mount namespace that makes it the container's.
fn own_root(state: &State) -> Result<Option<OwnedFd>> {
    if state.creel.namespaces.all().any(|kind| kind == "mount") {
        return Ok(None);
    }
    let path = format!("/proc/{}/root", state.pid);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty())
        .map(Some)
        .doing(Doing::ReadProc)
        .on(path)
}

/// The namespaces to enter: those of the container that are not ours already.
fn kinds_to_enter(state: &State) -> Result<u64> {
    let mut flags = 0;
    for name in state.creel.namespaces.all() {
        flags |= KINDS
            .iter()
            .find(|kind| kind.2 == name)
            .map_or(0, |kind| kind.1);
    }
    if flags & USER != 0 {
        // setns(2): EINVAL for the user namespace that one is in.
        let of = |who: &str| {
            std::fs::read_link(format!("/proc/{who}/ns/user"))
                .doing(Doing::ReadProc)
                .on(format_args!("/proc/{who}/ns/user"))
        };
        if of("self")? == of(&state.pid.to_string())? {
            flags &= !USER;
        }
    }
    Ok(flags)
}

struct Joining<'a> {
    plan: &'a ProcessPlan,
    state: &'a State,
    foreground: Option<&'a mut Foreground>,
}

impl Midwife for Joining<'_> {
    fn ready(&mut self, _child: &Child) -> Result<()> {
        if let Some(foreground) = &mut self.foreground {
            foreground.receive_console()?;
        }
        Ok(())
    }

    fn listener(&mut self, child: &Child, listener: OwnedFd) -> Result<()> {
        send_listener(
            self.plan.seccomp.as_ref(),
            self.state,
            child,
            &listener,
            Status::Running,
        )
    }
}
