//! The containers of a shim and their processes: what each is in the middle of, and the order in
//! which their ends are told.
//!
//! Locks, from the outside in: a process's `busy` (one start or delete at a time), the container's
//! `order`, a process's `life`. Only the first is held while a program runs.
#![forbid(unsafe_code)]

use crate::events::{Publisher, timestamp};
use crate::io::{Io, Wanted};
use crate::oom::Oom;
use crate::options::Options;
use crate::runtime::Runtime;
use crate::status::{Result, Status};
use crate::wire::Reply;
use containerd_shim_protos::api::WaitResponse;
use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::protobuf::Message;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Locks, whatever happened to the last one who did.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Asked for; init waits for its start, an exec'd process is not there yet.
    #[default]
    Created,
    /// Its program runs, or has ended without that being told yet.
    Running,
    /// Its end was told.
    Stopped,
    /// It could not be started, or is deleted.
    Gone,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// The exit code, or 128 and the signal.
    pub status: u32,
    /// When.
    pub at: SystemTime,
}

/// What changes about a process.
#[derive(Default)]
pub struct Life {
    /// Its stage.
    pub stage: Stage,
    /// Its id; 0 before it is there.
    pub pid: i32,
    /// A handle of it.
    pub handle: Option<Arc<OwnedFd>>,
    /// Its end, told or not.
    pub exit: Option<Exit>,
    /// A start is at work: it tells the end, after the start.
    pub starting: bool,
    /// Its terminal.
    pub terminal: Option<OwnedFd>,
    /// Its streams.
    pub io: Io,
    /// Its client has no more input; said, as it may be, before the streams were there.
    pub stdin_closed: bool,
    waiters: Vec<Reply>,
}

/// A process of a container: init, or one that was exec'd.
pub struct Process {
    /// Empty for init.
    pub exec_id: String,
    /// The client's ends of its streams.
    pub wanted: Wanted,
    /// What to exec, as JSON.
    pub spec: Vec<u8>,
    /// Held by whoever starts or deletes it.
    pub busy: Mutex<()>,
    life: Mutex<Life>,
    told: Condvar,
}

impl Process {
    /// One that is not yet.
    pub fn new(exec_id: &str, wanted: Wanted, spec: Vec<u8>) -> Self {
        Self {
            exec_id: exec_id.into(),
            wanted,
            spec,
            busy: Mutex::new(()),
            life: Mutex::default(),
            told: Condvar::new(),
        }
    }

    /// What changes about it.
    pub fn life(&self) -> MutexGuard<'_, Life> {
        lock(&self.life)
    }

    /// Whether it is the container's first.
    pub fn is_init(&self) -> bool {
        self.exec_id.is_empty()
    }

    /// Answers when its end has been told.
    pub fn wait(&self, reply: Reply) {
        let mut life = self.life();
        match (life.stage, life.exit) {
            (Stage::Stopped | Stage::Gone, exit) => {
                drop(life);
                reply.settle(waited(exit));
            }
            _ => {
                // A containerd that has restarted asks again.
                life.waiters.retain(Reply::is_awaited);
                life.waiters.push(reply);
            }
        }
    }

    /// Waits until its end has been told, or the patience is over.
    pub fn ends_within(&self, patience: Duration) {
        let life = self.life();
        let running = |life: &mut Life| !matches!(life.stage, Stage::Stopped | Stage::Gone);
        drop(self.told.wait_timeout_while(life, patience, running));
    }
}

fn waited(exit: Option<Exit>) -> Result<Vec<u8>> {
    let mut response = WaitResponse::new();
    if let Some(exit) = exit {
        response.exit_status = exit.status;
        response.exited_at = Some(timestamp(exit.at)).into();
    }
    Ok(response.write_to_bytes()?)
}

/// What holds the container's processes together.
#[derive(Default)]
pub struct Order {
    /// By id, without init.
    pub execs: HashMap<String, Arc<Process>>,
    /// Started, or about to, and their end not told.
    pub running_execs: usize,
    /// Init has ended, told or not: nothing starts any more.
    pub init_ended: bool,
    /// The container is frozen, by us.
    pub paused: bool,
    /// Its task was deleted.
    pub gone: bool,
}

/// A container.
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// How to call its runtime.
    pub runtime: Runtime,
    /// What the engine asked.
    pub options: Options,
    /// Where to restore it from, when it starts.
    pub checkpoint: String,
    /// The first process.
    pub init: Arc<Process>,
    /// One pause, resume, update or checkpoint at a time.
    pub whole: Mutex<()>,
    order: Mutex<Order>,
    oom: Mutex<Option<Oom>>,
    publisher: Publisher,
}

