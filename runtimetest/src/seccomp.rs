//! Seccomp: a filter is there, and it is felt.
//!
//! The list below is of calls that do nothing when given nonsense, and whose complaint then
//! differs from a filter's. Nothing is tried whose refusal would kill.
#![forbid(unsafe_code)]

use crate::config::{Config, Seccomp};
use crate::kernel::text;
use crate::report::Report;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, renameat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mkdirat, mknodat};
use nix::time::{ClockId, clock_settime};
use nix::unistd::{self, LinkatFlags, Pid, UnlinkatFlags};

/// A call that changes nothing, whether the kernel obeys or not.
type Call = fn() -> Result<(), Errno>;

/// The call's name, how to make it, and what the kernel itself may answer.
const HARMLESS: &[(&str, Call, &[Errno])] = &[
    ("getcwd", || unistd::getcwd().map(drop), &[Errno::ENOENT]),
    (
        "mkdirat",
        || mkdirat(AT_FDCWD, "", Mode::empty()),
        &[Errno::ENOENT],
    ),
    (
        "mkdir",
        || unistd::mkdir("", Mode::empty()),
        &[Errno::ENOENT],
    ),
    (
        "mknodat",
        || mknodat(AT_FDCWD, "", SFlag::S_IFIFO, Mode::empty(), 0),
        &[Errno::ENOENT],
    ),
    (
        "symlinkat",
        || unistd::symlinkat("x", AT_FDCWD, ""),
        &[Errno::ENOENT],
    ),
    ("linkat", || link(), &[Errno::ENOENT]),
    (
        "unlinkat",
        || unistd::unlinkat(AT_FDCWD, "", UnlinkatFlags::NoRemoveDir),
        &[Errno::ENOENT],
    ),
    (
        "renameat",
        || renameat(AT_FDCWD, "", AT_FDCWD, ""),
        &[Errno::ENOENT],
    ),
    (
        "fchmodat",
        || fchmodat(AT_FDCWD, "", Mode::empty(), FchmodatFlags::FollowSymlink),
        &[Errno::ENOENT],
    ),
    ("chown", || unistd::chown("", None, None), &[Errno::ENOENT]),
    ("truncate", || unistd::truncate("", 0), &[Errno::ENOENT]),
    ("chroot", || unistd::chroot(""), &[Errno::ENOENT]),
    (
        "pivot_root",
        || unistd::pivot_root("", ""),
        &[Errno::ENOENT, Errno::EPERM],
    ),
    (
        "mount",
        || mount::<str, str, str, str>(None, "", None, MsFlags::empty(), None),
        &[Errno::ENOENT],
    ),
    (
        "umount2",
        || umount2("", MntFlags::empty()),
        &[Errno::ENOENT, Errno::EPERM],
    ),
    ("unshare", || unshare(CloneFlags::empty()), &[]),
    (
        "setns",
        || setns(root()?, CloneFlags::empty()),
        &[Errno::EINVAL],
    ),
    (
        "sethostname",
        || unistd::sethostname("x".repeat(65)),
        &[Errno::EINVAL, Errno::EPERM],
    ),
    (
        "clock_settime",
        || clock_settime(ClockId::from_raw(99), nix::sys::time::TimeSpec::new(0, 0)),
        &[Errno::EINVAL],
    ),
    (
        "sched_setaffinity",
        || sched_setaffinity(Pid::from_raw(0), &CpuSet::new()),
        &[Errno::EINVAL],
    ),
    (
        "sched_getaffinity",
        || sched_getaffinity(Pid::from_raw(0)).map(drop),
        &[Errno::EINVAL],
    ),
    (
        "inotify_init1",
        || Inotify::init(InitFlags::IN_CLOEXEC).map(drop),
        &[Errno::EMFILE],
    ),
    (
        "memfd_create",
        || memfd_create("x", MFdFlags::MFD_CLOEXEC).map(drop),
        &[Errno::EACCES],
    ),
    ("syncfs", || unistd::syncfs(root()?), &[]),
    (
        "pipe2",
        || unistd::pipe2(OFlag::O_CLOEXEC).map(drop),
        &[Errno::EMFILE],
    ),
];

