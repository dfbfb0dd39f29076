//! A container's stdin, stdout and stderr: fifos that somebody reads, a program that logs, a file,
//! or nothing.
#![forbid(unsafe_code)]

use crate::logger::Logger;
use crate::pump::{Flow, Pump};
use crate::runtime::Streams;
use crate::status::{Doing, Result, Status};
use crate::watch::Handle;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may take to open its fifo before we go on without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a client asked for; empty means none.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// A fifo.
    pub stdin: String,
    /// A fifo or a URI.
    pub stdout: String,
    /// A fifo or a URI.
    pub stderr: String,
    /// One terminal instead of three pipes.
    pub terminal: bool,
}

/// Where an output goes.
#[derive(Debug, PartialEq, Eq)]
enum Sink<'a> {
    Nowhere,
    Fifo(&'a Path),
    File(&'a Path),
    Program(&'a str),
}

impl<'a> Sink<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        match text.split_once("://") {
            None if text.is_empty() => Ok(Self::Nowhere),
            None => Ok(Self::Fifo(Path::new(text))),
            Some(("fifo", path)) => Ok(Self::Fifo(Path::new(path))),
            Some(("file", path)) => Ok(Self::File(Path::new(path))),
            Some(("binary", rest)) => Ok(Self::Program(rest)),
            Some((scheme, _)) => Err(Status::invalid(format_args!(
                "stdio by {scheme:?} is not supported"
            ))),
        }
    }
}

/// The streams of one process.
#[derive(Debug, Default)]
pub struct Io {
    /// Set once they run.
    pub flow: Arc<Flow>,
    /// What keeps stdin open until CloseIO.
    pub stdin_kept: Option<OwnedFd>,
    pumps: Vec<Pump>,
    logger: Option<Logger>,
}

impl Io {
    /// Opens everything, and returns the container's ends.
    pub fn open(
        wanted: &Wanted,
        owner: (u32, u32),
        log_as: (&str, &str),
    ) -> Result<(Self, Streams)> {
        let mut io = Self::default();
        let mut streams = crate::runtime::silence();
        let [stdin, stdout, stderr] = &mut streams;
        if !wanted.stdin.is_empty() {
            let (ours, theirs) = io.stdin_pipe(&wanted.stdin)?;
            give(&theirs, owner)?;
            let (from, to) = ours;
            io.pumps.push(Pump::input(from, to, &io.flow));
            *stdin = theirs.into();
        }
        if let (Sink::Program(uri), Sink::Program(_)) =
            (Sink::parse(&wanted.stdout)?, Sink::parse(&wanted.stderr)?)
        {
            let (logger, out, err) = Logger::start(uri, log_as)?;
            give(&out, owner)?;
            give(&err, owner)?;
            (*stdout, *stderr) = (out.into(), err.into());
            io.logger = Some(logger);
            return Ok((io, streams));
        }
        *stdout = io.output(&wanted.stdout, owner, log_as)?;
        *stderr = io.output(&wanted.stderr, owner, log_as)?;
        Ok((io, streams))
    }

    /// Reads the client's fifo into a pipe for the container.
    fn stdin_pipe(&mut self, fifo: &str) -> Result<((OwnedFd, OwnedFd), OwnedFd)> {
        let from = self.stdin_fifo(fifo)?;
        let (theirs, to) = pipe2(OFlag::O_CLOEXEC).doing("stdin pipe")?;
        nonblocking(&to)?;
        Ok(((from, to), theirs))
    }

    fn stdin_fifo(&mut self, fifo: &str) -> Result<OwnedFd> {
        let Sink::Fifo(path) = Sink::parse(fifo)? else {
            return Err(Status::invalid("stdin can only be a fifo"));
        };
        let from = open_end(path, OFlag::O_RDONLY)?;
        // Without this end, the first client to leave would end the container's input.
        self.stdin_kept = Some(open_end(path, OFlag::O_WRONLY)?);
        Ok(from)
    }

