//! Fuzzing: what is kept between commands, and what `exec` and `update` are given.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::exec::inherit;
use super::state::State;
use super::status::Status;
use super::update::merge;
use crate::bundle::config::{Config, Process, Resources};
use crate::bundle::parse;
use crate::fuzz::same;
use crate::host::Host;
use crate::limit::cgroup::fuzz::limits;
use crate::plan::ProcessPlan;
use crate::plan::wishes::Wishes;
use serde_json::Value;

pub use super::checkpoint::fuzz::criu;
pub(crate) use super::checkpoint::fuzz::seeds as criu_seeds;

/// The container that a process is for, and whose limits are updated.
const CONFIG: &[u8] = include_bytes!("../../integration/data/docker-default.json");

/// state.json, as it is kept between commands.
pub fn state(bytes: &[u8]) {
    let Ok(state) = serde_json::from_slice::<State>(bytes) else {
        return;
    };
    let kept = serde_json::to_vec(&state).unwrap();
    assert_eq!(serde_json::from_slice::<State>(&kept).unwrap(), state);
    for status in [Status::Creating, Status::Running, Status::Stopped] {
        let hooks: Value = serde_json::from_slice(&state.for_hooks(status).unwrap()).unwrap();
        assert_eq!(hooks["id"], *state.id);
        let report = state.report(status, String::new()).to_json().unwrap();
        assert!(
            !report.contains(['<', '>', '&']),
            "Go writes these otherwise"
        );
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["bundle"], *state.bundle.to_str().unwrap());
    }
    assert!(
        state
            .creel
            .namespaces
            .all()
            .all(|kind| kind.len() <= bytes.len())
    );
}

/// process.json of `exec -p`, for Docker's usual container.
pub fn process(bytes: &[u8]) {
    let read = || parse::<Process>(bytes, "process.json").map_err(|error| error.to_string());
    let (first, second) = (read(), read());
    same(&first, &second);
    let Ok(mut asked) = first else { return };
    let config: Config = parse(CONFIG, "config.json").unwrap();
    let container = config.process.as_ref().unwrap();
    let said = asked.clone();
    inherit(&mut asked, container);
    if said.capabilities.is_none() {
        same(&asked.capabilities, &container.capabilities);
    }
    let once = asked.clone();
    inherit(&mut asked, container);
    same(&asked, &once);
    let wishes = Wishes {
        joins: true,
        ..Wishes::default()
    };
    let plan = || {
        let mut warnings = Vec::new();
        let host = Host::fixed();
        let plan = ProcessPlan::new(&asked, &config, None, &wishes, &host, &mut warnings);
        (plan.map_err(|error| error.to_string()), warnings)
    };
    same(&plan(), &plan());
}

/// The resources of `update -r`, for Docker's usual container.
pub fn update(bytes: &[u8]) {
    let Ok(asked) = parse::<Resources>(bytes, "resources.json") else {
        return;
    };
    let json = serde_json::to_vec(&asked).unwrap();
    assert_eq!(parse::<Resources>(&json, "again").as_ref(), Ok(&asked));
    limits(&asked);
    let config: Config = parse(CONFIG, "config.json").unwrap();
    let mut kept = config.linux.resources.unwrap_or_default();
    let write = merge(&mut kept, &asked);
    limits(&write);
    let json = serde_json::to_vec(&kept).unwrap();
    assert_eq!(parse::<Resources>(&json, "kept").as_ref(), Ok(&kept));
    // Asked for once more, nothing changes.
    let once = kept.clone();
    merge(&mut kept, &asked);
    assert_eq!(kept, once);
}
