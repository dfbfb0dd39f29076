//! `exec`: one more process in a container that runs.
#![forbid(unsafe_code)]

use super::create::{send_listener, send_pid, tell};
use super::request::check_console;
use super::{Container, ExecRequest, State, Status};
use crate::bundle::config::{Config, Process};
use crate::bundle::parse;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::Host;
use crate::isolate::namespaces::{KINDS, USER};
use crate::limit::cgroup::Cgroup;
use crate::plan::ProcessPlan;
use crate::run::console;
use crate::run::foreground::{Foreground, Options};
use crate::stages::join::{Join, spawn};
use crate::stages::parent::{Child, Midwife};
use crate::sys::pidfd;
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
    let wishes = &request.wishes;
    let init = running_init(container, request.ignore_paused)?;
    let bytes = container.dir().config()?.unwrap_or_default();
    let config: Config = parse(&bytes, "config.json")?;
    let process = asked_process(&config, request)?;
    check_console(wishes, process.terminal)?;
    let host = Host::new();
    let mut warnings = Vec::new();
    let plan = ProcessPlan::new(&process, &config, None, wishes, &host, &mut warnings)?;
    tell(&plan, &warnings);
    let terminal = plan.terminal.is_some();
    let mut console = None;
    if let Some(path) = wishes.console_socket.as_deref().filter(|_| terminal) {
        console = Some(console::connect(path)?);
    }
    let mut foreground = None;
    if !wishes.detach {
        let made = foreground.insert(Foreground::new(Options {
            terminal,
            subreaper: false,
        })?);
        console = console.or_else(|| made.console_socket());
    }
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
        console,
    };
    let mut child = spawn(&join)?;
    join.console = None;
    plan.oom.set(child.pid)?;
    let mut joining = Joining {
        request,
        plan: &plan,
        state,
        foreground: foreground.as_mut(),
    };
    child.finish(&plan, None, &mut joining)?;
    child.release();
    match foreground {
        Some(foreground) => foreground.wait(child.pid, child.pidfd()),
        None => Ok(0),
    }
}

/// A handle of the container's first process, which must be the one that was started.
fn running_init(container: &Container, ignore_paused: bool) -> Result<OwnedFd> {
    let refuse = |why: &str| Err(Error::rule(Doing::FindContainer, why));
    let pid = container.state().pid;
    // First the handle, then the look: what we looked at is what we hold.
    let init = pidfd::open(pid);
    match container.status()? {
        Status::Stopped => return refuse("cannot exec in a stopped container"),
        Status::Paused if !ignore_paused => {
            return refuse("cannot exec in a paused container (use --ignore-paused to override)");
        }
        _ => {}
    }
    init.doing(Doing::FindContainer).on(container.id())
}

fn asked_process(config: &Config, request: &ExecRequest) -> Result<Process> {
    if let Some(path) = &request.process {
        let bytes = std::fs::read(path)
            .doing(Doing::ReadConfig)
            .on(path.display())?;
        return parse(&bytes, path.display());
    }
    let process = config.process.clone().unwrap_or_default();
    // The first process's own: they say nothing of another one.
    let process = Process {
        oom_score_adj: None,
        console_size: None,
        ..process
    };
    request.bend(process)
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
    request: &'a ExecRequest,
    plan: &'a ProcessPlan,
    state: &'a State,
    foreground: Option<&'a mut Foreground>,
}

impl Midwife for Joining<'_> {
    fn ready(&mut self, child: &Child) -> Result<()> {
        if let Some(foreground) = &mut self.foreground {
            foreground.receive_console()?;
        }
        send_pid(&self.request.wishes, child)
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
