//! Working directory: where the program starts, inside the container.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::resolved;
use crate::report::Report;

/// Judges `process.cwd`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "process.cwd is the working directory";
    let got = std::env::current_dir().map(|dir| dir.to_string_lossy().into_owned());
    report.equal(
        claim,
        Ok(resolved(&config.process.cwd)),
        got.map_err(|error| error.to_string()),
    );
    // A directory outside the root reads "(unreachable)" (CVE-2024-21626).
    let link = std::fs::read_link("/proc/self/cwd").map(|dir| dir.starts_with("/"));
    let link = link.map_err(|error| error.to_string());
    report.equal("process.cwd is within the container's root", Ok(true), link);
}
