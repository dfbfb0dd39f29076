//! The script of the process in between, for namespaces that hold only for processes born in
//! them: user, time, and a pid namespace joined by path.
#![forbid(unsafe_code)]

use super::parent::{Entry, HookState, fail};
use super::prepare::Prepared;
use super::wire::{ChildEnd, ToChild};
use super::{init, last_mile};
use crate::error::{Act, Doing, Explain, Result};
use crate::isolate::namespaces::{self, CGROUP, TIME, USER};
use crate::isolate::time::TimeOffsets;
use crate::plan::Plan;
use crate::sys::clone::{Cloned, clone3, unshare};
use crate::sys::program;
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use std::os::fd::AsFd;

pub(crate) fn run(
    plan: &Plan,
    prepared: &Prepared,
    entry: &Entry<'_>,
    state: &HookState,
    channel: ChildEnd,
) -> ! {
    match cross(plan, prepared, entry, &channel) {
        Ok(true) => init::run(plan, prepared, None, state, channel),
        Ok(false) => program::exit(0),
        Err(error) => fail(&channel, &error.within(Doing::InInit)),
    }
}

/// `true` in the init that it makes.
fn cross(plan: &Plan, prepared: &Prepared, entry: &Entry<'_>, channel: &ChildEnd) -> Result<bool> {
    last_mile::die_with_parent()?;
    if plan.maps.is_none() {
        // Nobody makes us wait until it is set from outside, and init inherits it.
        plan.process.oom.set_own()?;
    }
    let join_first = plan.namespaces.join_before_user();
    if join_first {
        entry.enter()?;
        namespaces::join(&prepared.joins, 0)?;
        unshare(USER)
            .doing(Doing::CreateNamespaces)
            .on("user")
            .field("linux.namespaces")?;
        // An unshare takes the parent's death signal away (prctl(2), PR_SET_PDEATHSIG).
        last_mile::die_with_parent()?;
        channel.send_want_maps()?;
    }
    if plan.maps.is_some() {
        channel.await_message(ToChild::Mapped)?;
    }
    if !join_first {
        entry.enter()?;
    }
    // Processes in a pid namespace that we join see us in /proc (CVE-2016-9962).
    nix::sys::prctl::set_dumpable(false).doing(Doing::Clone)?;
    // The mount namespace too: sources are resolved where the config's paths mean something.
    if !join_first {
        namespaces::join(&prepared.joins, 0)?;
    }
    if let Some(expected) = &plan.expected_maps {
        expected.verify_own()?;
    }
    if plan.namespaces.has(USER) {
        become_root()?;
    }
    if plan.namespaces.new & TIME != 0 {
        TimeOffsets::unshare()?;
        if plan.times.are_from_outside() {
            channel.send_want_offsets()?;
            channel.await_message(ToChild::OffsetsSet)?;
        } else {
            plan.times.write("self")?;
        }
    }
    let flags = plan.namespaces.new & !(USER | TIME | CGROUP);
    let parent = u64::from(libc::CLONE_PARENT.cast_unsigned());
    match clone3(flags | parent, None)
        .doing(Doing::Clone)
        .field("linux.namespaces")?
    {
        Cloned::Child => Ok(true),
        Cloned::Parent(pid, pidfd) => {
            channel.send_bridged(pid, pidfd.as_fd())?;
            Ok(false)
        }
    }
}

/// Root of the user namespace: what is made from here on belongs to it.
fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)
        .and_then(|()| setresuid(uid, uid, uid))
        .doing(Doing::SetUser)
        .on("root of the user namespace")
        .field("linux.uidMappings")
        .hint("container id 0 must be mapped, for users and for groups")
}
