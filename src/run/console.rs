//! The container's terminal: a pty of its own devpts, whose master end goes to the caller.
//!
//! CVE-2025-52565: no path of the container's is trusted here. The devpts is known by its magic, its
//! ptmx by its inode, and the peer is had from the master itself.
#![forbid(unsafe_code)]

use crate::bundle::config::ConsoleSize;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::tty;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::libc::winsize;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as join,
    sendmsg, socket,
};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The name under which the master travels; receivers may print it.
pub(crate) const NAME: &str = "/dev/ptmx";

/// Both ends of a new pty.
#[derive(Debug)]
pub(crate) struct Console {
    master: OwnedFd,
    peer: OwnedFd,
}

impl Console {
    /// A new pty of the devpts whose root directory `devpts` is: the container's `/dev/pts`.
    pub(crate) fn open(devpts: BorrowedFd) -> Result<Self> {
        if fstatfs(devpts).doing(Doing::OpenConsole)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
            return Err(untrue("/dev/pts", "is not a devpts"));
        }
        // Nobody can make files in a devpts, only mount over them, which NO_XDEV sees. So nothing
        // but its own ptmx is ever opened: opening a device node can have effects.
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_NO_XDEV
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_BENEATH,
            );
        let master = openat2(devpts, "ptmx", how)
            .doing(Doing::OpenConsole)
            .on("/dev/pts/ptmx")?;
        Self::of(master)
    }

    /// The pty of a master that was opened already; `open` is to be preferred.
    pub(crate) fn of(master: OwnedFd) -> Result<Self> {
        let on_devpts = fstatfs(&master)
            .doing(Doing::OpenConsole)?
            .filesystem_type();
        if on_devpts != DEVPTS_SUPER_MAGIC || !is_ptmx(&fstat(&master).doing(Doing::OpenConsole)?) {
            return Err(untrue("/dev/pts/ptmx", "is not the ptmx of a devpts"));
        }
        tty::unlock(master.as_fd()).doing(Doing::OpenConsole)?;
        let peer = tty::peer(master.as_fd()).doing(Doing::OpenConsole)?;
        let stat = fstat(&peer).doing(Doing::OpenConsole)?;
        // 136 to 143 are the peers of Unix 98 ptys (the kernel's admin-guide/devices.txt).
        if !is_char(&stat) || !(136..=143).contains(&major(stat.st_rdev)) {
            return Err(untrue("/dev/pts", "gave a peer that is no pty"));
        }
        Ok(Self { master, peer })
    }

    /// Both ends.
    pub(crate) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.master.as_fd(), self.peer.as_fd()]
    }

    /// The end to be mounted at `/dev/console`.
    pub(crate) fn peer(&self) -> BorrowedFd<'_> {
        self.peer.as_fd()
    }

    /// Gives the terminal its first size; zero in either direction means unsaid.
    pub(crate) fn resize(&self, size: ConsoleSize) -> Result<()> {
        if size.height == 0 || size.width == 0 {
            return Ok(());
        }
        let short = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
        let size = winsize {
            ws_row: short(size.height),
            ws_col: short(size.width),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tty::set_size(self.master.as_fd(), &size)
            .doing(Doing::OpenConsole)
            .field("process.consoleSize")
    }

    /// Lets the process's user open its own terminal. The group stays: the devpts mount's `gid=`
    /// option chose it.
    pub(crate) fn give(&self, uid: u32) -> Result<()> {
        allow_unmapped(fchown(&self.peer, Some(Uid::from_raw(uid)), None)).doing(Doing::OpenConsole)
    }

    /// Sends the master to whoever serves the terminal from now on.
    pub(crate) fn send(&self, socket: BorrowedFd) -> Result<()> {
        send_master(socket, self.master.as_fd(), NAME)
    }

    /// Makes this the terminal of our session, which we must lead, and our stdio.
    pub(crate) fn take(self) -> Result<()> {
        tty::control(self.peer.as_fd()).doing(Doing::OpenConsole)?;
        dup2_stdin(&self.peer)
            .and_then(|()| dup2_stdout(&self.peer))
            .and_then(|()| dup2_stderr(&self.peer))
            .doing(Doing::SetStdio)
    }
}

fn untrue(path: &str, why: &str) -> Error {
    Error::rule(Doing::OpenConsole, why).on(path)
}

fn is_char(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
}

/// Each devpts makes its ptmx as inode 2, device 5:2 (the kernel's fs/devpts/inode.c).
fn is_ptmx(stat: &FileStat) -> bool {
    is_char(stat) && stat.st_ino == 2 && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
}

/// Sends a file over a socket, with its name as the message, as runc does and receivers expect.
pub(crate) fn send_master(socket: BorrowedFd, master: BorrowedFd, name: &str) -> Result<()> {
    let fds = [master.as_raw_fd()];
    let iov = [IoSlice::new(name.as_bytes())];
    let rights = [ControlMessage::ScmRights(&fds)];
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &iov,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            sent => {
                return sent
                    .map(drop)
                    .doing(Doing::OpenConsole)
                    .on("console socket");
            }
        }
    }
}

