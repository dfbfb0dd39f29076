//! A debugger around the runtime's commands: it counts the system calls of each of their processes,
//! makes one of them fail, or kills who makes it.
//!
//! strace(1) can inject faults, too, but by one rule for all that it follows: it cannot tell the
//! fifth openat of `create` from the fifth openat of the init that it makes.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel;
use crate::lab::{Lab, Output, path, text};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

/// A process of a command, by what it is for: `create`, `bridge`, `init`.
pub type Role = &'static str;

/// One system call of one process: the `nth` of that kind it makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Who makes it.
    pub role: Role,
    /// Its name.
    pub call: &'static str,
    /// Counted from 1.
    pub nth: u32,
}

/// A call that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which.
    pub site: Site,
    /// Its first argument is a socket.
    pub on_socket: bool,
}

/// What is done at a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The call answers this. It is not made, but for close(2), which does its work all the same.
    Fail(Errno),
    /// Who makes it is killed instead.
    Kill,
    /// The command that its maker works for is killed, and the call is made.
    KillParent,
}

struct Tracee {
    role: Role,
    /// The command it works for.
    command: Pid,
    /// It runs the runtime: before, it is the shell that waited for us.
    counts: bool,
    /// Between the entry and the exit of a call.
    inside: bool,
    /// What the call it is in is to answer.
    answer: Option<Errno>,
}

/// See the module.
pub struct Tracer<'lab> {
    lab: &'lab Lab,
    aim: Option<(Site, Strike)>,
    /// The fault has been made.
    pub hit: bool,
    /// All calls, if no fault was asked for.
    pub seen: Vec<Seen>,
    tracees: BTreeMap<Pid, Tracee>,
    /// Stopped before we heard who made them.
    strangers: BTreeSet<Pid>,
    /// By command: what its next children are for.
    roles: BTreeMap<Pid, Vec<Role>>,
    counts: BTreeMap<(Role, &'static str), u32>,
    ended: BTreeMap<Pid, i32>,
    children: SignalFd,
}

/// How long a command may take before it hangs.
fn patience() -> Duration {
    Duration::from_secs(15) * kernel::slow()
}

