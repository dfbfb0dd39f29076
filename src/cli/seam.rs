//! PLACEHOLDERS, to be removed: what the command line calls and the library does not have yet.
//!
//! Each is to become a call of the function named in its text.
#![forbid(unsafe_code)]

use crate::container::{Container, ExecRequest, Store};
use crate::error::{Doing, Error, Result};
use crate::plan::wishes::Wishes;
use oci_spec::runtime::Hook;
use std::path::Path;

pub(super) fn create(_store: &Store, id: &str, _bundle: &Path, _wishes: &Wishes) -> Result<()> {
    Err(Error::rule(Doing::Create, "container::create::create is not built yet").on(id))
}

/// The exit status of the program, or 0 when detached.
pub(super) fn run(_store: &Store, id: &str, _bundle: &Path, _wishes: &Wishes) -> Result<u8> {
    Err(Error::rule(Doing::Run, "container::create::run is not built yet").on(id))
}

/// The exit status of the program, or 0 when detached.
pub(super) fn exec(container: &Container, _request: &ExecRequest) -> Result<u8> {
    Err(Error::rule(Doing::Exec, "container::exec::exec is not built yet").on(container.id()))
}

pub(super) fn run_hooks(kind: &'static str, _hooks: &[Hook], _state: &[u8]) -> Result<()> {
    Err(Error::rule(Doing::RunHook, "run::hooks is not built yet").on(kind))
}