impl Container {
    /// One that is not yet.
    pub fn new(
        id: &str,
        bundle: PathBuf,
        runtime: Runtime,
        options: Options,
        checkpoint: &str,
        wanted: Wanted,
        publisher: &Publisher,
    ) -> Self {
        Self {
            id: id.into(),
            bundle,
            runtime,
            options,
            checkpoint: checkpoint.into(),
            init: Arc::new(Process::new("", wanted, Vec::new())),
            whole: Mutex::new(()),
            order: Mutex::default(),
            oom: Mutex::new(None),
            publisher: publisher.clone(),
        }
    }

    /// What holds its processes together.
    pub fn order(&self) -> MutexGuard<'_, Order> {
        lock(&self.order)
    }

    /// The process of that exec id; init for the empty one.
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        let found = self.order().execs.get(exec_id).map(Arc::clone);
        found.ok_or_else(|| Status::not_found(format_args!("process does not exist {exec_id}")))
    }

    /// Whether the process is one of it, and not deleted.
    pub fn has(&self, process: &Arc<Process>) -> bool {
        let order = self.order();
        let same = |one: &Arc<Process>| Arc::ptr_eq(one, process);
        match process.is_init() {
            true => !order.gone,
            false => order.execs.get(&process.exec_id).is_some_and(same),
        }
    }

    /// Whether its task was deleted.
    pub fn is_gone(&self) -> bool {
        self.order().gone
    }

    /// Watches its memory from now on.
    pub fn set_oom(&self, oom: Option<Oom>) {
        *lock(&self.oom) = oom;
    }

    /// Tells of a kill for want of memory, if there was one.
    pub fn check_memory(&self) {
        let struck = lock(&self.oom).as_mut().is_some_and(Oom::struck);
        if struck {
            let mut event = TaskOOM::new();
            event.container_id = self.id.clone();
            self.publisher.send("/tasks/oom", "TaskOOM", &event);
        }
    }

    /// A process has ended: tells it now, or leaves that to whoever is starting it.
    pub fn ended(self: &Arc<Self>, process: &Arc<Process>, status: i32, at: SystemTime) {
        // Before the exit: who hears of that asks whether memory was the reason.
        self.check_memory();
        let mut order = self.order();
        let mut life = process.life();
        life.exit = Some(Exit {
            status: u32::try_from(status).unwrap_or(255),
            at,
        });
        if process.is_init() {
            order.init_ended = true;
        }
        let starting = life.starting;
        drop(life);
        if !starting {
            self.tell_end(&mut order, process);
        }
    }

    /// Tells the end of a process, if it has ended and it is time for that: init's is the last of
    /// a container.
    pub fn tell_end(&self, order: &mut Order, process: &Arc<Process>) {
        {
            let mut life = process.life();
            let Some(exit) = life.exit else {
                return;
            };
            let held = process.is_init() && order.running_execs > 0;
            if held || life.starting || matches!(life.stage, Stage::Stopped | Stage::Gone) {
                return;
            }
            life.stage = Stage::Stopped;
            let mut event = TaskExit::new();
            event.container_id = self.id.clone();
            event.id = if process.is_init() {
                self.id.clone()
            } else {
                process.exec_id.clone()
            };
            event.pid = u32::try_from(life.pid).unwrap_or(0);
            event.exit_status = exit.status;
            event.exited_at = Some(timestamp(exit.at)).into();
            self.publisher.send("/tasks/exit", "TaskExit", &event);
            for reply in std::mem::take(&mut life.waiters) {
                reply.settle(waited(Some(exit)));
            }
            process.told.notify_all();
        }
        if !process.is_init() {
            self.exec_over(order);
        }
    }

    /// One running exec less; init's end may have waited for that.
    pub fn exec_over(&self, order: &mut Order) {
        order.running_execs = order.running_execs.saturating_sub(1);
        if order.running_execs == 0 {
            self.tell_end(order, &Arc::clone(&self.init));
        }
    }

    /// Answers those who wait for a process that will never have an end.
    pub fn forget(&self, process: &Process) {
        let mut life = process.life();
        life.stage = Stage::Gone;
        let exit = life.exit;
        for reply in std::mem::take(&mut life.waiters) {
            reply.settle(waited(exit));
        }
    }
}
