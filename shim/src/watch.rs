//! The one thread that waits: for clients, for processes to end, for bytes to pass on.
//!
//! It never blocks anywhere else: what may take time is done by a worker (`work.rs`), which hands
//! new things to wait for over through a [`Handle`].
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// What to do with a source after it was served.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for it again.
    Keep,
    /// It has more to do, after the others.
    Again,
    /// It is over.
    Done,
}

/// Something to wait for.
pub trait Source: Send {
    /// The descriptors, and what is awaited of each. The same all its life.
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)>;
    /// Serves it. The buffer is everybody's, for the moment.
    fn serve(&mut self, watch: &Handle, buffer: &mut [u8]) -> Next;
    /// Whether somebody has called it off.
    fn is_cancelled(&self) -> bool {
        false
    }
}

enum Order {
    Add(Box<dyn Source>),
    Prune,
    Quit,
}

struct Mailbox {
    orders: Mutex<Vec<Order>>,
    bell: EventFd,
}

/// How other threads speak to the waiting one.
#[derive(Clone)]
pub struct Handle(Arc<Mailbox>);

impl Handle {
    fn send(&self, order: Order) {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(order);
        // It can only fail when it rings already.
        self.0.bell.write(1).unwrap_or(0);
    }

    /// Waits for one thing more.
    pub fn add(&self, source: impl Source + 'static) {
        self.send(Order::Add(Box::new(source)));
    }

    /// Drops what was called off.
    pub fn prune(&self) {
        self.send(Order::Prune);
    }

    /// Ends the waiting.
    pub fn quit(&self) {
        self.send(Order::Quit);
    }
}

/// All that is waited for.
pub struct Watch {
    epoll: Epoll,
    handle: Handle,
    sources: HashMap<u64, Box<dyn Source>>,
    next: u64,
}

/// The token of the bell.
const BELL: u64 = 0;

impl Watch {
    /// Nothing yet.
    pub fn new() -> nix::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let orders = Mutex::new(Vec::new());
        Ok(Self {
            epoll,
            handle: Handle(Arc::new(Mailbox { orders, bell })),
            sources: HashMap::new(),
            next: BELL + 1,
        })
    }

    /// For other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn add(&mut self, source: Box<dyn Source>) -> u64 {
        let token = self.next;
        self.next += 1;
        for (fd, flags) in source.fds() {
            // EPERM: a regular file, which is always ready.
            if let Err(errno) = self.epoll.add(fd.as_fd(), EpollEvent::new(flags, token))
                && errno != Errno::EPERM
            {
                creel::log::warning(&format_args!("cannot wait for a descriptor: {errno}"));
            }
        }
        self.sources.insert(token, source);
        token
    }

    fn drop_source(&mut self, token: u64) {
        if let Some(source) = self.sources.remove(&token) {
            for (fd, _) in source.fds() {
                // Not by closing alone: a copy elsewhere would keep it in the set.
                self.epoll.delete(fd).unwrap_or(());
            }
        }
    }

    /// Waits and serves until told to quit.
    pub fn run(&mut self) -> nix::Result<()> {
        let mut buffer = vec![0; 32 << 10];
        let mut events = [EpollEvent::empty(); 32];
        let mut again: VecDeque<u64> = VecDeque::new();
        loop {
            let timeout = if again.is_empty() {
                EpollTimeout::NONE
            } else {
                EpollTimeout::ZERO
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => 0,
                other => other?,
            };
            let mut ready: Vec<u64> = again.drain(..).collect();
            for event in events.iter().take(count) {
                let token = event.data();
                if token == BELL {
                    self.handle.0.bell.read().unwrap_or(0);
                } else if !ready.contains(&token) {
                    ready.push(token);
                }
            }
            for token in ready {
                self.serve(token, &mut buffer, &mut again);
            }
            let orders = std::mem::take(
                &mut *self
                    .handle
                    .0
                    .orders
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            for order in orders {
                match order {
                    Order::Add(source) => {
                        let token = self.add(source);
                        // What was there before does not ring any more.
                        again.push_back(token);
                    }
                    Order::Prune => {
                        let stale: Vec<u64> = self
                            .sources
                            .iter()
                            .filter(|(_, source)| source.is_cancelled())
                            .map(|(token, _)| *token)
                            .collect();
                        for token in stale {
                            self.drop_source(token);
                        }
                    }
                    Order::Quit => return Ok(()),
                }
            }
        }
    }

    fn serve(&mut self, token: u64, buffer: &mut [u8], again: &mut VecDeque<u64>) {
        let Some(source) = self.sources.get_mut(&token) else {
            return;
        };
        match source.serve(&self.handle, buffer) {
            Next::Keep => {}
            Next::Again => again.push_back(token),
            Next::Done => self.drop_source(token),
        }
    }
}
