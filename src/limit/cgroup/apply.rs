//! Limits and device rules, from the plan into the kernel's files.
#![forbid(unsafe_code)]

use super::dir::Dir;
use super::resources::{Limits, Mercy, Write};
use super::{Cgroup, CgroupPlan, Spot, devices, is_refusal, missing, systemd, unjoined};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::in_user_namespace;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::write;
use std::borrow::Cow;
use std::os::fd::OwnedFd;

impl Cgroup {
    /// Writes the limits.
    pub(crate) fn apply_limits(&self, plan: &CgroupPlan) -> Result<()> {
        self.check_usage(&plan.limits)?;
        let there = matches!(plan.spot, Spot::There);
        let mut writes = Cow::Borrowed(&*plan.limits.writes);
        let unit = match self {
            Self::Systemd(unit) if there => {
                systemd::round(writes.to_mut());
                Some(unit)
            }
            _ => None,
        };
        let mut before = self.files().write_limits(&writes, there)?;
        if let Some(unit) = unit {
            // Last: what the kernel refuses must not stay with systemd, which writes files itself.
            unit.update(&writes)?;
        }
        before.0.clear();
        Ok(())
    }

    fn write_limits<'a>(&'a self, writes: &'a [Write], there: bool) -> Result<Before<'a>> {
        let written = matches!(self, Self::V1(groups) if groups.fresh) && !there;
        let mut later = Vec::new();
        // A container that lives gets all of an update or nothing; a new one is not kept anyway.
        let mut before = Before::default();
        for write in writes {
            if written && Limits::is_early(write) {
                continue;
            }
            let dir = self.dir(&write.controller)?;
            let dir = dir.ok_or_else(|| unjoined(write, "the cgroup is not there"))?;
            if there {
                before.note(dir, write);
            }
            write_one(dir, write, &mut later)?;
        }
        for write in later {
            if let Some(dir) = self.dir(&write.controller)? {
                write_again(dir, write)?;
            }
        }
        Ok(before)
    }

    /// Puts the device rules in force. Not while init makes its devices: on v1 rules are replaced
    /// by denying everything first.
    pub(crate) fn apply_rules(&self, plan: &CgroupPlan) -> Result<()> {
        let Some(policy) = &plan.devices else {
            return Ok(());
        };
        match self.apply_devices(policy) {
            // Device files are out of reach for such users, and the rules too.
            Err(error) if plan.rootless || (is_refusal(&error) && in_user_namespace()) => Ok(()),
            result => result.field("linux.resources.devices"),
        }
    }

    /// Lets the container part its cgroup, if it is to.
    pub(crate) fn give(&self, plan: &CgroupPlan) -> Result<()> {
        let cgroup = match self {
            Self::Systemd(unit) => unit.files(),
            cgroup => cgroup,
        };
        let (Some(owner), Self::V2(group)) = (plan.owner, cgroup) else {
            return Ok(());
        };
        let Some(dir) = &group.dir else {
            return Ok(());
        };
        match super::owner::give(dir, owner) {
            // Then it is what it would be without.
            Err(error) if plan.rootless && is_refusal(&error) => Ok(()),
            result => result,
        }
    }

    fn apply_devices(&self, policy: &devices::Policy) -> Result<()> {
        match self {
            Self::Systemd(unit) => unit.files().apply_devices(policy),
            // A new cgroup has no filter, which allows everything already.
            Self::V2(group) if group.fresh && policy.allows_all() => Ok(()),
            Self::V2(group) => {
                let gone = || Error::os(Doing::LoadDeviceFilter, Errno::ENOENT).on(&group.path);
                let dir = group.dir.as_ref().ok_or_else(gone)?;
                devices::attach(dir.fd(), policy, group.fresh).on(&group.path)
            }
            Self::V1(_) => {
                let Some(dir) = self.dir("devices")? else {
                    return Err(Error::rule(Doing::WriteCgroup, "no devices cgroup"));
                };
                let mut opened: Option<(&str, OwnedFd)> = None;
                for (name, line) in policy.lines()? {
                    let subject = format_args!("{}/{name} ({line:?})", dir.path());
                    let file = match opened.take() {
                        Some((known, file)) if known == name => file,
                        _ => dir
                            .file(name, OFlag::O_WRONLY)
                            .doing(Doing::WriteCgroup)
                            .on(subject)?,
                    };
                    write(&file, line.as_bytes())
                        .doing(Doing::WriteCgroup)
                        .on(subject)?;
                    opened = Some((name, file));
                }
                Ok(())
            }
            Self::Unmanaged => Ok(()),
        }
    }