impl<'lab> Tracer<'lab> {
    /// For these commands; without an aim, it notes the calls.
    pub fn new(lab: &'lab Lab, aim: Option<(Site, Strike)>) -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        Ok(Self {
            lab,
            aim,
            hit: false,
            seen: Vec::new(),
            tracees: BTreeMap::new(),
            strangers: BTreeSet::new(),
            roles: BTreeMap::new(),
            counts: BTreeMap::new(),
            ended: BTreeMap::new(),
            children: SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
        })
    }

    /// Runs a command of the runtime to its end; `None` if it hangs, after it was killed. The roles
    /// are its own and those of the processes that it makes, one after another; with none, it is not
    /// traced.
    pub fn call(&mut self, args: &[&str], roles: &[Role]) -> Result<Option<Output>> {
        let id = self.lab.id();
        let (out, err) = (
            self.lab.path(&format!("{id}.out")),
            self.lab.path(&format!("{id}.err")),
        );
        let runtime = self.lab.command(args);
        let mut command = match roles {
            [] => Command::new(runtime.get_program()),
            _ => {
                let mut shell = Command::new("/bin/sh");
                shell
                    .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
                    .arg(runtime.get_program());
                shell
            }
        };
        command
            .args(runtime.get_args())
            .env_clear()
            .env("PATH", path());
        command
            .stdin(self.lab.null()?)
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        let pid = Pid::from_raw(command.spawn()?.id().cast_signed());
        if let Some((own, made)) = roles.split_first() {
            self.roles.insert(pid, made.iter().rev().copied().collect());
            self.seize(pid, own)?;
        }
        let ended = self.serve_until(|tracer| tracer.ended.get(&pid).copied())?;
        let Some(code) = ended else {
            kill(pid, Signal::SIGKILL).ok();
            self.serve_until(|tracer| tracer.ended.get(&pid).copied())?;
            return Ok(None);
        };
        Ok(Some(Output {
            code,
            out: text(&out)?,
            err: text(&err)?,
        }))
    }

    /// Waits until nothing that was traced lives; those that do.
    pub fn finish(&mut self) -> Result<Vec<Pid>> {
        self.serve_until(|tracer| tracer.tracees.is_empty().then_some(()))?;
        Ok(self.tracees.keys().copied().collect())
    }

    /// Takes hold of the shell that stops itself before it becomes the runtime.
    fn seize(&mut self, pid: Pid, role: Role) -> Result {
        loop {
            match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Stopped(..)) => break,
                other => return Err(format!("the shell did not stop: {other:?}").into()),
            }
        }
        ptrace::seize(
            pid,
            Options::PTRACE_O_TRACESYSGOOD
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEEXEC
                | Options::PTRACE_O_EXITKILL,
        )?;
        self.adopt(pid, role, pid);
        Ok(kill(pid, Signal::SIGCONT)?)
    }

    fn adopt(&mut self, pid: Pid, role: Role, command: Pid) {
        let counts = pid != command;
        self.tracees.insert(
            pid,
            Tracee {
                role,
                command,
                counts,
                inside: false,
                answer: None,
            },
        );
    }

    /// Serves stops until the probe answers; `None` if it does not in time.
    fn serve_until<T>(&mut self, probe: impl Fn(&Self) -> Option<T>) -> Result<Option<T>> {
        let end = Instant::now() + patience();
        loop {
            if let Some(answer) = probe(self) {
                return Ok(Some(answer));
            }
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                    if Instant::now() > end {
                        return Ok(None);
                    }
                    let tick = PollTimeout::from(100u8);
                    poll(
                        &mut [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)],
                        tick,
                    )
                    .ok();
                    while let Ok(Some(_)) = self.children.read_signal() {}
                }
                Err(Errno::EINTR) => {}
                status => self.serve(status?)?,
            }
        }
    }

    fn serve(&mut self, status: WaitStatus) -> Result {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.gone(pid, 256 + signal as i32),
            WaitStatus::PtraceSyscall(pid) => self.at_call(pid),
            WaitStatus::PtraceEvent(pid, _, event) => self.at_event(pid, event),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            _ => Ok(()),
        }
    }

    fn gone(&mut self, pid: Pid, code: i32) -> Result {
        self.tracees.remove(&pid);
        self.strangers.remove(&pid);
        self.ended.insert(pid, code);
        Ok(())
    }

    fn at_event(&mut self, pid: Pid, event: i32) -> Result {
        let is = |wanted: Event| event == wanted as i32;
        if is(Event::PTRACE_EVENT_FORK)
            || is(Event::PTRACE_EVENT_CLONE)
            || is(Event::PTRACE_EVENT_VFORK)
        {
            let made = match ptrace::getevent(pid) {
                Ok(made) => Pid::from_raw(i32::try_from(made)?),
                Err(Errno::ESRCH) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            self.born(pid, made, is(Event::PTRACE_EVENT_VFORK))?;
        } else if is(Event::PTRACE_EVENT_EXEC) {
            if kernel::command_line(pid).starts_with("/bin/") {
                // The container's program.
                self.tracees.remove(&pid);
                return gone_is_fine(ptrace::detach(pid, None));
            }
            if let Some(tracee) = self.tracees.get_mut(&pid) {
                tracee.counts = true;
            }
        } else if !self.tracees.contains_key(&pid) {
            self.strangers.insert(pid);
            return Ok(());
        }
        self.resume(pid, None)
    }

    /// A process or thread has been made by one of ours.
    fn born(&mut self, by: Pid, pid: Pid, is_helper: bool) -> Result {
        let Some(maker) = self.tracees.get(&by) else {
            return Ok(());
        };
        let (mut role, command) = (maker.role, maker.command);
        let is_thread =
            kernel::status_line(pid.as_raw(), "Tgid").is_ok_and(|of| of != pid.to_string());
        if is_helper {
            role = "helper";
        } else if !is_thread {
            role = self
                .roles
                .get_mut(&command)
                .and_then(Vec::pop)
                .unwrap_or("other");
        }
        self.adopt(pid, role, command);
        if self.strangers.remove(&pid) {
            self.resume(pid, None)?;
        }
        Ok(())
    }

    fn at_call(&mut self, pid: Pid) -> Result {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return self.resume(pid, None);
        };
        tracee.inside = !tracee.inside;
        let (inside, counts, role, command) =
            (tracee.inside, tracee.counts, tracee.role, tracee.command);
        if !inside {
            if let Some(errno) = tracee.answer.take() {
                gone_is_fine(answer(pid, errno))?;
            }
        } else if counts && !self.hit {
            let Ok(registers) = ptrace::getregs(pid) else {
                return self.resume(pid, None);
            };
            let call = usize::try_from(registers.orig_rax)
                .ok()
                .and_then(syscalls::Sysno::new);
            let call = call.map_or("unknown", |call| call.name());
            let nth = *self
                .counts
                .entry((role, call))
                .and_modify(|nth| *nth += 1)
                .or_insert(1);
            let site = Site { role, call, nth };
            match self.aim.clone() {
                Some((aim, strike)) if aim == site => self.strike(pid, command, call, strike)?,
                Some(_) => {}
                None => {
                    let link = format!("/proc/{pid}/fd/{}", registers.rdi);
                    let on = std::fs::read_link(link).unwrap_or_default();
                    let on_socket = on.to_string_lossy().starts_with("socket:");
                    self.seen.push(Seen { site, on_socket });
                }
            }
        }
        self.resume(pid, None)
    }

    fn strike(&mut self, pid: Pid, command: Pid, call: &str, strike: Strike) -> Result {
        self.hit = true;
        match strike {
            Strike::Kill => gone_is_fine(kill(pid, Signal::SIGKILL)),
            Strike::KillParent => gone_is_fine(kill(command, Signal::SIGKILL)),
            Strike::Fail(errno) => {
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    tracee.answer = Some(errno);
                }
                match call {
                    "close" => Ok(()),
                    _ => gone_is_fine(skip(pid)),
                }
            }
        }
    }

    fn resume(&mut self, pid: Pid, signal: Option<Signal>) -> Result {
        let owes = self
            .tracees
            .get(&pid)
            .is_some_and(|tracee| tracee.answer.is_some());
        gone_is_fine(match self.hit && !owes {
            true => ptrace::cont(pid, signal),
            false => ptrace::syscall(pid, signal),
        })
    }
}

/// Has the kernel make no call.
fn skip(pid: Pid) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.orig_rax = u64::MAX;
    ptrace::setregs(pid, registers)
}

fn answer(pid: Pid, errno: Errno) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = (-i64::from(errno as i32)).cast_unsigned();
    ptrace::setregs(pid, registers)
}

/// A tracee that was killed meanwhile is no trouble: its end is told next.
fn gone_is_fine(result: nix::Result<()>) -> Result {
    match result {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
