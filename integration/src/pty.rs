//! Terminals: a pty for the runtime to stand on, and sockets that wait for file descriptors.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::patience;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Waits until a descriptor can be read or has hung up.
pub fn readable(fd: impl AsFd) -> Result<bool> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience())?;
    Ok(poll(&mut fds, patience)? > 0)
}

/// A pseudo terminal of which we hold both ends.
pub struct Pty {
    /// Our end.
    pub master: File,
    slave: OwnedFd,
}

impl Pty {
    /// A terminal of that size.
    pub fn new(rows: u16, columns: u16) -> Result<Self> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None)?;
        Ok(Self {
            master: File::from(pair.master),
            slave: pair.slave,
        })
    }

    /// Runs a command on the terminal; its exit code and all that it wrote.
    pub fn run(self, command: &mut Command) -> Result<(i32, String)> {
        let end = || self.slave.try_clone().map(Stdio::from);
        let mut child = command
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()?;
        // The command holds copies, too: only without those does the master report the end.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        drop(self.slave);
        let text = drain(&self.master)?;
        Ok((crate::lab::code(child.wait()?), text))
    }
}

/// Reads a terminal until its last user has gone, however long that takes.
pub fn drain(mut master: &File) -> Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match master.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => text.extend(buffer.iter().take(count)),
            // How Linux says that the other end is closed.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A listening unix socket that is sent descriptors.
pub struct Receiver {
    listener: UnixListener,
    /// Where it listens.
    pub path: PathBuf,
}

impl Receiver {
    /// Listens at that path.
    pub fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            listener: UnixListener::bind(path)?,
            path: path.to_owned(),
        })
    }

    /// The next message and the descriptor that came with it.
    pub fn receive(&self) -> Result<(String, OwnedFd)> {
        if !readable(&self.listener)? {
            return Err("nobody connected to the socket".into());
        }
        let (stream, _) = self.listener.accept()?;
        receive(stream)
    }
}

/// The next message of a stream or datagram socket and the descriptor that came with it.
pub fn receive(stream: impl AsFd) -> Result<(String, OwnedFd)> {
    if !readable(&stream)? {
        return Err("nothing was sent over the socket".into());
    }
    let mut bytes = vec![0; 65536];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let count = recvmsg(&stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = fds.next().and_then(|mut fds| fds.next());
    let fd = fd.ok_or("no descriptor came over the socket")?;
    bytes.truncate(count);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), fd))
}

/// The rows and columns of a terminal.
pub fn size(terminal: impl AsFd) -> Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}
