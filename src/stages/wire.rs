//! The socket between parent and child: what each may say to the other.
//!
//! Two ends of different types, so that neither can send the other's messages. A packet is one
//! byte that names the message and what it carries; fds ride along with SCM_RIGHTS.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The largest packet: an error with its texts.
const PACKET: usize = 4096;

/// What the parent tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ToChild {
    /// The id maps of the new user namespace are written.
    Mapped = 1,
    /// The clocks of the new time namespace are set.
    OffsetsSet,
    /// The network devices are in the container's namespace.
    DevicesMoved,
    /// systemd has put the child into its cgroup.
    Placed,
    /// prestart and createRuntime hooks are through.
    HooksDone,
    /// All limits hold and the state is written: become the container.
    Proceed,
    /// The listener's fd has been taken.
    Taken,
}

/// What the child tells.
#[derive(Debug)]
pub(crate) enum FromChild {
    /// The bridge has joined what there was, and made its user namespace: time for the maps.
    WantMaps,
    /// The bridge has made a time namespace whose clocks only the parent can set.
    WantOffsets,
    /// The bridge has made the init: its pid as the parent sees it, and its pidfd.
    Bridged(i32, OwnedFd),
    /// The mounts are made and visible at the rootfs: time for hooks.
    WantHooks,
    /// All that needs the host is done.
    Ready,
    /// The number of a seccomp listener's fd in the child.
    Listener(i32),
    Failed(Error),
}

const BRIDGED: u8 = 1;
const WANT_HOOKS: u8 = 2;
const READY: u8 = 3;
const LISTENER: u8 = 4;
const FAILED: u8 = 5;
const WANT_MAPS: u8 = 6;
const WANT_OFFSETS: u8 = 7;

/// The parent's end.
#[derive(Debug)]
pub(crate) struct ParentEnd(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

/// Both ends, close-on-exec.
pub(crate) fn pair() -> Result<(ParentEnd, ChildEnd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .doing(Doing::Talk)?;
    Ok((ParentEnd(ours), ChildEnd(theirs)))
}

impl ParentEnd {
    /// Sends. That the child is gone shows at the next receive, with the reason.
    pub(crate) fn send(&self, message: ToChild) -> Result<()> {
        let byte = [message as u8];
        let iov = [IoSlice::new(&byte)];
        match sendmsg::<()>(self.0.as_raw_fd(), &iov, &[], MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::os(Doing::Talk, errno)),
        }
    }

    /// Waits until there is a message, or the end of all; `false` if the process ends before with
    /// nothing said. For others may hold its end of the socket, too.
    pub(crate) fn hears(&self, process: BorrowedFd<'_>) -> Result<bool> {
        loop {
            // In this order: if it has ended, what it said before is found.
            let mut fds = [
                PollFd::new(process, PollFlags::POLLIN),
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os(Doing::Talk, errno)),
                Ok(_) => return Ok(fds.last().is_some_and(|own| own.any().unwrap_or(false))),
            }
        }
    }

    /// Waits for the next message; `None` when every copy of the child's end is closed.
    pub(crate) fn receive(&self) -> Result<Option<FromChild>> {
        let mut packet = [0u8; PACKET];
        let mut receive = || crate::sys::sock::receive(self.0.as_fd(), &mut packet);
        let (length, mut fds) = match receive() {
            // The child died with messages of ours unread. That is told first, and once; its own
            // last words are still there.
            Err(Errno::ECONNRESET) => receive().doing(Doing::Talk)?,
            result => result.doing(Doing::Talk)?,
        };
        let Some((kind, body)) = packet.get(..length).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let number = body.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
        let message = match (*kind, number, fds.pop()) {
            (BRIDGED, Some(pid), Some(pidfd)) => Some(FromChild::Bridged(pid, pidfd)),
            (WANT_MAPS, ..) => Some(FromChild::WantMaps),
            (WANT_OFFSETS, ..) => Some(FromChild::WantOffsets),
            (WANT_HOOKS, ..) => Some(FromChild::WantHooks),
            (READY, ..) => Some(FromChild::Ready),
            (LISTENER, Some(fd), _) => Some(FromChild::Listener(fd)),
            (FAILED, ..) => Error::decode(body).map(FromChild::Failed),
            _ => None,
        };
        let garbled = || Error::rule(Doing::Talk, "a message that makes no sense");
        message.map(Some).ok_or_else(garbled)
    }
}

