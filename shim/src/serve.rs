//! The shim itself: takes the socket it was given, and serves until containerd says Shutdown.
#![forbid(unsafe_code)]

use crate::bootstrap::Words;
use crate::events::Publisher;
use crate::reap::Signals;
use crate::shim::{Door, Shim};
use crate::status::{Doing, Result};
use crate::watch::Watch;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long containerd may take to hear the last events.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub fn serve(words: &Words) -> Result<()> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    drop(null);
    listener.set_nonblocking(true)?;
    open_log();
    set_child_subreaper(true).doing("become the subreaper")?;

    let socket = Path::new(&words.socket);
    let socket_dir = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let ttrpc = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let publisher = Publisher::new(&ttrpc, &words.namespace);
    let mut watch = Watch::new()?;
    let handle = watch.handle();
    let shim = Arc::new(Shim::new(&words.namespace, socket_dir, handle, publisher));
    shim.watch.add(Signals::block(&shim.nursery)?);
    shim.watch.add(Door {
        listener,
        shim: Arc::clone(&shim),
    });
    // A cwd in the bundle would keep its mount busy after the bundle is gone.
    std::env::set_current_dir("/")?;
    watch.run()?;
    shim.publisher.finish(PATIENCE);
    std::fs::remove_file(socket).unwrap_or(());
    Ok(())
}

/// containerd reads what we have to say from the fifo `log` in the bundle. If it does not, we do
/// not wait for it.
fn open_log() {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    if let Ok(log) = open("log", flags, Mode::empty()) {
        dup2_stderr(&log).unwrap_or(());
    }
}
