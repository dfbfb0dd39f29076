//! I/O priority, as the image's ionice tells it: no file of the kernel does.
#![forbid(unsafe_code)]

use crate::applet;
use crate::config::Config;
use crate::report::Report;

/// The spec's names and ionice's.
const CLASSES: &[(&str, &str)] = &[
    ("IOPRIO_CLASS_RT", "realtime"),
    ("IOPRIO_CLASS_BE", "best-effort"),
    ("IOPRIO_CLASS_IDLE", "idle"),
];

/// Judges `process.ioPriority`.
pub fn check(config: &Config, report: &mut Report) {
    let Some(asked) = &config.process.io_priority else {
        return;
    };
    let Some((_, class)) = CLASSES.iter().find(|(name, _)| *name == asked.class) else {
        return;
    };
    let pid = std::process::id().to_string();
    if let Some(got) = applet::output("ionice", &["-p", &pid]) {
        let want = match *class {
            "idle" => "idle".to_owned(), // which has no levels
            class => format!("{class}: prio {}", asked.priority),
        };
        report.equal("process.ioPriority is that of the process", Ok(want), got);
    }
}
