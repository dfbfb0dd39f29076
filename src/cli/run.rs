//! `run`: create and start in one, and by default stay until the end.
#![forbid(unsafe_code)]

use super::create::CreateArgs;
use super::{Entry, args, only_id, seam};
use crate::plan::wishes::Wishes;
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<RunArgs>(
    "run",
    "create and run a container",
    "<container-id>",
    |matches, globals| {
        let said: RunArgs = args(matches)?;
        let id = only_id(&said.create.ids, "run", globals)?;
        let wishes = Wishes {
            detach: said.detach,
            keep: said.keep,
            no_subreaper: said.no_subreaper,
            ..said.create.wishes(globals)?
        };
        seam::run(&globals.store, id, &said.create.bundle()?, &wishes)
    },
);

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    create: CreateArgs,
    /// do not wait for the container's process
    #[arg(long, short)]
    detach: bool,
    /// do not delete the container after it has ended
    #[arg(long)]
    keep: bool,
    /// do not adopt the container's orphans while waiting
    #[arg(long)]
    no_subreaper: bool,
}
