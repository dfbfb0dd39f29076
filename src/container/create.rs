//! `create` and `run`: from a bundle to a container that waits for `start`, or runs.
#![forbid(unsafe_code)]

use super::request::check_console;
use super::state::Namespaces;
use super::state::{FORMAT, Private};
use super::status::start_time;
use super::{Container, Slot, State, Status, Store};
use crate::bundle::Bundle;
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::features::SPEC_VERSION;
use crate::host::Host;
use crate::isolate::namespaces::MOUNT;
use crate::limit::cgroup::Cgroup;
use crate::limit::rdt::{Rdt, RdtPlan};
use crate::log;
use crate::plan::wishes::Wishes;
use crate::plan::{Plan, ProcessPlan};
use crate::run::console;
use crate::run::foreground::{Foreground, Options};
use crate::run::hooks::Kind;
use crate::run::notify::{self, Proxy};
use crate::stages::parent::{self, Child, Midwife, StateForHooks};
use crate::stages::prepare::Prepared;
use crate::sys::signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Creates a container: its process waits at the exec fifo.
///
/// # Errors
/// The id is taken, the bundle or its config is wrong, or a step failed. Nothing is left behind.
pub fn create(store: &Store, id: &str, bundle: &Path, wishes: &Wishes) -> Result<()> {
    // If our caller ignores SIGCHLD, hooks vanish with their exit status.
    signal::restore_default(libc::SIGCHLD).doing(Doing::Signal)?;
    make(store, id, bundle, wishes, true)
        .map(drop)
        .within(Doing::Create)
        .on(id)
}

/// Creates and starts a container; in the foreground, waits for it and deletes it.
///
/// The value is the program's exit status, 128+n after signal n; 0 when detached.
///
/// # Errors
/// As [`create`], and when the program cannot be executed.
pub fn run(store: &Store, id: &str, bundle: &Path, wishes: &Wishes) -> Result<i32> {
    let mut made = made_to_run(store, id, bundle, wishes)
        .within(Doing::Run)
        .on(id)?;
    let Some(foreground) = made.foreground.take() else {
        if let Some(proxy) = made.proxy.take()
            && let Err(error) = proxy.finish(made.child.pidfd(), made.child.pid)
        {
            // The container runs; that its supervisor does not listen is no reason to end it.
            log::warning(&error);
        }
        return Ok(0);
    };
    let status = foreground
        .notifying(made.proxy.take())
        .wait(made.child.pid, made.child.pidfd())
        .within(Doing::Run)
        .on(id);
    if matches!(status, Ok(KILLED)) {
        made.container.tell_of_oom();
    }
    if !wishes.keep
        && let Err(error) = made.container.delete(true)
    {
        // The program's status counts for more.
        log::warning(&error);
    }
    status
}

/// The status of a program that SIGKILL has ended.
const KILLED: i32 = 128 + libc::SIGKILL;

impl Container {
    /// Whoever waited for the program sees a status only, whether it ever began or not.
    fn tell_of_oom(&self) {
        let group = Cgroup::open(&self.state().creel.cgroup);
        if group.is_ok_and(|group| group.oom_killed()) {
            log::warning(
                &Error::rule(Doing::Await, "the kernel's OOM killer struck in the cgroup")
                    .field("linux.resources.memory.limit"),
            );
        }
    }
}

struct Made {
    container: Container,
    child: Child,
    foreground: Option<Foreground>,
    proxy: Option<Proxy>,
}

fn made_to_run(store: &Store, id: &str, bundle: &Path, wishes: &Wishes) -> Result<Made> {
    if wishes.detach {
        signal::restore_default(libc::SIGCHLD).doing(Doing::Signal)?;
    }
    let made = make(store, id, bundle, wishes, false)?;
    if let Err(error) = made.container.run_poststart() {
        // config.md: a failed poststart hook is an error, and the container is stopped.
        made.container.delete(true)?;
        return Err(error);
    }
    Ok(made)
}

