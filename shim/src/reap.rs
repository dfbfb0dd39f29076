//! Who has ended. The shim is the subreaper of all that its containers leave behind.
//!
//! A process that is a container's is known by a pidfd from the moment that its runtime has ended,
//! and reaped through it. Until then its pid cannot be given to another one, for nobody reaps
//! strangers while a runtime is at work. So an exit always belongs to the right process.
#![forbid(unsafe_code)]

use crate::change::kill_rest;
use crate::process::{Container, Process};
use crate::shim::Shim;
use crate::status::{Doing, Result};
use crate::watch::{Handle, Next, Source};
use creel::supervise;
use nix::sys::epoll::EpollFlags;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getpid;
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

#[derive(Debug, Default)]
struct Book {
    /// Runtimes at work that will leave us a process.
    births: usize,
    known: HashSet<i32>,
}

/// Whose death is waited for.
#[derive(Debug, Clone, Default)]
pub struct Nursery(Arc<Mutex<Book>>);

/// While this lives, no stranger is reaped.
#[derive(Debug)]
pub struct Birth(Nursery);

impl Nursery {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while a runtime starts a process, and until that is adopted.
    pub fn birth(&self) -> Birth {
        self.book().births += 1;
        Birth(self.clone())
    }

    /// Reaps the strangers that have ended: orphans of containers in our pid namespace.
    pub fn reap_strays(&self) {
        let mut book = self.book();
        while book.births == 0 {
            match supervise::unreaped() {
                // Its own watcher will, and come back here.
                Ok(Some(pid)) if book.known.contains(&pid) => return,
                Ok(Some(pid)) => {
                    if supervise::reap(pid).is_err() {
                        return;
                    }
                    book.known.remove(&pid);
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

impl Birth {
    /// A handle of the process that the runtime has left us.
    pub fn adopt(&self, pid: i32) -> Result<OwnedFd> {
        let handle = supervise::open(pid).doing(format_args!("process {pid}"))?;
        self.0.book().known.insert(pid);
        Ok(handle)
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        let mut book = self.0.book();
        book.births -= 1;
        if book.births == 0 {
            // The main thread may have passed somebody over.
            kill(getpid(), Signal::SIGCHLD).unwrap_or(());
        }
    }
}

/// Waits for one process of a container.
pub struct Child {
    handle: Arc<OwnedFd>,
    pid: i32,
    shim: Arc<Shim>,
    container: Arc<Container>,
    process: Arc<Process>,
}

impl Child {
    /// Of that container.
    pub fn new(
        handle: Arc<OwnedFd>,
        pid: i32,
        shim: &Arc<Shim>,
        container: &Arc<Container>,
        process: &Arc<Process>,
    ) -> Self {
        Self {
            handle,
            pid,
            shim: Arc::clone(shim),
            container: Arc::clone(container),
            process: Arc::clone(process),
        }
    }
}

impl Source for Child {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        vec![(self.handle.as_fd(), EpollFlags::EPOLLIN)]
    }

    fn serve(&mut self, _watch: &Handle, _buffer: &mut [u8]) -> Next {
        let status = match supervise::ended(self.handle.as_fd()) {
            Ok(None) => return Next::Keep,
            Ok(Some(status)) => status,
            Err(errno) => {
                // Not our child: what became of it, nobody can know.
                creel::log::warning(&format_args!("process {}: {errno}", self.pid));
                255
            }
        };
        self.shim.nursery.book().known.remove(&self.pid);
        self.container
            .ended(&self.process, status, SystemTime::now());
        if self.process.is_init() {
            let container = Arc::clone(&self.container);
            // Its end may wait for theirs.
            self.shim.workers.take_first(move || kill_rest(&container));
        }
        self.shim.nursery.reap_strays();
        Next::Done
    }
}

/// The signals of the shim itself.
pub struct Signals {
    fd: SignalFd,
    nursery: Nursery,
}

impl Signals {
    /// Blocks them, before any thread is started: each inherits that.
    pub fn block(nursery: &Nursery) -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGPIPE,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            fd: SignalFd::with_flags(&mask, flags)?,
            nursery: nursery.clone(),
        })
    }
}

impl Source for Signals {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        vec![(self.fd.as_fd(), EpollFlags::EPOLLIN)]
    }

    fn serve(&mut self, _watch: &Handle, _buffer: &mut [u8]) -> Next {
        // Whoever asks us to end is not heard, as with the Go shim: containers depend on us, and
        // containerd says Shutdown when none is left.
        while let Ok(Some(_)) = self.fd.read_signal() {}
        self.nursery.reap_strays();
        Next::Keep
    }
}
