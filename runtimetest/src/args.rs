//! Arguments: the command line the program was given, untouched.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;

/// Judges `process.args`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "process.args is the command line";
    let bytes = std::fs::read("/proc/self/cmdline");
    let Some(bytes) = report.seen(claim, &config.process.args, bytes) else {
        return;
    };
    let line = String::from_utf8_lossy(&bytes);
    // Each argument ends with a NUL; an empty one is an argument too.
    let got: Vec<String> = line.split_terminator('\0').map(str::to_owned).collect();
    report.equal(claim, config.process.args.clone(), got);
}
