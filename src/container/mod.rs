//! LIVE: a container between commands: found, asked, started, signalled, deleted.
#![forbid(unsafe_code)]

pub mod checkpoint;
mod create;
mod delete;
mod exec;
mod hooks;
pub mod id;
mod kill;
pub mod list;
mod pause;
pub mod ps;
pub mod request;
pub mod slot;
mod start;
pub mod state;
pub mod stats;
pub mod status;
pub mod store;
mod update;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests;

pub use checkpoint::restore;
pub use create::{create, run};
pub use delete::delete;
pub use exec::exec;
pub use kill::parse_signal;
pub use list::list;
pub use request::ExecRequest;
pub use slot::Slot;
pub use state::State;
pub use stats::Event;
pub use status::Status;
pub use store::Store;

use crate::error::Result;
use std::sync::Arc;
use store::StateDir;

/// A container that was created: its state directory, opened, and what is written there.
#[derive(Debug)]
pub struct Container {
    dir: Arc<StateDir>,
    state: State,
}

impl Store {
    /// Opens a container.
    ///
    /// # Errors
    /// There is none of that id, or its state cannot be read.
    pub fn find(&self, id: &str) -> Result<Container> {
        let dir = self.dir(id)?.ok_or_else(|| store::missing(id))?;
        let state = dir.state()?.ok_or_else(|| store::missing(id))?;
        Ok(Container::new(dir, state))
    }
}

impl Container {
    fn new(dir: StateDir, state: State) -> Self {
        Self {
            dir: Arc::new(dir),
            state,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.dir.id()
    }

    /// What is written of it. Ask [`status`](Self::status) for the status.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its state directory.
    #[must_use]
    pub fn dir(&self) -> &StateDir {
        &self.dir
    }
}
