//! `create`: everything of a container but its program.
#![forbid(unsafe_code)]

use super::{Entry, Globals, absolute, args, only_id};
use crate::error::{Act, Doing, Result};
use crate::plan::wishes::Wishes;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const COMMAND: Entry = Entry::new::<CreateArgs>(
    "create",
    "create a container",
    "<container-id>",
    |matches, globals| {
        let said: CreateArgs = args(matches)?;
        let id = only_id(&said.ids, "create", globals)?;
        let wishes = Wishes {
            detach: true,
            ..said.wishes(globals)?
        };
        crate::container::create(&globals.store, id, &said.bundle()?, &wishes).map(|()| 0)
    },
);

/// The flags that `create` and `run` share.
#[derive(Args)]
pub(super) struct CreateArgs {
    /// directory of the bundle (default: the current one)
    #[arg(long, short, value_name = "value")]
    bundle: Option<OsString>,
    /// unix socket that gets the master end of the console's pseudoterminal
    #[arg(long, value_name = "value")]
    console_socket: Option<OsString>,
    /// unix socket that gets a pidfd of the container's first process
    #[arg(long, value_name = "value")]
    pidfd_socket: Option<OsString>,
    /// file to write the process id to
    #[arg(long, value_name = "value")]
    pid_file: Option<OsString>,
    /// move the root over / instead of pivot_root, for a root on a ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// keep the caller's session keyring instead of making one
    #[arg(long)]
    no_new_keyring: bool,
    /// pass N more file descriptors on (stdio + $LISTEN_FDS + N in all)
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    #[arg(hide = true)]
    pub(super) ids: Vec<String>,
}

/// The socket of a supervisor that waits for readiness.
pub(super) fn supervisor() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}

impl CreateArgs {
    pub(super) fn bundle(&self) -> Result<PathBuf> {
        match absolute(self.bundle.as_ref())? {
            Some(bundle) => Ok(bundle),
            None => std::env::current_dir().doing(Doing::OpenBundle),
        }
    }

    pub(super) fn wishes(&self, globals: &Globals) -> Result<Wishes> {
        Ok(Wishes {
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            console_socket: absolute(self.console_socket.as_ref())?,
            pidfd_socket: absolute(self.pidfd_socket.as_ref())?,
            pid_file: absolute(self.pid_file.as_ref())?,
            notify_socket: supervisor(),
            ..globals.wishes()
        })
    }
}
