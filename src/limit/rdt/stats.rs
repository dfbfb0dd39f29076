//! What resctrl measures of a container: the `intel_rdt` of `events`, in runc's words.
#![forbid(unsafe_code)]

use super::{Record, has};
use crate::error::Result;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// `intel_rdt` of an event. Everything is absent where the host does not have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// What the host's L3 caches can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<L3CacheInfo>,
    /// The L3 line of the default class.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The L3 line of the container's class.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What the host's control of memory bandwidth can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemBwInfo>,
    /// The MB line of the default class.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The MB line of the container's class.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Every line of the container's class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory traffic, by NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<Traffic>>,
    /// Cache in use, by NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<Occupancy>>,
}

/// `info/L3`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct L3CacheInfo {
    /// All bits that a mask may have, hexadecimal.
    pub cbm_mask: String,
    /// Bits that it must have at the least.
    pub min_cbm_bits: u64,
    /// Classes that the hardware knows.
    pub num_closids: u64,
}

/// `info/MB`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemBwInfo {
    /// The step between bandwidths, in percent.
    pub bandwidth_gran: u64,
    /// Whether the delay is linear.
    pub delay_linear: u64,
    /// The least bandwidth, in percent.
    pub min_bandwidth: u64,
    /// Classes that the hardware knows.
    pub num_closids: u64,
}

/// Bytes read and written since the group was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// To all memory.
    pub mbm_total_bytes: u64,
    /// To the node's own.
    pub mbm_local_bytes: u64,
}

/// Bytes of a last-level cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// In use.
    pub llc_occupancy: u64,
}

impl Record {
    /// Reads what there is.
    ///
    /// # Errors
    /// The group is gone.
    pub fn stats(&self) -> Result<Stats> {
        let file = self.group.join("schemata");
        let own = self.explain(fs::read_to_string(&file), &file)?;
        let root = fs::read_to_string(self.root.join("schemata")).unwrap_or_default();
        let mut stats = Stats {
            schemata: own.lines().map(|line| line.trim().to_owned()).collect(),
            ..Stats::default()
        };
        let info = |file: &str| number(&self.root.join("info").join(file)).unwrap_or(0);
        if has(&self.root, "L3") {
            let mask = fs::read_to_string(self.root.join("info/L3/cbm_mask"));
            stats.l3_cache_info = Some(L3CacheInfo {
                cbm_mask: mask.unwrap_or_default().trim().to_owned(),
                min_cbm_bits: info("L3/min_cbm_bits"),
                num_closids: info("L3/num_closids"),
            });
            stats.l3_cache_schema_root = line(&root, "L3");
            stats.l3_cache_schema = line(&own, "L3");
        }
        if has(&self.root, "MB") {
            stats.mem_bw_info = Some(MemBwInfo {
                bandwidth_gran: info("MB/bandwidth_gran"),
                delay_linear: info("MB/delay_linear"),
                min_bandwidth: info("MB/min_bandwidth"),
                num_closids: info("MB/num_closids"),
            });
            stats.mem_bw_schema_root = line(&root, "MB");
            stats.mem_bw_schema = line(&own, "MB");
        }
        self.measure(&mut stats);
        Ok(stats)
    }

    /// Of the container alone where it has a monitoring group, else of all in its class.
    fn measure(&self, stats: &mut Stats) {
        let features = fs::read_to_string(self.root.join("info/L3_MON/mon_features"));
        let features = features.unwrap_or_default();
        let has = |name: &str| features.lines().any(|line| line.trim() == name);
        let group = self.monitor.as_ref().unwrap_or(&self.group);
        let nodes = fs::read_dir(group.join("mon_data")).into_iter().flatten();
        let mut nodes: Vec<_> = nodes.flatten().map(|entry| entry.path()).collect();
        nodes.sort();
        let read = |node: &Path, file: &str| number(&node.join(file)).unwrap_or(0);
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let of = |node: &std::path::PathBuf| Traffic {
                mbm_total_bytes: read(node, "mbm_total_bytes"),
                mbm_local_bytes: read(node, "mbm_local_bytes"),
            };
            stats.mbm_stats = Some(nodes.iter().map(of).collect());
        }
        if has("llc_occupancy") {
            let of = |node: &std::path::PathBuf| Occupancy {
                llc_occupancy: read(node, "llc_occupancy"),
            };
            stats.cmt_stats = Some(nodes.iter().map(of).collect());
        }
    }
}

/// The first line of that resource.
fn line(schemata: &str, kind: &str) -> String {
    let mut lines = schemata.lines().map(str::trim);
    let found = lines.find(|line| line.starts_with(kind));
    found.unwrap_or_default().to_owned()
}

/// The number in a file.
pub(super) fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
