//! `binary://`: a program of the client's that gets the container's output as descriptors 3 and 4,
//! and closes (or writes to) descriptor 5 when it is ready.
#![forbid(unsafe_code)]

use crate::status::{Doing, Result, Status};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The word that makes us become a logger instead of a shim.
pub const ROLE: &str = "-logger";
/// How long a logger may take to write what it has, as with the Go shim.
const PATIENCE: Duration = Duration::from_secs(12);

/// A logger that runs.
#[derive(Debug)]
pub struct Logger(Child);

impl Logger {
    /// Starts the program of a URI's rest, `/path?key=value&...`: the container's two ends.
    pub fn start(uri: &str, (id, namespace): (&str, &str)) -> Result<(Self, OwnedFd, OwnedFd)> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let (out, to_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (err, to_err) = pipe2(OFlag::O_CLOEXEC)?;
        let (ready, to_ready) = pipe2(OFlag::O_CLOEXEC)?;
        // Descriptors 3 to 5 are put in place by ourselves in another role: see `become_logger`.
        let mut command = Command::new("/proc/self/exe");
        command.arg(ROLE).arg(decoded(path)?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            command.arg(decoded(key)?);
            if !value.is_empty() {
                command.arg(decoded(value)?);
            }
        }
        command
            .env_remove(crate::bootstrap::ARENAS)
            .env("CONTAINER_ID", id)
            .env("CONTAINER_NAMESPACE", namespace)
            .stdin(out)
            .stdout(err)
            .stderr(to_ready)
            .process_group(0);
        let child = command.spawn().doing("start the logger")?;
        drop(command);
        let mut word = [0];
        // The end of the file counts as ready, too.
        File::from(ready)
            .read(&mut word)
            .doing("wait for the logger")?;
        Ok((Self(child), to_out, to_err))
    }

    /// Waits for it: its pipes have ended. One that does not end is told to.
    pub fn finish(mut self) {
        for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
            let pid = i32::try_from(self.0.id()).unwrap_or(0);
            if let (Some(signal), 1..) = (signal, pid) {
                kill(Pid::from_raw(pid), signal).unwrap_or(());
            }
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end {
                match self.0.try_wait() {
                    Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                    // ECHILD: whoever adopted it has reaped it.
                    Ok(Some(_)) | Err(_) => return,
                }
            }
        }
    }
}

/// Puts stdin, stdout and stderr to 3, 4 and 5, and becomes the program.
pub fn become_logger(mut args: impl Iterator<Item = std::ffi::OsString>) -> Result<()> {
    let program = args.next().ok_or_else(|| Status::invalid("no logger"))?;
    // All that is open are our three; these fill the next numbers.
    let mut places = Vec::new();
    for number in 3..=5 {
        let place = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
        if place.as_raw_fd() != number {
            return Err(Status::precondition("descriptors 3 to 5 are taken"));
        }
        places.push(place);
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    if let [three, four, five] = places.as_mut_slice() {
        dup2(std::io::stdin(), three)?;
        dup2(std::io::stdout(), four)?;
        dup2(std::io::stderr(), five)?;
    }
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Err(Command::new(program).args(args).exec().into())
}

/// A part of a URI without its percent signs.
fn decoded(text: &str) -> Result<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(if byte == b'+' { b' ' } else { byte });
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit(), digit());
        let value = high
            .zip(low)
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        out.push(value.ok_or_else(|| Status::invalid(format_args!("logger URI: {text}")))?);
    }
    String::from_utf8(out).map_err(|_| Status::invalid("logger URI: not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_loses_its_percent_signs() {
        assert_eq!(decoded("/a%20b+c").unwrap(), "/a b c");
        assert!(decoded("%2").is_err());
        assert!(decoded("%zz").is_err());
    }
}
