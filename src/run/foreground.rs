//! What the runtime does while a container runs in its foreground: it passes on signals and, with a
//! terminal, what is typed and shown, until the container's process ends.
//!
//! One poll loop, no thread and no signal handler. Every signal is blocked from before the clone
//! and read from a signalfd, so that none can end the runtime between two steps; they stay blocked,
//! because what follows (poststop hooks, removal) must not be cut short either.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Explain, Result};
use crate::run::console;
use crate::run::host_terminal::HostTerminal;
use crate::run::notify::Proxy;
use crate::run::relay::{End, Relay};
use crate::sys::reap::{self, Exit};
use crate::sys::{pidfd, signal, tty};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How to be in the foreground.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// `process.terminal`.
    pub(crate) terminal: bool,
    /// Adopt and reap the container's orphans: `run` does unless `--no-subreaper`, `exec` never.
    pub(crate) subreaper: bool,
}

/// The runtime in the foreground. Dropped at any point, it leaves the user's terminal as it was.
#[derive(Debug)]
pub(crate) struct Foreground {
    signals: SignalFd,
    options: Options,
    /// Our end and the container's, until the master has come through.
    socket: Option<(OwnedFd, Option<OwnedFd>)>,
    host: Option<HostTerminal>,
    relay: Option<Relay>,
    notify: Option<Proxy>,
}

/// What poll woke us for.
enum Event {
    Signal,
    Exit,
    Notify,
    Stdio(End),
}