    fn output(&mut self, uri: &str, owner: (u32, u32), log_as: (&str, &str)) -> Result<Stdio> {
        match Sink::parse(uri)? {
            Sink::Nowhere => Ok(Stdio::null()),
            // Nothing has to be kept for a file's sake: the container writes it itself.
            Sink::File(path) => Ok(append(path)?.into()),
            Sink::Program(uri) => {
                let (logger, out, _) = Logger::start(uri, log_as)?;
                give(&out, owner)?;
                self.logger = Some(logger);
                Ok(out.into())
            }
            Sink::Fifo(path) => {
                let (to, kept) = open_output(path)?;
                let (from, theirs) = pipe2(OFlag::O_CLOEXEC).doing("output pipe")?;
                nonblocking(&from)?;
                give(&theirs, owner)?;
                self.pumps
                    .push(Pump::output(from, to, Some(kept), &self.flow));
                Ok(theirs.into())
            }
        }
    }

    /// The streams of a process with a terminal: its master, both ways.
    pub fn terminal(wanted: &Wanted, master: &OwnedFd, log_as: (&str, &str)) -> Result<Self> {
        let mut io = Self::default();
        nonblocking(master)?;
        if !wanted.stdin.is_empty() {
            let from = io.stdin_fifo(&wanted.stdin)?;
            let to = master.try_clone()?;
            io.pumps.push(Pump::input(from, to, &io.flow));
        }
        let from = master.try_clone()?;
        let pump = match Sink::parse(&wanted.stdout)? {
            Sink::Nowhere => {
                let null = File::options().write(true).open("/dev/null")?;
                Pump::output(from, null.into(), None, &io.flow)
            }
            Sink::Fifo(path) => {
                let (to, kept) = open_output(path)?;
                Pump::output(from, to, Some(kept), &io.flow)
            }
            Sink::File(path) => Pump::output(from, append(path)?.into(), None, &io.flow),
            Sink::Program(uri) => {
                let (logger, out, _) = Logger::start(uri, log_as)?;
                nonblocking(&out)?;
                io.logger = Some(logger);
                Pump::output(from, out, None, &io.flow)
            }
        };
        io.pumps.push(pump);
        Ok(io)
    }

    /// Lets them flow.
    pub fn run(&mut self, watch: &Handle) {
        for pump in self.pumps.drain(..) {
            watch.add(pump);
        }
    }

    /// Waits until the outputs have ended, and calls off what has not by then.
    pub fn finish(&mut self, watch: &Handle, patience: Duration) {
        self.pumps.clear();
        self.stdin_kept = None;
        self.flow.wait(patience);
        self.flow.cancel();
        watch.prune();
        if let Some(logger) = self.logger.take() {
            logger.finish();
        }
    }
}

fn open_end(path: &Path, mode: OFlag) -> Result<OwnedFd> {
    let flags = mode | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).doing(path.display())
}

/// The writing end of a client's fifo, and the reading one to hold.
///
/// The client may be about to open its end. If we opened both and were done before that, it would
/// wait for ever, and what was written be lost; so we wait for it, but not for ever.
fn open_output(path: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let end = Instant::now() + PATIENCE;
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    loop {
        match open(path, flags, Mode::empty()) {
            Err(Errno::ENXIO) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(Errno::ENXIO) => break,
            other => {
                let to = other.doing(path.display())?;
                return Ok((to, open_end(path, OFlag::O_RDONLY)?));
            }
        }
    }
    let kept = open_end(path, OFlag::O_RDONLY)?;
    Ok((open_end(path, OFlag::O_WRONLY)?, kept))
}

/// A log file to append to; its directory may be missing.
fn append(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).doing(dir.display())?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .doing(path.display())
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).doing("O_NONBLOCK")?;
    Ok(())
}

/// Gives the container's end to the user that the options name.
fn give(fd: &OwnedFd, (uid, gid): (u32, u32)) -> Result<()> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    fchown(
        fd.as_fd(),
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )
    .doing("IoUid, IoGid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_a_fifo_a_file_or_a_program() {
        assert_eq!(Sink::parse("").unwrap(), Sink::Nowhere);
        for fifo in ["/a/b", "fifo:///a/b"] {
            assert_eq!(Sink::parse(fifo).unwrap(), Sink::Fifo(Path::new("/a/b")));
        }
        assert_eq!(
            Sink::parse("file:///a").unwrap(),
            Sink::File(Path::new("/a"))
        );
        assert_eq!(
            Sink::parse("binary:///log?a=b").unwrap(),
            Sink::Program("/log?a=b")
        );
        assert!(Sink::parse("stream://x").is_err());
    }
}
