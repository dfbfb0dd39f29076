//! Bytes from one descriptor to another, as fast as both will have them.
#![forbid(unsafe_code)]

use crate::watch::{Handle, Next, Source};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::unistd::{read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What goes through in one turn before others get theirs.
const TURN: usize = 256 << 10;

/// The streams of one process: how many of its outputs are open, and whether they are called off.
#[derive(Debug, Default)]
pub struct Flow {
    outputs: Mutex<usize>,
    drained: Condvar,
    cancelled: AtomicBool,
}

impl Flow {
    /// Waits until all outputs have ended; `false` if that takes longer than `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let (outputs, _) = self
            .drained
            .wait_timeout_while(outputs, patience, |outputs| *outputs > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *outputs == 0
    }

    /// Calls all streams off; the watch must be told to prune.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    fn count(&self, by: isize) {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        *outputs = outputs.saturating_add_signed(by);
        self.drained.notify_all();
    }
}

/// One direction of one stream.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    /// The fifo's other end: with it held, its reader may go and come again.
    _kept: Option<OwnedFd>,
    held: Vec<u8>,
    output: bool,
    flow: Arc<Flow>,
}

impl Pump {
    /// From the container to the client.
    pub fn output(from: OwnedFd, to: OwnedFd, kept: Option<OwnedFd>, flow: &Arc<Flow>) -> Self {
        flow.count(1);
        Self {
            from,
            to,
            _kept: kept,
            held: Vec::new(),
            output: true,
            flow: Arc::clone(flow),
        }
    }

    /// From the client to the container.
    pub fn input(from: OwnedFd, to: OwnedFd, flow: &Arc<Flow>) -> Self {
        Self {
            from,
            to,
            _kept: None,
            held: Vec::new(),
            output: false,
            flow: Arc::clone(flow),
        }
    }

    /// Writes what is held; `None` if all is gone.
    fn push(&mut self) -> Option<Next> {
        while !self.held.is_empty() {
            match write(&self.to, &self.held) {
                Ok(count) => drop(self.held.drain(..count)),
                Err(Errno::EINTR) => {}
                // The other end will ring when it has room.
                Err(Errno::EAGAIN) => return Some(Next::Keep),
                Err(_) => return Some(Next::Done),
            }
        }
        self.held = Vec::new();
        None
    }

    /// Writes from the buffer, and holds what does not go now.
    fn pass(&mut self, bytes: &[u8]) -> Option<Next> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match write(&self.to, rest) {
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.held.extend(rest);
                    return Some(Next::Keep);
                }
                Err(_) => return Some(Next::Done),
            }
        }
        None
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if self.output {
            self.flow.count(-1);
        }
    }
}

impl Source for Pump {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        let edge = EpollFlags::EPOLLET;
        vec![
            (self.from.as_fd(), EpollFlags::EPOLLIN | edge),
            (self.to.as_fd(), EpollFlags::EPOLLOUT | edge),
        ]
    }

    fn serve(&mut self, _watch: &Handle, buffer: &mut [u8]) -> Next {
        if self.is_cancelled() {
            return Next::Done;
        }
        if let Some(next) = self.push() {
            return next;
        }
        let mut passed = 0;
        while passed < TURN {
            match read(&self.from, buffer) {
                Ok(0) => return Next::Done,
                Ok(count) => {
                    passed += count;
                    if let Some(next) = self.pass(buffer.get(..count).unwrap_or_default()) {
                        return next;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Next::Keep,
                // EIO: the last one has closed the terminal.
                Err(_) => return Next::Done,
            }
        }
        Next::Again
    }

    fn is_cancelled(&self) -> bool {
        self.flow.cancelled.load(Ordering::Acquire)
    }
}
