//! `Create`: a container that waits for its start.
#![forbid(unsafe_code)]

use crate::console::ConsoleSocket;
use crate::io::{Io, Wanted};
use crate::mounts;
use crate::oom::Oom;
use crate::options::Options;
use crate::process::{Container, Process};
use crate::reap::{Birth, Child};
use crate::runtime::{Runtime, silence};
use crate::shim::Shim;
use crate::status::{Doing, Result, Status};
use crate::task::bytes;
use containerd_shim_protos::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
pub fn create(shim: &Arc<Shim>, asked: &CreateTaskRequest) -> Result<Vec<u8>> {
    check_id(&asked.id)?;
    shim.reserve(&asked.id)?;
    let made = make(shim, asked);
    if made.is_err() {
        shim.remove(&asked.id);
    }
    let mut said = CreateTaskResponse::new();
    said.pid = u32::try_from(made?).unwrap_or(0);
    bytes(&said)
}

/// Ids become file names.
pub fn check_id(id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_-.+".contains(c);
    if id.is_empty() || id.starts_with('.') || id.len() > 255 || !id.chars().all(fine) {
        return Err(Status::invalid(format_args!("id {id:?}")));
    }
    Ok(())
}

fn make(shim: &Arc<Shim>, asked: &CreateTaskRequest) -> Result<i32> {
    let bundle = PathBuf::from(&asked.bundle);
    let options = Options::decode(asked.options.as_ref())?;
    options.keep(&bundle)?;
    let rootfs = bundle.join("rootfs");
    mounts::mount_all(&asked.rootfs, &rootfs)?;
    let wanted = Wanted {
        stdin: asked.stdin.clone(),
        stdout: asked.stdout.clone(),
        stderr: asked.stderr.clone(),
        terminal: asked.terminal,
    };
    let container = Arc::new(Container::new(
        &asked.id,
        bundle.clone(),
        Runtime::new(&options, &shim.namespace, &bundle),
        options,
        &asked.checkpoint,
        wanted,
        &shim.publisher,
    ));
    let birth = shim.nursery.birth();
    let born = if asked.checkpoint.is_empty() {
        launch(shim, &container, &birth).map_err(|error| error.within("OCI runtime create failed"))
    } else {
        // It comes to life when it starts.
        Ok(0)
    };
    if born.is_err() && !asked.rootfs.is_empty() {
        mounts::unmount_all(&rootfs);
    }
    let pid = born?;
    shim.enter(Arc::clone(&container));
    announce(shim, asked, pid);
    watch_memory(shim, &container);
    watch_end(shim, &container, &container.init);
    drop(birth);
    Ok(pid)
}

/// Has the runtime create it: init's id.
fn launch(shim: &Arc<Shim>, container: &Arc<Container>, birth: &Birth) -> Result<i32> {
    let mut args = vec![OsString::from("create"), "--bundle".into()];
    args.push(container.bundle.clone().into());
    if container.options.no_pivot_root {
        args.push("--no-pivot".into());
    }
    if container.options.no_new_keyring {
        args.push("--no-new-keyring".into());
    }
    let process = Arc::clone(&container.init);
    spawn(shim, container, &process, birth, args, "init")
}

/// Has the runtime start one process with its streams, and adopts it. `name` is that of its files.
pub fn spawn(
    shim: &Arc<Shim>,
    container: &Arc<Container>,
    process: &Arc<Process>,
    birth: &Birth,
    mut args: Vec<OsString>,
    name: &str,
) -> Result<i32> {
    let wanted = &process.wanted;
    let pid_file = container.bundle.join(format!("{name}.pid"));
    args.extend(["--pid-file".into(), pid_file.clone().into()]);
    let log_as = (container.id.as_str(), shim.namespace.as_str());
    let opened = if wanted.terminal {
        let socket = ConsoleSocket::bind(&shim.socket_dir)?;
        args.extend(["--console-socket".into(), socket.path().into()]);
        args.push((&container.id).into());
        container.runtime.call(name, &args, silence())?;
        socket.receive().and_then(|master| {
            let io = Io::terminal(wanted, &master, log_as)?;
            Ok((io, Some(master)))
        })
    } else {
        let owner = (container.options.io_uid, container.options.io_gid);
        let (io, streams) = Io::open(wanted, owner, log_as)?;
        args.push((&container.id).into());
        container.runtime.call(name, &args, streams)?;
        Ok((io, None))
    };
    let born = opened.and_then(|(mut io, terminal)| {
        let pid = read_pid(&pid_file)?;
        let handle = birth.adopt(pid)?;
        io.run(&shim.watch);
        settle(process, pid, handle, terminal, io);
        Ok(pid)
    });
    born.inspect_err(|_| undo(container, process, &pid_file))
}

/// The runtime has done its part, but nobody can have what it made.
fn undo(container: &Container, process: &Process, pid_file: &Path) {
    let undone = if process.is_init() {
        let store = container.runtime.store();
        creel::container::delete(&store, &container.id, true).map_err(Status::from)
    } else {
        read_pid(pid_file).and_then(|pid| {
            let handle = creel::supervise::open(pid)?;
            creel::supervise::signal(handle.as_fd(), nix::libc::SIGKILL)?;
            Ok(())
        })
    };
    if let Err(error) = undone {
        creel::log::warning(&format_args!("{}: {error}", container.id));
    }
}

fn settle(process: &Process, pid: i32, handle: OwnedFd, terminal: Option<OwnedFd>, io: Io) {
    let mut life = process.life();
    life.pid = pid;
    life.handle = Some(Arc::new(handle));
    life.terminal = terminal;
    life.io = io;
    if life.stdin_closed {
        life.io.stdin_kept = None;
    }
}

/// The id in a pid file, as the runtime wrote it.
fn read_pid(file: &Path) -> Result<i32> {
    let text = std::fs::read_to_string(file).doing(file.display())?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| Status::precondition(format_args!("{}: {text:?}", file.display())))
}

fn announce(shim: &Shim, asked: &CreateTaskRequest, pid: i32) {
    let mut io = TaskIO::new();
    io.stdin = asked.stdin.clone();
    io.stdout = asked.stdout.clone();
    io.stderr = asked.stderr.clone();
    io.terminal = asked.terminal;
    let mut event = TaskCreate::new();
    event.container_id = asked.id.clone();
    event.bundle = asked.bundle.clone();
    event.rootfs = asked.rootfs.clone();
    event.io = Some(io).into();
    event.checkpoint = asked.checkpoint.clone();
    event.pid = u32::try_from(pid).unwrap_or(0);
    shim.publisher.send("/tasks/create", "TaskCreate", &event);
}

/// From the creation on: a container can run out of memory as soon as it starts.
pub fn watch_memory(shim: &Arc<Shim>, container: &Arc<Container>) {
    let Ok(live) = container.runtime.container(&container.id) else {
        return; // not restored yet
    };
    let watched = Oom::watch(live.state().creel.cgroup.paths()).and_then(|oom| {
        if let Some(oom) = &oom {
            shim.watch.add(oom.source(container)?);
        }
        container.set_oom(oom);
        Ok(())
    });
    if let Err(error) = watched {
        creel::log::warning(&format_args!("{}: memory: {error}", container.id));
    }
}

/// Has the end of a process told when it comes.
pub fn watch_end(shim: &Arc<Shim>, container: &Arc<Container>, process: &Arc<Process>) {
    let life = process.life();
    if let Some(handle) = &life.handle {
        let handle = Arc::clone(handle);
        let child = Child::new(handle, life.pid, shim, container, process);
        shim.watch.add(child);
    }
}
