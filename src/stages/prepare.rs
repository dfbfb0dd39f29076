//! All that can fail before we are two: fds opened, the cgroup made.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Explain, Result};
use crate::isolate::namespaces::{CGROUP, Opened, USER};
use crate::limit::cgroup::Cgroup;
use crate::limit::rdt::{Rdt, RdtPlan};
use crate::plan::Plan;
use crate::rootfs::cgroupfs::View;
use crate::rootfs::idmap::Mappers;
use crate::rootfs::{libc_flag, pivot, procfs};
use crate::sys::mount::{self, MountAttr};
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};

/// The two fifos between init and `start`; see ADR 13.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Init waits for a byte here.
    pub(crate) exec: OwnedFd,
    /// Init's last words go here; its end closes at execve.
    pub(crate) outcome: OwnedFd,
}

/// What the stages work with besides the plan. Dropped before [`keep`](Self::keep), it removes
/// the cgroup.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) joins: Vec<Opened>,
    pub(crate) cgroup: Cgroup,
    pub(crate) rdt: Option<Rdt>,
    pub(crate) view: View,
    /// Trees cloned with the privileges of the host's root, for a container whose root has less;
    /// empty when init clones them itself.
    pub(crate) early: Option<Early>,
    /// For sysctls and labels, if there are any.
    pub(crate) proc: Option<OwnedFd>,
    /// Where the pty's master is sent, for a process with a terminal.
    pub(crate) console: Option<OwnedFd>,
    /// `None`: the process goes on to execve by itself (`run`).
    pub(crate) gate: Option<Gate>,
    /// Where the root of a container without a mount namespace of its own is mounted; the bundle's
    /// rootfs if `None`.
    pub(crate) place: Option<OwnedFd>,
    keep: bool,
}

/// The rootfs, and by index of the mount the sources of binds and the id-mapped filesystems.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) root: Option<OwnedFd>,
    pub(crate) sources: Vec<Option<OwnedFd>>,
}

impl Prepared {
    pub(crate) fn new(
        plan: &Plan,
        console: Option<OwnedFd>,
        gate: Option<Gate>,
        place: Option<OwnedFd>,
    ) -> Result<Self> {
        let joins = plan.namespaces.open()?;
        // A rootfs that is not there is told before anything is made.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(&plan.root.path, flags, Mode::empty())
            .doing(Doing::OpenRootfs)
            .on(plan.root.path.display())
            .field("root.path")?;
        plan.net_devices.check()?;
        let needs_proc = !plan.sysctls.is_empty() || !plan.process.labels.is_empty();
        let proc = needs_proc.then(procfs::private).transpose()?;
        let early = Early::clone_for(plan, &joins)?;
        let rdt = plan.rdt.as_ref().map(RdtPlan::make).transpose()?;
        let cgroup = plan.cgroup.make()?;
        let view = if plan
            .mounts
            .iter()
            .any(crate::rootfs::mounts::Mount::is_cgroup)
        {
            cgroup.view(plan.namespaces.has(CGROUP))?
        } else {
            View::default()
        };
        Ok(Self {
            joins,
            cgroup,
            rdt,
            view,
            early,
            proc,
            console,
            gate,
            place,
            keep: false,
        })
    }

    /// The container lives: what was made for it stays.
    pub(crate) fn keep(mut self) {
        self.keep = true;
        if let Some(rdt) = &mut self.rdt {
            rdt.keep();
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.cgroup.remove()
        {
            crate::log::warning(&error);
        }
    }
}

impl Early {
    /// In the container's user namespace, the host's paths may be closed and ids cannot be mapped.
    fn clone_for(plan: &Plan, joins: &[Opened]) -> Result<Option<Self>> {
        let user = plan.namespaces.has(USER) && nix::unistd::geteuid().is_root();
        if !user && plan.mounts.iter().all(|mount| mount.idmap.is_none()) {
            return Ok(None);
        }
        let root = user.then(|| {
            let tree = mount::clone_tree(AT_FDCWD, &plan.root.c_path, true, true)
                .doing(Doing::OpenRootfs)
                .on(plan.root.path.display())
                .field("root.path")?;
            seclude(tree, plan)
        });
        let joined = joins.iter().find_map(|join| join.of_kind(USER));
        let mut mappers = Mappers::default();
        let sources = plan.mounts.iter().map(|mount| {
            if !user && mount.idmap.is_none() {
                return Ok(None);
            }
            let Some(tree) = mount.clone_source()? else {
                return Ok(None);
            };
            if let Some(idmap) = &mount.idmap {
                idmap
                    .apply(tree.as_fd(), (plan.maps.as_ref(), joined), &mut mappers)
                    .field(&mount.field)?;
            }
            match mount.is_bind() {
                true => seclude(tree, plan).map(Some),
                false => Ok(Some(tree)),
            }
        });
        Ok(Some(Self {
            root: root.transpose()?,
            sources: sources.collect::<Result<_>>()?,
        }))
    }
}

/// What init gives its copies of the host's mounts by changing `/` first, see `pivot::seclude`.
fn seclude(tree: OwnedFd, plan: &Plan) -> Result<OwnedFd> {
    let attr = MountAttr {
        propagation: libc_flag(pivot::kept(plan.root.propagation)),
        ..Default::default()
    };
    mount::set_attributes(tree.as_fd(), &attr, true)
        .doing(Doing::SetPropagation)
        .field("linux.rootfsPropagation")?;
    Ok(tree)
}
