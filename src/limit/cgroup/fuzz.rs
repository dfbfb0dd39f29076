//! Fuzzing: cgroupsPath, the limits, and what procfs says of cgroups.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::host::{Hierarchy, Mode, Own, fixed};
use super::path::Wanted;
use super::resources::Limits;
use super::*;
use crate::fuzz::same;

pub use super::systemd::fuzz::annotations;

/// Decides on each kind of host, without systemd and with it.
pub(crate) fn on_each_host(decide: impl Fn(bool)) {
    for (mode, systemd) in [(Mode::V2, false), (Mode::V2, true), (Mode::V1, false)] {
        fixed::on(mode, || decide(systemd));
    }
}

/// cgroupsPath, for cgroupfs and for systemd; the lines after it are /proc/self/cgroup, and a mount's root.
pub fn cgroups_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (asked, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (root, own) = rest.split_once('\n').unwrap_or((rest, ""));
    super::systemd::fuzz::name(asked);
    let Ok(wanted) = Wanted::parse(asked, "id") else {
        return;
    };
    if rest.contains('\0') {
        return; // no text of the kernel's
    }
    let own = Own::of(own);
    let hierarchy = Hierarchy {
        controllers: "cpu,cpuacct".into(),
        mount: "/sys/fs/cgroup/cpu,cpuacct".into(),
        root: root.into(),
    };
    let v2 = wanted.on_v2(Some(&own)).ok();
    if let Some(path) = &v2 {
        stays_below(host::ROOT, path);
    }
    let v1 = wanted.on_v1(&hierarchy, Some(&own));
    if let Some(path) = &v1 {
        stays_below(&hierarchy.mount, path);
    }
    if !wanted.is_relative() {
        let again = Wanted::parse(v2.unwrap().strip_prefix(host::ROOT).unwrap(), "id");
        assert_eq!(again.as_ref(), Ok(&wanted), "cleaned twice is cleaned once");
    }
}

/// Whether `path` is a proper descendant of `top`, in plain steps.
fn stays_below(top: &str, path: &str) {
    let below = path
        .strip_prefix(top)
        .and_then(|rest| rest.strip_prefix('/'));
    let below = below.expect("a path below the mount point");
    let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
    assert!(!below.split('/').any(odd), "{path:?}");
}

/// Limits, as `update -r` and config.json ask for them.
pub(crate) fn limits(resources: &Resources) {
    on_each_host(|systemd| {
        let plan = || {
            let annotations = systemd.then(BTreeMap::new);
            CgroupPlan::new("", "id", Some(resources), annotations.as_ref(), false)
        };
        same(&plan(), &plan());
        let Ok(limits) = Limits::plan(Mode::detect().unwrap(), resources) else {
            return;
        };
        for write in &limits.writes {
            let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(['/', '\0']);
            assert!(!odd(&write.file), "{write:?} leads elsewhere");
        }
        same(
            &CgroupPlan::update(resources),
            &CgroupPlan::update(resources),
        );
        super::systemd::fuzz::of(&limits.writes);
    });
}

/// Files of procfs and of cgroups, as the kernel writes them.
pub fn procfs(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found = host::parse_mountinfo(&text);
    let names: std::collections::BTreeSet<_> = found.iter().map(|one| &one.controllers).collect();
    assert_eq!(names.len(), found.len(), "a hierarchy twice");
    let own = Own::of(&text);
    for one in &found {
        drop(own.place(one));
    }
    stats::text::fuzz(&text);
}
