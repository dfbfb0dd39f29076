//! The script of the process that becomes the container: isolate, build the root, last mile.
#![forbid(unsafe_code)]

use super::last_mile::{self, Ending};
use super::parent::{Entry, HookState, fail};
use super::prepare::Prepared;
use super::wire::{ChildEnd, ToChild};
use crate::error::{Act, Doing, Explain, Result};
use crate::isolate::namespaces::{self, CGROUP, MOUNT, NET, PID, USER};
use crate::isolate::sysctl::Sysctls;
use crate::isolate::{keyring, net};
use crate::plan::Plan;
use crate::rootfs::{Leaf, Root, pivot};
use crate::run::console::Console;
use crate::run::hooks::Kind;
use crate::run::null;
use crate::sys::clone::unshare;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};

/// Runs in the child of the clone, and never returns.
pub(crate) fn run(
    plan: &Plan,
    prepared: &Prepared,
    entry: Option<&Entry<'_>>,
    state: &HookState,
    channel: ChildEnd,
) -> ! {
    let init = Init {
        plan,
        prepared,
        entry,
        state,
        channel: &channel,
        settled: Cell::new(false),
    };
    match init.make() {
        Ok((console, state)) => {
            let hooks = state.map(|state| (&plan.hooks, state));
            let ending = Ending {
                process: &plan.process,
                console,
                hooks,
                gate: prepared.gate.as_ref(),
            };
            last_mile::run(ending, channel)
        }
        Err(error) => fail(&channel, &error.within(Doing::InInit)),
    }
}

struct Init<'a> {
    plan: &'a Plan,
    prepared: &'a Prepared,
    /// `None`: the bridge went in before.
    entry: Option<&'a Entry<'a>>,
    state: &'a HookState,
    channel: &'a ChildEnd,
    /// We are in our cgroup and its namespace.
    settled: Cell<bool>,
}

