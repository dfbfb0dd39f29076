//! `state`: what a container is and does.
#![forbid(unsafe_code)]

use super::{Entry, args, only_id, print};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<StateArgs>(
    "state",
    "output the state of a container",
    "<container-id>",
    |matches, globals| {
        let said: StateArgs = args(matches)?;
        let container = globals.store.find(only_id(&said.ids, "state", globals)?)?;
        let report = container.state().report(container.status()?, String::new());
        print(&report.to_json()?).map(|()| 0)
    },
);

#[derive(Args)]
struct StateArgs {
    #[arg(hide = true)]
    ids: Vec<String>,
}
