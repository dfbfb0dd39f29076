//! The user's terminal, while the container has the keyboard.
#![forbid(unsafe_code)]

use crate::run::relay::in_background;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The user's terminal, and how it was.
#[derive(Debug)]
pub(crate) struct HostTerminal {
    pub(crate) tty: OwnedFd,
    before: Termios,
    raw: bool,
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
        tcsetattr(&self.tty, SetArg::TCSANOW, &modes)
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        if self.raw {
            // Nothing is left to be done for a terminal that is gone.
            tcsetattr(&self.tty, SetArg::TCSANOW, &self.before).ok();
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
