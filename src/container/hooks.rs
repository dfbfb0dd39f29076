//! The hooks of a container that already lives: poststart and poststop.
#![forbid(unsafe_code)]

use super::Container;
use super::status::Status;
use crate::error::{Doing, Error, Explain, Result};
use oci_spec::runtime::{Hook, Hooks};
use serde::Deserialize;

/// Runs hooks in order, each with the OCI state on its stdin; the first word names their kind.
pub type RunHooks = fn(kind: &'static str, hooks: &[Hook], state: &[u8]) -> Result<()>;

/// config.json without all the rest: the other properties are skipped, not built.
#[derive(Default, Deserialize)]
struct Said {
    hooks: Option<Hooks>,
}

impl Container {
    /// The hooks in the container's own copy of config.json.
    pub(super) fn hooks(&self) -> Result<Hooks> {
        let bytes = self.dir().config()?.unwrap_or_else(|| b"{}".to_vec());
        let said: Said = serde_json::from_slice(&bytes).map_err(|error| {
            Error::rule(Doing::ParseConfig, error.to_string()).on("config.json")
        })?;
        Ok(said.hooks.unwrap_or_default())
    }

    /// Runs one kind of them with the status the container has by then.
    pub(super) fn run_hooks(
        &self,
        kind: &'static str,
        hooks: Option<&Vec<Hook>>,
        status: Status,
        run: RunHooks,
    ) -> Result<()> {
        match hooks {
            Some(hooks) if !hooks.is_empty() => {
                run(kind, hooks, &self.state().for_hooks(status)?).on(self.id())
            }
            _ => Ok(()),
        }
    }
}
