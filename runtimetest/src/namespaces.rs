//! Namespaces: which the process shares with the host, as far as it can tell.
#![forbid(unsafe_code)]

use crate::asked::namespace;
use crate::config::Config;
use crate::report::Report;
use std::fs;

/// The spec's names and the kernel's.
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// Judges `linux.namespaces`; comparing with the host's needs `--host-ns`.
pub fn check(config: &Config, report: &mut Report) {
    if config.creates("pid") && !config.is_exec() {
        let claim = "linux.namespaces: the container's process is pid 1 of a new pid namespace";
        report.equal(claim, 1, std::process::id());
    }
    for (kind, link) in KINDS {
        let listed = config.linux.namespaces.iter().find(|ns| ns.kind == *kind);
        let Some((_, host)) = config.asked.host_ns.iter().find(|(name, _)| name == link) else {
            continue;
        };
        let path = format!("/proc/self/ns/{link}");
        let claim = format!("linux.namespaces: the {kind} namespace can be seen");
        let own = fs::read_link(&path).map(|to| to.to_string_lossy().into_owned());
        let own = own.map_err(|error| error.to_string());
        let own = own.and_then(|own| namespace(&own).ok_or(own));
        let Some((_, own)) = report.seen(claim, &path, own) else {
            continue;
        };
        match listed {
            // A path may lead to any namespace, the host's included.
            Some(ns) if !ns.path.is_empty() => {}
            Some(_) => {
                let claim = format!("linux.namespaces: a new {kind} namespace is not the host's");
                report.holds(claim, format!("not {host}"), own, own != *host);
            }
            None => {
                let claim = format!(
                    "linux.namespaces: a {kind} namespace that is not listed is the host's"
                );
                report.equal(claim, *host, own);
            }
        }
    }
}
