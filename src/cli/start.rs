//! `start`: lets a created container run its program.
#![forbid(unsafe_code)]

use super::create::supervisor;
use super::{Entry, args, only_id};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<StartArgs>(
    "start",
    "executes the user defined process in a created container",
    "<container-id>",
    |matches, globals| {
        let said: StartArgs = args(matches)?;
        let id = only_id(&said.ids, "start", globals)?;
        let container = globals.store.find(id)?;
        container.start_for(supervisor().as_deref()).map(|()| 0)
    },
);

#[derive(Args)]
struct StartArgs {
    #[arg(hide = true)]
    ids: Vec<String>,
}
