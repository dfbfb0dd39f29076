//! `Stats`: what the container uses, as the message that its cgroup version has.
#![forbid(unsafe_code)]

use crate::shim::Shim;
use crate::status::{Result, Status};
use crate::task::bytes;
use containerd_shim_protos::api::{StatsRequest, StatsResponse};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod v1;
mod v2;

/// See the module.
pub fn stats(shim: &Arc<Shim>, asked: &StatsRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let live = container.runtime.container(&container.id)?;
    let dirs: Vec<(String, PathBuf)> = live
        .state()
        .creel
        .cgroup
        .paths()
        .map(|(names, path)| (names.to_owned(), PathBuf::from(path)))
        .collect();
    let mut any = Any::new();
    match dirs.as_slice() {
        [] => return Err(Status::not_found("cgroup does not exist")),
        // A host with both has v2 among others, and the controllers in v1.
        [(names, dir)] if names.is_empty() => {
            any.type_url = "io.containerd.cgroups.v2.Metrics".into();
            any.value = v2::read(dir).write_to_bytes()?;
        }
        dirs => {
            any.type_url = "io.containerd.cgroups.v1.Metrics".into();
            any.value = v1::read(dirs).write_to_bytes()?;
        }
    }
    let mut said = StatsResponse::new();
    said.stats = Some(any).into();
    bytes(&said)
}

/// A file's text; nothing if there is no such file: kernels and controllers differ.
fn text(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap_or_default()
}

/// A number; "max" is the greatest there is.
fn value(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

fn number(dir: &Path, file: &str) -> u64 {
    value(&text(dir, file))
}

/// Lines of a name and a number.
fn table(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, number) = line.split_once(' ')?;
            Some((name, value(number)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_names_and_numbers() {
        let table = table("a 1\nb max\nbad\n");
        assert_eq!(table.get("a"), Some(&1));
        assert_eq!(table.get("b"), Some(&u64::MAX));
        assert_eq!(table.len(), 2);
    }
}
