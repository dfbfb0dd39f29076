//! Processes: a new pid namespace holds the container's process and nothing left over.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;
use std::fs;

/// Judges who else is here.
pub fn check(config: &Config, report: &mut Report) {
    if !config.creates("pid") || config.is_exec() {
        return;
    }
    let claim = "a new pid namespace has no other process, not even a zombie";
    let Some(entries) = report.seen(claim, "only us", fs::read_dir("/proc")) else {
        return;
    };
    let own = std::process::id();
    let others: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .map(|pid| text(format!("/proc/{pid}/stat")).unwrap_or_else(|_| pid.to_string()))
        .collect();
    report.equal(claim, Vec::new(), others);
    let claim = "the process is the only thread of its own";
    let threads = crate::kernel::status().map(|status| status.threads);
    report.equal(claim, Ok(1), threads);
}