/// Receives what [`send_master`] sent.
pub(crate) fn receive_master(socket: BorrowedFd) -> Result<OwnedFd> {
    tty::receive(socket)
        .doing(Doing::OpenConsole)
        .on("console socket")
}

/// Connects to `--console-socket`.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    reach(path).doing(Doing::ConnectConsole).on(path.display())
}

fn reach(path: &Path) -> nix::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        // Where nobody accepts, a connect(2) that blocks does so for ever.
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    match UnixAddr::new(path) {
        Ok(address) => join(socket.as_raw_fd(), &address)?,
        // An address holds 108 bytes, a path 4096: go by a descriptor of the socket's file.
        Err(Errno::ENAMETOOLONG) => {
            let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let short = format!("/proc/self/fd/{}", file.as_raw_fd());
            join(socket.as_raw_fd(), &UnixAddr::new(short.as_str())?)?;
        }
        Err(errno) => return Err(errno),
    }
    Ok(socket)
}

/// Gives the pipes and sockets among our stdio to the container's user, so that it can reopen them
/// as `/dev/stdout`.
///
/// Nothing else changes owner. Not terminals: ours is given by [`Console::give`], and any other is
/// the caller's. Not devices: a careless runtime once gave away the host's `/dev/null`. Not files:
/// `run < /etc/hosts` must not either.
pub(crate) fn fix_stdio_owner(uid: u32) -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        give(fd, uid).doing(Doing::SetStdio)?;
    }
    Ok(())
}

fn give(fd: BorrowedFd, uid: u32) -> nix::Result<()> {
    let stat = match fstat(fd) {
        Err(Errno::EBADF) => return Ok(()),
        other => other?,
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if stat.st_uid == uid || ![SFlag::S_IFIFO, SFlag::S_IFSOCK].contains(&kind) {
        return Ok(());
    }
    allow_unmapped(fchown(fd, Some(Uid::from_raw(uid)), None))
}

/// Not being allowed to give a file is no failure: its owner may have no id in our user namespace,
/// or its filesystem be read-only. The program will see.
fn allow_unmapped(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::socketpair;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;

    /// The host's devpts; its ptmx is often for root alone.
    fn console() -> Option<Console> {
        let devpts = File::open("/dev/pts").unwrap();
        match Console::open(devpts.as_fd()) {
            Err(error) if error.errno() == Some(Errno::EACCES) => None,
            other => Some(other.unwrap()),
        }
    }

    #[test]
    fn a_new_pty_has_the_configured_size() {
        let Some(console) = console() else { return };
        let size = ConsoleSize {
            height: 10,
            width: 110,
        };
        console.resize(size).unwrap();
        console.resize(ConsoleSize::default()).unwrap();
        let got = tty::size(console.peer()).unwrap();
        assert_eq!((got.ws_row, got.ws_col), (10, 110));
    }

    #[test]
    fn a_directory_that_is_no_devpts_is_refused() {
        let dev = File::open("/dev").unwrap();
        let error = Console::open(dev.as_fd()).unwrap_err();
        assert!(error.to_string().contains("is not a devpts"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_ptmx_is_refused() {
        let Some(console) = console() else { return };
        for fd in [File::open("/dev/null").unwrap().into(), console.peer] {
            let error = Console::of(fd).unwrap_err();
            assert!(error.to_string().contains("is not the ptmx"), "{error}");
        }
    }

    #[test]
    fn a_master_crosses_a_socket() {
        let Some(console) = console() else { return };
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        console.send(theirs.as_fd()).unwrap();
        let master = receive_master(ours.as_fd()).unwrap();
        assert!(is_ptmx(&fstat(&master).unwrap()));
        drop(theirs);
        let error = receive_master(ours.as_fd()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ECONNRESET));
    }

    #[test]
    fn a_socket_is_reached_by_a_path_of_any_length() {
        let top = std::env::temp_dir().join(format!("creel-console-{}", std::process::id()));
        let deep = top.join("d".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let short = top.join("s");
        let listener = UnixListener::bind(&short).unwrap();
        std::fs::rename(&short, deep.join("s")).unwrap();
        connect(&deep.join("s")).unwrap();
        drop(listener.accept().unwrap());
        let error = connect(&top.join("none")).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn a_pipe_is_given_and_the_hosts_null_and_files_are_not() {
        let uid = nix::unistd::getuid().as_raw();
        if uid != 0 {
            return;
        }
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        give(reader.as_fd(), 1234).unwrap();
        assert_eq!(fstat(&reader).unwrap().st_uid, 1234);
        for path in ["/dev/null", "/dev/zero", "/etc/passwd"] {
            let file = File::open(path).unwrap();
            let before = file.metadata().unwrap().uid();
            give(file.as_fd(), 1234).unwrap();
            assert_eq!(file.metadata().unwrap().uid(), before, "{path}");
        }
    }
}
