//! CHECKPOINT, back: files become processes again, in a container made around them.
#![forbid(unsafe_code)]

use super::mounts::{self, is_bind};
use super::protobuf::Message;
use super::rpc::{Kind, opt};
use super::swrk::{self, Criu};
use super::{DESCRIPTORS, EXTERNAL, Options, Request, converse, too_old};
use crate::bundle::Bundle;
use crate::bundle::config::Config;
use crate::container::create::{known_start, new_state, other_ends, send_pid, tell};
use crate::container::{Container, Slot, State, Status, Store};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::Host;
use crate::isolate::namespaces::{MOUNT, word};
use crate::limit::cgroup::Cgroup;
use crate::log;
use crate::plan::Plan;
use crate::plan::wishes::Wishes;
use crate::rootfs::{Leaf, Root};
use crate::run::console;
use crate::run::foreground::Foreground;
use crate::run::hooks;
use crate::run::notify;
use crate::sys::clone::{setns, unshare};
use crate::sys::mount::clone_tree;
use crate::sys::{pidfd, reap, signal};
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// criu wants the root to be a mount of its own: it is bound here, below the state directory.
const ROOT: &str = "criu-root";

/// Makes a container of the images in `options.images`, whose processes go on where they were.
///
/// The value is the status of the first process, 128+n after signal n; 0 when detached.
///
/// # Errors
/// The id is taken, the bundle is wrong, criu is missing or too old, or criu failed. Nothing is
/// left behind.
pub fn restore(
    store: &Store,
    id: &str,
    bundle: &Path,
    wishes: &Wishes,
    options: &Options,
) -> Result<i32> {
    // If our caller ignores SIGCHLD, criu vanishes with its exit status.
    signal::restore_default(libc::SIGCHLD).doing(Doing::Signal)?;
    let explain = |error: Error| error.within(Doing::Restore).on(id);
    let (container, init, foreground) =
        make(store, id, bundle, wishes, options).map_err(explain)?;
    let Some(foreground) = foreground else {
        return Ok(0);
    };
    let status = foreground
        .wait(init.pid, init.pidfd.as_fd())
        .map_err(explain);
    if let Err(error) = container.delete(true) {
        // The program's status counts for more.
        log::warning(&error);
    }
    status
}

/// The first process, which criu has made our child.
struct Init {
    pid: i32,
    pidfd: OwnedFd,
}

fn make(
    store: &Store,
    id: &str,
    bundle: &Path,
    wishes: &Wishes,
    options: &Options,
) -> Result<(Container, Init, Option<Foreground>)> {
    let bundle = Bundle::open(bundle)?;
    let config = bundle.config()?;
    let mut warnings = Vec::new();
    let plan = Plan::new(
        id,
        &bundle.dir,
        &config,
        wishes,
        &Host::new(),
        &mut warnings,
    )?;
    tell(&plan.process, &warnings);
    plan.process.fds.guard_rest()?;
    let (console, foreground) = other_ends(wishes, &plan.process, true, !wishes.no_subreaper)?;
    let slot = store.reserve(id)?;
    // After what is wrong with the call: that is wrong with or without criu, and told first by runc.
    let version = swrk::version()?;
    slot.keep_config(&bundle.bytes)?;
    let mut state = new_state(id, &bundle, &config, &plan, wishes);
    // As under runc, nothing enters a resctrl group again: none is made, none is to be removed.
    state.creel.rdt = None;
    // Before anything is made that `delete` would have to find if we were killed.
    slot.record(&state)?;
    let cgroup = plan.cgroup.make()?;
    let mut restoring = Restoring {
        plan: &plan,
        config: &config,
        slot: &slot,
        state,
        console,
        init: None,
    };
    restoring.state.creel.cgroup = cgroup.record();
    let restored = restoring.go(&cgroup, options, version);
    let Restoring { state, init, .. } = restoring;
    let hooked = (state.pid != 0).then(|| state.for_hooks(Status::Stopped));
    let failure = match (restored, init) {
        (Ok(()), Some(init)) => {
            let noted = send_pid(wishes, init.pid, init.pidfd.as_fd());
            match noted.and_then(|()| slot.commit(state)) {
                Ok(container) => return Ok((container, init, foreground)),
                Err(error) => {
                    end(&init);
                    error
                }
            }
        }
        (Ok(()), None) => Error::rule(Doing::CallCriu, "it names no process"),
        (Err(error), init) => {
            if let Some(init) = init {
                end(&init);
            }
            error
        }
    };
    // As for a `create` that failed: early hooks have run if there was a process.
    if let Some(Ok(state)) = hooked {
        for failure in plan.hooks.run_all(hooks::Kind::Poststop, &state) {
            log::warning(&failure);
        }
    }
    if let Err(error) = cgroup.remove() {
        log::warning(&error);
    }
    Err(failure)
}

/// Kills a process that was restored in vain; gone already is fine.
fn end(init: &Init) {
    pidfd::send_signal(init.pidfd.as_fd(), libc::SIGKILL).ok();
    reap::wait(init.pidfd.as_fd()).ok();
}

