//! What the command line asks beyond config.json: options that bend a plan.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;

/// Options of `create`, `run` and `exec` that reach the plan. Paths are absolute: the process
/// changes directory to the bundle.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--systemd-cgroup`: cgroupsPath is `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// `--rootless`: `Some` when said, `None` for `auto`.
    pub rootless: Option<bool>,
    /// `--no-pivot`: move the root over `/` instead of pivot_root, for a root on a ramdisk.
    pub no_pivot: bool,
    /// `--no-new-keyring`: keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// `--preserve-fds N`: fds 3..3+N stay open in the container, besides LISTEN_FDS ones.
    pub preserve_fds: u32,
    /// `--console-socket`: the socket that receives the pty's master end.
    pub console_socket: Option<PathBuf>,
    /// `--pidfd-socket`: the socket that receives a pidfd of the container's process.
    pub pidfd_socket: Option<PathBuf>,
    /// `--pid-file`: where the process id goes, in the caller's pid namespace.
    pub pid_file: Option<PathBuf>,
    /// `--detach`: do not wait for the process (`create` always is).
    pub detach: bool,
    /// `--keep`: `run` leaves the stopped container for `delete`.
    pub keep: bool,
    /// `--no-subreaper`: do not adopt the container's orphans while in the foreground.
    pub no_subreaper: bool,
    /// `$NOTIFY_SOCKET` of a supervisor, for `create`, `run` and their `start` to pass readiness on to.
    pub notify_socket: Option<OsString>,
    /// For `exec`: socket activation is the first process's.
    pub joins: bool,
    /// `--debug`: say more in the log.
    pub debug: bool,
}
