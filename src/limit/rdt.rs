//! `linux.intelRdt`: the container's class of service and its monitoring group, directories of the
//! resctrl filesystem (config-linux.md, "IntelRdt"; the kernel's Documentation/filesystems/resctrl.rst).
#![forbid(unsafe_code)]

pub mod stats;

use crate::bundle::config::{Config, IntelRdt};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::Host;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const FIELD: &str = "linux.intelRdt";

/// Directories of resctrl that are no groups.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

/// The group to be.
#[derive(Debug)]
pub(crate) struct RdtPlan {
    record: Record,
    /// What must be in force where the group exists: `l3CacheSchema` and `memBwSchema`.
    compared: Vec<String>,
    /// All lines to write, in the spec's order.
    schemata: Vec<String>,
    /// `closID` is given: the group outlives the container.
    is_named: bool,
}

/// How to find the groups again; kept in the container's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where resctrl is mounted.
    root: PathBuf,
    /// The directory of the class of service.
    group: PathBuf,
    /// Whether we have made the group for this container alone: it goes with it.
    made: bool,
    /// The directory of the container's own monitoring group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<PathBuf>,
}

/// A group that stands. Dropped before [`keep`](Self::keep), what was made of it goes.
#[derive(Debug)]
pub(crate) struct Rdt {
    record: Record,
    /// Whether the directory of the class of service was not there.
    fresh: bool,
    keep: bool,
}

impl RdtPlan {
    /// `None` where none is asked. `id` is the container's.
    pub(crate) fn plan(config: &Config, id: &str, host: &Host) -> Result<Option<Self>> {
        match &config.linux.intel_rdt {
            None => Ok(None),
            Some(asked) => Self::decide(asked, id, host.resctrl()).map(Some),
        }
    }

    fn decide(asked: &IntelRdt, id: &str, root: Option<&Path>) -> Result<Self> {
        let wrong = |part: &str, why: String| {
            Err(Error::rule(Doing::CheckConfig, why).field(format!("{FIELD}{part}")))
        };
        let Some(root) = root else {
            let why = "intelRdt is specified in config, but no resctrl filesystem is mounted";
            return wrong("", why.to_owned())
                .hint("mount -t resctrl resctrl /sys/fs/resctrl, where the processor has it");
        };
        let clos = asked.clos_id.as_str();
        let is_default = clos == "/";
        if RESERVED.contains(&clos) || (clos.contains('/') && !is_default) {
            return wrong(".closID", format!("invalid intelRdt.ClosID {clos:?}"));
        }
        let l3 = asked.l3_cache_schema.as_str();
        let bandwidth = asked.mem_bw_schema.as_str();
        let lines = &asked.schemata;
        if !bandwidth.is_empty() && (!bandwidth.starts_with("MB:") || bandwidth.contains('\n')) {
            let why = "the schema must be one line that starts with MB:";
            return wrong(".memBwSchema", why.to_owned());
        }
        if let Some(index) = lines.iter().position(|line| line.contains('\n')) {
            let why = "each element is one line of the schemata file";
            return wrong(&format!(".schemata[{index}]"), why.to_owned());
        }
        for (schema, part, kind) in [
            (l3, ".l3CacheSchema", "L3"),
            (bandwidth, ".memBwSchema", "MB"),
        ] {
            if !schema.is_empty() && !has(root, kind) {
                return wrong(
                    part,
                    format!("this host has no control of {kind} by resctrl"),
                );
            }
        }
        let given = |lines: &[&str]| -> Vec<String> {
            let lines = lines.iter().filter(|line| !line.is_empty());
            lines.map(|line| (*line).to_owned()).collect()
        };
        let compared = given(&[l3, bandwidth]);
        let mut schemata = compared.clone();
        schemata.extend(lines.iter().filter(|line| !line.is_empty()).cloned());
        let group = match clos {
            "/" => root.to_owned(),
            "" => root.join(id),
            clos => root.join(clos),
        };
        let is_named = !clos.is_empty();
        if is_named && schemata.is_empty() && !group.is_dir() {
            let why = format!("the class of service {clos:?} does not exist");
            return wrong(".closID", why).hint("without a schema it must have been made before");
        }
        // What 1.1 enabled one by one is one switch in 1.3.
        let monitors = asked.enable_monitoring || asked.enable_cmt || asked.enable_mbm;
        Ok(Self {
            record: Record {
                root: root.to_owned(),
                made: !is_named && !group.exists(),
                monitor: monitors.then(|| group.join("mon_groups").join(id)),
                group,
            },
            compared,
            schemata,
            is_named,
        })
    }

    /// What `delete` must find if we are killed before the group stands.
    pub(crate) fn record(&self) -> Record {
        self.record.clone()
    }

