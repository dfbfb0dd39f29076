//! After the filter is loaded: hands the listener's descriptor to the agent that will answer
//! (config-linux.md, "The Container Process State").
#![forbid(unsafe_code)]

use super::wrong;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::{pidfd, sock};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use oci_spec::runtime::{
    ContainerProcessState, ContainerProcessStateBuilder, LinuxSeccomp,
    LinuxSeccompAction as Action, SECCOMP_FD_NAME, State,
};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

/// The agent that a profile's notifications go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    path: PathBuf,
    metadata: Option<String>,
}

const FIELD: &str = "linux.seccomp.listenerPath";

/// An agent that has no room for us is asked again, for ten seconds.
const ROUNDS: u32 = 50;
const ROUND: TimeVal = TimeVal::new(0, 200_000);

/// What is left of it for an agent, as long as the process lives that it is to speak for.
struct Patience<'a> {
    child: BorrowedFd<'a>,
    rounds: u32,
}

impl<'a> Patience<'a> {
    fn new(child: BorrowedFd<'a>) -> Self {
        let rounds = ROUNDS;
        Self { child, rounds }
    }

    fn lose(&mut self) -> nix::Result<()> {
        if pidfd::wait(self.child, Duration::ZERO)? {
            return Err(Errno::ESRCH);
        }
        self.rounds = self.rounds.checked_sub(1).ok_or(Errno::ETIMEDOUT)?;
        Ok(())
    }
}

impl Listener {
    /// The agent, if any rule notifies; without one, a path is ignored as runc ignores it.
    pub(super) fn plan(profile: &LinuxSeccomp, warnings: &mut Vec<String>) -> Result<Option<Self>> {
        let path = profile.listener_path().clone().unwrap_or_default();
        let metadata = profile.listener_metadata().clone();
        if metadata.is_some() && path.as_os_str().is_empty() {
            warnings.push(format!(
                "linux.seccomp.listenerMetadata has no reader: {FIELD} is not set"
            ));
        }
        let mut notifies = false;
        for (index, entry) in profile.syscalls().iter().flatten().enumerate() {
            if entry.action() != Action::ScmpActNotify {
                continue;
            }
            // The child tells its parent about the descriptor with a write: it would wait for an
            // answer from an agent that does not have the descriptor yet.
            if entry.names().iter().any(|name| name == "write") {
                let why = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
                return Err(wrong(why).field(format_args!("linux.seccomp.syscalls[{index}]")));
            }
            notifies |= !entry.names().is_empty();
        }
        match notifies {
            true if path.as_os_str().is_empty() => {
                Err(wrong("seccomp listenerPath is not set").field(FIELD))
            }
            true => Ok(Some(Self { path, metadata })),
            false => Ok(None),
        }
    }

    /// Sends the agent the descriptor and the state of the process it will speak for.
    ///
    /// An agent that does not answer is given up on when the process, `child`, dies: `delete` needs
    /// us to let go.
    pub(crate) fn send(
        &self,
        (pid, child): (i32, BorrowedFd),
        state: State,
        descriptor: BorrowedFd,
    ) -> Result<()> {
        let message = self.message(pid, state)?;
        let agent = self
            .connect(child)
            .map_err(|error| error.on(self.path.display()).field(FIELD))?;
        let patience = Patience::new(child);
        deliver(agent.as_raw_fd(), &message, descriptor, patience)
            .doing(Doing::SendListener)
            .on(self.path.display())
            .field(FIELD)
    }

    fn message(&self, pid: i32, state: State) -> Result<Vec<u8>> {
        let mut announced: ContainerProcessState = ContainerProcessStateBuilder::default()
            .version(state.version().as_str())
            .fds([SECCOMP_FD_NAME.to_owned()])
            .pid(pid)
            .state(state)
            .build()
            .map_err(|error| Error::rule(Doing::SendListener, error.to_string()))?;
        // Absent rather than empty, as Go leaves it out.
        let metadata = self
            .metadata
            .clone()
            .filter(|metadata| !metadata.is_empty());
        announced.set_metadata(metadata);
        serde_json::to_vec(&announced)
            .map_err(|error| Error::rule(Doing::SendListener, error.to_string()))
    }

    fn connect(&self, child: BorrowedFd) -> Result<std::os::fd::OwnedFd> {
        let refused = |errno| {
            Error::os(Doing::SendListener, errno)
                .hint("failed to connect with seccomp agent: is it running?")
        };
        let address = sock::address(self.path.as_os_str()).map_err(refused)?;
        let agent = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map_err(refused)?;
        // How long connect(2) and sendmsg(2) wait for the agent to make room (socket(7)).
        setsockopt(&agent, sockopt::SendTimeout, &ROUND).map_err(refused)?;
        let mut patience = Patience::new(child);
        loop {
            match connect(agent.as_raw_fd(), &address) {
                Err(Errno::EAGAIN) => patience.lose().map_err(refused)?,
                result => return result.map(|()| agent).map_err(refused),
            }
        }
    }
}

/// The descriptor rides on the first byte; a long state may need more than one send.
fn deliver(
    agent: i32,
    mut message: &[u8],
    descriptor: BorrowedFd,
    mut patience: Patience<'_>,
) -> nix::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let mut control: &[ControlMessage] = &[ControlMessage::ScmRights(&descriptors)];
    while !message.is_empty() {
        let slice = [IoSlice::new(message)];
        match sendmsg::<UnixAddr>(agent, &slice, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => {
                control = &[];
                message = message.get(sent..).unwrap_or_default();
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => patience.lose()?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