impl Foreground {
    /// To be called before the clone. The child has to call [`signal::reset`].
    pub(crate) fn new(options: Options) -> Result<Self> {
        let all = SigSet::all();
        all.thread_block().doing(Doing::Signal)?;
        // If our caller ignores SIGCHLD, children vanish with their exit status.
        signal::restore_default(libc::SIGCHLD).doing(Doing::Signal)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&all, flags).doing(Doing::Signal)?;
        if options.subreaper {
            prctl::set_child_subreaper(true).doing(Doing::Await)?;
        }
        let mut socket = None;
        let mut host = None;
        if options.terminal {
            let flags = SockFlag::SOCK_CLOEXEC;
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
                .doing(Doing::Terminal)?;
            socket = Some((ours, Some(theirs)));
            host = HostTerminal::find();
        }
        Ok(Self {
            signals,
            options,
            socket,
            host,
            relay: None,
            notify: None,
        })
    }

    /// Passes readiness on, too. We are the process to watch then, for we stay.
    pub(crate) fn notifying(self, notify: Option<Proxy>) -> Self {
        Self { notify, ..self }
    }

    /// The container's end of the console socket, once. The parent must close it after the clone:
    /// else the death of a child that never sent its console goes unnoticed.
    pub(crate) fn console_socket(&mut self) -> Option<OwnedFd> {
        self.socket.as_mut().and_then(|(_, theirs)| theirs.take())
    }

    /// Takes the container's terminal over: waits for its master, and makes the user's raw.
    pub(crate) fn receive_console(&mut self) -> Result<()> {
        let Some((ours, theirs)) = self.socket.take() else {
            return Ok(());
        };
        drop(theirs);
        self.adopt(console::receive_master(ours.as_fd())?)
    }

    fn adopt(&mut self, master: OwnedFd) -> Result<()> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let stdin = stdin.as_fd().try_clone_to_owned().doing(Doing::Terminal)?;
        let stdout = stdout.as_fd().try_clone_to_owned().doing(Doing::Terminal)?;
        self.relay_between(master, stdin, stdout)
    }

    fn relay_between(&mut self, master: OwnedFd, stdin: OwnedFd, stdout: OwnedFd) -> Result<()> {
        // The user's terminal adds the carriage returns. Without one there shall be none.
        let mut modes = tcgetattr(&master).doing(Doing::Terminal)?;
        modes.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&master, SetArg::TCSANOW, &modes).doing(Doing::Terminal)?;
        self.relay = Some(Relay::new(master, stdin, stdout).doing(Doing::Terminal)?);
        self.resize();
        match &mut self.host {
            Some(host) => host.make_raw().doing(Doing::Terminal),
            None => Ok(()),
        }
    }

    /// Serves the container's process until it ends, and returns the exit status to end with.
    ///
    /// The process must be our child. What its terminal still holds is shown before this returns.
    pub(crate) fn wait(mut self, pid: i32, init: BorrowedFd) -> Result<i32> {
        self.receive_console()?;
        let exit = self.serve(pid, init)?;
        let Self { signals, relay, .. } = &mut self;
        if let Some(relay) = relay.take() {
            relay.finish(|output| writable(output, signals));
        }
        Ok(exit.status())
    }

    fn serve(&mut self, pid: i32, init: BorrowedFd) -> Result<Exit> {
        loop {
            let events = self.poll(init).doing(Doing::Await).on(pid)?;
            for event in events {
                let exit = match event {
                    Event::Signal => self.pass_signals(pid, init).doing(Doing::Await)?,
                    Event::Exit => reap::try_wait(init).doing(Doing::Await).on(pid)?,
                    Event::Notify => {
                        self.pass_readiness();
                        None
                    }
                    Event::Stdio(end) => {
                        if let Some(relay) = &mut self.relay {
                            relay.serve(end);
                        }
                        None
                    }
                };
                if let Some(exit) = exit {
                    return Ok(exit);
                }
            }
        }
    }

    fn poll(&mut self, init: BorrowedFd) -> nix::Result<Vec<Event>> {
        let waiting = self.relay.as_ref().is_some_and(Relay::waiting);
        let wants = self.relay.as_ref().map(Relay::wants).unwrap_or_default();
        let mut events = vec![Event::Signal, Event::Exit];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(init, PollFlags::POLLIN),
        ];
        if let Some(notify) = &self.notify {
            events.push(Event::Notify);
            fds.push(PollFd::new(notify.socket(), PollFlags::POLLIN));
        }
        for (end, fd, flags) in wants {
            events.push(Event::Stdio(end));
            fds.push(PollFd::new(fd, flags));
        }
        let timeout = match waiting {
            true => PollTimeout::from(1000u16),
            false => PollTimeout::NONE,
        };
        let count = match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(Vec::new()),
            other => other?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() != Some(false)).collect();
        if count == 0 {
            self.come_forward();
        }
        let ready = events.into_iter().zip(ready);
        Ok(ready
            .filter_map(|(event, ready)| ready.then_some(event))
            .collect())
    }

    fn pass_readiness(&mut self) {
        let pid = std::process::id().cast_signed();
        if let Some(notify) = &mut self.notify
            && let Err(error) = notify.serve(pid)
        {
            crate::log::warning(&error);
            self.notify = None;
        }
    }

    /// Back in the foreground of the user's terminal, or maybe: set it up again.
    fn come_forward(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.resume();
            if let Some(host) = &mut self.host {
                // The container runs; a terminal that refuses is no reason to end it.
                host.make_raw().ok();
            }
        }
    }

    /// Acts on all pending signals. `Some` if reaping found that the container's process ended.
    fn pass_signals(&mut self, pid: i32, init: BorrowedFd) -> nix::Result<Option<Exit>> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match number {
                libc::SIGCHLD => {
                    if let Some(exit) = self.reap_orphans(pid)? {
                        return Ok(Some(exit));
                    }
                    continue;
                }
                libc::SIGWINCH => {
                    self.resize();
                    continue;
                }
                libc::SIGURG => continue,
                // Ours: someone closed the pipe we were writing to.
                libc::SIGPIPE if info.ssi_pid == std::process::id() => continue,
                // A shell that resumes us has put its own modes on the terminal meanwhile.
                libc::SIGCONT => self.come_forward(),
                _ => {}
            }
            match pidfd::send_signal(init, number) {
                // It has just ended, or has become another user's: as runc, that ends nothing here.
                Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    fn reap_orphans(&self, pid: i32) -> nix::Result<Option<Exit>> {
        if !self.options.subreaper {
            return Ok(None);
        }
        while let Some((ended, exit)) = reap::any()? {
            if ended == pid {
                return Ok(Some(exit));
            }
        }
        Ok(None)
    }

    /// Makes the container's terminal as large as the user's. A failure is of no consequence.
    fn resize(&self) {
        let host = self.host.as_ref().map(|host| host.tty.as_fd());
        let master = self.relay.as_ref().and_then(Relay::master);
        if let (Some(host), Some(master)) = (host, master)
            && let Ok(size) = tty::size(host)
            // A terminal that does not know its size has nothing over `process.consoleSize`.
            && (size.ws_row, size.ws_col) != (0, 0)
        {
            tty::set_size(master, &size).ok();
        }
    }
}

