//! Affinity: the cpus of an exec'd process.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;
use std::collections::BTreeSet;

/// Judges `process.execCPUAffinity.final`, which is for exec'd processes only; `initial` is over by
/// the time that anything can be seen.
pub fn check(config: &Config, report: &mut Report) {
    let want = &config.process.exec_cpu_affinity.last;
    if want.is_empty() || !config.is_exec() {
        return;
    }
    let claim = "process.execCPUAffinity.final is what the process may run on";
    let status = text("/proc/self/status");
    let Some(status) = report.seen(claim, want, status) else {
        return;
    };
    let got = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    report.equal(claim, cpus(want), got.and_then(cpus));
}

/// `0-3,7` as numbers.
fn cpus(list: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::cpus;

    #[test]
    fn lists_are_sets() {
        assert_eq!(cpus("0-2, 5"), Some([0, 1, 2, 5].into()));
        assert_eq!(cpus("2,0,1,5"), cpus("0-2,5"));
        assert_eq!(cpus("x"), None);
    }
}
