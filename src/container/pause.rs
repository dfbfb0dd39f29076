//! `pause` and `resume`: the whole cgroup stands still, or goes on.
#![forbid(unsafe_code)]

use super::status::Status;
use super::{Container, store};
use crate::error::{Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;

impl Container {
    /// Freezes every process of the container.
    ///
    /// # Errors
    /// The container is not running, or has no cgroup to freeze.
    pub fn pause(&self) -> Result<()> {
        let _lock = self.dir().lock()?;
        match self.current_status()? {
            Status::Running | Status::Created => Cgroup::open(&self.state().creel.cgroup)?
                .freeze()
                .within(Doing::Pause),
            _ => Err(Error::rule(Doing::Pause, "container not running")),
        }
        .on(self.id())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// The container is not paused.
    pub fn resume(&self) -> Result<()> {
        let _lock = self.dir().lock()?;
        match self.current_status()? {
            Status::Paused => Cgroup::open(&self.state().creel.cgroup)?
                .thaw()
                .within(Doing::Resume),
            _ => Err(Error::rule(Doing::Resume, "container not paused")),
        }
        .on(self.id())
    }

    /// Its status under the lock, if it has not been deleted meanwhile.
    pub(super) fn current_status(&self) -> Result<Status> {
        self.dir()
            .state()?
            .ok_or_else(|| store::missing(self.id()))?;
        self.status()
    }
}
