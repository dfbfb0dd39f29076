//! Ids: the mappings of a new user namespace.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::{squeezed, text};
use crate::report::Report;
use oci_spec::runtime::LinuxIdMapping;

/// Judges `linux.uidMappings` and `linux.gidMappings`.
pub fn check(config: &Config, report: &mut Report) {
    if !config.creates("user") {
        return;
    }
    let linux = &config.linux;
    for (name, file, mappings) in [
        ("uidMappings", "/proc/self/uid_map", &linux.uid_mappings),
        ("gidMappings", "/proc/self/gid_map", &linux.gid_mappings),
    ] {
        let claim = format!("linux.{name} is the map of the user namespace");
        let want = lines(mappings);
        if let Some(map) = report.seen(&claim, &want, text(file)) {
            let mut got: Vec<String> = map.lines().map(squeezed).collect();
            got.sort();
            report.equal(claim, want, got);
        }
    }
}

/// The kernel sorts long maps, so order says nothing.
fn lines(mappings: &[LinuxIdMapping]) -> Vec<String> {
    let line =
        |map: &LinuxIdMapping| format!("{} {} {}", map.container_id(), map.host_id(), map.size());
    let mut lines: Vec<String> = mappings.iter().map(line).collect();
    lines.sort();
    lines
}
