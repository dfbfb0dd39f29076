//! sd_notify(3) for a supervised container: its readiness, passed on to whoever supervises us.
//!
//! A container cannot send to the supervisor's socket itself: its pid would mean nothing there. So
//! it gets a socket of ours at `/run/notify`; its `READY=` goes on with our word for the pid.
#![forbid(unsafe_code)]

use crate::bundle::config::{Config, Mount};
use crate::error::{Act, Doing, Explain, Result};
use crate::log;
use crate::run::console::send_master;
use crate::sys::sock;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::connect;
use nix::unistd::pipe2;
use std::ffi::{OsStr, OsString};
use std::fs::{Permissions, set_permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// The directory of the socket, in the container's state directory.
pub(crate) const DIR: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Where it is mounted.
pub(crate) const INSIDE: &str = "/run/notify";

/// How long the supervisor may take to say that it has read what we sent.
const BARRIER: u16 = 30_000;

/// Adds the socket's directory and its name to what the container gets.
pub(crate) fn add_to(config: &mut Config, dir: &Path) {
    config.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        source: dir.to_string_lossy().into_owned(),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"]
            .map(str::to_owned)
            .to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut config.process {
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    }
}

/// The socket that the container's processes send to.
#[derive(Debug)]
pub(crate) struct Proxy {
    socket: UnixDatagram,
    /// The supervisor's address, as `$NOTIFY_SOCKET` has it.
    host: OsString,
    /// Kept open until the supervisor has read all: see [`Proxy::notify`].
    barrier: Option<OwnedFd>,
    done: bool,
}

impl Proxy {
    /// Listens in that directory, for the supervisor at `host`.
    pub(crate) fn bind(dir: BorrowedFd<'_>, host: &OsStr) -> Result<Self> {
        // By the descriptor: an address holds 108 bytes, a state root's path may be longer.
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let bound = || {
            // That of a `start` that was killed.
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let socket = UnixDatagram::bind(&path)?;
            // Whoever the container's user is.
            set_permissions(&path, Permissions::from_mode(0o777))?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        Ok(Self {
            socket: bound().doing(Doing::Notify).on(SOCKET)?,
            host: host.to_owned(),
            barrier: None,
            done: false,
        })
    }

    /// What to poll for messages.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what has come, and tells the supervisor of the first `READY=` that `pid` is the one to
    /// watch. Whether that has been done.
    ///
    /// All else is read and dropped, so that no sender waits for room in the socket.
    pub(crate) fn serve(&mut self, pid: i32) -> Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            let count = match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(self.done);
                }
                other => other.doing(Doing::Notify)?,
            };
            let message = buffer.get(..count).unwrap_or_default();
            let mut lines = message.split(|&byte| byte == b'\n');
            if let Some(ready) = lines.find(|line| line.starts_with(b"READY="))
                && !self.done
            {
                self.done = true;
                self.notify(ready, pid).doing(Doing::Notify)?;
            }
        }
    }

    /// sd_notify(3): the words, and a pipe whose closing says that they were read.
    fn notify(&mut self, ready: &[u8], pid: i32) -> std::io::Result<()> {
        let host = UnixDatagram::unbound()?;
        connect(host.as_raw_fd(), &sock::address(&self.host)?)?;
        host.send(&[ready, b"\n"].concat())?;
        host.send(format!("MAINPID={pid}\n").as_bytes())?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        send_master(host.as_fd(), writer.as_fd(), "BARRIER=1")
            .map_err(|error| std::io::Error::from(error.errno().unwrap_or(Errno::EIO)))?;
        self.barrier = Some(reader);
        Ok(())
    }

    /// Serves until the container is ready and the supervisor knows, or until `init` ends.
    pub(crate) fn finish(mut self, init: BorrowedFd<'_>, pid: i32) -> Result<()> {
        while !self.done {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(init, PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.doing(Doing::Notify)?,
            };
            let gone = fds.last().is_some_and(|init| init.any().unwrap_or(false));
            if !self.serve(pid)? && gone {
                return Ok(());
            }
        }
        let Some(barrier) = &self.barrier else {
            return Ok(());
        };
        let mut fds = [PollFd::new(barrier.as_fd(), PollFlags::POLLIN)];
        // A supervisor that leaves it open knows no barriers.
        if poll(&mut fds, BARRIER).doing(Doing::Notify)? == 0 {
            log::warning(&"Timeout after waiting 30s for barrier. Ignored.");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd;
    use std::fs::File;

    #[test]
    fn readiness_is_passed_on_with_our_pid_and_a_barrier() {
        let top = std::env::temp_dir().join(format!("creel-notify-{}", std::process::id()));
        std::fs::create_dir_all(&top).unwrap();
        let supervisor = UnixDatagram::bind(top.join("host")).unwrap();
        let dir = File::open(&top).unwrap();
        let mut proxy = Proxy::bind(dir.as_fd(), top.join("host").as_os_str()).unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.connect(top.join(SOCKET)).unwrap();
        program.send(b"STATUS=nearly\n").unwrap();
        assert_eq!(proxy.serve(42), Ok(false));
        program.send(b"STATUS=there\nREADY=1\n").unwrap();
        let me = pidfd::open(std::process::id().cast_signed()).unwrap();
        let told = std::thread::spawn(move || {
            let mut told = Vec::new();
            for _ in 0..3 {
                let mut buffer = [0; 64];
                // The last brings the pipe, which a plain recv closes.
                let count = supervisor.recv(&mut buffer).unwrap();
                told.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            told
        });
        proxy.finish(me.as_fd(), 42).unwrap();
        assert_eq!(
            told.join().unwrap(),
            ["READY=1\n", "MAINPID=42\n", "BARRIER=1"]
        );
        std::fs::remove_dir_all(&top).unwrap();
    }
}