/// `create` or, without `creates`, all of `run` but the waiting.
fn make(store: &Store, id: &str, bundle: &Path, wishes: &Wishes, creates: bool) -> Result<Made> {
    let host = Host::new();
    let bundle = Bundle::open(bundle)?;
    let mut config = bundle.config()?;
    if wishes.notify_socket.is_some() {
        notify::add_to(&mut config, &store.path().join(id).join(notify::DIR));
    }
    let mut warnings = Vec::new();
    let plan = Plan::new(id, &bundle.dir, &config, wishes, &host, &mut warnings)?;
    tell(&plan.process, &warnings);
    plan.process.fds.guard_rest()?;
    let subreaper = !wishes.no_subreaper;
    let (console, mut foreground) = other_ends(wishes, &plan.process, !creates, subreaper)?;
    let slot = store.reserve(id)?;
    slot.keep_config(&bundle.bytes)?;
    let proxy = match &wishes.notify_socket {
        Some(supervisor) => {
            let dir = slot.dir().make_dir(notify::DIR)?;
            // With `create`, it is `start` that listens.
            (!creates)
                .then(|| Proxy::bind(dir.as_fd(), supervisor))
                .transpose()?
        }
        None => None,
    };
    let gate = creates.then(|| slot.make_fifos()).transpose()?;
    let mut state = new_state(id, &bundle, &config, &plan, wishes);
    // Before anything is made that `delete` would have to find if we were killed.
    slot.record(&state)?;
    let shares_mounts = plan.builds_root() && !plan.namespaces.has(MOUNT);
    let place = shares_mounts.then(|| slot.make_root()).transpose()?;
    let mut prepared = Prepared::new(&plan, console, gate, place)?;
    state.creel.cgroup = prepared.cgroup.record();
    state.creel.rdt = prepared.rdt.as_ref().map(Rdt::record);
    let hook_state = HookState(state.clone());
    let mut child = parent::spawn(&plan, &prepared, &hook_state)?;
    prepared.console = None;
    prepared.gate = None;
    let mut making = Making {
        plan: &plan,
        slot: &slot,
        state,
        creates,
        foreground: foreground.as_mut(),
    };
    if let Err(error) = child.settle(&plan, &prepared, &mut making) {
        drop(child);
        // config.md: "the poststop hooks" are called for a container that failed to be created.
        let state = making.state.for_hooks(Status::Stopped)?;
        for failure in plan.hooks.run_all(Kind::Poststop, &state) {
            log::warning(&failure);
        }
        return Err(error);
    }
    let state = making.state;
    if creates {
        // It waits for `start`, or a filter or a `delete` has ended it.
        child.must_live()?;
    }
    send_pid(wishes, child.pid, child.pidfd())?;
    let container = slot.commit(state)?;
    child.release();
    prepared.keep();
    Ok(Made {
        container,
        child,
        foreground,
        proxy,
    })
}

/// When init started, by which it is known later; 0, which no process did, if it is gone already.
pub(super) fn known_start(pid: i32) -> Result<u64> {
    let started = start_time(pid).doing(Doing::ReadProc);
    Ok(started.on(format_args!("/proc/{pid}/stat"))?.unwrap_or(0))
}

pub(super) fn new_state(
    id: &str,
    bundle: &Bundle,
    config: &Config,
    plan: &Plan,
    wishes: &Wishes,
) -> State {
    let names = crate::isolate::namespaces::Namespaces::names;
    State {
        oci_version: SPEC_VERSION.to_owned(),
        id: id.to_owned(),
        status: Status::Creating,
        pid: 0,
        bundle: bundle.dir.clone(),
        annotations: config.annotations.clone(),
        created: log::time::rfc3339_nano(std::time::SystemTime::now()),
        owner: nix::unistd::geteuid().as_raw(),
        rootfs: plan.root.path.clone(),
        creel: Private {
            format: FORMAT,
            start_time: 0,
            cgroup: plan.cgroup.record(),
            rdt: plan.rdt.as_ref().map(RdtPlan::record),
            namespaces: Namespaces {
                own: names(plan.namespaces.new),
                joined: names(plan.namespaces.joined),
            },
            systemd_cgroup: wishes.systemd_cgroup,
            no_new_keyring: wishes.no_new_keyring,
        },
    }
}

/// The state as hooks inside the container see it.
struct HookState(State);

impl StateForHooks for HookState {
    fn text(&self, created: bool, pid: i32) -> Result<Vec<u8>> {
        let status = if created {
            Status::Created
        } else {
            Status::Creating
        };
        State {
            pid,
            ..self.0.clone()
        }
        .for_hooks(status)
    }
}

/// What happens around a container's first process.
struct Making<'a> {
    plan: &'a Plan,
    slot: &'a Slot,
    state: State,
    creates: bool,
    foreground: Option<&'a mut Foreground>,
}

