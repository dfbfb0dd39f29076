//! `kill`: a signal for a container.
#![forbid(unsafe_code)]

use super::{Entry, args, wrong_count};
use crate::container::{Status, parse_signal};
use clap::Args;

pub(super) const COMMAND: Entry = Entry::new::<KillArgs>(
    "kill",
    "kill sends the specified signal (default: SIGTERM) to the container's init process",
    "<container-id> [signal]",
    |matches, globals| {
        let said: KillArgs = args(matches)?;
        let (id, signal) = match said.words.as_slice() {
            [] => return Err(wrong_count("kill", "a minimum of 1", globals)),
            [id] => (id, ""),
            [id, signal] => (id, signal.as_str()),
            _ => return Err(wrong_count("kill", "a maximum of 2", globals)),
        };
        let container = globals.store.find(id)?;
        let signal = parse_signal(if signal.is_empty() { "SIGTERM" } else { signal })?;
        match container.kill(signal) {
            // What `--all` still does: a container that is not running is no error.
            Err(_) if said.all && container.status()? == Status::Stopped => Ok(0),
            other => other.map(|()| 0),
        }
    },
);

#[derive(Args)]
struct KillArgs {
    /// obsolete
    #[arg(long, short, hide = true)]
    all: bool,
    #[arg(hide = true, trailing_var_arg = true)]
    words: Vec<String>,
}
