//! After the filter is loaded: hands the listener's descriptor to the agent that will answer
//! (config-linux.md, "The Container Process State").
#![forbid(unsafe_code)]

use super::wrong;
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use oci_spec::runtime::{
    ContainerProcessState, ContainerProcessStateBuilder, LinuxSeccomp,
    LinuxSeccompAction as Action, SECCOMP_FD_NAME, State,
};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The agent that a profile's notifications go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    path: PathBuf,
    metadata: Option<String>,
}

const FIELD: &str = "linux.seccomp.listenerPath";

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
    pub(crate) fn send(&self, pid: i32, state: State, descriptor: BorrowedFd) -> Result<()> {
        let message = self.message(pid, state)?;
        let agent = self
            .connect()
            .map_err(|error| error.on(self.path.display()).field(FIELD))?;
        deliver(agent.as_raw_fd(), &message, descriptor)
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

    fn connect(&self) -> Result<std::os::fd::OwnedFd> {
        let refused = |errno| {
            Error::os(Doing::SendListener, errno)
                .hint("failed to connect with seccomp agent: is it running?")
        };
        let address = address(&self.path).map_err(refused)?;
        let agent = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map_err(refused)?;
        connect(agent.as_raw_fd(), &address).map_err(refused)?;
        Ok(agent)
    }
}

/// A path, or with a leading `@` a name in the abstract namespace, as Go's net package reads it.
fn address(path: &Path) -> nix::Result<UnixAddr> {
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(path),
    }
}

/// The descriptor rides on the first byte; a long state may need more than one send.
fn deliver(agent: i32, mut message: &[u8], descriptor: BorrowedFd) -> nix::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let mut control: &[ControlMessage] = &[ControlMessage::ScmRights(&descriptors)];
    while !message.is_empty() {
        let slice = [IoSlice::new(message)];
        match sendmsg::<UnixAddr>(agent, &slice, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => {
                control = &[];
                message = message.get(sent..).unwrap_or_default();
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
