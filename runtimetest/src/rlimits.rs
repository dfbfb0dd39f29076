//! Resource limits: soft and hard, as listed.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// The kernel's words for the limits in `/proc/self/limits`.
const NAMES: &[(&str, &str)] = &[
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_STACK", "Max stack size"),
];

/// Judges `process.rlimits`.
pub fn check(config: &Config, report: &mut Report) {
    let table = text("/proc/self/limits");
    for limit in &config.process.rlimits {
        let claim = format!(
            "process.rlimits: {} has the soft and hard limit listed",
            limit.kind
        );
        let want = (limit.soft, limit.hard);
        let got = table.clone().and_then(|table| {
            found(&table, &limit.kind).ok_or_else(|| format!("no {} here", limit.kind))
        });
        report.equal(claim, Ok(want), got);
    }
}

fn found(table: &str, kind: &str) -> Option<(u64, u64)> {
    let (_, name) = NAMES.iter().find(|(rlimit, _)| *rlimit == kind)?;
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_by_their_words() {
        let table = "Limit  Soft Limit  Hard Limit  Units\n\
                     Max nice priority         0                    5\n\
                     Max cpu time              10                   unlimited            seconds";
        assert_eq!(found(table, "RLIMIT_CPU"), Some((10, u64::MAX)));
        assert_eq!(found(table, "RLIMIT_NICE"), Some((0, 5)));
        assert_eq!(found(table, "RLIMIT_OF_TOMORROW"), None);
    }
}
