//! The script of the process that stays outside.
#![forbid(unsafe_code)]

use super::prepare::Prepared;
use super::wire::{self, FromChild, ParentEnd, ToChild};
use super::{bridge, init};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::isolate::namespaces::{CGROUP, NET, USER};
use crate::isolate::netdevices::Moved;
use crate::isolate::time::TimeOffsets;
use crate::limit::cgroup::{Cgroup, CgroupPlan, Doors};
use crate::plan::{Plan, ProcessPlan};
use crate::run::hooks::Kind;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::reap::{self, Exit};
use crate::sys::{pidfd, proc, program};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A process that is becoming a container's. Dropped before [`release`](Self::release), it is
/// killed and reaped.
#[derive(Debug)]
pub(crate) struct Child {
    /// In our pid namespace.
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    channel: ParentEnd,
    /// Go back to the host if the container does not come to life.
    devices: Option<Moved>,
    /// A message of the process that a bridge makes, if it comes before the bridge's.
    early: Option<FromChild>,
    released: bool,
}

/// What happens around a child as it comes to life, for `create` and `exec` to fill in.
pub(crate) trait Midwife {
    /// prestart and createRuntime are due.
    fn run_hooks(&mut self, _child: &Child) -> Result<()> {
        Ok(())
    }
    /// All is done but the last mile: write down what must be known of the process.
    fn ready(&mut self, child: &Child) -> Result<()>;
    /// A seccomp agent is to get this listener.
    fn listener(&mut self, child: &Child, listener: OwnedFd) -> Result<()>;
}

/// Makes the container's first process.
pub(crate) fn spawn(plan: &Plan, prepared: &Prepared, hook_state: &HookState) -> Result<Child> {
    let (ours, theirs) = wire::pair()?;
    let doors = prepared.cgroup.doors()?;
    let bridged = plan.namespaces.need_bridge();
    // The cgroup namespace's root is the cgroup at its making: that waits until we are in ours.
    let flags = match bridged {
        true if plan.namespaces.join_before_user() => 0,
        true => plan.namespaces.new & USER,
        false => plan.namespaces.new & !CGROUP,
    };
    let birth = |error: Error| {
        error.hint(
            "ENOSPC, EUSERS: a limit of /proc/sys/user; EAGAIN: a limit of processes; EINVAL: the \
             kernel lacks a namespace type",
        )
    };
    match clone_into(flags, &doors).map_err(birth)? {
        (Cloned::Child, cloned) => {
            drop(ours);
            let entry = Entry { doors, cloned };
            match bridged {
                true => bridge::run(plan, prepared, &entry, hook_state, theirs),
                false => init::run(plan, prepared, Some(&entry), hook_state, theirs),
            }
        }
        (Cloned::Parent(pid, pidfd), _) => {
            drop(theirs);
            Ok(child(pid, pidfd, ours))
        }
    }
}

/// How a child gets into its cgroup, as its first act.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    doors: Doors<'a>,
    cloned: bool,
}

impl Entry<'_> {
    pub(crate) fn enter(&self) -> Result<()> {
        self.doors.enter(self.cloned)
    }
}

/// Clones into the v2 cgroup where there is one, and says whether that was done: a kernel that
/// refuses leaves the child to go there by itself. EBUSY is the cgroup's own answer: it has given
/// controllers to those below it, and takes no process any more.
pub(super) fn clone_into(flags: u64, doors: &Doors<'_>) -> Result<(Cloned, bool)> {
    let into = doors.clone_into();
    let refused = match clone3(flags, into) {
        Err(errno) if into.is_some() => errno,
        result => return Ok((result.doing(Doing::Clone)?, into.is_some())),
    };
    if let (Errno::EBUSY, Some(path)) = (refused, doors.v2_path()) {
        return Err(Error::os(Doing::JoinCgroup, refused)
            .on(path)
            .hint("processes cannot be where cgroups below have controllers"));
    }
    clone3(flags, None)
        .map_err(|_| Error::os(Doing::Clone, refused))
        .map(|cloned| (cloned, false))
}

