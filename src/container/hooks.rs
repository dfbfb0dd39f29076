//! The hooks of a container that already lives: poststart and poststop.
#![forbid(unsafe_code)]

use super::Container;
use super::status::Status;
use crate::bundle::config::Config;
use crate::bundle::parse;
use crate::error::Result;
use crate::run::hooks::{Hooks, Kind};
use serde::Deserialize;

/// config.json without all the rest: the other properties are skipped, not built.
#[derive(Default, Deserialize)]
struct Said {
    hooks: Option<oci_spec::runtime::Hooks>,
}

impl Container {
    /// The hooks in the container's own copy of config.json.
    pub(super) fn hooks(&self) -> Result<Hooks> {
        let bytes = self.dir().config()?.unwrap_or_else(|| b"{}".to_vec());
        let said: Said = parse(&bytes, "config.json")?;
        Hooks::plan(&Config {
            hooks: said.hooks,
            ..Config::default()
        })
    }

    /// Runs the poststart hooks; the first failure ends it.
    pub(super) fn run_poststart(&self) -> Result<()> {
        let hooks = self.hooks()?;
        if !hooks.has(Kind::Poststart) {
            return Ok(());
        }
        hooks.run(Kind::Poststart, &self.state().for_hooks(Status::Running)?)
    }
}
