//! The shim at work: who is connected, which containers there are, which call means what.
#![forbid(unsafe_code)]

use crate::events::Publisher;
use crate::process::{Container, lock};
use crate::reap::Nursery;
use crate::status::{Result, Status};
use crate::watch::{Handle, Next, Source};
use crate::wire::{Connection, Frame, Line, Parser, Reply};
use crate::work::Workers;
use containerd_shim_protos::ttrpc::{Code, Request};
use nix::libc;
use nix::sys::epoll::EpollFlags;
use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Both names of the task service; their messages are the same.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// See the module.
pub struct Shim {
    /// containerd's namespace.
    pub namespace: String,
    /// Where our socket is, and those of terminals.
    pub socket_dir: PathBuf,
    /// Who waits.
    pub watch: Handle,
    /// Who works.
    pub workers: Workers,
    /// Who tells.
    pub publisher: Publisher,
    /// Whose children are reaped.
    pub nursery: Nursery,
    containers: Mutex<HashMap<String, Option<Arc<Container>>>>,
    coming: AtomicUsize,
}

/// A container that was asked for, and may have no place yet.
pub struct Coming(Arc<Shim>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shim {
    /// Without containers.
    pub fn new(
        namespace: &str,
        socket_dir: PathBuf,
        watch: Handle,
        workers: Workers,
        publisher: Publisher,
        nursery: Nursery,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            socket_dir,
            watch,
            workers,
            publisher,
            nursery,
            containers: Mutex::default(),
            coming: AtomicUsize::new(0),
        }
    }

    /// While it lives, there is something to stay for.
    pub fn expect(self: &Arc<Self>) -> Coming {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(self))
    }

    /// The container of that id.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = lock(&self.containers).get(id).cloned().flatten();
        found.ok_or_else(|| Status::not_found("container not created"))
    }

    /// Takes an id for a container that is being created.
    pub fn reserve(&self, id: &str) -> Result<()> {
        let mut containers = lock(&self.containers);
        if containers.contains_key(id) {
            let why = format_args!("container {id} exists").to_string();
            return Err(Status::new(Code::ALREADY_EXISTS, why));
        }
        containers.insert(id.into(), None);
        Ok(())
    }

    /// Puts the container there.
    pub fn enter(&self, container: Arc<Container>) {
        lock(&self.containers).insert(container.id.clone(), Some(container));
    }

    /// Takes it away again.
    pub fn remove(&self, id: &str) {
        lock(&self.containers).remove(id);
    }

    /// Whether there is nothing to stay for.
    pub fn is_empty(&self) -> bool {
        // In this order: who comes takes a place first.
        self.coming.load(Ordering::Acquire) == 0 && lock(&self.containers).is_empty()
    }

    fn dispatch(self: &Arc<Self>, request: Request, reply: Reply) {
        if !SERVICES.contains(&request.service.as_str()) {
            let why = format!("service {}", request.service);
            reply.settle(Err(Status::new(Code::UNIMPLEMENTED, why)));
            return;
        }
        crate::task::call(self, &request.method, request.payload, reply);
    }
}

/// Where clients come from.
pub struct Door {
    /// The socket.
    pub listener: UnixListener,
    /// Held so that one can be accepted when there are no descriptors left, and sent away: who is
    /// left in the queue would wake us for ever.
    pub spare: Option<OwnedFd>,
    /// What they come for.
    pub shim: Arc<Shim>,
}

impl Door {
    fn turn_away(&mut self) {
        self.spare = None;
        if let Ok((client, _)) = self.listener.accept() {
            client.shutdown(Shutdown::Both).ok();
            self.spare = Some(client.into());
        }
    }
}

impl Source for Door {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        vec![(self.listener.as_fd(), EpollFlags::EPOLLIN)]
    }

    fn serve(&mut self, watch: &Handle, _buffer: &mut [u8]) -> Next {
        match self
            .listener
            .accept()
            .and_then(|(socket, _)| Connection::new(socket))
        {
            Ok(connection) => watch.add(Client {
                connection: Arc::new(connection),
                parser: Parser::default(),
                shim: Arc::clone(&self.shim),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                creel::log::warning(&format_args!("accept: {error}"));
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                    self.turn_away();
                }
            }
        }
        Next::Keep
    }
}

/// One client: containerd, as a rule.
struct Client {
    connection: Arc<Connection>,
    parser: Parser,
    shim: Arc<Shim>,
}

impl Source for Client {
    fn fds(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        vec![(self.connection.fd(), flags)]
    }

    fn serve(&mut self, _watch: &Handle, buffer: &mut [u8]) -> Next {
        self.connection.flush();
        let mut frames = Vec::new();
        let line = self.connection.read(&mut self.parser, buffer, &mut frames);
        for frame in frames {
            match frame {
                Frame::Call(stream, request) => {
                    let reply = Reply::new(Arc::clone(&self.connection), stream);
                    self.shim.dispatch(*request, reply);
                }
                Frame::Bad(stream, why) => {
                    Reply::new(Arc::clone(&self.connection), stream)
                        .settle(Err(Status::invalid(why)));
                }
            }
        }
        match line {
            Line::Quiet => Next::Keep,
            Line::More => Next::Again,
            Line::Closed => {
                self.connection.leave();
                Next::Done
            }
        }
    }
}