struct Restoring<'a> {
    plan: &'a Plan,
    config: &'a Config,
    slot: &'a Slot,
    state: State,
    /// Where the master of its terminal goes.
    console: Option<OwnedFd>,
    init: Option<Init>,
}

impl Restoring<'_> {
    fn go(&mut self, cgroup: &Cgroup, options: &Options, version: u32) -> Result<()> {
        let root = self.slot.dir().path().join(ROOT);
        std::fs::create_dir_all(&root)
            .doing(Doing::CallCriu)
            .on(root.display())?;
        // criu mounts below the directories that it is given: they must be of its mount namespace.
        let aside = Aside::go()?;
        let mut request = Request::new(options, self.config, "restore.log")?;
        request
            .opts
            .put(opt::ROOT, root.to_string_lossy().as_bytes())
            .number(opt::EVASIVE_DEVICES, true)
            .number(opt::RST_SIBLING, true);
        for (field, value, name) in [
            (opt::LSM_PROFILE, &options.lsm_profile, "--lsm-profile"),
            (
                opt::LSM_MOUNT_CONTEXT,
                &options.lsm_mount_context,
                "--lsm-mount-context",
            ),
        ] {
            if let Some(value) = value {
                if version < 31_600 {
                    let why = format!("{name} requires at least CRIU 3.16");
                    return Err(Error::rule(Doing::CallCriu, why));
                }
                request.opts.put(field, value);
            }
        }
        for (name, source) in mounts::external(self.config, &self.state, &cgroup.record()) {
            request.external(&name, &source);
        }
        // The images may name it, whoever supervises us: see `dump`.
        self.slot.dir().make_dir(notify::DIR)?;
        let dir = self.slot.dir().path().join(notify::DIR);
        let name = mounts::resolve(&self.state.rootfs, notify::INSIDE);
        request.external(&name, &dir.to_string_lossy());
        let namespaces = self.namespaces(&mut request.opts, version)?;
        inherit_pipes(&mut request.opts, options)?;
        self.prepare_root(&root)?;
        let fds: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
        let criu = Criu::start(true, &fds)?;
        drop((namespaces, aside));
        self.place(cgroup, &criu, &mut request.opts)?;
        let talk = converse(
            criu,
            Kind::Restore,
            &request.opts,
            &mut |script, pid, fd| self.notified(script, pid, fd),
        );
        // Mounted only in the namespace that went with criu.
        std::fs::remove_dir(&root).ok();
        talk.map_err(|error| request.explain(error))
    }

    /// Namespaces by path: criu joins them, or is handed those that are not in the images.
    fn namespaces(&self, opts: &mut Message, version: u32) -> Result<Vec<OwnedFd>> {
        let mut handed = Vec::new();
        let listed = self.config.linux.namespaces.iter().enumerate();
        for (index, one) in listed.filter(|(_, one)| !one.path.is_empty()) {
            let field = format!("linux.namespaces[{index}].path");
            let kind = word(one.typ);
            if let Some((_, _, name)) = EXTERNAL.iter().find(|(known, ..)| *known == kind) {
                if version < 31_500 {
                    return Err(too_old("namespaces from outside", version));
                }
                let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
                let fd = open(one.path.as_str(), flags, Mode::empty())
                    .doing(Doing::JoinNamespace)
                    .on(&one.path)
                    .field(field)?;
                let mut inherit = Message::default();
                inherit.put(1, name).number(2, fd.as_raw_fd());
                opts.message(opt::INHERIT_FD, &inherit);
                handed.push(fd);
                continue;
            }
            if kind == "cgroup" {
                let why = "criu cannot join a cgroup namespace";
                return Err(Error::rule(Doing::CallCriu, why).field(field));
            }
            let mut join = Message::default();
            let file = if kind == "mount" { "mnt" } else { kind };
            join.put(1, file).put(2, &one.path);
            opts.message(opt::JOIN_NS, &join);
        }
        Ok(handed)
    }

    /// Makes the mount points that are missing, as `create` does, and binds the rootfs to `root`.
    fn prepare_root(&self, root: &Path) -> Result<()> {
        let mounts = &self.config.mounts;
        let in_tmpfs = |path: &str| {
            mounts.iter().any(|mount| {
                mount.typ == "tmpfs"
                    && path
                        .strip_prefix(mount.destination.as_str())
                        .is_some_and(|rest| rest.starts_with('/'))
            })
        };
        let rootfs = &self.plan.root.c_path;
        let tree = Root::open(rootfs)?;
        tree.part_from_peers(false)?;
        for (index, one) in mounts.iter().enumerate() {
            // criu fills a tmpfs itself, and cgroups are in one or in sysfs.
            if one.typ == "cgroup" || in_tmpfs(&one.destination) {
                continue;
            }
            let source = is_bind(one).then(|| self.state.bundle.join(&one.source));
            let leaf = match &source {
                Some(source) if !source.is_dir() => Leaf::File,
                _ => Leaf::Dir,
            };
            let made = || -> nix::Result<()> {
                let target = tree.make(&one.destination, leaf)?;
                // What is mounted below a bind needs its mount point there.
                if let Some(source) = &source {
                    let source = CString::new(source.as_os_str().as_encoded_bytes())
                        .map_err(|_| nix::errno::Errno::EINVAL)?;
                    let bound = clone_tree(AT_FDCWD, &source, true, true)?;
                    tree.attach(bound.as_fd(), target.as_fd())?;
                }
                Ok(())
            };
            made()
                .doing(Doing::MakeTarget)
                .on(&one.destination)
                .field(format_args!("mounts[{index}]"))?;
        }
        if tree.is_surfaced() {
            umount2(rootfs.as_c_str(), MntFlags::MNT_DETACH).doing(Doing::OpenRootfs)?;
        }
        drop(tree);
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(
            Some(rootfs.as_c_str()),
            root,
            None::<&str>,
            flags,
            None::<&str>,
        )
        .doing(Doing::Mount)
        .on(root.display())
    }

    /// criu goes into the cgroup, with the limits in force, and all that it makes is born there.
    fn place(&self, cgroup: &Cgroup, criu: &Criu, opts: &mut Message) -> Result<()> {
        cgroup.put_in(&self.plan.cgroup, criu.pid())?;
        cgroup.place(criu.pid())?;
        cgroup.apply_limits(&self.plan.cgroup)?;
        cgroup.apply_rules(&self.plan.cgroup)?;
        let path = format!("/proc/{}/cgroup", criu.pid());
        let text = std::fs::read_to_string(&path)
            .doing(Doing::ReadProc)
            .on(&path)?;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(names), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            for name in names.split(',') {
                let mut root = Message::default();
                root.put(1, name).put(2, path);
                opts.message(opt::CG_ROOT, &root);
            }
        }
        Ok(())
    }

    fn notified(&mut self, script: &str, pid: i32, fd: Option<OwnedFd>) -> Result<()> {
        match script {
            "setup-namespaces" => {
                let hooks = &self.plan.hooks;
                self.state.pid = pid;
                let state = self.state.for_hooks(Status::Creating)?;
                hooks.run(hooks::Kind::Prestart, &state)?;
                hooks.run(hooks::Kind::CreateRuntime, &state)
            }
            "post-restore" => {
                let pidfd = pidfd::open(pid).doing(Doing::Restore)?;
                self.init = Some(Init { pid, pidfd });
                self.state.pid = pid;
                self.state.status = Status::Running;
                self.state.creel.start_time = known_start(pid)?;
                // criu gives every process a time namespace where the kernel has them.
                let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/time")).ok();
                let namespaces = &mut self.state.creel.namespaces;
                if link(&pid.to_string()) != link("self")
                    && !namespaces.all().any(|kind| kind == "time")
                {
                    namespaces.own.push("time".into());
                }
                self.slot.record(&self.state)
            }
            "orphan-pts-master" => match (fd, self.console.take()) {
                (Some(master), Some(socket)) => {
                    console::send_master(socket.as_fd(), master.as_fd(), console::NAME)
                }
                (_, None) => {
                    let why = "the images hold a terminal, but process.terminal is not set";
                    Err(Error::rule(Doing::Terminal, why))
                }
                (None, _) => Err(Error::rule(Doing::Terminal, "criu sent no master")),
            },
            _ => Ok(()),
        }
    }
}

