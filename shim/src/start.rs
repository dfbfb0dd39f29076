//! `Start`: the program of a container that was created, or of a process that was asked for.
#![forbid(unsafe_code)]

use crate::create::{spawn, watch_end, watch_memory};
use crate::process::{Container, Process, Stage, lock};
use crate::shim::Shim;
use crate::status::{Doing, Result, Status};
use crate::task::bytes;
use containerd_shim_protos::api::{StartRequest, StartResponse};
use containerd_shim_protos::events::task::{TaskExecStarted, TaskStart};
use std::ffi::OsString;
use std::sync::Arc;

/// See the module.
pub fn start(shim: &Arc<Shim>, asked: &StartRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let process = container.process(&asked.exec_id)?;
    let _busy = lock(&process.busy);
    let stage = process.life().stage;
    if stage != Stage::Created {
        let what = match stage {
            Stage::Running => "running",
            _ => "stopped",
        };
        let why = format_args!("cannot start a {what} process");
        return Err(Status::precondition(why));
    }
    let pid = if process.is_init() {
        start_init(shim, &container, &process)?
    } else {
        start_exec(shim, &container, &process)?
    };
    let mut said = StartResponse::new();
    said.pid = u32::try_from(pid).unwrap_or(0);
    bytes(&said)
}

fn start_init(shim: &Arc<Shim>, container: &Arc<Container>, process: &Arc<Process>) -> Result<i32> {
    // From here on, an end is told after the start, by us.
    process.life().starting = true;
    let done = if container.checkpoint.is_empty() {
        container
            .runtime
            .container(&container.id)
            .and_then(|live| Ok(live.start()?))
            .map_err(|error| error.within("OCI runtime start failed"))
    } else {
        restore(shim, container, process)
            .map_err(|error| error.within("OCI runtime restore failed"))
    };
    let mut order = container.order();
    let pid = {
        let mut life = process.life();
        life.starting = false;
        if done.is_ok() {
            life.stage = Stage::Running;
            let mut event = TaskStart::new();
            event.container_id = container.id.clone();
            event.pid = u32::try_from(life.pid).unwrap_or(0);
            shim.publisher.send("/tasks/start", "TaskStart", &event);
        }
        life.pid
    };
    container.tell_end(&mut order, process);
    done.map(|()| pid)
}

/// A container that was created from a checkpoint: this is when it comes to life.
fn restore(shim: &Arc<Shim>, container: &Arc<Container>, process: &Arc<Process>) -> Result<()> {
    let mut args = vec![OsString::from("restore"), "--bundle".into()];
    args.push(container.bundle.clone().into());
    args.extend(["--image-path".into(), (&container.checkpoint).into()]);
    let work = container.bundle.join("criu-work");
    let work = match container.options.criu_work_path.as_str() {
        "" => work,
        path => path.into(),
    };
    args.extend(["--work-path".into(), work.into(), "--detach".into()]);
    if container.options.no_pivot_root {
        args.push("--no-pivot".into());
    }
    let birth = shim.nursery.birth();
    spawn(shim, container, process, &birth, args, "init")?;
    watch_memory(shim, container);
    watch_end(shim, container, process);
    Ok(())
}

fn start_exec(shim: &Arc<Shim>, container: &Arc<Container>, process: &Arc<Process>) -> Result<i32> {
    {
        let mut order = container.order();
        if order.init_ended {
            let why = format_args!("container {} init process is not running", container.id);
            return Err(Status::precondition(why));
        }
        order.running_execs += 1;
    }
    let birth = shim.nursery.birth();
    let born = run_exec(shim, container, process, &birth)
        .map_err(|error| error.within("OCI runtime exec failed"));
    match &born {
        Ok(pid) => {
            let mut event = TaskExecStarted::new();
            event.container_id = container.id.clone();
            event.exec_id = process.exec_id.clone();
            event.pid = u32::try_from(*pid).unwrap_or(0);
            process.life().stage = Stage::Running;
            shim.publisher
                .send("/tasks/exec-started", "TaskExecStarted", &event);
            // Only now, so that its end is told after this.
            watch_end(shim, container, process);
        }
        Err(_) => {
            container.forget(process);
            container.exec_over(&mut container.order());
        }
    }
    born
}

fn run_exec(
    shim: &Arc<Shim>,
    container: &Arc<Container>,
    process: &Arc<Process>,
    birth: &crate::reap::Birth,
) -> Result<i32> {
    // Of its own: the files of other calls have names, too.
    let name = format!("exec-{}", process.exec_id);
    let spec = container.bundle.join(format!("{name}.process.json"));
    std::fs::write(&spec, &process.spec).doing(spec.display())?;
    let mut args = vec![OsString::from("exec"), "--process".into()];
    args.extend([spec.clone().into(), "--detach".into()]);
    let born = spawn(shim, container, process, birth, args, &name);
    std::fs::remove_file(&spec).unwrap_or(());
    std::fs::remove_file(container.bundle.join(format!("{name}.pid"))).unwrap_or(());
    born
}
