//! System calls that do nothing, whether the kernel obeys or not, and whose complaint differs from a
//! filter's.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, renameat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns, unshare};
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mkdirat, mknodat};
use nix::time::{ClockId, clock_settime};
use nix::unistd::{self, LinkatFlags, Pid, UnlinkatFlags};

/// A call that changes nothing, whether the kernel obeys or not.
pub type Call = fn() -> Result<(), Errno>;

/// (name, arguments that are known, how to make it, what the kernel itself may answer)
pub type Known = (&'static str, &'static [(u64, u64)], Call, &'static [Errno]);

/// The call's name, how to make it, and what the kernel itself may answer.
pub const HARMLESS: &[(&str, Call, &[Errno])] = &[
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

/// The same with the arguments that are known: (index, value).
pub const ARGUED: &[Known] = &[
    ("unshare", &[(0, 0)], || unshare(CloneFlags::empty()), &[]),
    (
        "umount2",
        &[(1, 0)],
        || umount2("", MntFlags::empty()),
        &[Errno::ENOENT, Errno::EPERM],
    ),
    (
        "umount2",
        &[(1, 2)],
        || umount2("", MntFlags::MNT_DETACH),
        &[Errno::ENOENT, Errno::EPERM],
    ),
    (
        "sethostname",
        &[(1, 65)],
        || unistd::sethostname("x".repeat(65)),
        &[Errno::EINVAL, Errno::EPERM],
    ),
    (
        "memfd_create",
        &[(1, 1)],
        || memfd_create("x", MFdFlags::MFD_CLOEXEC).map(drop),
        &[Errno::EACCES],
    ),
    (
        "kill",
        &[(0, NOBODY), (1, 0)],
        || nobody(None),
        &[Errno::ESRCH],
    ),
    (
        "kill",
        &[(0, NOBODY), (1, 9)],
        || nobody(Some(Signal::SIGKILL)),
        &[Errno::ESRCH],
    ),
    (
        "kill",
        &[(0, NOBODY), (1, 10)],
        || nobody(Some(Signal::SIGUSR1)),
        &[Errno::ESRCH],
    ),
    (
        "socket",
        &[(0, 1), (1, STREAM), (2, 0)],
        || stream(AddressFamily::Unix),
        &[Errno::EMFILE],
    ),
    (
        "socket",
        &[(0, 2), (1, STREAM), (2, 0)],
        || stream(AddressFamily::Inet),
        &[Errno::EMFILE, Errno::EAFNOSUPPORT],
    ),
    (
        "socket",
        &[(0, 40), (1, STREAM), (2, 0)],
        || stream(AddressFamily::Vsock),
        &[Errno::EMFILE, Errno::EAFNOSUPPORT, Errno::ESOCKTNOSUPPORT],
    ),
];

/// The kernel's PID_MAX_LIMIT, which no process reaches.
const NOBODY: u64 = 1 << 22;
/// SOCK_STREAM | SOCK_CLOEXEC
const STREAM: u64 = 0o2_000_001;

fn nobody(signal: Option<Signal>) -> Result<(), Errno> {
    kill(Pid::from_raw(1 << 22), signal)
}

fn stream(family: AddressFamily) -> Result<(), Errno> {
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map(drop)
}

fn root() -> Result<std::os::fd::OwnedFd, Errno> {
    nix::fcntl::open("/", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn link() -> Result<(), Errno> {
    unistd::linkat(AT_FDCWD, "", AT_FDCWD, "", LinkatFlags::empty())
}