/// Pipes that were stdio are replaced by ours.
fn inherit_pipes(opts: &mut Message, options: &Options) -> Result<()> {
    let path = options.images.join(DESCRIPTORS);
    let bytes = std::fs::read(&path)
        .doing(Doing::Restore)
        .on(path.display())?;
    let links: Vec<String> = crate::bundle::parse(&bytes, path.display())?;
    for (number, link) in (0..3).zip(&links) {
        if link.contains("pipe:") {
            let mut inherit = Message::default();
            inherit.put(1, link).number(2, number);
            opts.message(opt::INHERIT_FD, &inherit);
        }
    }
    Ok(())
}

/// For a while in a mount namespace that only the children made meanwhile keep: so nothing stays
/// mounted, however we end. Dropped, we are back.
struct Aside {
    home: OwnedFd,
    cwd: OwnedFd,
}

impl Aside {
    fn go() -> Result<Self> {
        let opened = |path: &str, flags| {
            open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
                .doing(Doing::CreateNamespaces)
                .on(path)
        };
        let home = opened("/proc/self/ns/mnt", OFlag::O_RDONLY)?;
        let cwd = opened(".", OFlag::O_PATH)?;
        unshare(MOUNT).doing(Doing::CreateNamespaces)?;
        let aside = Self { home, cwd };
        let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .doing(Doing::SetPropagation)
            .on("/")?;
        Ok(aside)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // setns(2) moves us to the namespace's root.
        if let Err(errno) = setns(self.home.as_fd(), MOUNT).and_then(|()| fchdir(&self.cwd)) {
            log::warning(&Error::os(Doing::JoinNamespace, errno).on("/proc/self/ns/mnt"));
        }
    }
}
