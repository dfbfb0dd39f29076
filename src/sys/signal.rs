//! Signal dispositions, which nix sets only through an unsafe call.
//!
//! Man pages: sigaction(2), signal(7).

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

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
    for signal in 1..=libc::SIGRTMAX() {
        match restore_default(signal) {
            // SIGKILL, SIGSTOP and the two that libc keeps for itself.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_can_be_restored_but_not_an_unchangeable_one() {
        assert_eq!(restore_default(libc::SIGUSR2), Ok(()));
        assert_eq!(restore_default(libc::SIGKILL), Err(Errno::EINVAL));
    }
}
