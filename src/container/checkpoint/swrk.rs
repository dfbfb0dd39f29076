//! CHECKPOINT, asked: a criu of our own, to talk with over a socket (`criu swrk`).
#![forbid(unsafe_code)]

use super::protobuf::Message;
use super::rpc::{Kind, Response, request};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::fd::keep_across_exec;
use crate::sys::signal::reset_in;
use crate::sys::sock::receive;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The oldest criu that can be asked for its version.
const OLDEST: u32 = 30_000;

/// Longer than any response.
const PACKET: usize = 40 * 1024;

/// criu, waiting for a request. Dropped, it is told to end, and reaped.
pub(super) struct Criu {
    /// `None` once there is nothing more to say.
    socket: Option<OwnedFd>,
    child: Child,
    ended: bool,
}

impl Criu {
    /// Starts it. With `stdio` it has ours, and so has what it restores; `fds` stay open in it
    /// under their numbers.
    pub(super) fn start(stdio: bool, fds: &[BorrowedFd<'_>]) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .doing(Doing::CallCriu)?;
        for fd in fds
            .iter()
            .map(|fd| fd.as_raw_fd())
            .chain([theirs.as_raw_fd()])
        {
            keep_across_exec(fd).doing(Doing::CallCriu)?;
        }
        let kind = || {
            if stdio {
                Stdio::inherit()
            } else {
                Stdio::null()
            }
        };
        let mut command = Command::new("criu");
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        command.stdin(kind()).stdout(kind()).stderr(kind());
        let child = match reset_in(&mut command).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let why = "exec: \"criu\": executable file not found in $PATH";
                return Err(Error::rule(Doing::CallCriu, why).hint("install criu 3.0 or newer"));
            }
            other => other.doing(Doing::CallCriu)?,
        };
        Ok(Self {
            socket: Some(ours),
            child,
            ended: false,
        })
    }

    /// Its process.
    pub(super) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Says something.
    pub(super) fn say(&self, message: &Message) -> Result<()> {
        let Some(socket) = &self.socket else {
            return Err(Error::rule(Doing::CallCriu, "the conversation is over"));
        };
        send(socket.as_raw_fd(), message.bytes(), MsgFlags::MSG_NOSIGNAL)
            .map(drop)
            .doing(Doing::CallCriu)
    }

    /// Hears what it says next, and takes a file that comes with it.
    pub(super) fn hear(&self) -> Result<(Response, Option<OwnedFd>)> {
        let wrong = |why| Error::rule(Doing::CallCriu, why);
        let Some(socket) = &self.socket else {
            return Err(wrong("the conversation is over"));
        };
        let mut packet = vec![0; PACKET];
        let (length, fds) = receive(socket.as_fd(), &mut packet).doing(Doing::CallCriu)?;
        let bytes = packet.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Err(wrong("it has ended without an answer"));
        }
        let response = Response::read(bytes).ok_or_else(|| wrong("its answer makes no sense"))?;
        Ok((response, fds.into_iter().next()))
    }

    /// Ends the conversation, and waits for its end.
    pub(super) fn finish(mut self) -> Result<ExitStatus> {
        self.socket = None;
        self.ended = true;
        self.child.wait().doing(Doing::CallCriu)
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        self.socket = None;
        if !self.ended {
            // Why it failed has been told already.
            self.child.wait().ok();
        }
    }
}

/// Asks a criu for one thing.
pub(super) fn ask(kind: Kind, message: &Message) -> Result<Response> {
    let criu = Criu::start(false, &[])?;
    criu.say(message)?;
    let (response, _) = criu.hear()?;
    if !response.success || !response.is(kind) {
        return Err(failure(kind, &response));
    }
    Ok(response)
}

/// Which criu this is: 31700 is 3.17.
pub(super) fn version() -> Result<u32> {
    let version = ask(Kind::Version, &request(Kind::Version, None))
        .hint("criu 3.0 or newer is needed")?
        .version;
    if version < OLDEST {
        let why = format!("CRIU version {version} must be {OLDEST} or higher");
        return Err(Error::rule(Doing::CallCriu, why));
    }
    Ok(version)
}

/// What criu's refusal says.
pub(super) fn failure(kind: Kind, response: &Response) -> Error {
    let Response { errno, message, .. } = response;
    let colon = if message.is_empty() { "" } else { ": " };
    let why = format!(
        "criu failed: type {} errno {errno}{colon}{message}",
        kind.name()
    );
    Error::rule(Doing::CallCriu, why)
}
