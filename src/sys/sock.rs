//! recvmsg(2) with SCM_RIGHTS, as owned fds: nix hands out raw numbers.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use std::ffi::OsStr;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// A path, or with a leading `@` a name in the abstract namespace (unix(7)), as Go's net package and
/// sd_notify(3) have it.
pub(crate) fn address(name: &OsStr) -> nix::Result<UnixAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        path => UnixAddr::new(path),
    }
}

/// Receives one packet into `buffer`: its length, 0 at the end, and the fds that came with it, two
/// at most: who expects one sees that there were more.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 2]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    let mut received = Vec::new();
    // A truncated list hides the descriptors that did arrive; they stay close-on-exec strays of a
    // process that is about to fail.
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for number in fds {
                // SAFETY: the kernel has just installed this fd for us; nobody else owns it.
                received.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, received))
}
