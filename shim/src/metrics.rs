//! `Stats`: what the container uses, as the message that its cgroup version has.
#![forbid(unsafe_code)]

use crate::shim::Shim;
use crate::status::{Result, Status};
use crate::task::bytes;
use containerd_shim_protos::api::{StatsRequest, StatsResponse};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use creel::container::stats::Stats;
use std::collections::BTreeMap;
use std::sync::Arc;

mod v1;
mod v2;

/// See the module.
pub fn stats(shim: &Arc<Shim>, asked: &StatsRequest) -> Result<Vec<u8>> {
    let container = shim.container(&asked.id)?;
    let live = container.runtime.container(&container.id)?;
    if live.state().creel.cgroup.paths().next().is_none() {
        return Err(Status::not_found("cgroup does not exist"));
    }
    let mut said = StatsResponse::new();
    said.stats = Some(message(&live.stats()?)?).into();
    bytes(&said)
}

/// The message whose type says which version the numbers are of.
fn message(stats: &Stats) -> Result<Any> {
    let (version, value) = match stats.unified {
        false => ("v1", bytes(&v1::message(stats))?),
        true => ("v2", bytes(&v2::message(stats))?),
    };
    Ok(Any {
        type_url: format!("io.containerd.cgroups.{version}.Metrics"),
        value,
        ..Any::default()
    })
}

/// The number of that name; 0 if there is none.
fn named<'a>(table: &'a BTreeMap<String, u64>) -> impl Fn(&str) -> u64 + 'a {
    |name| table.get(name).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_that_of_the_cgroup() {
        for (unified, version) in [(false, "v1"), (true, "v2")] {
            let stats = Stats {
                unified,
                ..Stats::default()
            };
            let type_url = message(&stats).unwrap().type_url;
            assert_eq!(type_url, format!("io.containerd.cgroups.{version}.Metrics"));
        }
    }
}
