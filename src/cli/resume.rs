//! `resume`: the container goes on.
#![forbid(unsafe_code)]

use super::{Entry, args, only_id};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<ResumeArgs>(
    "resume",
    "resumes all processes that have been previously paused",
    "<container-id>",
    |matches, globals| {
        let said: ResumeArgs = args(matches)?;
        let id = only_id(&said.ids, "resume", globals)?;
        globals.store.find(id)?.resume().map(|()| 0)
    },
);

#[derive(Args)]
struct ResumeArgs {
    #[arg(hide = true)]
    ids: Vec<String>,
}
