//! `exec`: another process in a container that lives.
#![forbid(unsafe_code)]

use super::{Entry, Globals, absolute, args, exit_code, wrong_count};
use crate::container::ExecRequest;
use crate::container::request::{UserId, parse_cgroups};
use crate::error::{Doing, Error, Explain, Result};
use crate::plan::wishes::Wishes;
use clap::Args;
use std::ffi::OsString;

pub(super) const COMMAND: Entry = Entry {
    // So that a caller can tell our failure from the program's exit status.
    failure: 255,
    ..Entry::new::<ExecArgs>(
        "exec",
        "execute new process inside the container",
        "<container-id> <command> [command options] || -p process.json <container-id>",
        |matches, globals| {
            let said: ExecArgs = args(matches)?;
            let (id, words) = said
                .words
                .split_first()
                .ok_or_else(|| wrong_count("exec", "a minimum of 1", globals))?;
            let container = globals.store.find(id)?;
            let request = said.request(words, globals).on(id)?;
            request.check_status(container.status()?).on(id)?;
            crate::container::exec(&container, &request).map(exit_code)
        },
    )
};

#[derive(Args)]
struct ExecArgs {
    /// unix socket that gets the master end of the console's pseudoterminal
    #[arg(long, value_name = "value")]
    console_socket: Option<OsString>,
    /// unix socket that gets a pidfd of the process
    #[arg(long, value_name = "value")]
    pidfd_socket: Option<OsString>,
    /// working directory in the container
    #[arg(long, value_name = "value")]
    cwd: Option<String>,
    /// NAME=value to add to the environment
    #[arg(long, short, value_name = "value")]
    env: Vec<String>,
    /// allocate a pseudoterminal
    #[arg(long, short)]
    tty: bool,
    /// user to run as, UID or UID:GID
    #[arg(long, short, value_name = "value")]
    user: Option<String>,
    /// groups to add
    #[arg(long, short = 'g', value_name = "value", allow_negative_numbers = true)]
    additional_gids: Vec<i64>,
    /// process.json, instead of the other flags and the command
    #[arg(long, short, value_name = "value")]
    process: Option<OsString>,
    /// do not wait for the process
    #[arg(long, short)]
    detach: bool,
    /// file to write the process id to
    #[arg(long, value_name = "value")]
    pid_file: Option<OsString>,
    /// SELinux label of the process
    #[arg(long, value_name = "value")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "value")]
    apparmor: Option<String>,
    /// set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// capability to add, but for the inheritable set
    #[arg(long, short, value_name = "value")]
    cap: Vec<String>,
    /// pass N more file descriptors on, besides stdio
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// existing sub-cgroup to run in: path, or controller,...:path
    #[arg(long, value_name = "value")]
    cgroup: Vec<String>,
    /// allow it in a paused container: it runs when that is resumed
    #[arg(long)]
    ignore_paused: bool,
    #[arg(hide = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl ExecArgs {
    fn request(&self, words: &[String], globals: &Globals) -> Result<ExecRequest> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let gid = |&gid: &i64| {
            u32::try_from(gid).map_err(|_| {
                let why = format!("additional-gids must be a positive number {gid}");
                Error::rule(Doing::Exec, why)
            })
        };
        Ok(ExecRequest {
            process: absolute(self.process.as_ref())?,
            args: words.to_vec(),
            cwd: said(&self.cwd),
            env: self.env.clone(),
            tty: self.tty,
            user: said(&self.user)
                .map(|user| UserId::parse(&user))
                .transpose()?,
            additional_gids: self
                .additional_gids
                .iter()
                .map(gid)
                .collect::<Result<_>>()?,
            selinux_label: said(&self.process_label),
            apparmor_profile: said(&self.apparmor),
            no_new_privileges: self.no_new_privs,
            caps: self.cap.clone(),
            cgroup: parse_cgroups(&self.cgroup)?,
            ignore_paused: self.ignore_paused,
            wishes: Wishes {
                detach: self.detach,
                preserve_fds: self.preserve_fds,
                console_socket: absolute(self.console_socket.as_ref())?,
                pidfd_socket: absolute(self.pidfd_socket.as_ref())?,
                pid_file: absolute(self.pid_file.as_ref())?,
                ..globals.wishes()
            },
        })
    }
}
