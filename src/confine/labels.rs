//! AppArmor and SELinux: labels that take effect at execve (config.md, config-linux.md).
//!
//! Asked for on a host whose kernel lacks the module, a label is an error, never ignored: the
//! container would run unconfined.
#![forbid(unsafe_code)]

use crate::bundle::config::{Config, Process};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::Host;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::os::fd::BorrowedFd;

/// The labels of one process; empty means none asked.
#[derive(Debug)]
pub(crate) struct Labels {
    apparmor: String,
    selinux: String,
}

impl Labels {
    pub(crate) fn plan(process: &Process, host: &Host) -> Result<Self> {
        if !process.apparmor_profile.is_empty() && !host.has_apparmor() {
            return Err(Error::rule(
                Doing::CheckConfig,
                "apparmor profile is specified, but AppArmor is not enabled on this host",
            )
            .on(&process.apparmor_profile)
            .field("process.apparmorProfile"));
        }
        if !process.selinux_label.is_empty() && !host.has_selinux() {
            return Err(Error::rule(
                Doing::CheckConfig,
                "selinux label is specified in config, but selinux is disabled or not supported",
            )
            .on(&process.selinux_label)
            .field("process.selinuxLabel"));
        }
        Ok(Self {
            apparmor: process.apparmor_profile.clone(),
            selinux: process.selinux_label.clone(),
        })
    }

    /// Refuses `linux.mountLabel` where it would be ignored; the label itself is a mount option.
    pub(crate) fn check_mount_label(config: &Config, host: &Host) -> Result<()> {
        if config.linux.mount_label.is_empty() || host.has_selinux() {
            return Ok(());
        }
        Err(Error::rule(
            Doing::CheckConfig,
            "a mount label is given, but selinux is disabled or not supported",
        )
        .field("linux.mountLabel"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.apparmor.is_empty() && self.selinux.is_empty()
    }

    /// Asks the kernel to change label at the next execve, through `proc`, a procfs that nobody
    /// can have mounted anything on (CVE-2019-16884, CVE-2025-52881).
    pub(crate) fn set_on_exec(&self, proc: BorrowedFd<'_>) -> Result<()> {
        if !self.apparmor.is_empty() {
            let text = format!("exec {}", self.apparmor);
            write(proc, "self/attr/apparmor/exec", &text)
                .or_else(|_| write(proc, "self/attr/exec", &text))
                .doing(Doing::SetAppArmor)
                .on(&self.apparmor)
                .field("process.apparmorProfile")
                .hint("is the profile loaded? see apparmor_parser(8)")?;
        }
        if !self.selinux.is_empty() {
            write(proc, "self/attr/exec", &self.selinux)
                .doing(Doing::SetSelinux)
                .on(&self.selinux)
                .field("process.selinuxLabel")?;
        }
        Ok(())
    }
}

fn write(proc: BorrowedFd<'_>, path: &str, text: &str) -> nix::Result<()> {
    // `self` is a symlink of procfs itself; magic links and other filesystems stay out.
    let how = OpenHow::new()
        .flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
    nix::unistd::write(openat2(proc, path, how)?, text.as_bytes()).map(drop)
}
