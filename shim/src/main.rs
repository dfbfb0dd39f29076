//! containerd-shim-creel-v2: stays with containers, so that containerd need not.
//!
//! containerd runs `start` for a container (or a pod: see `bootstrap`), which leaves one process
//! serving the task service at a socket (`serve`, `shim`, `task`). That one has creel make
//! containers and processes in them (`create`, `start`, `exec`, `runtime`), passes their bytes on
//! (`io`, `pump`, `console`, `logger`), and tells how they ended (`reap`, `process`, `events`). One
//! thread waits for everything (`watch`), and is kept to that (`jail`); what takes time is done by
//! others (`work`).
#![forbid(unsafe_code)]

mod bootstrap;
mod bury;
mod change;
mod console;
mod create;
mod delete;
mod digest;
mod events;
mod exec;
#[cfg(test)]
mod fuzz;
mod info;
mod io;
mod jail;
mod logger;
mod metrics;
mod mounts;
mod oom;
mod options;
mod process;
mod pump;
mod reap;
mod runtime;
mod serve;
mod shim;
mod start;
mod status;
mod task;
mod watch;
mod wire;
mod work;

use bootstrap::Words;
use status::{Result, Status};
use std::ffi::OsStr;
use std::process::ExitCode;

/// What containerd calls this runtime.
pub const NAME: &str = "io.containerd.creel.v2";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows it as the reason that `start` failed; a success says nothing here.
            eprintln!("containerd-shim-creel-v2: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = std::env::args_os().skip(1).peekable();
    let role = args.peek().map(|arg| arg.as_os_str());
    if role == Some(OsStr::new(logger::ROLE)) {
        return logger::become_logger(args.skip(1));
    }
    if role == Some(OsStr::new(mounts::ROLE)) {
        return mounts::mount_here(args.skip(1));
    }
    let words = Words::parse(args)?;
    if words.version {
        println!("{NAME}:\n  Version:  {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    if words.info {
        return info::info();
    }
    if words.namespace.is_empty() {
        return Err(Status::invalid("shim namespace cannot be empty"));
    }
    match words.action.as_str() {
        "start" => bootstrap::start(&words),
        "delete" => bury::bury(&words),
        "" => serve::serve(&words),
        other => Err(Status::invalid(format_args!("unknown action {other}"))),
    }
}
