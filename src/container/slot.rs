//! An id that is taken for a container to be, until it is one.
#![forbid(unsafe_code)]

use super::store::{CONFIG, EXEC_FIFO, Lock, OUTCOME_FIFO, ROOT, StateDir};
use super::{Container, State};
use crate::error::Result;
use crate::stages::prepare::Gate;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// An id taken for a container that is being created, and locked. Dropping it removes all traces.
#[derive(Debug)]
#[must_use]
pub struct Slot {
    dir: Arc<StateDir>,
    lock: Option<Lock>,
    committed: bool,
}

impl Slot {
    pub(super) fn new(dir: StateDir, lock: Lock) -> Self {
        Self {
            dir: Arc::new(dir),
            lock: Some(lock),
            committed: false,
        }
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// Keeps a copy of config.json: exec, update and hooks read it, not the bundle's.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_config(&self, bytes: &[u8]) -> Result<()> {
        self.dir.write(CONFIG, bytes)
    }

    /// Writes state.json before the container is complete, so that `delete` can clean up after a
    /// `create` that was killed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn record(&self, state: &State) -> Result<()> {
        self.dir.record(state)
    }

    /// Makes the fifos and opens both for reading and writing, for init to inherit.
    ///
    /// The parent drops its copies right after the clone: `start` knows by them whether init lives.
    ///
    /// # Errors
    /// They cannot be made or opened.
    pub(crate) fn make_fifos(&self) -> Result<Gate> {
        Ok(Gate {
            exec: self.dir.make_fifo(EXEC_FIFO)?,
            outcome: self.dir.make_fifo(OUTCOME_FIFO)?,
        })
    }

    /// Makes the mount point for the root of a container that shares our mount namespace, out of
    /// everybody's way: what is in the image (set-user-ID programs, for instance) is not for users of
    /// the host.
    pub(crate) fn make_root(&self) -> Result<OwnedFd> {
        self.dir.close_to_others()?;
        self.dir.make_dir(ROOT)
    }

    /// The container is complete: writes its state and unlocks it.
    ///
    /// # Errors
    /// The state cannot be written; everything is removed then.
    pub fn commit(mut self, state: State) -> Result<Container> {
        self.dir.record(&state)?;
        self.lock = None;
        self.committed = true;
        Ok(Container {
            dir: Arc::clone(&self.dir),
            state,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = self.dir.remove()
        {
            crate::log::warning(&error);
        }
    }
}
