//! `events`: what a container uses, and when it runs out of memory.
#![forbid(unsafe_code)]

use super::{Container, Status};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
pub use crate::limit::cgroup::stats::*;
pub use crate::limit::cgroup::{Notice, Watch};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Something to be told about a container that runs.
#[derive(Debug)]
pub enum Event {
    /// The time has come for numbers.
    Stats(Box<Stats>),
    /// It ran out of memory.
    Oom,
}

impl Container {
    /// What it has used until now. Works for a stopped one, too, while its cgroup is there.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn stats(&self) -> Result<Stats> {
        let read = || {
            let mut stats = self.cgroup()?.stats()?;
            if let Some(rdt) = &self.state().creel.rdt {
                stats.intel_rdt = rdt.stats()?;
            }
            Ok(stats)
        };
        read().map_err(|error: Error| error.within(Doing::Stats).on(self.id()))
    }

    /// Watches for memory running out, and for the end.
    ///
    /// # Errors
    /// It has no memory controller, or that cannot be watched.
    pub fn watch(&self) -> Result<Watch> {
        self.cgroup().and_then(Watch::new).on(self.id())
    }

    /// Tells its events until it is gone: numbers each `interval`, and OOM as it comes.
    ///
    /// # Errors
    /// It is not running, cannot be watched, or `tell` failed.
    pub fn events(
        &self,
        interval: Duration,
        tell: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        self.must_run()?;
        let mut watch = self.watch()?;
        let mut next = Instant::now() + interval;
        loop {
            match watch.notice()? {
                Notice::Gone => return Ok(()),
                Notice::Oom => {
                    tell(Event::Oom)?;
                    continue;
                }
                Notice::Nothing => {}
            }
            let now = Instant::now();
            if now >= next {
                match self.stats() {
                    Ok(stats) => tell(Event::Stats(Box::new(stats)))?,
                    Err(error) => crate::log::error(&error),
                }
                // A listener that is slow misses some, rather than getting them all at once.
                next = now + interval;
            }
            let left = next.saturating_duration_since(Instant::now());
            // Up: a timeout cut short would be one turn too many.
            let left = left + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).doing(Doing::WatchCgroup),
            }
        }
    }

    /// Its numbers, as [`stats`](Self::stats), but only while it runs.
    ///
    /// # Errors
    /// It has stopped, or the kernel does not tell.
    pub fn stats_now(&self) -> Result<Stats> {
        self.must_run()?;
        self.stats()
    }

    fn must_run(&self) -> Result<()> {
        if self.status()? == Status::Stopped {
            let why = format!("container with id {} is not running", self.id());
            return Err(Error::rule(Doing::Stats, why).on(self.id()));
        }
        Ok(())
    }

    /// Its cgroup, opened.
    pub(super) fn cgroup(&self) -> Result<Cgroup> {
        Cgroup::open(&self.state().creel.cgroup)
    }
}
