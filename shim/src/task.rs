//! The task service: which call is answered at once, and which by a worker.
#![forbid(unsafe_code)]

use crate::events::timestamp;
use crate::process::{Container, Process, Stage};
use crate::shim::Shim;
use crate::status::{Result, Status};
use crate::wire::Reply;
use crate::{change, create, delete, exec, metrics, start};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    DeleteRequest, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, ResizePtyRequest,
    ResumeRequest, ShutdownRequest, StartRequest, StateRequest, StateResponse, StatsRequest,
    UpdateTaskRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{EnumOrUnknown, Message};
use containerd_shim_protos::ttrpc::Code;
use containerd_shim_protos::types::task::Status as Shown;
use std::sync::Arc;

type Answer = Result<Vec<u8>>;
/// What answers a call.
type Act = fn(&Arc<Shim>, &[u8]) -> Answer;

/// A message's bytes, as the payload of an answer.
pub fn bytes(message: &impl Message) -> Answer {
    Ok(message.write_to_bytes()?)
}

/// The answer that says nothing.
pub fn empty() -> Answer {
    bytes(&Empty::new())
}

/// Answers a call, now or from a worker.
pub fn call(shim: &Arc<Shim>, method: &str, payload: Vec<u8>, reply: Reply) {
    // What never waits is done here and now.
    let now: Option<Act> = match method {
        "State" => Some(state),
        "Connect" => Some(connect),
        "ResizePty" => Some(resize),
        "CloseIO" => Some(close_io),
        _ => None,
    };
    if let Some(act) = now {
        return reply.settle(act(shim, &payload));
    }
    match method {
        "Wait" => return wait(shim, &payload, reply),
        "Shutdown" => return shutdown(shim, &payload, reply),
        _ => {}
    }
    let later: Act = match method {
        "Create" => |shim, bytes| create::create(shim, &parse::<CreateTaskRequest>(bytes)?),
        "Start" => |shim, bytes| start::start(shim, &parse::<StartRequest>(bytes)?),
        "Delete" => |shim, bytes| delete::delete(shim, &parse::<DeleteRequest>(bytes)?),
        "Exec" => |shim, bytes| exec::exec(shim, &parse::<ExecProcessRequest>(bytes)?),
        "Kill" => |shim, bytes| change::kill(shim, &parse::<KillRequest>(bytes)?),
        "Pause" => |shim, bytes| change::pause(shim, &parse::<PauseRequest>(bytes)?),
        "Resume" => |shim, bytes| change::resume(shim, &parse::<ResumeRequest>(bytes)?),
        "Update" => |shim, bytes| change::update(shim, &parse::<UpdateTaskRequest>(bytes)?),
        "Checkpoint" => {
            |shim, bytes| change::checkpoint(shim, &parse::<CheckpointTaskRequest>(bytes)?)
        }
        "Pids" => |shim, bytes| change::pids(shim, &parse::<PidsRequest>(bytes)?),
        "Stats" => |shim, bytes| metrics::stats(shim, &parse::<StatsRequest>(bytes)?),
        other => {
            let why = format!("method {other}");
            return reply.settle(Err(Status::new(Code::UNIMPLEMENTED, why)));
        }
    };
    let mine = Arc::clone(shim);
    let coming = (method == "Create").then(|| shim.expect());
    // A refused job takes its reply along: answer through a copy.
    let busy = reply.copy();
    let job = move || {
        let answer = later(&mine, &payload);
        // Before the answer: a Shutdown may be next.
        drop(coming);
        reply.settle(answer);
    };
    if !shim.workers.take(job) {
        busy.settle(Err(Status::new(Code::RESOURCE_EXHAUSTED, "too many calls")));
    }
}

fn parse<M: Message>(bytes: &[u8]) -> Result<M> {
    Ok(M::parse_from_bytes(bytes)?)
}

fn find(shim: &Shim, id: &str, exec_id: &str) -> Result<(Arc<Container>, Arc<Process>)> {
    let container = shim.container(id)?;
    let process = container.process(exec_id)?;
    Ok((container, process))
}

fn state(shim: &Arc<Shim>, payload: &[u8]) -> Answer {
    let asked: StateRequest = parse(payload)?;
    let (container, process) = find(shim, &asked.id, &asked.exec_id)?;
    let paused = container.order().paused;
    let life = process.life();
    let mut said = StateResponse::new();
    said.id = if process.is_init() {
        container.id.clone()
    } else {
        process.exec_id.clone()
    };
    said.exec_id = process.exec_id.clone();
    said.bundle = container.bundle.to_string_lossy().into_owned();
    said.pid = u32::try_from(life.pid).unwrap_or(0);
    said.status = EnumOrUnknown::new(match life.stage {
        Stage::Stopped | Stage::Gone => Shown::STOPPED,
        _ if paused => Shown::PAUSED,
        Stage::Created => Shown::CREATED,
        Stage::Running => Shown::RUNNING,
    });
    said.stdin = process.wanted.stdin.clone();
    said.stdout = process.wanted.stdout.clone();
    said.stderr = process.wanted.stderr.clone();
    said.terminal = process.wanted.terminal;
    if let (Stage::Stopped | Stage::Gone, Some(exit)) = (life.stage, life.exit) {
        said.exit_status = exit.status;
        said.exited_at = Some(timestamp(exit.at)).into();
    }
    bytes(&said)
}

fn connect(shim: &Arc<Shim>, payload: &[u8]) -> Answer {
    let asked: ConnectRequest = parse(payload)?;
    let mut said = ConnectResponse::new();
    said.shim_pid = std::process::id();
    said.version = env!("CARGO_PKG_VERSION").into();
    if let Ok(container) = shim.container(&asked.id) {
        said.task_pid = u32::try_from(container.init.life().pid).unwrap_or(0);
    }
    bytes(&said)
}

fn resize(shim: &Arc<Shim>, payload: &[u8]) -> Answer {
    let asked: ResizePtyRequest = parse(payload)?;
    let (_, process) = find(shim, &asked.id, &asked.exec_id)?;
    let life = process.life();
    let size = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    // As with runc's shim: without a terminal there is nothing to do, and that is no error.
    if let Some(terminal) = &life.terminal {
        let terminal = std::os::fd::AsFd::as_fd(terminal);
        creel::supervise::resize(terminal, size(asked.width), size(asked.height))?;
    }
    empty()
}

fn close_io(shim: &Arc<Shim>, payload: &[u8]) -> Answer {
    let asked: CloseIORequest = parse(payload)?;
    let (_, process) = find(shim, &asked.id, &asked.exec_id)?;
    if asked.stdin {
        let mut life = process.life();
        life.stdin_closed = true;
        life.io.stdin_kept = None;
    }
    empty()
}

fn wait(shim: &Arc<Shim>, payload: &[u8], reply: Reply) {
    let found =
        parse::<WaitRequest>(payload).and_then(|asked| find(shim, &asked.id, &asked.exec_id));
    match found {
        Ok((_, process)) => process.wait(reply),
        Err(error) => reply.settle(Err(error)),
    }
}

fn shutdown(shim: &Arc<Shim>, payload: &[u8], reply: Reply) {
    if let Err(error) = parse::<ShutdownRequest>(payload) {
        return reply.settle(Err(error));
    }
    reply.settle(empty());
    if shim.is_empty() {
        shim.watch.quit();
    }
}
