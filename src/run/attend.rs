//! A hook while it runs: it is told the container's state, listened to, and awaited up to a deadline.
#![forbid(unsafe_code)]

use crate::sys::pidfd;
use crate::sys::reap::{self, Exit};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2, read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How much a hook may say on each stream and be quoted; the rest is read and forgotten.
pub(crate) const KEEP: usize = 64 * 1024;

/// How often to look for the end of a hook where a seccomp profile forbids pidfds.
const GLANCE: Duration = Duration::from_millis(10);

/// A hook that runs. Dropped early it is killed and reaped: no hook outlives its container's error.
pub(crate) struct Running {
    /// Our child, not reaped yet: the number cannot come to mean another process.
    pid: i32,
    /// Only to wake up by: startContainer hooks may run under a filter that denies it.
    pidfd: Option<OwnedFd>,
    stdin: Feed,
    pub(crate) out: Capture,
    pub(crate) err: Capture,
    reaped: bool,
}

/// How the attending ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exit(Exit),
    /// The time is up.
    Late,
    /// The process that the hook is run for has died.
    Bereft,
}

impl Running {
    /// The hook just spawned as child `pid`, with our ends of its pipes.
    pub(crate) fn new(pid: i32, stdin: Feed, out: Capture, err: Capture) -> Self {
        Self {
            pid,
            pidfd: pidfd::open(pid).ok(),
            stdin,
            out,
            err,
            reaped: false,
        }
    }

    /// Feeds and listens until the hook ends, the time is up, or the process of pidfd `whose`
    /// ends, for which it would be in vain.
    ///
    /// Only the hook itself counts: a daemon it leaves behind may keep the pipes open for ever.
    pub(crate) fn attend(
        &mut self,
        deadline: Option<Instant>,
        whose: Option<BorrowedFd<'_>>,
    ) -> nix::Result<End> {
        loop {
            match self.poll(deadline, whose) {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            // None of these blocks, so there is no need to tell which of them is ready.
            self.stdin.feed()?;
            let exit = reap::try_wait_pid(self.pid)?;
            self.out.hear();
            self.err.hear();
            if let Some(exit) = exit {
                self.reaped = true;
                return Ok(End::Exit(exit));
            }
            if whose.is_some_and(has_ended) {
                return Ok(End::Bereft);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(End::Late);
            }
        }
    }

    fn poll(&self, deadline: Option<Instant>, whose: Option<BorrowedFd<'_>>) -> nix::Result<()> {
        let readable = [&self.pidfd, &self.out.pipe, &self.err.pipe];
        let readable = readable.into_iter().flatten();
        let mut fds: Vec<_> = readable
            .map(|fd| fd.as_fd())
            .chain(whose)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if let Some(writer) = &self.stdin.writer {
            fds.push(PollFd::new(writer.as_fd(), PollFlags::POLLOUT));
        }
        // Rounded up: waking just before the deadline would spin until it.
        let left = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            left.saturating_add(Duration::from_millis(1))
        });
        let left = match &self.pidfd {
            Some(_) => left,
            None => Some(left.unwrap_or(GLANCE).min(GLANCE)),
        };
        let timeout = match left {
            Some(left) => PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        poll(&mut fds, timeout).map(drop)
    }
}

fn has_ended(process: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

impl Drop for Running {
    fn drop(&mut self) {
        // As runc: the hook alone, not what it started. It is our unreaped child: both must work.
        if !self.reaped && kill(Pid::from_raw(self.pid), Signal::SIGKILL).is_ok() {
            reap::wait_pid(self.pid).ok();
        }
    }
}

/// What a hook has still to read. We keep the reading end open too: so a hook that closes its stdin
/// cannot kill us by SIGPIPE, wherever that has its default effect.
pub(crate) struct Feed {
    reader: OwnedFd,
    writer: Option<OwnedFd>,
    left: Vec<u8>,
}

impl Feed {
    /// A pipe that is to carry `text`.
    pub(crate) fn new(text: &[u8]) -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        unblock(writer.as_fd())?;
        Ok(Self {
            reader,
            writer: Some(writer),
            left: text.to_vec(),
        })
    }

    /// The hook's stdin.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Writes what fits, and closes the pipe after the last byte.
    pub(crate) fn feed(&mut self) -> nix::Result<()> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        while !self.left.is_empty() {
            match write(writer, &self.left) {
                Ok(count) => drop(self.left.drain(..count.min(self.left.len()))),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        self.writer = None;
        Ok(())
    }
}

/// One output stream of a hook.
pub(crate) struct Capture {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Capture {
    /// Our end, and the hook's.
    pub(crate) fn new() -> nix::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        unblock(reader.as_fd())?;
        let capture = Self {
            pipe: Some(reader),
            kept: Vec::new(),
        };
        Ok((capture, writer))
    }

    /// Takes what is there, at most a pipe's worth, so that a hook that never stops talking cannot
    /// keep us from its deadline.
    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..KEEP / 4096 {
            let Some(pipe) = &self.pipe else { return };
            match read(pipe, &mut buffer) {
                Ok(count @ 1..) => {
                    let room = KEEP.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend(buffer.iter().take(room));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }

    /// What was kept of it.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Our end alone: the two ends of a pipe are separate open files, so the hook's still blocks.
fn unblock(fd: BorrowedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_hook_is_awaited_without_a_pidfd_too() {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "sleep 0.05; exit 4"])
            .stdin(Stdio::null());
        let pid = i32::try_from(command.spawn().unwrap().id()).unwrap();
        let (out, err) = (Capture::new().unwrap().0, Capture::new().unwrap().0);
        let mut running = Running::new(pid, Feed::new(b"").unwrap(), out, err);
        running.pidfd = None;
        assert_eq!(running.attend(None, None), Ok(End::Exit(Exit::Code(4))));
    }
}
