//! `delete`: releases all that a container held.
#![forbid(unsafe_code)]

use super::{Entry, args, only_id, seam};
use crate::container;
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<DeleteArgs>(
    "delete",
    "delete any resources held by the container often used with detached container",
    "<container-id>",
    |matches, globals| {
        let said: DeleteArgs = args(matches)?;
        let id = only_id(&said.ids, "delete", globals)?;
        container::delete(&globals.store, id, said.force, seam::run_hooks).map(|()| 0)
    },
);

#[derive(Args)]
struct DeleteArgs {
    /// kill the container first (SIGKILL) if it still runs; none of that id is fine
    #[arg(long, short)]
    force: bool,
    #[arg(hide = true)]
    ids: Vec<String>,
}
