//! LIMIT, the systemd driver: the properties of a unit that say what is written into its files.
//!
//! They are made of those writes, so neither can say other than the other; whatever systemd would
//! set anew at a daemon-reload has its property here. Files without one (bursts, hugepages, rdma)
//! are never touched by it.
#![forbid(unsafe_code)]

use super::super::resources::{Mercy, Write, io_weight};
use super::message::Value;
use crate::tune::list;
use std::borrow::Cow;

/// One property of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(super) name: Cow<'static, str>,
    pub(super) value: Value,
    /// The first version of systemd that knows it, if that is not one that every host of ours has:
    /// a kernel that creel needs comes with systemd 240 or later.
    pub(super) since: u32,
}

impl Property {
    pub(super) fn new(name: impl Into<Cow<'static, str>>, value: Value) -> Self {
        Self {
            name: name.into(),
            value,
            since: 0,
        }
    }

    pub(super) fn number(name: impl Into<Cow<'static, str>>, number: u64) -> Self {
        Self::new(name, Value::Number(b't', number))
    }

    fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    /// `(sv)`
    pub(super) fn wire(&self) -> Value {
        let value = Value::Variant(Box::new(self.value.clone()));
        Value::Struct(vec![Value::text(&*self.name), value])
    }
}

/// `a(sv)`: those that a systemd of that version takes.
pub(super) fn wire(properties: &[Property], version: u32) -> Value {
    let known = |one: &&Property| one.since <= version;
    // Idle is a weight of zero, and no other weight may follow it.
    let weight = |one: &Property| one.name == "CPUWeight";
    let idle = properties
        .iter()
        .filter(known)
        .any(|one| one.since == IDLE && weight(one));
    let fits = |one: &&Property| known(one) && !(idle && weight(one) && one.since != IDLE);
    let items = properties.iter().filter(fits).map(Property::wire);
    Value::Array("(sv)".into(), items.collect())
}

/// Whether it matters which version of systemd is asked.
pub(super) fn depend_on_version(properties: &[Property]) -> bool {
    properties.iter().any(|one| one.since > 0)
}

/// `cpu.idle`: systemd 252.
const IDLE: u32 = 252;

/// Files whose one number is a property's.
const NUMBERS: &[(&str, &str, u32)] = &[
    ("memory.max", "MemoryMax", 0),
    ("memory.high", "MemoryHigh", 0),
    ("memory.low", "MemoryLow", 0),
    ("memory.min", "MemoryMin", 0),
    ("memory.swap.max", "MemorySwapMax", 0),
    ("memory.zswap.max", "MemoryZSwapMax", 253),
    ("pids.max", "TasksMax", 0),
    ("cpu.weight", "CPUWeight", 0),
    ("memory.limit_in_bytes", "MemoryLimit", 0),
    ("cpu.shares", "CPUShares", 0),
    ("blkio.weight", "BlockIOWeight", 0),
];

/// Keys of `io.max`.
const THROTTLES: &[(&str, &str)] = &[
    ("rbps", "IOReadBandwidthMax"),
    ("wbps", "IOWriteBandwidthMax"),
    ("riops", "IOReadIOPSMax"),
    ("wiops", "IOWriteIOPSMax"),
];

