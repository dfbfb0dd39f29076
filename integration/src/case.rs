//! What a case is: a promise in its name, the machine it needs, and the code that checks it.
#![forbid(unsafe_code)]

use crate::lab::Lab;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::geteuid;
use std::fmt::Display;
use std::path::Path;
use std::process::Command;

/// Why a case did not pass.
#[derive(Debug)]
pub struct Failure {
    /// In words.
    pub why: String,
    /// The machine or the runtime lacks what the case is about: not a failure.
    pub skip: bool,
}

/// What the code of a case returns.
pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// This machine or runtime cannot show what the case is about.
    pub fn skip(why: impl Display) -> Self {
        Self {
            why: why.to_string(),
            skip: true,
        }
    }
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            why: error.to_string(),
            skip: false,
        }
    }
}

/// Fails the case with a message unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

/// Fails the case unless what was got equals what was wanted.
#[macro_export]
macro_rules! same {
    ($what:expr, $got:expr, $want:expr) => {{
        // A match, as in assert_eq: temporaries live to its end.
        match (&$got, &$want) {
            (got, want) => {
                if *got != *want {
                    return Err(format!("{}: got {got:?}, want {want:?}", $what).into());
                }
            }
        }
    }};
}

/// What a case needs of the machine or of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Root,
    CgroupV1,
    CgroupV2,
    /// A cgroup v2 controller.
    Controller(&'static str),
    Systemd,
    Userns,
    AppArmor,
    /// The host has no AppArmor.
    NoAppArmor,
    /// The host has no SELinux.
    NoSelinux,
    Kernel(u32, u32),
    Tool(&'static str),
    /// A namespace kind the kernel must have, as in /proc/self/ns.
    Namespace(&'static str),
    /// The promise is creel's own.
    Creel,
    /// The `runtimetest` binary.
    Runtimetest,
    /// A criu that says of itself that it works here.
    Criu,
    /// A shim: the runtime's own, or containerd's.
    Shim,
    /// Bundles where ids can be mapped.
    IdMaps,
    /// This capability is in our bounding set (the number of the bit).
    Capability(u8),
}

impl Need {
    /// Why it is not met, if it is not.
    pub fn lack(self, runtime: &Path) -> Option<String> {
        let (met, lack) = match self {
            Self::Root => (geteuid().is_root(), "not root".into()),
            Self::CgroupV2 => (unified(), "no cgroup v2 at /sys/fs/cgroup".into()),
            Self::Controller(name) => (controller(name), format!("no {name} controller")),
            Self::CgroupV1 => (
                Path::new("/sys/fs/cgroup/memory").exists() && !unified(),
                "no cgroup v1".into(),
            ),
            Self::Systemd => (systemd(), "systemd is not running".into()),
            Self::Userns => (
                number("/proc/sys/user/max_user_namespaces") > 0,
                "no user namespaces".into(),
            ),
            Self::AppArmor => (apparmor(), "no AppArmor".into()),
            Self::NoAppArmor => (!apparmor(), "AppArmor is on".into()),
            Self::NoSelinux => (
                !Path::new("/sys/fs/selinux/enforce").exists(),
                "SELinux is on".into(),
            ),
            Self::Kernel(major, minor) => (
                kernel() >= (major, minor),
                format!("kernel older than {major}.{minor}"),
            ),
            Self::Tool(tool) => (which(tool), format!("no {tool} in PATH")),
            Self::Namespace(kind) => (
                Path::new("/proc/self/ns").join(kind).exists(),
                format!("the kernel has no {kind} namespace"),
            ),
            Self::Creel => (
                runtime
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().contains("creel")),
                "creel's own promise".into(),
            ),
            Self::Runtimetest => (
                std::env::var_os("RUNTIMETEST").is_some_and(|path| Path::new(&path).is_file()),
                "RUNTIMETEST names no file".into(),
            ),
            Self::Criu => {
                let lack = criu();
                (lack.is_none(), lack.unwrap_or_default())
            }
            Self::Shim => (
                crate::engine::shim(runtime).is_some() || which("containerd-shim-runc-v2"),
                "no shim".into(),
            ),
            Self::IdMaps => (
                kernel() >= (5, 12) && (kernel() >= (6, 3) || !on_tmpfs()),
                "no ids can be mapped in the bundles' file system".into(),
            ),
            Self::Capability(bit) => (bounding() >> bit & 1 == 1, format!("capability {bit}")),
        };
        (!met).then_some(lack)
    }
}

/// Whether bundles are on a tmpfs.
fn on_tmpfs() -> bool {
    statfs(&std::env::temp_dir()).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}

/// Why there is no checkpointing here, in criu's words.
fn criu() -> Option<String> {
    let output = Command::new("criu")
        .arg("check")
        .env("PATH", crate::lab::path())
        .output();
    match output {
        Err(error) => Some(format!("criu: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| line.contains("Error"));
            Some(format!("criu check: {}", first.unwrap_or("failed")))
        }
    }
}

fn bounding() -> u64 {
    let status = procfs::process::Process::myself().and_then(|me| me.status());
    status.ok().and_then(|status| status.capbnd).unwrap_or(0)
}

/// Whether systemd runs the host, and has its cgroups.
pub fn systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Whether the host has cgroup v2 alone.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn controller(name: &str) -> bool {
    let all = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    all.split_whitespace().any(|one| one == name)
}

fn apparmor() -> bool {
    Path::new("/sys/kernel/security/apparmor").exists()
}

fn number(path: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn which(tool: &str) -> bool {
    let path = crate::lab::path();
    path.split(':')
        .any(|dir| Path::new(dir).join(tool).is_file())
}

/// The code of a case.
pub type Run = Box<dyn Fn(&Lab) -> Result + Send + Sync>;

/// The same, as a plain function.
pub type Plain = fn(&Lab) -> Result;

/// One promise.
pub struct Case {
    /// The promise, in words joined by underscores.
    pub name: String,
    /// What it takes to check it.
    pub needs: Vec<Need>,
    /// Seconds after which it has failed.
    pub limit: u64,
    /// The check.
    pub run: Run,
}

impl Case {
    /// A case that needs root, as nearly all do.
    pub fn new(name: &str, run: impl Fn(&Lab) -> Result + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            needs: vec![Need::Root],
            limit: 60,
            run: Box::new(run),
        }
    }

    /// Adds what the case needs.
    pub fn needs(mut self, needs: &[Need]) -> Self {
        self.needs.extend(needs);
        self
    }

    /// Allows more seconds than the usual 60.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = seconds;
        self
    }
}

/// Registers functions as cases under their own names; `name: [Need...]` adds needs. A file that
/// also makes cases from tables puts `in other_name;` first and calls that.
#[macro_export]
macro_rules! cases {
    (in $list:ident; $($name:ident $(: [$($need:expr),+])?),+ $(,)?) => {
        /// The cases of this part.
        pub fn $list() -> Vec<$crate::case::Case> {
            #[allow(unused_imports)]
            use $crate::case::Need::*;
            vec![$($crate::case::Case::new(stringify!($name), $name)$(.needs(&[$($need),+]))?),+]
        }
    };
    ($($rest:tt)+) => { $crate::cases! { in cases; $($rest)+ } };
}
