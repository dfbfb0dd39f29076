//! `start`: lets a created container run its program.
#![forbid(unsafe_code)]

use super::{Entry, args, only_id, seam};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<StartArgs>(
    "start",
    "executes the user defined process in a created container",
    "<container-id>",
    |matches, globals| {
        let said: StartArgs = args(matches)?;
        let id = only_id(&said.ids, "start", globals)?;
        globals.store.find(id)?.start(seam::run_hooks).map(|()| 0)
    },
);

#[derive(Args)]
struct StartArgs {
    #[arg(hide = true)]
    ids: Vec<String>,
}