/// As [`Entry`], for a process that was cloned by [`clone_into`].
pub(super) fn entry(doors: Doors<'_>, cloned: bool) -> Entry<'_> {
    Entry { doors, cloned }
}

/// The OCI state that hooks read, but for status and pid.
pub(crate) trait StateForHooks {
    fn text(&self, created: bool, pid: i32) -> Result<Vec<u8>>;
}

/// As the stages hold it.
pub(crate) type HookState = dyn StateForHooks;

/// A process just cloned, with our end of its socket.
pub(super) fn child(pid: i32, pidfd: OwnedFd, channel: ParentEnd) -> Child {
    Child {
        pid,
        pidfd,
        channel,
        devices: None,
        early: None,
        released: false,
    }
}

impl Child {
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The outside half of a new container's making, up to its init's last mile.
    pub(crate) fn settle(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        midwife: &mut dyn Midwife,
    ) -> Result<()> {
        let cgroup = &prepared.cgroup;
        if plan.namespaces.need_bridge() {
            if plan.maps.is_some() {
                // From outside: inside a user namespace nobody may lower it.
                plan.process.oom.set(self.pid)?;
            }
            if plan.namespaces.join_before_user() {
                match self.receive_unless_over(Some(cgroup), false)? {
                    Some(FromChild::WantMaps) => {}
                    _ => return Err(out_of_order()),
                }
            }
            if let Some(maps) = &plan.maps {
                maps.write(self.pid)?;
                self.channel.send(ToChild::Mapped)?;
            }
            self.await_bridged(Some(cgroup), Some(&plan.times))?;
        }
        if let Some(rdt) = &prepared.rdt {
            rdt.record().enter(self.pid)?;
        }
        self.move_devices(plan, prepared)?;
        // While the child makes its mounts.
        if cgroup.awaits_process() {
            if let Err(error) = cgroup.put_in(&plan.cgroup, self.pid) {
                // A child that failed meanwhile knows better why it could not be placed.
                return Err(self.last_words().unwrap_or(error));
            }
            self.channel.send(ToChild::Placed)?;
        }
        cgroup.apply_limits(&plan.cgroup)?;
        self.finish(&plan.process, cgroup, Some(&plan.cgroup), midwife)
    }

    /// Gives the container its network devices.
    fn move_devices(&mut self, plan: &Plan, prepared: &Prepared) -> Result<()> {
        if plan.net_devices.is_empty() {
            return Ok(());
        }
        let joined = prepared.joins.iter().find_map(|join| join.of_kind(NET));
        let made;
        let target = match joined {
            Some(target) => target,
            None => {
                let path = format!("/proc/{}/ns/net", self.pid);
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
                made = open(path.as_str(), flags, Mode::empty())
                    .doing(Doing::MoveNetDevice)
                    .on(path)?;
                made.as_fd()
            }
        };
        self.devices = Some(plan.net_devices.move_to(target)?);
        self.channel.send(ToChild::DevicesMoved)
    }

    /// From the first message on that init and an exec'd process have in common, to the end of
    /// file: the process waits for `start`, or runs its program. `new` is the plan of a cgroup that
    /// was made for it.
    pub(crate) fn finish(
        &mut self,
        process: &ProcessPlan,
        cgroup: &Cgroup,
        new: Option<&CgroupPlan>,
        midwife: &mut dyn Midwife,
    ) -> Result<()> {
        let mut ready = false;
        loop {
            let message = match self.early.take() {
                None => self.receive_unless_over(Some(cgroup), ready)?,
                early => early,
            };
            match message {
                None => return Ok(()),
                Some(FromChild::WantHooks) => {
                    if let Err(error) = midwife.run_hooks(self) {
                        // A child that failed meanwhile knows better why the hooks were ended.
                        return Err(self.last_words().unwrap_or(error));
                    }
                    self.channel.send(ToChild::HooksDone)?;
                }
                Some(FromChild::Ready) if !ready => {
                    if let Some(plan) = new {
                        cgroup.apply_rules(plan)?;
                        cgroup.give(plan)?;
                    }
                    // From outside, for a root in a user namespace may not raise a limit; this
                    // late, for a low one would hinder the making of mounts.
                    process.rlimits.set(self.pid)?;
                    midwife.ready(self)?;
                    ready = true;
                    self.channel.send(ToChild::Proceed)?;
                }
                Some(FromChild::Listener(number)) => {
                    let listener = pidfd::get_fd(self.pidfd.as_fd(), number)
                        .doing(Doing::SendListener)
                        .field("linux.seccomp.listenerPath")?;
                    midwife.listener(self, listener)?;
                    self.channel.send(ToChild::Taken)?;
                }
                Some(_) => return Err(out_of_order()),
            }
        }
    }

    /// Waits for the process that this bridge makes, which takes its place.
    ///
    /// Where the kernel lets the new process run first, as on one processor, its own first message
    /// comes before the bridge's: it is kept.
    pub(super) fn await_bridged(
        &mut self,
        cgroup: Option<&Cgroup>,
        times: Option<&TimeOffsets>,
    ) -> Result<()> {
        loop {
            // One that is killed leaves the socket open in what it made.
            if !self.channel.hears(self.pidfd.as_fd())? {
                return Err(self.death(cgroup));
            }
            match (self.receive_unless_over(cgroup, false)?, times) {
                (Some(FromChild::WantOffsets), Some(times)) => {
                    times.write(self.pid)?;
                    self.channel.send(ToChild::OffsetsSet)?;
                }
                (Some(FromChild::Bridged(pid, pidfd)), _) => {
                    self.replace(pid, pidfd);
                    return Ok(());
                }
                (Some(message), _) if self.early.is_none() => self.early = Some(message),
                _ => return Err(out_of_order()),
            }
        }
    }

    /// `None`: the end of file that is expected once the child was told to proceed.
    fn receive_unless_over(
        &self,
        cgroup: Option<&Cgroup>,
        may_end: bool,
    ) -> Result<Option<FromChild>> {
        match self.channel.receive()? {
            Some(FromChild::Failed(error)) => Err(error),
            // It waits for `start`, or its program runs; what ends it from now on is its own story.
            None if may_end => Ok(None),
            None => Err(self.death(cgroup)),
            message => Ok(message),
        }
    }

    /// The failure that a child has told, if it is dead already.
    fn last_words(&self) -> Option<Error> {
        if pidfd::wait(self.pidfd.as_fd(), Duration::ZERO) != Ok(true) {
            return None;
        }
        match self.channel.receive() {
            Ok(Some(FromChild::Failed(error))) => Some(error),
            _ => None,
        }
    }

    /// Fails if it has ended, or is about to.
    pub(crate) fn must_live(&self) -> Result<()> {
        match proc::is_ending(self.pid).doing(Doing::Await)? {
            true => Err(self.death(None)),
            false => Ok(()),
        }
    }

    /// Why a child ended that should not have.
    fn death(&self, cgroup: Option<&Cgroup>) -> Error {
        let why = match reap::wait(self.pidfd.as_fd()) {
            Ok(Exit::Code(code)) => format!("it exited with status {code} before it was ready"),
            Ok(Exit::Killed(signal)) => format!("it was killed by signal {signal}"),
            Err(errno) => format!("it is gone ({errno})"),
        };
        let error = Error::rule(Doing::Await, why);
        if cgroup.is_some_and(Cgroup::oom_killed) {
            return error.field("linux.resources.memory.limit").hint(
                "the kernel's OOM killer struck in the cgroup: is the limit too low to start?",
            );
        }
        error
    }

    /// The bridge has done its work and exits by itself: what it made is our child now.
    pub(super) fn replace(&mut self, pid: i32, pidfd: OwnedFd) {
        let bridge = std::mem::replace(&mut self.pidfd, pidfd);
        self.pid = pid;
        // It was cloned by us: it can be reaped, and nothing depends on how it ended.
        reap::wait(bridge.as_fd()).ok();
    }

    /// The process lives on, whatever becomes of us.
    pub(crate) fn release(&mut self) {
        self.released = true;
        if let Some(devices) = &mut self.devices {
            devices.keep();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // It may be gone already; reaping says no more than that. What a bridge has made dies with
        // it, by PR_SET_PDEATHSIG or at the socket's end.
        pidfd::send_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
        reap::wait(self.pidfd.as_fd()).ok();
    }
}

fn out_of_order() -> Error {
    Error::rule(Doing::Talk, "a message out of order")
}

/// Runs the hooks that are due before the container's root is entered.
pub(crate) fn run_early_hooks(
    plan: &Plan,
    child: &Child,
    created: &[u8],
    creating: &[u8],
) -> Result<()> {
    plan.hooks.run_for(child.pidfd(), Kind::Prestart, created)?;
    plan.hooks
        .run_for(child.pidfd(), Kind::CreateRuntime, creating)
}

/// How every child ends that could not become the container.
pub(crate) fn fail(channel: &wire::ChildEnd, error: &Error) -> ! {
    channel.send_failure(error);
    program::exit(1)
}
