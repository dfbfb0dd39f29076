//! Terminals: a socket for the runtime to send the master to, for as long as it starts a process.
#![forbid(unsafe_code)]

use crate::status::{Doing, Result, Status};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The socket; gone when dropped.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Binds one in a directory that only root enters. Bundles' paths are too long for a socket's.
    pub fn bind(dir: &Path) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("pty{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).doing(path.display())?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The master that the runtime has sent before it ended.
    pub fn receive(self) -> Result<OwnedFd> {
        let (connection, _) = self
            .listener
            .accept()
            .map_err(|error| Status::precondition(format_args!("no terminal came: {error}")))?;
        creel::supervise::receive_terminal(connection.as_fd()).doing("receive the terminal")
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap_or(());
    }
}
