//! `events`: what a container uses, and when it runs out of memory, line by line.
#![forbid(unsafe_code)]

use super::duration::duration;
use super::{Entry, args, only_id, print};
use crate::container::Event;
use crate::container::stats::Stats;
use crate::error::{Doing, Error, Result};
use clap::Args;
use serde::Serialize;

pub(super) const COMMAND: Entry = Entry::new::<EventsArgs>(
    "events",
    "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container.",
    |matches, globals| {
        let said: EventsArgs = args(matches)?;
        let id = only_id(&said.ids, "events", globals)?;
        let container = globals.store.find(id)?;
        let interval = duration("interval", &said.interval)?;
        if said.stats {
            return line(id, Some(&container.stats_now()?)).map(|()| 0);
        }
        container
            .events(interval, &mut |event| match event {
                Event::Stats(stats) => line(id, Some(&stats)),
                Event::Oom => line(id, None),
            })
            .map(|()| 0)
    },
);

#[derive(Args)]
struct EventsArgs {
    /// set the stats collection interval
    #[arg(
        long,
        value_name = "value",
        default_value = "5s",
        allow_hyphen_values = true
    )]
    interval: String,
    /// display the container's stats then exit
    #[arg(long)]
    stats: bool,
    #[arg(hide = true)]
    ids: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

/// Numbers, or else that memory ran out.
fn line(id: &str, data: Option<&Stats>) -> Result<()> {
    let line = Line {
        r#type: if data.is_some() { "stats" } else { "oom" },
        id,
        data,
    };
    let json = serde_json::to_string(&line)
        .map_err(|error| Error::rule(Doing::Stats, error.to_string()).on(id))?;
    print(&(json + "\n"))
}
