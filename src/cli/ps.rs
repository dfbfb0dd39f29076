//! `ps`: the processes of a container.
#![forbid(unsafe_code)]

use super::{Entry, args, print, wrong_count};
use crate::container::ps::{json, table};
use crate::error::{Doing, Error, Explain};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<PsArgs>(
    "ps",
    "ps displays the processes running inside a container",
    "<container-id> [ps options]",
    |matches, globals| {
        let said: PsArgs = args(matches)?;
        let (id, options) = said
            .words
            .split_first()
            .ok_or_else(|| wrong_count("ps", "a minimum of 1", globals))?;
        let pids = globals.store.find(id)?.processes()?;
        let text = match said.format.as_str() {
            "table" => table(&pids, options).on(id)?,
            "json" => json(&pids),
            _ => return Err(Error::rule(Doing::List, "invalid format option")),
        };
        print(&text).map(|()| 0)
    },
);

#[derive(Args)]
struct PsArgs {
    /// 'table' or 'json'
    #[arg(long, short, value_name = "value", default_value = "table")]
    format: String,
    #[arg(hide = true, trailing_var_arg = true)]
    words: Vec<String>,
}
