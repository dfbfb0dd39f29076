//! Fuzzing: containerd's shim is a program and no library, so its modules are taken in here.
#![forbid(unsafe_code)]
#![allow(dead_code)] // nothing calls its main

#[path = "../../shim/src"]
mod shim {
    pub mod bootstrap;
    pub mod bury;
    pub mod change;
    pub mod console;
    pub mod create;
    pub mod delete;
    pub mod digest;
    pub mod events;
    pub mod exec;
    pub mod fuzz;
    pub mod info;
    pub mod io;
    pub mod logger;
    pub mod metrics;
    pub mod mounts;
    pub mod oom;
    pub mod options;
    pub mod process;
    pub mod pump;
    pub mod reap;
    pub mod runtime;
    pub mod serve;
    pub mod shim;
    pub mod start;
    pub mod status;
    pub mod task;
    pub mod watch;
    pub mod wire;
    pub mod work;
}

pub use shim::fuzz::*;
use shim::*;

/// As in the shim.
const NAME: &str = "io.containerd.creel.v2";
