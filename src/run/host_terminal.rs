//! The user's terminal, while the container has the keyboard.
#![forbid(unsafe_code)]

use crate::run::relay::in_background;
use crate::sys::clone::{Cloned, clone3};
use crate::sys::{fd, program, reap};
use nix::fcntl::OFlag;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{pipe2, read, write};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The user's terminal, and how it was.
#[derive(Debug)]
pub(crate) struct HostTerminal {
    pub(crate) tty: OwnedFd,
    before: Termios,
    raw: bool,
    guard: Option<Guard>,
}

/// A process that outlives us only to put the terminal right if we are killed: SIGKILL leaves us no
/// time to do it.
#[derive(Debug)]
struct Guard {
    /// Its end of file tells the guard that we are gone; a byte before it, that all is well.
    alive: OwnedFd,
    pidfd: OwnedFd,
}

impl Guard {
    fn new(tty: BorrowedFd<'_>, before: &Termios) -> nix::Result<Self> {
        let (end, alive) = pipe2(OFlag::O_CLOEXEC)?;
        match clone3(0, None)? {
            Cloned::Parent(_, pidfd) => Ok(Self { alive, pidfd }),
            Cloned::Child => {
                // Nothing may seem open because of us: neither the container's terminal nor a pipe.
                let mut keep = [tty, end.as_fd()].map(|fd| fd.as_raw_fd().cast_unsigned());
                let alone = fd::close_all_but(0, &mut keep, false);
                let told = alone.and_then(|()| read(&end, &mut [0]));
                if told == Ok(0) {
                    // Every signal is blocked, so not even from the background does this stop us.
                    tcsetattr(tty, SetArg::TCSANOW, before).ok();
                }
                program::exit(0)
            }
        }
    }

    fn dismiss(self) {
        // It may have been killed; there is nothing to be done for it then.
        write(&self.alive, b".").ok();
        reap::wait(self.pidfd.as_fd()).ok();
    }
}

impl HostTerminal {
    /// Any of stdio may be redirected, so the first that is a terminal serves; or `/dev/tty`. None
    /// is fine: then there is only output to pass on.
    pub(crate) fn find() -> Option<Self> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()];
        let dup = |fd: BorrowedFd| fd.try_clone_to_owned().ok();
        let own = || {
            File::open("/dev/tty")
                .ok()
                .and_then(|tty| Self::of(tty.into()))
        };
        stdio
            .into_iter()
            .filter_map(dup)
            .find_map(Self::of)
            .or_else(own)
    }

    /// That terminal, unless it is none.
    pub(crate) fn of(tty: OwnedFd) -> Option<Self> {
        let before = tcgetattr(&tty).ok()?;
        Some(Self {
            tty,
            before,
            raw: false,
            guard: None,
        })
    }

    /// Passes every key on untouched. Output is still processed: see [`Foreground`](super::foreground::Foreground).
    ///
    /// Not from the background, where the terminal is another job's.
    pub(crate) fn make_raw(&mut self) -> nix::Result<()> {
        if in_background(self.tty.as_fd()) {
            return Ok(());
        }
        let mut modes = self.before.clone();
        cfmakeraw(&mut modes);
        modes.output_flags.insert(OutputFlags::OPOST);
        self.raw = true;
        if self.guard.is_none() {
            // Without one, a kill leaves the terminal to the user's shell, as runc does.
            self.guard = Guard::new(self.tty.as_fd(), &self.before).ok();
        }
        tcsetattr(&self.tty, SetArg::TCSANOW, &modes)
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        if self.raw {
            // Nothing is left to be done for a terminal that is gone.
            tcsetattr(&self.tty, SetArg::TCSANOW, &self.before).ok();
        }
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::termios::LocalFlags;

    #[test]
    fn the_users_terminal_is_raw_meanwhile_and_then_as_before() {
        let pty = openpty(None, None).unwrap();
        let modes = || tcgetattr(&pty.slave).unwrap();
        let before = modes();
        let mut host = HostTerminal::of(pty.slave.try_clone().unwrap()).unwrap();
        host.make_raw().unwrap();
        assert!(
            !modes()
                .local_flags
                .intersects(LocalFlags::ICANON | LocalFlags::ECHO)
        );
        assert!(modes().output_flags.contains(OutputFlags::OPOST));
        drop(host);
        assert_eq!(modes().local_flags, before.local_flags);
        assert_eq!(modes().input_flags, before.input_flags);
    }
}
