//! What is done to a container that lives: signals, pause and resume, limits, checkpoints.
#![forbid(unsafe_code)]

use crate::process::{Container, Stage, lock};
use crate::runtime::silence;
use crate::shim::Shim;
use crate::status::{Doing, Result, Status};
use crate::task::{bytes, empty};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse, ProcessInfo,
    ResumeRequest, UpdateTaskRequest,
};
use containerd_shim_protos::events::task::{TaskCheckpointed, TaskPaused, TaskResumed};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci::{CheckpointOptions, ProcessDetails};
use nix::errno::Errno;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The words that clients look for.
fn finished() -> Status {
    Status::not_found("process already finished")
}

/// `Kill`: one process, or all of a container.
pub fn kill(shim: &Arc<Shim>, asked: &KillRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let process = container.process(&asked.exec_id)?;
    let number = i32::try_from(asked.signal)
        .map_err(|_| Status::invalid(format_args!("signal {}", asked.signal)))?;
    if !process.is_init() {
        let life = process.life();
        let handle = match (&life.handle, life.exit, life.stage) {
            (_, Some(_), _) | (_, _, Stage::Gone) => return Err(finished()),
            (None, ..) => return Err(Status::precondition("process not created")),
            (Some(handle), ..) => Arc::clone(handle),
        };
        drop(life);
        return match creel::supervise::signal(handle.as_fd(), number) {
            Ok(()) => empty(),
            Err(Errno::ESRCH) => Err(finished()),
            Err(errno) => Err(errno.into()),
        };
    }
    if process.life().pid == 0 {
        return Err(Status::precondition("process not created"));
    }
    let live = container.runtime.container(&container.id)?;
    if asked.all {
        live.signal_all(number)?;
    } else {
        live.kill(number).map_err(|error| {
            let text = error.to_string();
            if text.contains("container not running") {
                finished()
            } else {
                error.into()
            }
        })?;
    }
    empty()
}

/// `Pause`.
pub fn pause(shim: &Arc<Shim>, asked: &PauseRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let _whole = lock(&container.whole);
    container.runtime.container(&container.id)?.pause()?;
    container.order().paused = true;
    let mut event = TaskPaused::new();
    event.container_id = container.id.clone();
    shim.publisher.send("/tasks/paused", "TaskPaused", &event);
    empty()
}

/// `Resume`.
pub fn resume(shim: &Arc<Shim>, asked: &ResumeRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let _whole = lock(&container.whole);
    container.runtime.container(&container.id)?.resume()?;
    container.order().paused = false;
    let mut event = TaskResumed::new();
    event.container_id = container.id.clone();
    shim.publisher.send("/tasks/resumed", "TaskResumed", &event);
    empty()
}

/// `Update`: the runtime knows how limits are changed.
pub fn update(shim: &Arc<Shim>, asked: &UpdateTaskRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let _whole = lock(&container.whole);
    let resources = asked
        .resources
        .as_ref()
        .ok_or_else(|| Status::invalid("no resources"))?;
    let args = ["update", "--resources", "-", &container.id];
    container
        .runtime
        .call_with("update", &args, silence(), Some(&resources.value))
        .map_err(|error| error.within("OCI runtime update failed"))?;
    empty()
}

/// `Checkpoint`.
pub fn checkpoint(shim: &Arc<Shim>, asked: &CheckpointTaskRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let _whole = lock(&container.whole);
    let said = match asked.options.as_ref() {
        Some(any) => CheckpointOptions::parse_from_bytes(&any.value).doing("options")?,
        None => CheckpointOptions::new(),
    };
    let args = checkpoint_args(&container, &asked.path, &said);
    container
        .runtime
        .call("checkpoint", &args, silence())
        .map_err(|error| error.within("OCI runtime checkpoint failed"))?;
    let mut event = TaskCheckpointed::new();
    event.container_id = container.id.clone();
    event.checkpoint = asked.path.clone();
    shim.publisher
        .send("/tasks/checkpointed", "TaskCheckpointed", &event);
    empty()
}

fn checkpoint_args(container: &Container, path: &str, said: &CheckpointOptions) -> Vec<OsString> {
    let image = match (path, said.image_path.as_str()) {
        ("", image) => image,
        (path, _) => path,
    };
    let work = match said.work_path.as_str() {
        "" => container.bundle.join("criu-work"),
        path => path.into(),
    };
    let mut args: Vec<OsString> = vec!["checkpoint".into()];
    args.extend(["--image-path".into(), image.into()]);
    args.extend(["--work-path".into(), work.into()]);
    let flags = [
        (!said.exit, "--leave-running"),
        (said.open_tcp, "--tcp-established"),
        (said.external_unix_sockets, "--ext-unix-sk"),
        (said.terminal, "--shell-job"),
        (said.file_locks, "--file-locks"),
    ];
    args.extend(
        flags
            .iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, flag)| OsString::from(flag)),
    );
    for namespace in &said.empty_namespaces {
        args.extend(["--empty-ns".into(), namespace.into()]);
    }
    if !said.cgroups_mode.is_empty() {
        let mode = &said.cgroups_mode;
        args.extend(["--manage-cgroups-mode".into(), mode.into()]);
    }
    args.push((&container.id).into());
    args
}

/// `Pids`: all processes of a container, and which of them were exec'd.
pub fn pids(shim: &Arc<Shim>, asked: &PidsRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let pids = container.runtime.container(&container.id)?.pids()?;
    let execs: Vec<_> = container
        .order()
        .execs
        .values()
        .map(|process| (process.life().pid, process.exec_id.clone()))
        .collect();
    let mut said = PidsResponse::new();
    for pid in pids {
        let mut info = ProcessInfo::new();
        info.pid = u32::try_from(pid).unwrap_or(0);
        if let Some((_, exec_id)) = execs.iter().find(|(own, _)| *own == pid) {
            let mut details = ProcessDetails::new();
            details.exec_id = exec_id.clone();
            let mut any = Any::new();
            any.type_url = "containerd.runc.v1.ProcessDetails".into();
            any.value = details.write_to_bytes()?;
            info.info = Some(any).into();
        }
        said.processes.push(info);
    }
    bytes(&said)
}

/// Kills what init's death has left alive: a container without a pid namespace of its own.
pub fn kill_rest(container: &Container) {
    let killed =
        container
            .runtime
            .container(&container.id)
            .and_then(|live| match live.outlives_init() {
                true => Ok(live.kill_all()?),
                false => Ok(()),
            });
    if let Err(error) = killed {
        creel::log::warning(&format_args!("{}: {error}", container.id));
    }
}