impl ChildEnd {
    /// Waits for `expected`. A parent that went away takes this process with it: there is nobody
    /// to tell.
    pub(crate) fn await_message(&self, expected: ToChild) -> Result<()> {
        let mut byte = [0u8; 1];
        loop {
            match nix::unistd::read(&self.0, &mut byte) {
                Err(Errno::EINTR) => {}
                Ok(1) if byte == [expected as u8] => return Ok(()),
                Ok(0) | Err(Errno::ECONNRESET) => crate::sys::program::exit(1),
                Ok(_) => return Err(Error::rule(Doing::Talk, "a message out of order")),
                Err(errno) => return Err(Error::os(Doing::Talk, errno)),
            }
        }
    }

    pub(crate) fn send_bridged(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let mut packet = vec![BRIDGED];
        packet.extend(pid.to_le_bytes());
        let fds = [pidfd.as_raw_fd()];
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&packet)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
        .doing(Doing::Talk)
    }

    pub(crate) fn send_want_maps(&self) -> Result<()> {
        self.write(&[WANT_MAPS])
    }

    pub(crate) fn send_want_offsets(&self) -> Result<()> {
        self.write(&[WANT_OFFSETS])
    }

    pub(crate) fn send_want_hooks(&self) -> Result<()> {
        self.write(&[WANT_HOOKS])
    }

    pub(crate) fn send_ready(&self) -> Result<()> {
        self.write(&[READY])
    }

    /// With write(2), which profiles allow and may not notify on.
    pub(crate) fn send_listener(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let [a, b, c, d] = fd.as_raw_fd().to_le_bytes();
        self.write(&[LISTENER, a, b, c, d])
    }

    /// The last words of a child.
    pub(crate) fn send_failure(&self, error: &Error) {
        let mut packet = vec![FAILED];
        packet.extend(error.encode(PACKET - 1));
        // If the parent cannot hear it, it sees the end of file.
        self.write(&packet).ok();
    }

    fn write(&self, packet: &[u8]) -> Result<()> {
        nix::unistd::write(&self.0, packet)
            .map(drop)
            .doing(Doing::Talk)
    }
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_as_it_was_sent() {
        let (parent, child) = pair().unwrap();
        let error = Error::os(Doing::Mount, Errno::EPERM)
            .on("proc")
            .field("mounts[0]");
        child.send_failure(&error);
        match parent.receive().unwrap() {
            Some(FromChild::Failed(got)) => assert_eq!(got, error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pid_arrives_with_its_pidfd_and_then_the_end() {
        let (parent, child) = pair().unwrap();
        child.send_bridged(42, child.as_fd()).unwrap();
        match parent.receive().unwrap() {
            Some(FromChild::Bridged(42, _)) => {}
            other => panic!("{other:?}"),
        }
        drop(child);
        assert!(parent.receive().unwrap().is_none());
    }

    #[test]
    fn the_last_words_of_a_child_that_did_not_listen_arrive() {
        let (parent, child) = pair().unwrap();
        parent.send(ToChild::Mapped).unwrap();
        child.send_failure(&Error::os(Doing::Clone, Errno::EPERM));
        drop(child);
        assert!(matches!(parent.receive(), Ok(Some(FromChild::Failed(_)))));
        assert!(matches!(parent.receive(), Ok(None)));
    }

    #[test]
    fn garbage_is_an_error() {
        let (parent, child) = pair().unwrap();
        for packet in [&[9u8][..], &[BRIDGED, 1], &[FAILED, 0xff, 0xff]] {
            child.write(packet).unwrap();
            assert!(parent.receive().is_err());
        }
    }
}
