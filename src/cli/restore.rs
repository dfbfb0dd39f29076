//! `restore`: files become a container's processes again.
#![forbid(unsafe_code)]

use super::checkpoint::ImageArgs;
use super::{Entry, absolute, args, exit_code, only_id};
use crate::container::checkpoint::Options;
use crate::error::{Act, Doing, Explain};
use crate::plan::wishes::Wishes;
use clap::Args;
use std::ffi::OsString;

pub(super) const COMMAND: Entry = Entry::new::<RestoreArgs>(
    "restore",
    "restore a container from a previous checkpoint",
    "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container to \
     be\nrestored.",
    |matches, globals| {
        let said: RestoreArgs = args(matches)?;
        let id = only_id(&said.common.ids, "restore", globals)?;
        let wishes = Wishes {
            detach: said.detach,
            no_subreaper: said.no_subreaper,
            no_pivot: said.no_pivot,
            console_socket: absolute(said.console_socket.as_ref())?,
            pid_file: absolute(said.pid_file.as_ref())?,
            ..globals.wishes()
        };
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let options = Options {
            lsm_profile: filled(&said.lsm_profile),
            lsm_mount_context: filled(&said.lsm_mount_context),
            ..said.common.options().on(id)?
        };
        let bundle = match absolute(said.bundle.as_ref())? {
            Some(bundle) => bundle,
            None => std::env::current_dir().doing(Doing::OpenBundle)?,
        };
        crate::container::restore(&globals.store, id, &bundle, &wishes, &options).map(exit_code)
    },
);

#[derive(Args)]
struct RestoreArgs {
    #[command(flatten)]
    common: ImageArgs,
    /// unix socket that gets the master end of the console's pseudoterminal
    #[arg(long, value_name = "value")]
    console_socket: Option<OsString>,
    /// directory of the bundle (default: the current one)
    #[arg(long, short, value_name = "value")]
    bundle: Option<OsString>,
    /// do not wait for the container's process
    #[arg(long, short)]
    detach: bool,
    /// file to write the process id to
    #[arg(long, value_name = "value")]
    pid_file: Option<OsString>,
    /// do not adopt the container's orphans while waiting
    #[arg(long)]
    no_subreaper: bool,
    /// without effect: the images say how the root was entered
    #[arg(long)]
    no_pivot: bool,
    /// LSM profile to be used, TYPE:NAME
    #[arg(long, value_name = "value")]
    lsm_profile: Option<String>,
    /// LSM mount context to be used
    #[arg(long, value_name = "value")]
    lsm_mount_context: Option<String>,
}