fn root() -> Result<std::os::fd::OwnedFd, Errno> {
    nix::fcntl::open("/", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn link() -> Result<(), Errno> {
    unistd::linkat(AT_FDCWD, "", AT_FDCWD, "", LinkatFlags::empty())
}

/// Judges `linux.seccomp`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "linux.seccomp: the state of the filter can be seen";
    let Some(status) = report.seen(claim, "status", text("/proc/self/status")) else {
        return;
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u32>().ok())
    };
    let Some(filter) = config
        .linux
        .seccomp
        .as_ref()
        .filter(|f| !f.default_action.is_empty())
    else {
        report.equal(
            "without linux.seccomp there is no filter",
            Some(0),
            field("Seccomp:"),
        );
        return;
    };
    report.equal("linux.seccomp is in force", Some(2), field("Seccomp:"));
    if let Some(count) = field("Seccomp_filters:") {
        report.holds(
            "linux.seccomp is at least one filter",
            "1 or more",
            count,
            count > 0,
        );
    }
    for (name, call, own) in HARMLESS {
        let Some(verdict) = verdict(filter, name) else {
            continue;
        };
        // An errno that the kernel would give anyway proves nothing.
        if let Verdict::Refuse(errno) = verdict {
            if !own.contains(&errno) {
                let got = call().map_err(|errno| errno.to_string());
                let claim = format!("linux.seccomp refuses {name} with the errno listed");
                report.equal(claim, Err(errno.to_string()), got);
            }
            continue;
        }
        let got = call();
        let ok = got.is_ok() || got.is_err_and(|errno| own.contains(&errno));
        let got = got.map_err(|errno| errno.to_string());
        report.holds(
            format!("linux.seccomp lets {name} pass"),
            "the kernel's answer",
            got,
            ok,
        );
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Pass,
    Refuse(Errno),
}

/// What the filter says to a call whatever its arguments; nothing where that is not certain.
fn verdict(filter: &Seccomp, name: &str) -> Option<Verdict> {
    let mut rules = filter
        .syscalls
        .iter()
        .filter(|rule| rule.names.iter().any(|n| n == name));
    let (action, errno) = match rules.next() {
        None => (filter.default_action.as_str(), filter.default_errno_ret),
        // Several rules for a call, or one about arguments, need a judgement of their own.
        Some(rule) if rule.args.is_empty() && rules.next().is_none() => {
            (rule.action.as_str(), rule.errno_ret)
        }
        Some(_) => return None,
    };
    match action {
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => Some(Verdict::Pass),
        "SCMP_ACT_ERRNO" => {
            let errno = errno.map_or(Errno::EPERM, Errno::from_raw);
            (errno != Errno::UnknownErrno).then_some(Verdict::Refuse(errno))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rule;

    #[test]
    fn only_certain_verdicts_count() {
        let rule = |name: &str, action: &str, args: usize| Rule {
            names: vec![name.to_owned()],
            action: action.to_owned(),
            errno_ret: None,
            args: vec![serde_json::Value::Null; args],
        };
        let filter = Seccomp {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            default_errno_ret: Some(38),
            syscalls: vec![
                rule("getcwd", "SCMP_ACT_ALLOW", 0),
                rule("mount", "SCMP_ACT_ERRNO", 0),
                rule("chroot", "SCMP_ACT_ALLOW", 1),
                rule("unshare", "SCMP_ACT_KILL", 0),
            ],
        };
        assert_eq!(verdict(&filter, "getcwd"), Some(Verdict::Pass));
        assert_eq!(
            verdict(&filter, "mount"),
            Some(Verdict::Refuse(Errno::EPERM))
        );
        assert_eq!(
            verdict(&filter, "setns"),
            Some(Verdict::Refuse(Errno::ENOSYS))
        );
        assert_eq!(verdict(&filter, "chroot"), None);
        assert_eq!(verdict(&filter, "unshare"), None);
    }
}
