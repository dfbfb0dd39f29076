//! `pause`: the whole container stands still.
#![forbid(unsafe_code)]

use super::{Entry, args, only_id};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<PauseArgs>(
    "pause",
    "pause suspends all processes inside the container",
    "<container-id>",
    |matches, globals| {
        let said: PauseArgs = args(matches)?;
        let id = only_id(&said.ids, "pause", globals)?;
        globals.store.find(id)?.pause().map(|()| 0)
    },
);

#[derive(Args)]
struct PauseArgs {
    #[arg(hide = true)]
    ids: Vec<String>,
}
