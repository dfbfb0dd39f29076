//! Between the user's stdio and the container's terminal, while the runtime is in the foreground.
//!
//! The user's descriptors are shared with a shell, so they are never made non-blocking: they are
//! touched only when poll says so, and by small pieces. The master is ours alone and never blocks.
#![forbid(unsafe_code)]

use crate::sys::tty;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::unistd::{getpgrp, read, tcgetpgrp, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A pipe that polls writable takes this much at once (PIPE_BUF); more could block.
const PIECE: usize = 4096;

/// What a terminal may still hold after its last writer is gone, generously.
const LEFTOVER: usize = 1024 * 1024;

/// The descriptors a relay waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The user's stdin.
    Input,
    /// The user's stdout.
    Output,
    /// The container's terminal.
    Master,
}

/// Copies both ways until the ends close.
#[derive(Debug)]
pub(crate) struct Relay {
    master: Option<OwnedFd>,
    /// A peer we hold, once all of the container's were closed: see [`Relay::hear_master`].
    held: Option<OwnedFd>,
    input: Option<OwnedFd>,
    output: OwnedFd,
    /// On their way to the container.
    keys: Vec<u8>,
    /// On their way to the user.
    screen: Vec<u8>,
    /// Input is the terminal of a job in the background, which must not read it.
    waiting: bool,
}

