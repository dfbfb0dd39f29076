//! Memory policy: where the process's pages come from.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// The spec's names and those of /proc/self/numa_maps.
const MODES: &[(&str, &str)] = &[
    ("MPOL_DEFAULT", "default"),
    ("MPOL_PREFERRED", "prefer"),
    ("MPOL_BIND", "bind"),
    ("MPOL_INTERLEAVE", "interleave"),
    ("MPOL_LOCAL", "local"),
    ("MPOL_PREFERRED_MANY", "prefer (many)"),
    ("MPOL_WEIGHTED_INTERLEAVE", "weighted interleave"),
];

/// Judges `linux.memoryPolicy`.
pub fn check(config: &Config, report: &mut Report) {
    let Some(asked) = &config.linux.memory_policy else {
        return;
    };
    let claim = "linux.memoryPolicy is that of the process";
    let mode = MODES.iter().find(|(name, _)| *name == asked.mode);
    let want = mode.map_or(asked.mode.clone(), |(_, shown)| (*shown).to_owned());
    let Some(table) = report.seen(claim, &want, text("/proc/self/numa_maps")) else {
        return;
    };
    let policy = table.lines().next().and_then(policy).unwrap_or_default();
    let (got, nodes) = policy.split_once(':').unwrap_or((policy, ""));
    let (got, flags) = got.split_once('=').unwrap_or((got, ""));
    report.equal(claim, want.as_str(), got);
    if !asked.nodes.is_empty() && asked.mode != "MPOL_DEFAULT" {
        let claim = "linux.memoryPolicy.nodes are those of the policy";
        report.equal(claim, spread(&asked.nodes), spread(nodes));
    }
    for (flag, shown) in [
        ("MPOL_F_STATIC_NODES", "static"),
        ("MPOL_F_RELATIVE_NODES", "relative"),
    ] {
        if asked.flags.iter().any(|name| name == flag) {
            let claim = format!("linux.memoryPolicy.flags: {flag} is set");
            report.holds(claim, shown, flags, flags.contains(shown));
        }
    }
}

/// The second column, which may have a blank in it.
fn policy(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let ends = [
        " file=", " heap", " stack", " anon=", " mapped=", " huge", " dirty=", " N",
    ];
    let end = ends
        .iter()
        .filter_map(|end| rest.find(end))
        .min()
        .unwrap_or(rest.len());
    rest.get(..end)
}

/// A list of node numbers with its ranges written out.
fn spread(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    let mut nodes: Vec<u32> = list.split(',').filter_map(range).flatten().collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_from_the_map() {
        let line = "7f00 bind=static:0-1 file=/bin/x mapped=3 N0=3";
        assert_eq!(policy(line), Some("bind=static:0-1"));
        assert_eq!(
            policy("7f00 prefer (many):0 anon=1"),
            Some("prefer (many):0")
        );
        assert_eq!(policy("7f00 default"), Some("default"));
    }

    #[test]
    fn node_lists_are_sets() {
        assert_eq!(spread("0-2, 5"), [0, 1, 2, 5]);
        assert_eq!(spread("5,0-2"), spread("0,1,2,5"));
    }
}