    /// `checkBeforeUpdate`: refuses a limit below what is used now.
    fn check_usage(&self, limits: &Limits) -> Result<()> {
        let (Some((limit, swap)), Some(dir)) = (limits.below, self.dir("memory")?) else {
            return Ok(());
        };
        let Some(usage) = dir.number("memory.current", "") else {
            return Ok(()); // as far as it can be known
        };
        for (name, value, field) in [("memory+swap", swap, "swap"), ("memory", limit, "limit")] {
            if value > 0 && u64::try_from(value).is_ok_and(|value| value <= usage) {
                let why = format!("rejecting {name} limit {value} <= usage {usage}");
                let field = format_args!("linux.resources.memory.{field}");
                return Err(Error::rule(Doing::WriteCgroup, why)
                    .field(field)
                    .on(dir.path()));
            }
        }
        Ok(())
    }
}

/// The values of an update's files before it: dropped, they are in force again, newest first.
#[derive(Default)]
struct Before<'a>(Vec<(&'a Dir, &'a str, String)>);

impl<'a> Before<'a> {
    /// Files with a line per device cannot be written back in one piece, and are left out.
    fn note(&mut self, dir: &'a Dir, write: &'a Write) {
        if let Ok(text) = dir.read(&write.file)
            && text.lines().count() == 1
        {
            self.0.push((dir, &write.file, text));
        }
    }
}

impl Drop for Before<'_> {
    fn drop(&mut self) {
        for (dir, file, text) in self.0.iter().rev() {
            // The failure that led here is the one to tell.
            dir.write(file, text.trim_end()).unwrap_or_default();
        }
    }
}

/// Writes one value; what the kernel may take only after others goes to `later`.
pub(super) fn write_one<'a>(dir: &Dir, write: &'a Write, later: &mut Vec<&'a Write>) -> Result<()> {
    match (dir.write(&write.file, &write.value), &write.mercy) {
        (Err(Errno::ENOENT), Mercy::Absent | Mercy::LaterOrAbsent) => Ok(()),
        (Err(Errno::ENOENT), Mercy::Or(file, value)) => dir
            .write(file, value)
            .map_err(|errno| refused(dir, write, errno)),
        (Err(Errno::EINVAL), Mercy::Later | Mercy::LaterOrAbsent) => {
            later.push(write);
            Ok(())
        }
        (Ok(()), Mercy::ReadBack) => {
            let got = dir.number(&write.file, "");
            match (got, write.value.parse::<u64>().ok()) {
                (Some(got), Some(wanted)) if got != wanted => {
                    let bound = if wanted > got { "maximum" } else { "minimum" };
                    Err(missing(
                        write,
                        &format!("the {bound} allowed cpu-shares is {got}"),
                    ))
                }
                _ => Ok(()),
            }
        }
        (result, _) => result.map_err(|errno| refused(dir, write, errno)),
    }
}

/// Writes what had to wait.
pub(super) fn write_again(dir: &Dir, write: &Write) -> Result<()> {
    dir.write(&write.file, &write.value)
        .map_err(|errno| refused(dir, write, errno))
}

/// The error of a value that the kernel did not take.
fn refused(dir: &Dir, write: &Write, errno: Errno) -> Error {
    if errno == Errno::EBUSY && write.file == "memory.limit_in_bytes" {
        let number = |name| dir.number(name, "").unwrap_or(0);
        let (usage, peak) = (
            number("memory.usage_in_bytes"),
            number("memory.max_usage_in_bytes"),
        );
        let limit = &write.value;
        let why = format!(
            "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
        );
        return missing(write, &why);
    }
    if errno == Errno::ENOENT {
        let controllers = dir.read("cgroup.controllers");
        let has = |all: String| all.split_whitespace().any(|one| *one == *write.controller);
        if controllers.is_ok_and(|all| !has(all)) && write.controller != "cgroup" {
            return missing(
                write,
                &format!("controller {:?} not available", write.controller),
            );
        }
    }
    Error::os(Doing::WriteCgroup, errno)
        .on(format_args!(
            "{}/{} ({:?})",
            dir.path(),
            write.file,
            write.value
        ))
        .field(format_args!("linux.resources.{}", write.field))
}
