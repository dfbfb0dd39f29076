//! `Exec`: a process is asked for; it starts later.
#![forbid(unsafe_code)]

use crate::create::check_id;
use crate::io::Wanted;
use crate::process::Process;
use crate::shim::Shim;
use crate::status::{Doing, Result, Status};
use crate::task::empty;
use containerd_shim_protos::api::ExecProcessRequest;
use containerd_shim_protos::events::task::TaskExecAdded;
use containerd_shim_protos::ttrpc::Code;
use serde_json::Value;
use std::sync::Arc;

/// See the module.
pub fn exec(shim: &Arc<Shim>, asked: &ExecProcessRequest) -> Result<Vec<u8>> {
    check_id(&asked.exec_id)?;
    let container = shim.container(&asked.id)?;
    let mut spec: Value = serde_json::from_slice(&asked.spec.value).doing("process spec")?;
    let object = spec
        .as_object_mut()
        .ok_or_else(|| Status::invalid("process spec: not an object"))?;
    object.insert("terminal".into(), asked.terminal.into());
    let wanted = Wanted {
        stdin: asked.stdin.clone(),
        stdout: asked.stdout.clone(),
        stderr: asked.stderr.clone(),
        terminal: asked.terminal,
    };
    let process = Process::new(&asked.exec_id, wanted, serde_json::to_vec(&spec)?);
    let mut order = container.order();
    if order.init_ended {
        let why = format_args!("container {} init process is not running", container.id);
        return Err(Status::precondition(why));
    }
    if order.execs.contains_key(&asked.exec_id) {
        let why = format!("id {}", asked.exec_id);
        return Err(Status::new(Code::ALREADY_EXISTS, why));
    }
    order.execs.insert(asked.exec_id.clone(), Arc::new(process));
    let mut event = TaskExecAdded::new();
    event.container_id = container.id.clone();
    event.exec_id = asked.exec_id.clone();
    shim.publisher
        .send("/tasks/exec-added", "TaskExecAdded", &event);
    drop(order);
    empty()
}