impl Making<'_> {
    fn note_pid(&mut self, child: &Child) -> Result<()> {
        self.state.pid = child.pid;
        self.state.creel.start_time = known_start(child.pid)?;
        Ok(())
    }
}

impl Midwife for Making<'_> {
    fn run_hooks(&mut self, child: &Child) -> Result<()> {
        self.note_pid(child)?;
        // So that hooks, and whoever cleans up after a killed `create`, find the process.
        self.slot.record(&self.state)?;
        // Prestart hooks see `created`, as when `start` ran them, and as the spec's validators and
        // crun have it; those that took their place see `creating`, as under runc (ADR 18).
        let state = |status| self.state.for_hooks(status);
        let (created, creating) = (state(Status::Created)?, state(Status::Creating)?);
        parent::run_early_hooks(self.plan, child, &created, &creating)
    }

    fn ready(&mut self, child: &Child) -> Result<()> {
        self.note_pid(child)?;
        self.state.status = if self.creates {
            Status::Created
        } else {
            Status::Running
        };
        self.slot.record(&self.state)?;
        if let Some(foreground) = &mut self.foreground {
            // So that the program finds its terminal in the caller's size.
            foreground.receive_console()?;
        }
        Ok(())
    }

    fn listener(&mut self, child: &Child, listener: OwnedFd) -> Result<()> {
        send_listener(
            self.plan.process.seccomp.as_ref(),
            &self.state,
            child,
            &listener,
            Status::Creating,
        )
    }
}

/// Who is at the other end of the process's stdio: where its terminal's master goes, and the
/// foreground, if there may be one and the caller waits.
pub(super) fn other_ends(
    wishes: &Wishes,
    process: &ProcessPlan,
    may_wait: bool,
    subreaper: bool,
) -> Result<(Option<OwnedFd>, Option<Foreground>)> {
    let terminal = process.terminal.is_some();
    check_console(wishes, terminal)?;
    let path = wishes.console_socket.as_deref().filter(|_| terminal);
    let socket = path.map(console::connect).transpose()?;
    if !may_wait || wishes.detach {
        return Ok((socket, None));
    }
    let mut foreground = Foreground::new(Options {
        terminal,
        subreaper,
    })?;
    Ok((
        socket.or_else(|| foreground.console_socket()),
        Some(foreground),
    ))
}

/// What a plan has to say besides what it decides.
pub(super) fn tell(plan: &ProcessPlan, warnings: &[String]) {
    for warning in warnings {
        log::warning(warning);
    }
    if let Some(seccomp) = &plan.seccomp {
        log::debug(&format_args!("seccomp filter flags: {}", seccomp.flags()));
        if !seccomp.unknown().is_empty() {
            log::debug(&format_args!(
                "ignored unknown syscalls: {:?}",
                seccomp.unknown()
            ));
        }
    }
}

/// Tells the caller of the process: `--pid-file`, `--pidfd-socket`.
pub(super) fn send_pid(wishes: &Wishes, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
    if let Some(path) = &wishes.pidfd_socket {
        let socket = console::connect(path)
            .within(Doing::SendPidfd)
            .on(path.display())?;
        console::send_master(socket.as_fd(), pidfd, "pidfd").within(Doing::SendPidfd)?;
    }
    let Some(path) = &wishes.pid_file else {
        return Ok(());
    };
    write_pid_file(path, pid)
}

/// Readers see no file or the whole number, without newline as runc writes it.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    std::fs::write(&new, pid.to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .doing(Doing::WritePidFile)
        .on(path.display())
}

/// Hands a seccomp listener to the agent of `linux.seccomp.listenerPath`.
pub(super) fn send_listener(
    seccomp: Option<&crate::confine::seccomp::Seccomp>,
    state: &State,
    child: &Child,
    listener: &OwnedFd,
    status: Status,
) -> Result<()> {
    let Some(agent) = seccomp.and_then(|seccomp| seccomp.listener()) else {
        return Err(Error::rule(Doing::SendListener, "there is no agent for it"));
    };
    let state = State {
        pid: child.pid,
        ..state.clone()
    };
    let state = serde_json::from_slice(&state.for_hooks(status)?)
        .map_err(|error| Error::rule(Doing::SendListener, error.to_string()))?;
    agent.send((child.pid, child.pidfd()), state, listener.as_fd())
}