    /// Makes what is missing of the groups, and sets the limits.
    pub(crate) fn make(&self) -> Result<Rdt> {
        let record = &self.record;
        let mut rdt = Rdt {
            record: Record {
                made: false,
                monitor: None,
                ..record.clone()
            },
            fresh: false,
            keep: false,
        };
        rdt.fresh = match fs::create_dir(&record.group) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            result => {
                record.explain(result, &record.group)?;
                true
            }
        };
        // Whoever names a class of service manages it.
        rdt.record.made = rdt.fresh && !self.is_named;
        if self.is_named && !rdt.fresh {
            self.compare()?;
        }
        if !self.schemata.is_empty() {
            let file = record.group.join("schemata");
            let text = self.schemata.join("\n") + "\n";
            record.explain(fs::write(&file, text), &file)?;
        }
        if let Some(monitor) = &record.monitor {
            match fs::create_dir(monitor) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                result => record
                    .explain(result, monitor)
                    .field("linux.intelRdt.enableMonitoring")?,
            }
            rdt.record.monitor = Some(monitor.clone());
        }
        Ok(rdt)
    }

    /// Others may be in the group: what they have must be what is asked.
    fn compare(&self) -> Result<()> {
        if self.compared.is_empty() {
            return Ok(());
        }
        let file = self.record.group.join("schemata");
        let current = self.record.explain(fs::read_to_string(&file), &file)?;
        let step = stats::number(&self.record.root.join("info/MB/bandwidth_gran"));
        for asked in &self.compared {
            if !agrees(asked, &current, step.unwrap_or(1)) {
                let why = format!("the class of service exists, and has not {asked:?}");
                return Err(Error::rule(Doing::IntelRdt, why)
                    .on(self.record.group.display())
                    .field("linux.intelRdt.closID"));
            }
        }
        Ok(())
    }
}

impl Rdt {
    pub(crate) fn record(&self) -> Record {
        self.record.clone()
    }

    /// The container lives: what was made for it stays.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Rdt {
    fn drop(&mut self) {
        self.record.made = self.fresh;
        if !self.keep
            && let Err(error) = self.record.remove()
        {
            crate::log::warning(&error);
        }
    }
}

impl Record {
    /// Puts a process of the container into its groups.
    pub(crate) fn enter(&self, pid: i32) -> Result<()> {
        for group in [Some(&self.group), self.monitor.as_ref()]
            .into_iter()
            .flatten()
        {
            let file = group.join("tasks");
            self.explain(fs::write(&file, pid.to_string()), &file)?;
        }
        Ok(())
    }

    /// Removes what was made for the container; gone already is fine. The kernel moves what is
    /// left in there to the default class.
    pub(crate) fn remove(&self) -> Result<()> {
        let group = self.made.then_some(&self.group);
        for directory in [self.monitor.as_ref(), group].into_iter().flatten() {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => self.explain(result, directory)?,
            }
        }
        Ok(())
    }

    /// What `update --l3-cache-schema --mem-bw-schema` asks, for [`set`](Self::set); what is empty
    /// stays.
    ///
    /// # Errors
    /// The host has no such control.
    pub(crate) fn schema(&self, l3: &str, bandwidth: &str) -> Result<String> {
        let mut text = String::new();
        for (schema, kind, why) in [
            (l3, "L3", "Intel RDT/CAT: l3 cache schema is not enabled"),
            (
                bandwidth,
                "MB",
                "Intel RDT/MBA: memory bandwidth schema is not enabled",
            ),
        ] {
            if schema.is_empty() {
                continue;
            }
            if !has(&self.root, kind) {
                return Err(Error::rule(Doing::IntelRdt, why));
            }
            text.push_str(schema);
            text.push('\n');
        }
        Ok(text)
    }

    /// Changes the limits of a running container.
    ///
    /// # Errors
    /// The kernel refuses a value.
    pub(crate) fn set(&self, text: &str) -> Result<()> {
        let file = self.group.join("schemata");
        self.explain(fs::write(&file, text), &file)
    }

    /// The kernel's own words count for more than its errno.
    fn explain<T>(&self, result: std::io::Result<T>, file: &Path) -> Result<T> {
        result
            .doing(Doing::IntelRdt)
            .on(file.display())
            .field(FIELD)
            .map_err(|error| {
                let said = fs::read_to_string(self.root.join("info/last_cmd_status"));
                match said.as_deref().map(str::trim) {
                    Ok("" | "ok") | Err(_) => error,
                    Ok(said) => error.hint(said),
                }
            })
    }
}

/// Whether resctrl controls that resource here.
fn has(root: &Path, kind: &str) -> bool {
    root.join("info").join(kind).exists()
}

/// Whether all that `asked` sets is so in `current`, the text of a schemata file. `step` is what
/// the kernel rounds bandwidths up to.
fn agrees(asked: &str, current: &str, step: u64) -> bool {
    asked
        .lines()
        .filter(|line| !line.trim().is_empty())
        .all(|line| {
            let Some((resource, domains)) = line.split_once(':') else {
                return false;
            };
            let found = current.lines().filter_map(|line| line.split_once(':'));
            let found = found
                .filter(|(name, _)| name.trim() == resource.trim())
                .map(|(_, domains)| pairs(domains).collect::<Vec<_>>())
                .next();
            let Some(found) = found else { return false };
            pairs(domains).all(|(domain, value)| {
                let is_it = |(other, has): &&(&str, &str)| {
                    *other == domain && same(resource, value, has, step)
                };
                found.iter().any(|pair| is_it(&pair))
            })
        })
}

/// `0=7f0;1=1f` as pairs.
fn pairs(domains: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = domains
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(|part| {
        part.split_once('=')
            .map_or((part, ""), |(a, b)| (a.trim(), b.trim()))
    })
}

fn same(resource: &str, asked: &str, has: &str, step: u64) -> bool {
    if resource.trim() == "MB" {
        let rounded = |text: &str| {
            let value = text.parse::<u64>().ok();
            value.map(|value| value.checked_next_multiple_of(step.max(1)).unwrap_or(value))
        };
        return rounded(asked).is_some() && rounded(asked) == rounded(has);
    }
    let mask = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    mask(asked).is_some() && mask(asked) == mask(has)
}

#[cfg(test)]
mod tests;
