//! The container's cgroup: one layer over v2, v1 and hybrid hosts.
//!
//! Skeleton of the interface; the bodies are to come.
#![forbid(unsafe_code)]

use crate::bundle::config::Resources;
use crate::error::Result;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

/// What is known before anything is touched: where the cgroup goes and what is written into it.
#[derive(Debug)]
pub(crate) struct CgroupPlan {}

/// How a new process gets into the cgroup.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    /// v2: clone3 with CLONE_INTO_CGROUP and this directory.
    CloneInto(BorrowedFd<'a>),
    /// v1, hybrid: [`Cgroup::place`] after the clone.
    MovePid,
    /// No cgroup is managed (rootless without delegation): nothing to do.
    Stay,
}

/// What state.json keeps of the cgroup, enough to find it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {}

/// A cgroup that exists, opened.
#[derive(Debug)]
pub(crate) struct Cgroup {}

#[allow(clippy::unused_self, dead_code, unused_variables, missing_docs)]
impl CgroupPlan {
    /// Pure apart from host facts: parses cgroupsPath, converts the limits, checks every rule.
    pub(crate) fn new(
        cgroups_path: &str,
        id: &str,
        resources: Option<&Resources>,
        systemd: bool,
        rootless: bool,
    ) -> Result<Self> {
        Ok(Self {})
    }
    /// Makes the directories, refusing a frozen or populated cgroup. Undoes itself on failure.
    pub(crate) fn make(&self) -> Result<Cgroup> {
        Ok(Cgroup {})
    }
}

#[allow(clippy::unused_self, dead_code, unused_variables, missing_docs)]
impl Cgroup {
    pub(crate) fn open(record: &Record) -> Result<Self> {
        Ok(Self {})
    }
    pub(crate) fn record(&self) -> Record {
        Record {}
    }
    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry::Stay
    }
    /// Moves a process in (v1 in every hierarchy, v2 as fallback).
    pub(crate) fn place(&self, pid: i32) -> Result<()> {
        Ok(())
    }
    /// Writes limits and device rules.
    pub(crate) fn apply(&self, plan: &CgroupPlan) -> Result<()> {
        Ok(())
    }
    pub(crate) fn freeze(&self) -> Result<()> {
        Ok(())
    }
    pub(crate) fn thaw(&self) -> Result<()> {
        Ok(())
    }
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        Ok(false)
    }
    /// Every process in the cgroup and below it, in this process's pid namespace.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        Ok(Vec::new())
    }
    /// Signals every process in the cgroup and below it (SIGKILL by cgroup.kill where there is one).
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(())
    }
    /// Kills what is left, waits until empty, removes the directories bottom-up. Absent is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        Ok(())
    }
    /// Whether the kernel's OOM killer has struck in here.
    pub(crate) fn view(&self, namespaced: bool) -> crate::rootfs::cgroupfs::View {
        crate::rootfs::cgroupfs::View {
            namespaced,
            ..Default::default()
        }
    }
    pub(crate) fn oom_killed(&self) -> bool {
        false
    }
}

impl Cgroup {
    /// stub
    pub(crate) fn tasks(&self) -> Result<Vec<std::os::fd::OwnedFd>> {
        Ok(Vec::new())
    }
}
/// stub
pub(crate) fn enter(_tasks: &[std::os::fd::OwnedFd]) -> Result<()> {
    Ok(())
}
