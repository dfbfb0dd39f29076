//! LIMIT, measured: the formats of cgroup files.
//!
//! A line that is not understood is left out rather than an error: kernels add some.
#![forbid(unsafe_code)]

use super::{BlkioEntry, Pressure, Rdma, Stall};
use crate::error::Result;
use crate::limit::cgroup::Cgroup;
use std::collections::BTreeMap;

/// A number; `max` is the largest, and what is below zero is zero.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        text => text
            .parse()
            .ok()
            .or_else(|| text.parse::<i64>().is_ok().then_some(0)),
    }
}

/// Lines of a key and a number.
pub(super) fn map(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), number(value)?))
    };
    text.lines().filter_map(pair).collect()
}

/// `0-3,7` as the numbers it stands for.
pub(super) fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// v1: `8:0 Read 123`, or without the word; `Total 123` is no device.
pub(super) fn devices(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line
            .split([' ', ':'])
            .filter(|one| !one.is_empty())
            .collect();
        let (major, minor, op, value) = match *fields.as_slice() {
            [major, minor, value] => (major, minor, "", value),
            [major, minor, op, value] => (major, minor, op, value),
            _ => return None,
        };
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.into(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same of `full`.
pub(super) fn pressure(text: &str) -> Pressure {
    let mut found = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let stall = match words.next() {
            Some("some") => &mut found.some,
            Some("full") => &mut found.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            set(stall, key, value);
        }
    }
    found
}

fn set(stall: &mut Stall, key: &str, value: &str) {
    let average = match key {
        "avg10" => &mut stall.avg10,
        "avg60" => &mut stall.avg60,
        "avg300" => &mut stall.avg300,
        "total" => return stall.total = number(value).unwrap_or(0),
        _ => return,
    };
    // Two decimals, always: their quotient is the very float that a parser would give.
    if let Some((whole, part)) = value.split_once('.')
        && let (Ok(whole), Ok(part)) = (whole.parse::<u16>(), part.parse::<u8>())
    {
        *average = f64::from(u32::from(whole) * 100 + u32::from(part)) / 100.0;
    }
}

/// `mlx5_0 hca_handle=2 hca_object=max`.
pub(super) fn rdma(text: &str) -> Vec<Rdma> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let mut entry = Rdma {
            device: words.next()?.into(),
            ..Rdma::default()
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = u32::try_from(number(value)?).unwrap_or(u32::MAX);
            match key {
                "hca_handle" => entry.hca_handles = value,
                "hca_object" => entry.hca_objects = value,
                _ => {}
            }
        }
        Some(entry)
    };
    text.lines().filter_map(entry).collect()
}

/// The sizes of huge pages that the kernel knows, in the words of its cgroup files.
pub(super) fn page_sizes() -> Vec<String> {
    let Ok(list) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let size = |name: &str| {
        let kilobytes: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        Some(match kilobytes {
            0..1024 => format!("{kilobytes}KB"),
            1024..1_048_576 => format!("{}MB", kilobytes >> 10),
            _ => format!("{}GB", kilobytes >> 20),
        })
    };
    list.filter_map(|entry| size(entry.ok()?.file_name().to_str()?))
        .collect()
}

impl Cgroup {
    /// A file that holds one number; `None` if there is no such file.
    pub(super) fn number(&self, controller: &str, file: &str) -> Result<Option<u64>> {
        Ok(self.read(controller, file)?.and_then(|text| number(&text)))
    }

    /// A file of keys and numbers; empty if there is none.
    pub(super) fn map(&self, controller: &str, file: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.read(controller, file)?;
        Ok(text.as_deref().map(map).unwrap_or_default())
    }

    /// RDMA: used, and allowed.
    pub(super) fn rdma(&self) -> Result<(Vec<Rdma>, Vec<Rdma>)> {
        let of = |file| Ok(self.read("rdma", file)?.as_deref().map(rdma));
        match (of("rdma.current")?, of("rdma.max")?) {
            (Some(used), Some(allowed)) => Ok((used, allowed)),
            _ => Ok(Default::default()),
        }
    }
}

/// Fuzzing: a file, as if it were of each format.
#[cfg(any(test, fuzzing))]
pub(in super::super) fn fuzz(text: &str) {
    number(text);
    map(text);
    devices(text);
    rdma(text);
    let pressure = pressure(text);
    for average in [pressure.some.avg10, pressure.full.avg300] {
        assert!(average.is_finite() && average >= 0.0);
    }
}
