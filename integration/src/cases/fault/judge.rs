//! Whether a runtime in which a fault was made has told the truth about it.
#![forbid(unsafe_code)]

use crate::lab::Output;
use crate::tracer::{Seen, Site, Strike};
use nix::errno::Errno;

/// What became of a command, or of a container's whole life, with one fault in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It made no difference: all commands did what they are for.
    Harmless,
    /// The command said what failed.
    Refused(String),
    /// The command itself was killed, or ended for want of memory.
    Killed,
    /// The call was not made in this run.
    NotReached,
    /// A bug, in words.
    Bad(String),
}

/// Calls that ask for memory. A program that gets none may end on the spot.
const MEMORY: [&str; 5] = ["brk", "mmap", "mprotect", "mremap", "munmap"];

/// The faults that the man pages allow a call to have, of a few that stand for all; none for calls
/// that cannot fail, or are not the runtime's own.
pub fn faults(call: &str) -> &'static [Errno] {
    use Errno::*;
    match call {
        "open" | "openat" | "openat2" => &[EPERM, EIO, ENOMEM, ENOSPC, EMFILE],
        "read" | "pread64" | "readv" => &[EIO, EINTR],
        "write" | "pwrite64" | "writev" => &[EPERM, EIO, ENOSPC, EINTR],
        "close" => &[EIO, EINTR],
        "mkdir" | "mkdirat" | "mknodat" | "symlinkat" | "rename" | "renameat" | "renameat2"
        | "linkat" => &[EPERM, EIO, ENOMEM, ENOSPC],
        "unlink" | "unlinkat" | "rmdir" => &[EPERM, EIO, ENOMEM],
        "clone" | "clone3" | "fork" | "vfork" | "unshare" => &[EPERM, ENOMEM, ENOSPC],
        "setns" => &[EPERM, ENOMEM],
        "mount" | "move_mount" | "mount_setattr" | "umount2" | "pivot_root" => {
            &[EPERM, EIO, ENOMEM, ENOSPC]
        }
        "fsopen" | "fsmount" | "open_tree" => &[EPERM, ENOMEM, ENOSPC, EMFILE],
        "fsconfig" => &[EPERM, EIO, ENOMEM, ENOSPC],
        "socket" | "socketpair" | "memfd_create" | "pidfd_open" | "pidfd_getfd" | "signalfd4"
        | "epoll_create1" | "pipe2" | "eventfd2" | "inotify_init1" => &[ENOMEM, EMFILE],
        "dup" | "dup2" | "dup3" => &[EINTR, EMFILE],
        "fcntl" => &[ENOMEM, EMFILE],
        "sendmsg" | "recvmsg" | "sendto" | "recvfrom" | "poll" | "ppoll" | "flock" => {
            &[ENOMEM, EINTR]
        }
        "waitid" | "wait4" => &[EINTR],
        "execve" | "execveat" => &[EPERM, EIO, ENOMEM, EMFILE],
        "stat" | "fstat" | "lstat" | "newfstatat" | "statx" | "statfs" | "fstatfs" | "readlink"
        | "readlinkat" | "getdents64" | "chdir" | "fchdir" | "ioctl" | "fchownat" | "fchmodat"
        | "chmod" | "fchown" | "fchmod" | "faccessat2" | "copy_file_range" | "sendfile" => {
            &[EPERM, EIO, ENOMEM]
        }
        "prctl" | "setresuid" | "setresgid" | "setgroups" | "capset" | "capget" | "sethostname"
        | "setdomainname" | "sched_setaffinity" | "prlimit64" | "setsid" | "pidfd_send_signal"
        | "kill" | "chroot" => &[EPERM],
        "keyctl" | "bpf" | "seccomp" | "connect" | "bind" | "mq_open" => &[EPERM, ENOMEM],
        memory if MEMORY.contains(&memory) => &[ENOMEM],
        _ => &[],
    }
}

/// Calls that others see the effect of. A kill between two calls that are none of these is as good as
/// a kill at the next one that is.
pub fn shows(seen: &Seen) -> bool {
    let own = [
        "clone",
        "clone3",
        "vfork",
        "fork",
        "execve",
        "execveat",
        "exit_group",
        "setns",
        "unshare",
    ];
    let files = [
        "mkdir",
        "mkdirat",
        "mknodat",
        "symlinkat",
        "renameat",
        "unlinkat",
        "rmdir",
        "write",
        "flock",
    ];
    let mounts = [
        "mount",
        "umount2",
        "move_mount",
        "open_tree",
        "mount_setattr",
        "fsmount",
        "pivot_root",
    ];
    let others = [
        "pidfd_send_signal",
        "waitid",
        "setsid",
        "keyctl",
        "sethostname",
        "bpf",
        "setresuid",
    ];
    let call = seen.site.call;
    seen.on_socket
        || [&own[..], &files, &mounts, &others]
            .iter()
            .any(|calls| calls.contains(&call))
}

/// Judges a command that failed.
pub fn judge(site: &Site, strike: Strike, is_struck: bool, output: &Output) -> Verdict {
    let said = output.err.trim();
    if output.code == 256 + 9
        && (is_struck && strike == Strike::Kill || strike == Strike::KillParent)
    {
        return Verdict::Killed;
    }
    if output.code > 255 || said.contains("panicked") {
        return match MEMORY.contains(&site.call) {
            true => Verdict::Killed,
            false => Verdict::Bad(format!("died of signal {}: {said}", output.code - 256)),
        };
    }
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("level=warning"))
        .collect();
    let [error] = errors.as_slice() else {
        return Verdict::Bad(format!("{} lines instead of one: {said}", errors.len()));
    };
    let end = match strike {
        Strike::Fail(errno) => named(error, errno),
        // Its end shows where somebody next needs it.
        _ => {
            let words = ["signal 9", "killed", "stopped", "died", "dead", "gone"];
            let told = words.iter().any(|word| error.contains(word));
            told.then_some(error.len())
        }
    };
    match end.map(|end| step(error.get(..end).unwrap_or_default())) {
        Some(step) if !step.is_empty() => Verdict::Refused(step),
        _ => Verdict::Bad(format!("does not tell: {error}")),
    }
}

/// Where a line names the errno, in the words of libc or of nix.
fn named(line: &str, errno: Errno) -> Option<usize> {
    let libc = std::io::Error::from(errno).to_string();
    let libc = libc.split(" (os error").next().unwrap_or_default();
    let line = line.to_lowercase();
    let mut words = [libc, errno.desc()].into_iter();
    words.find_map(|words| line.find(&words.to_lowercase()))
}

/// What a line that ends before the errno says was being done, without what differs from one container
/// to the next.
fn step(line: &str) -> String {
    let text = line.split_once("msg=\"").map_or(line, |(_, text)| text);
    let text = text.trim_end_matches(['"', ' ', ':', '\\']);
    // `create ID: in init: mount proc at /proc (mounts[0])`
    let acts: Vec<&str> = text.split(": ").collect();
    let own = acts.get(usize::from(acts.len() > 1)..).unwrap_or_default();
    let plain = own.iter().filter(|act| **act != "in init").map(|act| {
        let words = act
            .split(' ')
            .map(|word| if word.starts_with('/') { "PATH" } else { word });
        words.collect::<Vec<_>>().join(" ")
    });
    plain.collect::<Vec<_>>().join(": ")
}
