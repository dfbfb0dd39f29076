//! DECIDE: what will be done, checked and in the kernel's form, before anything is touched.
//!
//! [`Plan`] is a whole container; [`ProcessPlan`] is the part of it that an exec'd process has,
//! too. Nothing parses text or formats it after the clone if it can be decided here.
#![forbid(unsafe_code)]

pub mod wishes;

use crate::bundle::config::{Config, ConsoleSize, Process};
use crate::confine::caps::Capabilities;
use crate::confine::labels::Labels;
use crate::confine::seccomp::Seccomp;
use crate::confine::user::User;
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::isolate::ids::IdMaps;
use crate::isolate::keyring;
use crate::isolate::names::Names;
use crate::isolate::namespaces::{MOUNT, Namespaces, USER};
use crate::isolate::netdevices::NetDevices;
use crate::isolate::sysctl::Sysctls;
use crate::isolate::time::TimeOffsets;
use crate::limit::cgroup::CgroupPlan;
use crate::limit::oom::OomScore;
use crate::limit::rdt::RdtPlan;
use crate::limit::rlimits::Rlimits;
use crate::rootfs::devices::Devices;
use crate::rootfs::hide::Hide;
use crate::rootfs::mounts::{Mount, plan_propagation};
use crate::run::env::Env;
use crate::run::fds::PassedFds;
use crate::run::hooks::Hooks;
use crate::run::program::Program;
use crate::tune::affinity::Affinity;
use crate::tune::ioprio::IoPriority;
use crate::tune::mempolicy::MemoryPolicy;
use crate::tune::personality::Personality;
use crate::tune::scheduler::Scheduler;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use wishes::Wishes;

/// A container to be.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) namespaces: Namespaces,
    /// Of the user namespace that is made.
    pub(crate) maps: Option<IdMaps>,
    /// What the user namespace that is joined must have.
    pub(crate) expected_maps: Option<IdMaps>,
    pub(crate) times: TimeOffsets,
    pub(crate) names: Names,
    pub(crate) net_devices: NetDevices,
    pub(crate) sysctls: Sysctls,
    /// `None`: `--no-new-keyring`.
    pub(crate) keyring: Option<CString>,
    pub(crate) root: RootPlan,
    pub(crate) mounts: Vec<Mount>,
    /// `None`: /dev is bound from the host.
    pub(crate) devices: Option<Devices>,
    pub(crate) hide: Hide,
    pub(crate) cgroup: CgroupPlan,
    pub(crate) rdt: Option<RdtPlan>,
    pub(crate) hooks: Hooks,
    pub(crate) process: ProcessPlan,
}

/// `root` and how it becomes the root.
#[derive(Debug)]
pub(crate) struct RootPlan {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) c_path: CString,
    pub(crate) readonly: bool,
    /// `linux.rootfsPropagation`.
    pub(crate) propagation: Option<(u64, bool)>,
    pub(crate) no_pivot: bool,
}

/// A process in a container: its first, or an exec'd one.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) program: Program,
    pub(crate) env: Env,
    pub(crate) user: User,
    pub(crate) caps: Capabilities,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: Option<Seccomp>,
    pub(crate) labels: Labels,
    pub(crate) rlimits: Rlimits,
    pub(crate) oom: OomScore,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) affinity: Affinity,
    pub(crate) personality: Option<Personality>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// `process.terminal`, with its first size.
    pub(crate) terminal: Option<ConsoleSize>,
    pub(crate) fds: PassedFds,
}

impl Plan {
    /// Whether a file tree is built: of a container in the caller's mount namespace, only if it asks
    /// for mounts.
    pub(crate) fn builds_root(&self) -> bool {
        self.namespaces.has(MOUNT) || !self.mounts.is_empty()
    }