impl Init<'_> {
    /// All that needs the host or its privileges. Every part of the plan is named here: one that
    /// nobody applies does not compile.
    fn make(&self) -> Result<(Option<Console>, Option<Vec<u8>>)> {
        let Plan {
            namespaces,
            maps: _,          // the parent, for the bridge
            expected_maps: _, // the bridge
            times: _,         // the bridge
            cgroup: _,        // prepare, the parent
            rdt: _,           // prepare, the parent
            names,
            net_devices,
            sysctls,
            keyring,
            root: _,    // build
            mounts: _,  // build
            devices: _, // build
            hide: _,    // build
            hooks,
            process,
        } = self.plan;
        last_mile::enter()?;
        if let Some(entry) = self.entry {
            entry.enter()?;
        }
        if !namespaces.need_bridge() {
            // While we are dumpable: after that the file is root's.
            process.oom.set_own()?;
        }
        if namespaces.new & PID == 0 {
            // Others see us in /proc: they must not get at what we hold open (CVE-2016-9962).
            prctl::set_dumpable(false).doing(Doing::Clone)?;
        }
        if !namespaces.need_bridge() {
            namespaces::join(&self.prepared.joins, PID | USER)?;
        }
        if !self.prepared.cgroup.awaits_process() {
            self.settle_cgroup()?;
        }
        if let Some(name) = keyring {
            keyring::join(name)?;
        }
        if namespaces.new & NET != 0 {
            net::raise_loopback()?;
        }
        names.set()?;
        if !net_devices.is_empty() {
            // Hooks and sysctls expect them.
            self.channel.await_message(ToChild::DevicesMoved)?;
        }
        let callers = umask(Mode::empty());
        let console = if self.plan.builds_root() {
            self.build(callers)?
        } else {
            self.settle_cgroup()?;
            self.early_hooks(None, callers)?;
            self.set_sysctls(sysctls)?;
            pivot::change_root(&self.plan.root.c_path)?;
            None
        };
        last_mile::tune(process)?;
        last_mile::set_labels(&process.labels, self.prepared.proc.as_ref())?;
        self.channel.send_ready()?;
        self.channel.await_message(ToChild::Proceed)?;
        let state = hooks
            .has(Kind::StartContainer)
            .then(|| self.state.text(true, own_pid()));
        Ok((console, state.transpose()?))
    }

    /// Makes our cgroup the root of the cgroup namespace, once; waits for systemd if it has yet to
    /// put us there.
    fn settle_cgroup(&self) -> Result<()> {
        if self.settled.replace(true) {
            return Ok(());
        }
        if self.prepared.cgroup.awaits_process() {
            self.channel.await_message(ToChild::Placed)?;
        }
        if self.plan.namespaces.new & CGROUP != 0 {
            unshare(CGROUP)
                .doing(Doing::CreateNamespaces)
                .on("cgroup")
                .field("linux.namespaces")?;
        }
        // Only now do the cgroup's cpus bound us instead of the caller's.
        crate::tune::affinity::reset();
        Ok(())
    }

    /// The root filesystem, from clone to pivot.
    fn build(&self, callers: Mode) -> Result<Option<Console>> {
        let Plan {
            root: asked,
            mounts,
            devices,
            hide,
            process,
            sysctls,
            namespaces,
            ..
        } = self.plan;
        let private = namespaces.has(MOUNT);
        let (root, mut sources) = match private {
            true => self.part_from_host(pivot::kept(asked.propagation))?,
            false => self.build_aside()?,
        };
        for (index, mount) in mounts.iter().enumerate() {
            let source = sources.get_mut(index).and_then(Option::take);
            if mount.needs_cgroup() {
                self.settle_cgroup()?;
            }
            mount.mount(&root, source, &self.prepared.view)?;
        }
        if let Some(devices) = devices {
            devices.make(&root)?;
        }
        self.settle_cgroup()?;
        self.early_hooks(Some(&root), callers)?;
        // If the image lacks it, as runc does; what cannot be made shows when we go there. Through
        // `Root`, for the path is the image's: it may lead through a descriptor of ours.
        root.make(process.program.cwd(), Leaf::Dir).ok();
        let console = match &process.terminal {
            Some(size) => Some(open_console(&root, *size, process.user.uid, self.prepared)?),
            None => {
                if devices.is_some() {
                    null::reopen(&root)?;
                }
                None
            }
        };
        self.set_sysctls(sysctls)?;
        hide.make_readonly(&root)?;
        hide.mask(&root)?;
        for mount in mounts {
            mount.seal(&root)?;
        }
        if asked.readonly {
            pivot::make_readonly(&root)?;
        }
        if !private {
            pivot::enter(&root, asked.propagation)?;
            return Ok(console);
        }
        if asked.no_pivot {
            pivot::move_over(&root)?;
        } else {
            pivot::pivot(&root)?;
        }
        pivot::propagate(asked.propagation)?;
        if asked.propagation.is_some_and(|(_, recursive)| recursive) {
            // What a mount asks for itself counts for more.
            for mount in mounts {
                mount.propagate_again(&root)?;
            }
        }
        Ok(console)
    }

    fn set_sysctls(&self, sysctls: &Sysctls) -> Result<()> {
        match &self.prepared.proc {
            Some(proc) => sysctls.write(proc.as_fd()),
            None => Ok(()),
        }
    }

    /// Cuts the mount namespace off the host's, and takes copies of what is to be in the root.
    fn part_from_host(&self, kept: MsFlags) -> Result<(Root, Vec<Option<OwnedFd>>)> {
        // Peers of the host's mounts must be copied before `/` is cut off, all else after.
        let shared = kept == MsFlags::MS_SHARED;
        if !shared {
            pivot::seclude(kept)?;
        }
        let (root, sources) = self.clone_sources(shared)?;
        if shared {
            root.part_from_peers(false)?;
            pivot::seclude(MsFlags::MS_SLAVE)?;
        }
        Ok((root, sources))
    }

    /// In the host's mount namespace: a root of copies that are nobody's peers.
    fn build_aside(&self) -> Result<(Root, Vec<Option<OwnedFd>>)> {
        let (root, sources) = self.clone_sources(true)?;
        root.part_from_peers(true)?;
        for source in sources.iter().flatten() {
            pivot::part_from_peers(source.as_fd(), true).field("mounts")?;
        }
        Ok((root, sources))
    }

    /// The hooks that come before the root is entered, if there are any.
    fn early_hooks(&self, root: Option<&Root>, callers: Mode) -> Result<()> {
        let Plan {
            hooks, namespaces, ..
        } = self.plan;
        let early = [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer];
        if !early.iter().any(|kind| hooks.has(*kind)) {
            return Ok(());
        }
        if let Some(root) = root.filter(|_| namespaces.has(MOUNT)) {
            // These may look at the mounts, and add to them, at the bundle's rootfs.
            root.surface()
                .doing(Doing::Pivot)
                .on(self.plan.root.path.display())
                .field("root.path")?;
        }
        self.channel.send_want_hooks()?;
        self.channel.await_message(ToChild::HooksDone)?;
        if hooks.has(Kind::CreateContainer) {
            umask(callers);
            hooks.run(Kind::CreateContainer, &self.state.text(false, own_pid())?)?;
            umask(Mode::empty());
        }
        Ok(())
    }

    /// The rootfs and, with `all`, every bind's source: in the first case sources are cloned one
    /// by one as their turn comes.
    fn clone_sources(&self, all: bool) -> Result<(Root, Vec<Option<OwnedFd>>)> {
        let c_path = &self.plan.root.c_path;
        let copy = |fd: &OwnedFd| fd.try_clone().doing(Doing::OpenSource);
        let early = self.prepared.early.as_ref();
        let tree = match early.and_then(|early| early.root.as_ref()) {
            Some(tree) => copy(tree)?,
            None => Root::copy(c_path)?,
        };
        let place = match &self.prepared.place {
            Some(place) => copy(place)?,
            None => Root::place(c_path)?,
        };
        let root = Root::of_tree(tree, place);
        if let Some(early) = early {
            let sources = early
                .sources
                .iter()
                .map(|tree| tree.as_ref().map(copy).transpose());
            return Ok((root, sources.collect::<Result<_>>()?));
        }
        let sources = match all {
            true => self
                .plan
                .mounts
                .iter()
                .map(|m| m.clone_source())
                .collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok((root, sources))
    }
}

