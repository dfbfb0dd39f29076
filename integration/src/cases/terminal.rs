//! A person at a terminal: the runtime stands on a pty that is its session's own, keys are typed and
//! the screen is read.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::{self, patience, until};
use crate::lab::Lab;
use crate::pty::readable;
use crate::{cases, check, same};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use rustix::termios::tcsetwinsize;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::Instant;

cases! {
    ctrl_c_is_the_containers: [Tool("setsid")],
    ctrl_d_ends_the_containers_input: [Tool("setsid")],
    ctrl_z_and_fg_are_the_containers_shells: [Tool("setsid")],
    vi_draws_the_new_size_after_a_resize: [Tool("setsid")],
    exec_follows_a_resize: [Tool("setsid")],
    a_terminated_run_leaves_the_terminal_as_it_was: [Tool("setsid")],
    a_killed_run_leaves_the_terminal_as_it_was: [Tool("setsid")],
    a_run_that_fails_leaves_the_terminal_as_it_was: [Tool("setsid")],
}

/// A terminal, and the runtime in its foreground.
struct Seat {
    master: File,
    slave: OwnedFd,
    child: Child,
    screen: String,
}

impl Seat {
    /// Sits down before a runtime with these arguments.
    fn new(lab: &Lab, args: &[&str]) -> Result<Self> {
        let size = window(24, 80);
        let pair = openpty(&size, None)?;
        let end = || pair.slave.try_clone().map(Stdio::from);
        let runtime = lab.command(args);
        let mut command = std::process::Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(runtime.get_program())
            .args(runtime.get_args())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let child = command
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()?;
        Ok(Self {
            master: File::from(pair.master),
            slave: pair.slave,
            child,
            screen: String::new(),
        })
    }

    /// `run` of a shell script with a terminal.
    fn run(lab: &Lab, id: &str, bundle: &mut Bundle) -> Result<Self> {
        bundle.set("/process/terminal", true)?;
        bundle.save()?;
        Self::new(lab, &["run", "-b", &bundle.dir.to_string_lossy(), id])
    }

    fn types(&mut self, keys: &str) -> Result {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Waits until the screen shows this, from the last thing that was waited for on.
    fn shows(&mut self, what: &str) -> Result {
        let deadline = Instant::now() + patience();
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.screen.find(what) {
                self.screen.drain(..at + what.len());
                return Ok(());
            }
            check!(
                Instant::now() < deadline,
                "{what:?} is not on the screen: {:?}",
                self.screen
            );
            if readable(&self.master)? {
                let count = self.master.read(&mut buffer)?;
                self.screen
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }

    fn resize(&self, rows: u16, columns: u16) -> Result {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// Whether keys are echoed and edited by line, as when we sat down.
    fn is_sane(&self) -> Result<bool> {
        let modes = tcgetattr(&self.slave)?;
        Ok(modes
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG))
    }

    fn becomes_sane(&self) -> Result {
        until("a sane terminal", || {
            self.is_sane().ok().filter(|&sane| sane).map(|_| ())
        })
    }

    fn code(&mut self) -> Result<i32> {
        let status = until("the runtime ends", || self.child.try_wait().ok().flatten())?;
        Ok(crate::lab::code(status))
    }

    /// The runtime itself, below setsid.
    fn runtime(&self) -> Result<i32> {
        until("the runtime runs", || {
            let all = kernel::descendants(self.child.id());
            let found = all
                .iter()
                .find(|&&pid| kernel::command_line(pid).contains("--root"));
            // setsid forks only if it has to.
            let itself = kernel::command_line(self.child.id());
            let itself = (!itself.starts_with("setsid")).then_some(self.child.id());
            itself
                .or(found.copied())
                .and_then(|pid| i32::try_from(pid).ok())
        })
    }
}

fn window(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn ctrl_c_is_the_containers(lab: &Lab) -> Result {
    let mut bundle =
        lab.script("trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done")?;
    let mut seat = Seat::run(lab, &lab.id(), &mut bundle)?;
    seat.shows("up")?;
    seat.types("\x03")?;
    seat.shows("caught")?;
    same!("exit code", seat.code()?, 9);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}

fn ctrl_d_ends_the_containers_input(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo up; cat; echo end; exit 4")?;
    let mut seat = Seat::run(lab, &lab.id(), &mut bundle)?;
    seat.shows("up")?;
    seat.types("typed\r")?;
    // The echo, and what cat says.
    seat.shows("typed")?;
    seat.shows("typed")?;
    seat.types("\x04")?;
    seat.shows("end")?;
    same!("exit code", seat.code()?, 4);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}

fn ctrl_z_and_fg_are_the_containers_shells(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/bin/sh", "-i"])?;
    let mut seat = Seat::run(lab, &lab.id(), &mut bundle)?;
    seat.shows("#")?;
    seat.types("echo a''b; sh -c 'echo in; read x; echo got $x'\r")?;
    seat.shows("ab")?;
    seat.shows("in\r")?;
    seat.types("\x1a")?;
    seat.shows("Stopped")?;
    seat.types("fg\r")?;
    seat.shows("read x")?;
    seat.types("word\r")?;
    seat.shows("got word")?;
    seat.types("exit 3\r")?;
    same!("exit code", seat.code()?, 3);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}

fn vi_draws_the_new_size_after_a_resize(lab: &Lab) -> Result {
    let mut bundle =
        lab.script("for i in $(seq 100); do echo line$i; done > /tmp/f; exec vi /tmp/f")?;
    let mut seat = Seat::run(lab, &lab.id(), &mut bundle)?;
    // 24 rows: 23 of the text.
    seat.shows("line23")?;
    seat.resize(50, 100)?;
    seat.shows("line49")?;
    check!(
        !seat.screen.contains("line50"),
        "more than fits: {:?}",
        seat.screen
    );
    seat.types(":q!\r")?;
    same!("exit code", seat.code()?, 0);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}

fn exec_follows_a_resize(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done";
    let args = ["exec", "-t", &container.id, "sh", "-c", script];
    let mut seat = Seat::new(lab, &args)?;
    seat.shows("24 80")?;
    seat.resize(33, 101)?;
    seat.shows("33 101")?;
    seat.types("\x03")?;
    same!("exit code", seat.code()?, 130);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}

fn a_terminated_run_leaves_the_terminal_as_it_was(lab: &Lab) -> Result {
    let mut bundle = lab.script("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")?;
    let mut seat = Seat::run(lab, &lab.id(), &mut bundle)?;
    seat.shows("up")?;
    check!(!seat.is_sane()?, "the terminal is not raw meanwhile");
    kill(Pid::from_raw(seat.runtime()?), Signal::SIGTERM)?;
    same!("exit code", seat.code()?, 5);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}

fn a_killed_run_leaves_the_terminal_as_it_was(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo up; exec sleep 1000")?;
    let id = lab.id();
    let _container = lab.adopt(&id, &bundle);
    let mut seat = Seat::run(lab, &id, &mut bundle)?;
    seat.shows("up")?;
    check!(!seat.is_sane()?, "the terminal is not raw meanwhile");
    kill(Pid::from_raw(seat.runtime()?), Signal::SIGKILL)?;
    seat.becomes_sane()
}

fn a_run_that_fails_leaves_the_terminal_as_it_was(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["nosuch"])?;
    let mut seat = Seat::run(lab, &lab.id(), &mut bundle)?;
    seat.shows("executable file not found")?;
    same!("exit code", seat.code()?, 1);
    check!(seat.is_sane()?, "the terminal is raw");
    Ok(())
}