    /// Decides everything about a container of `id` from the bundle at `dir`.
    ///
    /// # Errors
    /// The config breaks a rule of the spec, contradicts itself, or asks for what this host or
    /// this runtime cannot do. What the spec wants ignored becomes a warning.
    pub(crate) fn new(
        id: &str,
        dir: &Path,
        config: &Config,
        wishes: &Wishes,
        host: &Host,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        check_version(&config.oci_version)?;
        let Some(process) = &config.process else {
            return Err(
                Error::rule(Doing::CheckConfig, "process property must not be empty")
                    .field("process"),
            );
        };
        let namespaces = Namespaces::plan(config)?;
        if !nix::unistd::geteuid().is_root() && !namespaces.has(USER) {
            let why = "rootless container requires user namespaces";
            return Err(Error::rule(Doing::CheckConfig, why)
                .field("linux.namespaces")
                .hint("`spec --rootless` writes a config.json to begin with"));
        }
        let maps = IdMaps::plan(config, &namespaces)?;
        let root = RootPlan::new(dir, config, wishes)?;
        let mounts = Mount::plan_all(config, warnings)?;
        Labels::check_mount_label(config, host)?;
        let process = ProcessPlan::new(process, config, maps.as_ref(), wishes, host, warnings)?;
        let rootless = wishes.rootless.unwrap_or_else(|| host.is_rootless());
        let cgroup = CgroupPlan::new(
            &config.linux.cgroups_path,
            id,
            config.linux.resources.as_ref(),
            wishes.systemd_cgroup.then_some(&config.annotations),
            rootless,
        )?
        .owned(config, &namespaces, maps.as_ref());
        let (maps, expected_maps) = if namespaces.joined & USER != 0 {
            (None, maps)
        } else {
            (maps, None)
        };
        let keyring = (!wishes.no_new_keyring)
            .then(|| keyring::name_for(id))
            .transpose()?;
        Ok(Self {
            times: TimeOffsets::plan(config, &namespaces)?,
            names: Names::plan(config, &namespaces)?,
            net_devices: NetDevices::plan(config, &namespaces, rootless)?,
            sysctls: Sysctls::plan(config, &namespaces)?,
            keyring,
            devices: (!mounts.iter().any(Mount::binds_dev))
                .then(|| Devices::plan(config, namespaces.has(USER) || host.in_user_namespace()))
                .transpose()?,
            hide: Hide::plan(config, &namespaces)?,
            rdt: RdtPlan::plan(config, id, host)?,
            cgroup,
            hooks: Hooks::plan(config)?,
            process,
            maps,
            expected_maps,
            namespaces,
            root,
            mounts,
        })
    }
}

impl RootPlan {
    fn new(dir: &Path, config: &Config, wishes: &Wishes) -> Result<Self> {
        let wrong = |why| Err(Error::rule(Doing::CheckConfig, why).field("root.path"));
        let Some(root) = &config.root else {
            // config.md: "On POSIX platforms, ... the root object is REQUIRED."
            let why = "root must be specified";
            return Err(Error::rule(Doing::CheckConfig, why).field("root"));
        };
        if root.path.is_empty() {
            return wrong("the path of the root filesystem is empty");
        }
        let path: PathBuf = dir.join(&root.path).components().collect();
        let Ok(c_path) = CString::new(path.as_os_str().as_bytes()) else {
            return wrong("contains a NUL byte");
        };
        Ok(Self {
            path,
            c_path,
            readonly: root.readonly,
            propagation: plan_propagation(config)?,
            no_pivot: wishes.no_pivot,
        })
    }
}

impl ProcessPlan {
    /// Decides everything about a process. `maps` are those of a user namespace made with it.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn new(
        process: &Process,
        config: &Config,
        maps: Option<&IdMaps>,
        wishes: &Wishes,
        host: &Host,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let seccomp = config.linux.seccomp.as_ref();
        Ok(Self {
            program: Program::plan(process)?,
            env: Env::plan(process)?,
            user: User::plan(process, maps)?,
            caps: Capabilities::plan(process, warnings)?,
            no_new_privileges: process.no_new_privileges,
            seccomp: seccomp
                .map(|profile| Seccomp::plan(profile, warnings))
                .transpose()?,
            labels: Labels::plan(process, host)?,
            rlimits: Rlimits::plan(process)?,
            oom: OomScore::plan(process)?,
            scheduler: Scheduler::plan(process, config)?,
            io_priority: IoPriority::plan(process)?,
            affinity: Affinity::plan(process)?,
            personality: Personality::plan(config)?,
            memory_policy: MemoryPolicy::plan(config)?,
            terminal: process
                .terminal
                .then(|| process.console_size.unwrap_or_default()),
            fds: PassedFds::plan(wishes)?,
        })
    }
}

/// config.md: "The value MUST be in SemVer v2.0.0 format"; a major version we do not know may
/// mean anything.
fn check_version(version: &str) -> Result<()> {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u32>().ok());
    let parsed = (
        parts.next().flatten(),
        parts.next().flatten(),
        parts.next().flatten(),
    );
    let why = match (parsed, parts.next()) {
        ((Some(1), Some(_), Some(_)), None) => return Ok(()),
        ((Some(_), Some(_), Some(_)), None) => "unsupported version of the runtime-spec",
        _ => "not a version in SemVer format",
    };
    Err(Error::rule(Doing::CheckConfig, why)
        .on(format_args!("{version:?}"))
        .field("ociVersion")
        .hint("1.0.0 to 1.3.0 and later 1.x are understood"))
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn the_version_is_semver_of_major_1() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0", "1.1.0+dev"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["", "1", "1.0", "2.0.0", "v1.0.0", "1.0.0.0", "0.5.0"] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }
}
