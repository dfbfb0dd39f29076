//! The shim itself: takes the socket it was given, and serves until containerd says Shutdown.
#![forbid(unsafe_code)]

use crate::bootstrap::Words;
use crate::events::Publisher;
use crate::jail;
use crate::reap::{Nursery, Signals};
use crate::shim::{Door, Shim};
use crate::status::{Doing, Result};
use crate::watch::Watch;
use crate::work::Workers;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long containerd may take to hear the last events.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub fn serve(words: &Words) -> Result<()> {
    let listener = UnixListener::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    listener.set_nonblocking(true)?;
    open_log();
    set_child_subreaper(true).doing("become the subreaper")?;

    let socket = Path::new(&words.socket).to_owned();
    let socket_dir = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let ttrpc = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let mut watch = Watch::new()?;
    let handle = watch.handle();
    let nursery = Nursery::default();
    handle.add(Signals::block(&nursery)?);
    let workers = Workers::start()?;
    let publisher = Publisher::new(&ttrpc, &words.namespace, &workers);
    let shim = Arc::new(Shim::new(
        &words.namespace,
        socket_dir,
        handle,
        workers,
        publisher,
        nursery,
    ));
    shim.watch.add(Door {
        listener,
        spare: Some(null.into()),
        shim: Arc::clone(&shim),
    });
    // A cwd in the bundle would keep its mount busy after the bundle is gone.
    std::env::set_current_dir("/")?;
    // A kernel without seccomp runs containers as well.
    if let Err(error) = jail::enter() {
        creel::log::warning(&format_args!("the shim is not jailed: {error}"));
    }
    watch.run()?;
    shim.publisher.finish(PATIENCE);
    // Nothing that this thread may do.
    let (done, removed) = channel();
    shim.workers.take_first(move || {
        std::fs::remove_file(socket).unwrap_or(());
        drop(done);
    });
    removed.recv().unwrap_or(());
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
