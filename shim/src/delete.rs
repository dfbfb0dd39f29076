//! `Delete`: the end of a process, or of a container with all that is left of it.
#![forbid(unsafe_code)]

use crate::events::timestamp;
use crate::mounts;
use crate::process::{Container, Process, Stage, lock};
use crate::shim::Shim;
use crate::status::{Result, Status};
use crate::task::bytes;
use containerd_shim_protos::api::{DeleteRequest, DeleteResponse};
use containerd_shim_protos::events::task::TaskDelete;
use std::sync::Arc;
use std::time::Duration;

/// How long what is written last may take to reach the client, as with the Go shim.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub fn delete(shim: &Arc<Shim>, asked: &DeleteRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let process = container.process(&asked.exec_id)?;
    let _busy = lock(&process.busy);
    // Somebody else may have been quicker, and the id another one's by now.
    if !container.has(&process) {
        return Err(Status::not_found("process is deleted"));
    }
    if process.life().stage == Stage::Running {
        return Err(Status::precondition("cannot delete a running process"));
    }
    if process.is_init() {
        delete_container(shim, &container)?;
    }
    finish_io(shim, &process);
    let said = response(&process);
    container.forget(&process);
    if process.is_init() {
        let mut event = TaskDelete::new();
        event.container_id = container.id.clone();
        event.pid = said.pid;
        event.exit_status = said.exit_status;
        event.exited_at = said.exited_at.clone();
        shim.publisher.send("/tasks/delete", "TaskDelete", &event);
        {
            let mut order = container.order();
            order.gone = true;
            for (_, never_started) in order.execs.drain() {
                container.forget(&never_started);
            }
        }
        container.set_oom(None);
        shim.remove(&container.id);
        shim.watch.prune();
    } else {
        container.order().execs.remove(&process.exec_id);
    }
    bytes(&said)
}

fn delete_container(shim: &Arc<Shim>, container: &Arc<Container>) -> Result<()> {
    let created = {
        let life = container.init.life();
        life.stage == Stage::Created && life.pid != 0
    };
    let store = container.runtime.store();
    // There is none after a checkpoint that ended it, or a restore that failed.
    if store.dir(&container.id)?.is_some() {
        // One that was created and never started is killed by this.
        creel::container::delete(&store, &container.id, false)?;
    }
    if created {
        container.init.ends_within(PATIENCE);
    }
    // What hangs in an exec that was never deleted must not hold the root.
    let execs: Vec<_> = container.order().execs.values().map(Arc::clone).collect();
    for process in execs {
        let mut io = std::mem::take(&mut process.life().io);
        io.finish(&shim.watch, Duration::ZERO);
    }
    mounts::unmount_all(&container.bundle.join("rootfs"));
    Ok(())
}

/// Lets the last output reach the client. Not under the process's lock: that may take a while.
fn finish_io(shim: &Arc<Shim>, process: &Process) {
    let mut io = std::mem::take(&mut process.life().io);
    io.finish(&shim.watch, PATIENCE);
    process.life().terminal = None;
}

fn response(process: &Process) -> DeleteResponse {
    let life = process.life();
    let mut said = DeleteResponse::new();
    said.pid = u32::try_from(life.pid).unwrap_or(0);
    if let Some(exit) = life.exit {
        said.exit_status = exit.status;
        said.exited_at = Some(timestamp(exit.at)).into();
    }
    said
}