/// In the container's pid namespace: the only number that means something to hooks in there.
fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// A pty of the container's own devpts, bound to /dev/console, its master sent to the caller.
fn open_console(
    root: &Root,
    size: crate::bundle::config::ConsoleSize,
    uid: u32,
    prepared: &Prepared,
) -> Result<Console> {
    use crate::sys::mount::clone_tree;
    let devpts = root
        .open_at("/dev/pts", OFlag::O_PATH | OFlag::O_DIRECTORY)
        .doing(Doing::OpenConsole)
        .on("/dev/pts")
        .field("process.terminal")
        .hint("a terminal needs a devpts at /dev/pts in mounts")?;
    let console = Console::open(devpts.as_fd()).field("process.terminal")?;
    console.resize(size)?;
    console.give(uid)?;
    let mount = || {
        let node = clone_tree(console.peer(), c"", false, true)?;
        let target = root.make("/dev/console", Leaf::File)?;
        root.attach(node.as_fd(), target.as_fd())
    };
    match mount() {
        // Before 6.15 nothing can be cloned off a detached tree.
        Err(nix::errno::Errno::EINVAL) => root.surface().and_then(|()| mount()),
        result => result,
    }
    .doing(Doing::OpenConsole)
    .on("/dev/console")
    .field("process.terminal")?;
    if let Some(socket) = &prepared.console {
        console.send(socket.as_fd())?;
    }
    Ok(console)
}
