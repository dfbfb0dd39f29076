//! What a call is answered with when it fails: a gRPC code and a line for the user.
#![forbid(unsafe_code)]

use containerd_shim_protos::ttrpc;
use nix::errno::Errno;
use std::fmt::{self, Display};
use ttrpc::Code;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Status>;

/// Why a call failed.
#[derive(Debug)]
pub struct Status {
    /// What containerd's errdefs makes an error of.
    pub code: Code,
    /// In words.
    pub message: String,
}

impl Status {
    /// A failure of that kind.
    pub fn new(code: Code, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// There is no such container or process.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(Code::NOT_FOUND, message)
    }

    /// It is not in a state for that.
    pub fn precondition(message: impl Display) -> Self {
        Self::new(Code::FAILED_PRECONDITION, message)
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Display) -> Self {
        Self::new(Code::INVALID_ARGUMENT, message)
    }

    /// The same, with what was being done in front.
    pub fn within(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<creel::Error> for Status {
    fn from(error: creel::Error) -> Self {
        Self::new(Code::UNKNOWN, error)
    }
}

impl From<std::io::Error> for Status {
    fn from(error: std::io::Error) -> Self {
        Self::new(Code::UNKNOWN, error)
    }
}

impl From<Errno> for Status {
    fn from(errno: Errno) -> Self {
        Self::new(Code::UNKNOWN, errno)
    }
}

impl From<containerd_shim_protos::protobuf::Error> for Status {
    fn from(error: containerd_shim_protos::protobuf::Error) -> Self {
        Self::invalid(error)
    }
}

impl From<serde_json::Error> for Status {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid(error)
    }
}

/// Says what was being done to what, when a step of the operating system's fails.
pub trait Doing<T> {
    /// Puts the words in front of the error.
    fn doing(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<Status>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Display) -> Result<T> {
        self.map_err(|error| error.into().within(&what.to_string()))
    }
}