/// The properties for what is written. What cannot be read here has none: the kernel judges it when
/// it is written.
pub(super) fn of(writes: &[Write]) -> Vec<Property> {
    let mut found = Vec::new();
    let mut period = None;
    for write in writes {
        let value = write.value.trim();
        if let Some((_, name, since)) = NUMBERS.iter().find(|(file, ..)| *file == write.file) {
            // systemd refuses to allow no task at all.
            let least = u64::from(*name == "TasksMax");
            let value = amount(value).map(|value| value.max(least));
            found.extend(value.map(|value| Property::number(*name, value).since(*since)));
            continue;
        }
        match &*write.file {
            "cpu.idle" if value == "1" => found.push(Property::number("CPUWeight", 0).since(IDLE)),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let quota = words.next().unwrap_or_default();
                let period = words.next().and_then(|word| word.parse().ok());
                bandwidth(quota, period, &mut found);
            }
            "cpu.cfs_period_us" => period = value.parse().ok(),
            "cpu.cfs_quota_us" => bandwidth(value, period, &mut found),
            "cpuset.cpus" => found.extend(mask("AllowedCPUs", value)),
            "cpuset.mems" => found.extend(mask("AllowedMemoryNodes", value)),
            "memory.oom.group" => {
                let policy = if value == "1" { "kill" } else { "continue" };
                found.push(Property::new("OOMPolicy", Value::text(policy)).since(253));
            }
            "io.weight" => weight(value, &mut found),
            "io.bfq.weight" => match (&write.mercy, value.split_once(' ')) {
                (Mercy::Or(_, general), _) => weight(general, &mut found),
                (_, Some((device, value))) => {
                    if let Ok(value) = value.parse() {
                        found.push(on_device("IODeviceWeight", device, io_weight(value)));
                    }
                }
                _ => {}
            },
            "io.max" => {
                let (device, limits) = value.split_once(' ').unwrap_or_default();
                for (key, limit) in limits
                    .split_whitespace()
                    .filter_map(|one| one.split_once('='))
                {
                    let name = THROTTLES.iter().find(|(known, _)| *known == key);
                    if let (Some((_, name)), Some(limit)) = (name, amount(limit)) {
                        found.push(on_device(name, device, limit));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// A number as the kernel reads it: with `K`, `M`, `G`, `T` behind it, `max` or -1 for no limit.
fn amount(text: &str) -> Option<u64> {
    if matches!(text, "max" | "-1") {
        return Some(u64::MAX);
    }
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Quota and period, as time per second; `writes` must be [`round`]ed.
fn bandwidth(quota: &str, period: Option<u64>, found: &mut Vec<Property>) {
    if let Some(period) = period {
        found.push(Property::number("CPUQuotaPeriodUSec", period).since(242));
    }
    let part = match quota.parse() {
        Ok(quota) => per_second(quota, period.unwrap_or(PERIOD)).unwrap_or(u64::MAX),
        Err(_) => u64::MAX,
    };
    found.push(Property::number("CPUQuotaPerSecUSec", part));
}

/// The kernel's period, in microseconds.
const PERIOD: u64 = 100_000;

/// In its unit files systemd keeps whole percents, and a daemon-reload reads those: rounded up, as
/// by runc.
fn per_second(quota: u64, period: u64) -> Option<u64> {
    let part = quota.checked_mul(1_000_000)?.checked_div(period)?;
    Some(part.next_multiple_of(10_000))
}

/// Rounds the quotas to what systemd can keep, so that the files say the same.
pub(in super::super) fn round(writes: &mut [Write]) {
    let mut period = PERIOD;
    for write in writes {
        match &*write.file {
            "cpu.cfs_period_us" => period = write.value.parse().unwrap_or(PERIOD),
            "cpu.max" | "cpu.cfs_quota_us" => {
                let (quota, rest) = write.value.split_once(' ').unwrap_or((&write.value, ""));
                let period = rest.trim().parse().unwrap_or(period);
                let rounded = quota
                    .parse()
                    .ok()
                    .and_then(|quota| per_second(quota, period)?.checked_mul(period));
                if let Some(rounded) = rounded {
                    let space = if rest.is_empty() { "" } else { " " };
                    write.value = format!("{}{space}{rest}", rounded / 1_000_000);
                }
            }
            _ => {}
        }
    }
}

/// A list of cpus or nodes as a bit mask in bytes, the lowest first; systemd 244.
fn mask(name: &'static str, text: &str) -> Option<Property> {
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let mut bytes: Vec<u8> = list::parse(parts, 1 << 16)?
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return None;
    }
    let items = bytes.iter().map(|byte| Value::Number(b'y', (*byte).into()));
    Some(Property::new(name, Value::Array("y".into(), items.collect())).since(244))
}

/// A line of `io.weight`: a number, `default` and a number, a device and a number.
fn weight(text: &str, found: &mut Vec<Property>) {
    let (device, value) = text.split_once(' ').unwrap_or(("default", text));
    match (device, value.trim().parse()) {
        ("default", Ok(value)) => found.push(Property::number("IOWeight", value)),
        (device, Ok(value)) => found.push(on_device("IODeviceWeight", device, value)),
        _ => {}
    }
}

/// A limit of one block device, given by its numbers: `a(st)`.
fn on_device(name: &'static str, device: &str, value: u64) -> Property {
    let path = Value::Text(b's', format!("/dev/block/{device}"));
    let one = Value::Struct(vec![path, Value::Number(b't', value)]);
    Property::new(name, Value::Array("(st)".into(), vec![one]))
}

/// The device rules: those that can be said to systemd. What cannot (rules that deny, or that are
/// about a minor number of any driver) is left to our own filter alone: a systemd that knew half of
/// it would, at a reload, deny the other half.
pub(super) fn devices(allowed: Option<Vec<(String, String)>>) -> [Property; 2] {
    let policy = if allowed.is_some() { "strict" } else { "auto" };
    let pair =
        |(path, access)| Value::Struct(vec![Value::Text(b's', path), Value::Text(b's', access)]);
    let items = allowed.into_iter().flatten().map(pair).collect();
    [
        Property::new("DevicePolicy", Value::text(policy)),
        Property::new("DeviceAllow", Value::Array("(ss)".into(), items)),
    ]
}

#[cfg(test)]
#[path = "properties_tests.rs"]
mod tests;
