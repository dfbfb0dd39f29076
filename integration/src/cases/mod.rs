//! Every promise, in files named after the runtime's parts.
#![forbid(unsafe_code)]

use crate::case::{Case, Result};

mod all_fields;
mod apparmor;
mod attack;
mod caps;
mod checkpoint;
mod checkpoint_refused;
mod churn;
mod cli;
mod console;
mod delegated;
mod devices;
mod docker;
mod engine_containerd;
mod engine_cri;
mod engine_docker;
mod engine_podman;
mod engine_shim;
mod engine_shim_faults;
mod errors;
mod events;
mod exec;
mod exec_process;
mod fault;
mod fds;
mod features;
mod golden;
mod hide;
mod hooks;
mod idmap;
mod ids;
mod kill;
mod leaks;
mod lifecycle;
mod limits;
mod list;
mod mounts;
mod names;
mod namespaces;
mod netdevices;
mod notify;
mod options;
mod process;
mod propagation;
mod ps;
mod rlimits;
mod rootfs;
mod rootless;
mod run;
mod runtimetest;
pub mod sd_notify;
mod seccomp;
mod shim;
mod spec;
mod subtree;
mod systemd;
mod terminal;
mod unified;
mod update;
mod user;

/// All cases, in the order they run.
pub fn all() -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for part in [
        cli::cases(),
        features::cases(),
        lifecycle::cases(),
        run::cases(),
        kill::cases(),
        list::cases(),
        namespaces::cases(),
        names::cases(),
        systemd::cases(),
        netdevices::cases(),
        ids::cases(),
        idmap::cases(),
        rootfs::cases(),
        mounts::cases(),
        options::cases(),
        propagation::cases(),
        devices::cases(),
        hide::cases(),
        process::cases(),
        user::cases(),
        rlimits::cases(),
        caps::cases(),
        apparmor::cases(),
        seccomp::cases(),
        attack::cases(),
        notify::cases(),
        console::cases(),
        terminal::cases(),
        fds::cases(),
        leaks::cases(),
        fault::cases(),
        hooks::cases(),
        spec::cases(),
        sd_notify::cases(),
        rootless::cases(),
        limits::cases(),
        update::cases(),
        events::cases(),
        ps::cases(),
        checkpoint::cases(),
        checkpoint_refused::cases(),
        unified::cases(),
        subtree::cases(),
        delegated::cases(),
        exec::cases(),
        exec_process::cases(),
        docker::cases(),
        shim::cases(),
        engine_podman::cases(),
        engine_containerd::cases(),
        engine_shim::cases(),
        engine_shim_faults::cases(),
        engine_docker::cases(),
        engine_cri::cases(),
        golden::cases()?,
        errors::cases()?,
        runtimetest::cases()?,
        all_fields::cases(),
        churn::cases(),
    ] {
        all.extend(part);
    }
    Ok(all)
}
