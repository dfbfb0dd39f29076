//! Terminals: the ioctls that nix lacks, and a file descriptor received over a socket.
//!
//! Man pages: ioctl_tty(2), TIOCGPTPEER(2const), unix(7).

use nix::errno::Errno;
use nix::libc::winsize;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The raw ioctls; the functions around them take care of fds and types.
mod raw {
    nix::ioctl_write_ptr_bad!(lock, libc::TIOCSPTLCK, libc::c_int);
    nix::ioctl_write_int_bad!(peer, libc::TIOCGPTPEER);
    nix::ioctl_write_int_bad!(control, libc::TIOCSCTTY);
    nix::ioctl_read_bad!(size, libc::TIOCGWINSZ, libc::winsize);
    nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
}

/// Lets the peer of a pty's master be opened.
pub(crate) fn unlock(master: BorrowedFd) -> nix::Result<()> {
    // SAFETY: the kernel only reads the integer, which outlives the call.
    unsafe { raw::lock(master.as_raw_fd(), &0) }.map(drop)
}

/// Opens the other end of a pty without any path that someone could have replaced.
pub(crate) fn peer(master: BorrowedFd) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is an integer of open(2) flags; no memory of ours is touched.
    let fd = unsafe { raw::peer(master.as_raw_fd(), flags) }?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a terminal the controlling one of our session, which we must lead. Never steals it.
pub(crate) fn control(tty: BorrowedFd) -> nix::Result<()> {
    // SAFETY: the argument is an integer; no memory of ours is touched.
    unsafe { raw::control(tty.as_raw_fd(), 0) }.map(drop)
}

/// The size of a terminal.
pub(crate) fn size(tty: BorrowedFd) -> nix::Result<winsize> {
    let mut size = winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: `size` is ours and outlives the call that fills it.
    unsafe { raw::size(tty.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// Sets the size of a terminal; its foreground processes get SIGWINCH if that is a change.
pub(crate) fn set_size(tty: BorrowedFd, size: &winsize) -> nix::Result<()> {
    // SAFETY: the kernel only reads `size`, which outlives the call.
    unsafe { raw::set_size(tty.as_raw_fd(), size) }.map(drop)
}

/// Receives exactly one descriptor, close-on-exec, with whatever name came along.
///
/// EBADMSG if the message bears none or several (all are closed), ECONNRESET if the sender is gone.
pub(crate) fn receive(socket: BorrowedFd) -> nix::Result<OwnedFd> {
    let mut name = [0; 4096];
    let (length, mut received) = super::sock::receive(socket, &mut name)?;
    match (received.pop(), received.is_empty()) {
        (Some(fd), true) => Ok(fd),
        (None, _) if length == 0 => Err(Errno::ECONNRESET),
        _ => Err(Errno::EBADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use std::os::fd::AsFd;

    #[test]
    fn a_peer_shares_the_size_of_its_master() {
        let pty = openpty(None, None).unwrap();
        unlock(pty.master.as_fd()).unwrap();
        let peer = peer(pty.master.as_fd()).unwrap();
        let want = winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        set_size(pty.master.as_fd(), &want).unwrap();
        let got = size(peer.as_fd()).unwrap();
        assert_eq!((got.ws_row, got.ws_col), (24, 80));
    }

    #[test]
    fn a_file_is_no_terminal() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(size(null.as_fd()).unwrap_err(), Errno::ENOTTY);
        assert_eq!(peer(null.as_fd()).unwrap_err(), Errno::ENOTTY);
        assert_eq!(control(null.as_fd()).unwrap_err(), Errno::ENOTTY);
    }
}
