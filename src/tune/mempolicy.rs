//! `linux.memoryPolicy` (config-linux.md, set_mempolicy(2)).
#![forbid(unsafe_code)]

use super::list;
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::sched::set_memory_policy;

/// A NUMA memory policy in the kernel's form.
#[derive(Debug)]
pub(crate) struct MemoryPolicy {
    mode: i32,
    nodes: Vec<u64>,
}

/// The modes of the spec; the names of set_mempolicy(2).
pub(crate) const MODES: [(&str, i32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// The mode flags of the spec.
pub(crate) const FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

impl MemoryPolicy {
    pub(crate) fn plan(config: &Config) -> Result<Option<Self>> {
        let Some(asked) = &config.linux.memory_policy else {
            return Ok(None);
        };
        let wrong = |field: &str, why: String| {
            Err(Error::rule(Doing::CheckConfig, why).field(format!("linux.memoryPolicy.{field}")))
        };
        let Some((_, mode)) = MODES.iter().find(|(name, _)| *name == asked.mode) else {
            return wrong(
                "mode",
                format!("invalid memory policy mode {:?}", asked.mode),
            );
        };
        let mut flags = 0;
        for (index, flag) in asked.flags.iter().enumerate() {
            match FLAGS.iter().find(|(name, _)| name == flag) {
                Some((_, bit)) => flags |= bit,
                None => {
                    return wrong(
                        &format!("flags[{index}]"),
                        format!("invalid memory policy flag {flag:?}"),
                    );
                }
            }
        }
        let Some(nodes) = parse(&asked.nodes) else {
            return wrong(
                "nodes",
                format!("invalid memory policy node list {:?}", asked.nodes),
            );
        };
        let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
        if matches!(mode, 0 | 4) && (count > 0 || flags != 0) {
            let why = "invalid memory policy: mode requires 0 nodes";
            return wrong("nodes", format!("{why} but got {count}"));
        }
        if !matches!(mode, 0 | 1 | 4) && count == 0 {
            return wrong(
                "nodes",
                "invalid memory policy: mode requires at least 1 node".to_owned(),
            );
        }
        let nodes = if count == 0 { Vec::new() } else { nodes };
        Ok(Some(Self {
            mode: mode | flags,
            nodes,
        }))
    }

    pub(crate) fn adopt(&self) -> Result<()> {
        set_memory_policy(self.mode, &self.nodes)
            .doing(Doing::SetMemoryPolicy)
            .field("linux.memoryPolicy")
    }
}

/// `0-3,7` as a bit mask in words; no nodes are a list, too.
fn parse(text: &str) -> Option<Vec<u64>> {
    list::parse(text.split(',').filter(|part| !part.trim().is_empty()), 1024)
}