impl Relay {
    /// Between `input`, `output` and a pty's master that nobody else has.
    pub(crate) fn new(master: OwnedFd, input: OwnedFd, output: OwnedFd) -> nix::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            master: Some(master),
            held: None,
            input: Some(input),
            output,
            keys: Vec::new(),
            screen: Vec::new(),
            waiting: false,
        })
    }

    /// The container's terminal, while it is open.
    pub(crate) fn master(&self) -> Option<BorrowedFd<'_>> {
        self.master.as_ref().map(AsFd::as_fd)
    }

    /// Whether input has to be tried again after a while: no event tells a job that it came to the
    /// foreground.
    pub(crate) fn waiting(&self) -> bool {
        self.waiting
    }

    /// Tries input again.
    pub(crate) fn resume(&mut self) {
        self.waiting = false;
    }

    /// What to poll for. Each direction holds one piece: it reads only when the last is written.
    pub(crate) fn wants(&self) -> Vec<(End, BorrowedFd<'_>, PollFlags)> {
        let mut wants = Vec::with_capacity(3);
        if let Some(master) = &self.master {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.screen.is_empty());
            flags.set(PollFlags::POLLOUT, !self.keys.is_empty());
            if !flags.is_empty() {
                wants.push((End::Master, master.as_fd(), flags));
            }
            if let Some(input) = &self.input
                && self.keys.is_empty()
                && !self.waiting
            {
                wants.push((End::Input, input.as_fd(), PollFlags::POLLIN));
            }
        }
        if !self.screen.is_empty() {
            wants.push((End::Output, self.output.as_fd(), PollFlags::POLLOUT));
        }
        wants
    }

    /// Moves bytes at an end that poll found ready.
    pub(crate) fn serve(&mut self, end: End) {
        match end {
            End::Input => self.take_input(),
            End::Output => self.show(),
            End::Master => {
                self.feed_master();
                self.hear_master();
            }
        }
    }

    /// The container's process is gone: passes on what its terminal still holds.
    ///
    /// `ready` waits until output can be written, and says false to give up. A process that lives
    /// on elsewhere may write for ever, so there is an end to what is passed on.
    pub(crate) fn finish(mut self, mut ready: impl FnMut(BorrowedFd) -> bool) {
        self.held = None;
        self.input = None;
        self.keys.clear();
        let mut left = LEFTOVER;
        loop {
            if self.screen.is_empty() {
                match self.read_master() {
                    Ok(count @ 1..) if left > 0 => left = left.saturating_sub(count),
                    _ => return,
                }
            }
            if !ready(self.output.as_fd()) {
                return;
            }
            self.show();
        }
    }

    fn take_input(&mut self) {
        let Some(input) = &self.input else { return };
        let mut piece = [0; PIECE];
        match read(input, &mut piece) {
            Ok(count @ 1..) => self.keys.extend(piece.iter().take(count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // SIGTTIN is blocked, so the kernel says EIO where it would have stopped us.
            Err(Errno::EIO) if in_background(input.as_fd()) => self.waiting = true,
            // The end of input is not the end of the terminal: as runc, the container isn't told.
            Ok(0) | Err(_) => self.input = None,
        }
        self.feed_master();
    }

    fn feed_master(&mut self) {
        let Some(master) = &self.master else { return };
        if self.keys.is_empty() {
            return;
        }
        match write(master, &self.keys) {
            Ok(count) => drop(self.keys.drain(..count.min(self.keys.len()))),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.keys.clear(),
        }
    }

    fn hear_master(&mut self) {
        if !self.screen.is_empty() {
            return;
        }
        match self.read_master() {
            Ok(1..) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            // All of the container's ends are closed. It may open one again (`/dev/console`), so
            // hold an end ourselves: that also keeps poll from reporting the hang-up for ever.
            Err(Errno::EIO) if self.held.is_none() => {
                self.held = self.master().and_then(|master| tty::peer(master).ok());
                if self.held.is_none() {
                    self.master = None;
                }
            }
            Ok(0) | Err(_) => self.master = None,
        }
    }

    fn read_master(&mut self) -> nix::Result<usize> {
        let Some(master) = &self.master else {
            return Ok(0);
        };
        let mut piece = [0; PIECE];
        let count = read(master, &mut piece)?;
        self.screen.extend(piece.iter().take(count));
        Ok(count)
    }

    fn show(&mut self) {
        match write(&self.output, &self.screen) {
            Ok(count) => drop(self.screen.drain(..count.min(self.screen.len()))),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Nobody listens any more. As with runc the container's terminal hangs up.
            Err(_) => {
                self.screen.clear();
                self.master = None;
            }
        }
    }
}

/// Whether this is our controlling terminal and another job has it.
pub(crate) fn in_background(tty: BorrowedFd) -> bool {
    tcgetpgrp(tty).is_ok_and(|group| group != getpgrp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollTimeout, poll};
    use nix::pty::openpty;
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    use nix::unistd::pipe;

    fn pty() -> (OwnedFd, OwnedFd) {
        let pty = openpty(None, None).unwrap();
        let mut raw = tcgetattr(&pty.slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw).unwrap();
        (pty.master, pty.slave)
    }

    /// Serves until nothing more happens for a moment; says how often something did.
    fn settle(relay: &mut Relay) -> usize {
        for turn in 0..1000 {
            let wants = relay.wants();
            let mut fds: Vec<_> = wants.iter().map(|w| PollFd::new(w.1, w.2)).collect();
            poll(&mut fds, 50u8).unwrap();
            let ready = wants
                .iter()
                .zip(&fds)
                .filter(|(_, fd)| fd.any() == Some(true));
            let ends: Vec<_> = ready.map(|(want, _)| want.0).collect();
            if ends.is_empty() {
                return turn;
            }
            ends.into_iter().for_each(|end| relay.serve(end));
        }
        panic!("the relay spins");
    }

    fn all_of(fd: &OwnedFd) -> Vec<u8> {
        let mut got = Vec::new();
        let mut piece = [0; 1 << 16];
        let waiting = |fd: &OwnedFd| {
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
        };
        while waiting(fd) {
            match read(fd, &mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => got.extend(&piece[..count]),
            }
        }
        got
    }

    #[test]
    fn keys_reach_the_container_and_its_words_the_user() {
        let (master, slave) = pty();
        let (input, user) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        let mut relay = Relay::new(master, input, output).unwrap();
        write(&user, b"ls\n").unwrap();
        write(&slave, b"a b\n").unwrap();
        settle(&mut relay);
        assert_eq!(all_of(&slave), b"ls\n");
        assert_eq!(all_of(&screen), b"a b\n");
    }

    #[test]
    fn the_end_of_input_does_not_end_the_output() {
        let (master, slave) = pty();
        let input = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let (screen, output) = pipe().unwrap();
        let mut relay = Relay::new(master, input, output).unwrap();
        settle(&mut relay);
        write(&slave, b"still here").unwrap();
        settle(&mut relay);
        assert_eq!(all_of(&screen), b"still here");
    }

    #[test]
    fn a_terminal_that_all_closed_can_be_opened_again() {
        let (master, slave) = pty();
        let (input, _user) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        let mut relay = Relay::new(master, input, output).unwrap();
        write(&slave, b"one").unwrap();
        drop(slave);
        settle(&mut relay);
        let again = tty::peer(relay.master().unwrap()).unwrap();
        write(&again, b" two").unwrap();
        settle(&mut relay);
        assert_eq!(all_of(&screen), b"one two");
    }

    #[test]
    fn last_words_are_passed_on_after_the_end() {
        let (master, slave) = pty();
        let (input, _user) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        let relay = Relay::new(master, input, output).unwrap();
        let words = vec![b'x'; 3000];
        write(&slave, &words).unwrap();
        drop(slave);
        relay.finish(|_| true);
        assert_eq!(all_of(&screen), words);
    }

    #[test]
    fn a_user_who_left_hangs_the_terminal_up() {
        let (master, slave) = pty();
        let (input, _user) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        drop(screen);
        let mut relay = Relay::new(master, input, output).unwrap();
        write(&slave, b"anyone?").unwrap();
        settle(&mut relay);
        assert!(relay.master().is_none());
        assert!(relay.wants().is_empty());
    }

    #[test]
    fn a_container_that_does_not_read_is_waited_for_without_spinning() {
        let (master, slave) = pty();
        let (input, user) = pipe().unwrap();
        let (_screen, output) = pipe().unwrap();
        let mut relay = Relay::new(master, input, output).unwrap();
        let mut sent = 0;
        let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        fcntl(&user, flags).unwrap();
        while let Ok(count) = write(&user, &[b'k'; 4096]) {
            sent += count;
            settle(&mut relay);
            assert!(sent < 1 << 22, "nothing holds it back");
        }
        let mut got = 0;
        while got < sent {
            settle(&mut relay);
            got += all_of(&slave).len();
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn more_than_any_buffer_holds_arrives_whole() {
        let (master, slave) = pty();
        let (input, user) = pipe().unwrap();
        let (screen, output) = pipe().unwrap();
        let mut relay = Relay::new(master, input, output).unwrap();
        let mut got = Vec::new();
        for _ in 0..64 {
            assert_eq!(write(&slave, &[b'y'; 2048]), Ok(2048));
            settle(&mut relay);
            got.extend(all_of(&screen));
        }
        drop(user);
        assert_eq!(got.len(), 64 * 2048);
    }
}
