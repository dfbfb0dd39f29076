//! The jail of the thread that serves: a seccomp filter that lets it wait, move bytes and reap, and
//! do nothing else (ADR 34).
//!
//! It opens no file, starts no program or thread, makes no socket, mounts nothing and signals
//! nobody. Whoever does was there before (`work`) and hands descriptors over; so nothing that is
//! started for a container has this filter.
#![forbid(unsafe_code)]

use nix::libc;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// Whatever their arguments are.
const CALLS: [libc::c_long; 26] = [
    // To wait, and to be told.
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    // To move bytes, between descriptors that are there.
    libc::SYS_accept4,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_close,
    // To reap.
    libc::SYS_waitid,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // To end, well or not.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Shuts the calling thread in, for ever.
pub fn enter() -> seccompiler::Result<()> {
    seccompiler::apply_filter(&filter()?)
}

fn filter() -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::from(CALLS.map(|call| (call, Vec::new())));
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_epoll_wait, Vec::new());
    let mut only = |call, arguments: &[Argument]| -> Result<(), BackendError> {
        let conditions = arguments.iter().map(|(number, length, how, value)| {
            SeccompCondition::new(*number, length.clone(), how.clone(), *value)
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(call).or_default().push(rule);
        Ok(())
    };
    // The size of a terminal; a socket that does not block.
    only(libc::SYS_ioctl, &[(1, Dword, Eq, libc::TIOCSWINSZ)])?;
    only(libc::SYS_ioctl, &[(1, Dword, Eq, libc::FIONBIO)])?;
    // To whoever is connected, not to an address.
    only(libc::SYS_sendto, &[(4, Qword, Eq, 0)])?;
    // The standard library asks this before it closes one, in builds for tests.
    only(libc::SYS_fcntl, &[(1, Dword, Eq, number(libc::F_GETFD))])?;
    // No memory to run code in.
    let exec = MaskedEq(number(libc::PROT_EXEC));
    only(libc::SYS_mmap, &[(2, Dword, exec, 0)])?;
    // abort(3).
    let own = std::process::id().into();
    let abort = (2, Dword, Eq, number(libc::SIGABRT));
    only(libc::SYS_tgkill, &[(0, Dword, Eq, own), abort])?;
    SeccompFilter::new(
        rules,
        // A call that was forgotten here must not end somebody's containers.
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

/// Which, how many of its bits, how compared, and to what.
type Argument = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

fn number(value: i32) -> u64 {
    value.cast_unsigned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    #[test]
    fn inside_bytes_move_and_nothing_is_opened_or_started() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let (ask, asked) = channel::<&str>();
        // There before, and outside for ever.
        let outside = std::thread::spawn(move || asked.recv().map(|path| File::open(path).is_ok()));
        let inside = std::thread::spawn(move || {
            enter().unwrap();
            ours.set_nonblocking(true).unwrap();
            ours.write_all(b"word").unwrap();
            let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            let open = File::open("/dev/null").unwrap_err();
            let socket = UnixStream::connect("/dev/null").unwrap_err();
            let thread = std::thread::Builder::new().spawn(|| ()).unwrap_err();
            let program = std::process::Command::new("true").spawn().unwrap_err();
            let kill = nix::sys::signal::kill(nix::unistd::getpid(), None);
            ask.send("/dev/null").unwrap();
            assert!([open, socket, thread, program].into_iter().all(refused));
            assert_eq!(kill, Err(Errno::EPERM));
        });
        inside.join().unwrap();
        assert!(outside.join().unwrap().unwrap());
        let mut word = String::new();
        theirs.read_to_string(&mut word).unwrap();
        assert_eq!(word, "word");
    }
}
