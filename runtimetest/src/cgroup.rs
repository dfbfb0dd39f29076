//! Control groups: the process is in its own, and its limits are those listed.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::{squeezed, text};
use crate::limit::{self, Limit};
use crate::mountinfo::Tree;
use crate::report::Report;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where control groups are looked for.
const TOP: &str = "/sys/fs/cgroup";

/// Judges `linux.cgroupsPath`, the cgroup namespace and `linux.resources`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "the control groups can be seen";
    let file = "/proc/self/cgroup";
    let Some(table) = report.seen(claim, file, text(file)) else {
        return;
    };
    let groups: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .collect();
    place(config, &groups, report);

    let kind = Tree::read().ok().and_then(|tree| {
        let mounts: Vec<String> = tree
            .at(TOP)
            .iter()
            .map(|entry| entry.kind.clone())
            .collect();
        mounts.last().cloned()
    });
    // Without a view of them, limits are the host's to judge.
    let Some(kind) = kind else { return };
    let is_v2 = kind == "cgroup2";
    for limit in limit::listed(&config.linux.resources, is_v2) {
        let Some(path) = group(&groups, &limit.controller, is_v2) else {
            continue;
        };
        compare(&path, &limit, report);
    }
    if !is_v2 && let Some(path) = group(&groups, "devices", false) {
        devices(config, &path, report);
    }
}

fn place(config: &Config, groups: &[(&str, &str)], report: &mut Report) {
    let paths = groups
        .iter()
        .filter(|(names, _)| !names.starts_with("name="));
    if config.creates("cgroup") {
        let others: Vec<_> = paths.filter(|(_, path)| *path != "/").collect();
        let claim = "a new cgroup namespace has the container's own group as its root";
        report.equal(claim, Vec::new(), others);
    } else if config.linux.cgroups_path.starts_with('/') {
        // A hybrid host's second tree limits nothing.
        let limiting: Vec<_> = paths
            .filter(|(names, _)| !names.is_empty() || groups.len() == 1)
            .collect();
        let own = |path: &str| path.ends_with(&config.linux.cgroups_path);
        let others: Vec<_> = limiting.iter().filter(|(_, path)| !own(path)).collect();
        let claim = "linux.cgroupsPath is the process's group in every hierarchy";
        report.equal(claim, Vec::new(), others);
    }
}

/// The directory of the process's own group, as far as it is mounted.
fn group(groups: &[(&str, &str)], controller: &str, is_v2: bool) -> Option<PathBuf> {
    let of = |names: &str| names.split(',').any(|name| name == controller);
    let (_, path) = groups
        .iter()
        .find(|(names, _)| if is_v2 { names.is_empty() } else { of(names) })?;
    let base = if is_v2 {
        PathBuf::from(TOP)
    } else {
        Path::new(TOP).join(controller)
    };
    // The view may start at the group itself or at the top of the tree.
    let inner = base.join(path.trim_start_matches('/'));
    [inner, base].into_iter().find(|path| path.is_dir())
}

fn compare(group: &Path, limit: &Limit, report: &mut Report) {
    let file = group.join(&limit.file);
    if !file.exists() {
        return; // the kernel was built without it
    }
    let claim = format!("linux.resources: {} limits the group", limit.rule);
    let wants: Vec<String> = limit.wants.iter().map(|want| squeezed(want)).collect();
    if let Some(got) = report.seen(&claim, &wants, text(&file)) {
        let got = squeezed(&got);
        let got = match &limit.key {
            Some(key) => keyed(&got, key).unwrap_or_default(),
            None => got,
        };
        let ok = wants.contains(&got);
        report.holds(
            claim,
            format!("{}: {}", limit.file, wants.join(" or ")),
            got,
            ok,
        );
    }
}

/// The value after a device number or a name in a file of many.
fn keyed(text: &str, key: &str) -> Option<String> {
    let mut words = text.split(' ').skip_while(|word| *word != key);
    words.next()?;
    words.next().map(str::to_owned)
}

/// cgroup v1 tells which devices are allowed; v2 does not.
fn devices(config: &Config, group: &Path, report: &mut Report) {
    let Some(rules) = config
        .linux
        .resources
        .pointer("/devices")
        .and_then(Value::as_array)
    else {
        return;
    };
    let Ok(list) = text(group.join("devices.list")) else {
        return;
    };
    let text = |rule: &Value, key: &str| {
        rule.get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let Some(all) = rules.iter().rposition(|rule| {
        matches!(text(rule, "type").as_str(), "" | "a")
            && rule.get("major").is_none_or(Value::is_null)
    }) else {
        return;
    };
    let allows = |rule: &Value| rule.get("allow").and_then(Value::as_bool).unwrap_or(false);
    let open = list.lines().any(|line| line == "a *:* rwm");
    let want = rules.get(all).is_some_and(allows);
    let claim = "linux.resources.devices: a rule for all devices opens or closes the group";
    report.equal(claim, want, open);
    for rule in rules
        .iter()
        .skip(all + 1)
        .filter(|rule| allows(rule) && !open)
    {
        let number = |key: &str| {
            let number = rule.get(key).and_then(Value::as_i64).filter(|n| *n >= 0);
            number.map_or("*".to_owned(), |n| n.to_string())
        };
        let name = format!(
            "{} {}:{}",
            text(rule, "type"),
            number("major"),
            number("minor")
        );
        let access = text(rule, "access");
        let found = list
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '));
        let ok = found.is_some_and(|found| access.chars().all(|c| found.contains(c)));
        report.holds(
            format!("linux.resources.devices: {name} is allowed"),
            access,
            found,
            ok,
        );
    }
}
