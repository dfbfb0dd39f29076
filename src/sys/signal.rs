//! Signal dispositions, which nix sets only through an unsafe call.
//!
//! Man pages: sigaction(2), signal(7).

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives a signal its default effect, whatever our caller made of it.
pub(crate) fn restore_default(signal: i32) -> nix::Result<()> {
    // SAFETY: SIG_DFL is no handler: no code of ours can come to run in signal context.
    let old = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if old == libc::SIG_ERR {
        return Err(Errno::last());
    }
    Ok(())
}

/// Makes this process as a fresh program expects to start: no signal ignored, none blocked.
///
/// Ignored signals survive execve, and Rust's runtime ignores SIGPIPE: a container would inherit it.
pub(crate) fn reset() -> nix::Result<()> {
    // The kernel's struct sigaction on 64-bit machines, all zero: SIG_DFL. Not libc's call, which
    // refuses the two signals that it keeps for itself, though a caller may have ignored them.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads a whole struct sigaction and writes no old one.
        let done = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
        match Errno::result(done) {
            // SIGKILL and SIGSTOP.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Lets a helper start like that, though we block every signal while we are in the foreground:
/// whoever waits for SIGCHLD would wait for ever.
pub(crate) fn reset_in(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and execve `reset` makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(|| Ok(reset()?)) }
}

extern "C" fn end(signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe (signal-safety(7)).
    unsafe { libc::_exit(128 + signal) }
}

/// Lets the polite signals end this process although it is process 1 of its pid namespace, for
/// which the kernel drops what has no handler. execve restores the default.
pub(crate) fn end_politely() -> nix::Result<()> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        let handler = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler does nothing but _exit.
        if unsafe { libc::signal(signal, handler) } == libc::SIG_ERR {
            return Err(Errno::last());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_signal_can_be_restored_but_not_an_unchangeable_one() {
        assert_eq!(restore_default(libc::SIGUSR2), Ok(()));
        assert_eq!(restore_default(libc::SIGKILL), Err(Errno::EINVAL));
    }

    #[test]
    fn signals_that_the_runtime_blocks_reach_a_helper() {
        SigSet::all().thread_block().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "kill -TERM $$; exit 0"]);
        let status = reset_in(&mut command).status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM));
    }
}