/// Waits until output can be written. False if a signal that asks us to end came first.
fn writable(output: BorrowedFd, signals: &SignalFd) -> bool {
    loop {
        let mut fds = [
            PollFd::new(output, PollFlags::POLLOUT),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return false,
            Ok(_) => {}
        }
        if fds.first().is_some_and(|fd| fd.any() != Some(false)) {
            return true;
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let end = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
            if end
                .iter()
                .any(|&signal| i64::from(signal) == i64::from(info.ssi_signo))
            {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::signal::{Signal, raise};
    use nix::unistd::{pipe, read};
    use std::fs::File;
    use std::process::{Command, Stdio};

    /// A child in a fresh signal state, as the stages make it.
    fn child(script: &str, stdio: Option<&OwnedFd>) -> (i32, OwnedFd) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null());
        if let Some(fd) = stdio {
            command.stdout(fd.try_clone().unwrap());
        }
        let pid = i32::try_from(command.spawn().unwrap().id()).unwrap();
        (pid, pidfd::open(pid).unwrap())
    }

    #[test]
    fn the_exit_status_is_the_code_or_128_and_the_signal() {
        for (script, status) in [("exit 42", 42), ("kill -KILL $$", 137), ("exit 0", 0)] {
            let foreground = Foreground::new(Options::default()).unwrap();
            let (pid, fd) = child(script, None);
            assert_eq!(foreground.wait(pid, fd.as_fd()), Ok(status));
        }
    }

    #[test]
    fn a_signal_reaches_the_container_and_sigurg_and_sigwinch_do_not() {
        let foreground = Foreground::new(Options::default()).unwrap();
        let (reader, writer) = pipe().unwrap();
        let script =
            "trap 'exit 3' TERM; trap 'exit 4' URG WINCH; echo; while :; do sleep 0.01; done";
        let (pid, fd) = child(script, Some(&writer));
        assert_eq!(read(&reader, &mut [0; 1]), Ok(1));
        for signal in [Signal::SIGURG, Signal::SIGWINCH, Signal::SIGTERM] {
            raise(signal).unwrap();
        }
        assert_eq!(foreground.wait(pid, fd.as_fd()), Ok(3));
    }

    #[test]
    fn a_terminal_shows_all_that_was_said_without_carriage_returns() {
        let mut foreground = Foreground::new(Options::default()).unwrap();
        let pty = openpty(None, None).unwrap();
        let (screen, output) = pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        foreground
            .relay_between(pty.master, null.into(), output)
            .unwrap();
        let (pid, fd) = child(
            "i=0; while [ $i -lt 500 ]; do echo line; i=$((i+1)); done",
            Some(&pty.slave),
        );
        drop(pty.slave);
        assert_eq!(foreground.wait(pid, fd.as_fd()), Ok(0));
        let mut shown = String::new();
        std::io::Read::read_to_string(&mut File::from(screen), &mut shown).unwrap();
        assert_eq!(shown, "line\n".repeat(500));
    }

    #[test]
    fn the_containers_terminal_takes_the_users_size() {
        let user = openpty(None, None).unwrap();
        let container = openpty(None, None).unwrap();
        let mut size = tty::size(user.slave.as_fd()).unwrap();
        (size.ws_row, size.ws_col) = (50, 132);
        tty::set_size(user.slave.as_fd(), &size).unwrap();
        let mut foreground = Foreground::new(Options::default()).unwrap();
        foreground.host = HostTerminal::of(user.slave);
        let (input, output) = pipe().unwrap();
        foreground
            .relay_between(container.master, input, output)
            .unwrap();
        let got = tty::size(container.slave.as_fd()).unwrap();
        assert_eq!((got.ws_row, got.ws_col), (50, 132));
    }

    #[test]
    fn orphans_are_reaped_meanwhile() {
        // Reaping takes whatever child there is: in a process of its own, not other tests'.
        const ALONE: &str = "CREEL_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "run::foreground::tests::orphans_are_reaped_meanwhile",
                ])
                .env(ALONE, "1")
                .stdout(std::process::Stdio::null())
                .status();
            assert!(status.unwrap().success());
            return;
        }
        let mut foreground = Foreground::new(Options::default()).unwrap();
        // Not through `new`: the whole test process would become a subreaper.
        foreground.options.subreaper = true;
        let (_, orphan) = child("exit 0", None);
        let mut fds = [PollFd::new(orphan.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        raise(Signal::SIGCHLD).unwrap();
        // Both at once would end the wait before the orphan's turn.
        let (pid, fd) = child("sleep 0.2; exit 5", None);
        assert_eq!(foreground.wait(pid, fd.as_fd()), Ok(5));
        assert_eq!(reap::try_wait(orphan.as_fd()), Err(Errno::ECHILD));
    }

    #[test]
    fn a_child_that_dies_without_a_console_is_an_error_and_no_hang() {
        let terminal = Options {
            terminal: true,
            subreaper: false,
        };
        let mut foreground = Foreground::new(terminal).unwrap();
        drop(foreground.console_socket());
        let error = foreground.receive_console().unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ECONNRESET));
    }
}
