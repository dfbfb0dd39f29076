//! `list`: the containers of the state root.
#![forbid(unsafe_code)]

use super::{Entry, args, print, wrong_count};
use crate::container::list::{json, list, quiet, table};
use crate::error::{Doing, Error};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<ListArgs>(
    "list",
    "lists containers started by runc with the given root",
    "",
    |matches, globals| {
        let said: ListArgs = args(matches)?;
        if !said.words.is_empty() {
            return Err(wrong_count("list", "exactly 0", globals));
        }
        let (containers, broken) = list(&globals.store)?;
        // As runc: not an error of this command, so not in the log.
        for error in broken {
            eprintln!("{error}");
        }
        let text = match said.format.as_str() {
            _ if said.quiet => quiet(&containers),
            "table" => table(&containers),
            "json" => json(&containers)?,
            _ => return Err(Error::rule(Doing::List, "invalid format option")),
        };
        print(&text).map(|()| 0)
    },
);

#[derive(Args)]
struct ListArgs {
    /// 'table' or 'json'
    #[arg(long, short, value_name = "value", default_value = "table")]
    format: String,
    /// only the ids
    #[arg(long, short)]
    quiet: bool,
    #[arg(hide = true)]
    words: Vec<String>,
}
