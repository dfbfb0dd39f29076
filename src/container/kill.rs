//! Signalling a container: its init, or all of it where init's death would not end the rest.
#![forbid(unsafe_code)]

use super::Container;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
use crate::log::quote;
use crate::sys::pidfd;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::str::FromStr;

/// The first and last real-time signal as C programs number them: glibc keeps 32 and 33.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// Reads a signal: a number, or a name in any case with or without `SIG`.
///
/// # Errors
/// There is no signal of that name.
pub fn parse_signal(text: &str) -> Result<i32> {
    // As runc: any number, whether there is such a signal is for the kernel to say.
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = match name {
        "CLD" => Some(Signal::SIGCHLD as i32),
        "POLL" => Some(Signal::SIGIO as i32),
        "IOT" => Some(Signal::SIGABRT as i32),
        name => real_time(name).or_else(|| {
            Signal::from_str(&format!("SIG{name}"))
                .ok()
                .map(|signal| signal as i32)
        }),
    };
    known.ok_or_else(|| Error::rule(Doing::Kill, format!("unknown signal {}", quote(text))))
}

/// `RTMIN`, `RTMIN+n`, `RTMAX`, `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => SIGRTMIN,
        (_, Some("")) => SIGRTMAX,
        (Some(rest), _) => SIGRTMIN.checked_add(rest.strip_prefix('+')?.parse().ok()?)?,
        (_, Some(rest)) => SIGRTMAX.checked_sub(rest.strip_prefix('-')?.parse().ok()?)?,
        _ => return None,
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

/// Who gets the signal.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Init,
    /// Init is no reaper here: without a pid namespace of the container's own, its death leaves
    /// the others alive, so they are killed too, even when it is gone already.
    Cgroup,
}

fn target(signal: i32, owns_pid_namespace: bool) -> Target {
    if signal == Signal::SIGKILL as i32 && !owns_pid_namespace {
        Target::Cgroup
    } else {
        Target::Init
    }
}

impl Container {
    /// Sends a signal.
    ///
    /// No lock is taken: the identity of init is checked through its descriptor, and a `start`
    /// that hangs in a hook must not keep anybody from killing the container.
    ///
    /// # Errors
    /// The container is not running, or the kernel refuses.
    pub fn kill(&self, signal: i32) -> Result<()> {
        match target(signal, self.state().creel.namespaces.owns("pid")) {
            Target::Init => self.signal_init(signal),
            Target::Cgroup => self.kill_cgroup(),
        }
    }

    fn signal_init(&self, signal: i32) -> Result<()> {
        let init = self.init()?.ok_or_else(|| self.not_running())?;
        match pidfd::send_signal(init.as_fd(), signal) {
            Err(Errno::ESRCH) => return Err(self.not_running()),
            other => other
                .doing(Doing::Signal)
                .on("init")
                .within(Doing::Kill)
                .on(self.id())?,
        }
        if signal == Signal::SIGKILL as i32 {
            self.thaw();
        }
        Ok(())
    }

    fn kill_cgroup(&self) -> Result<()> {
        let hit = Cgroup::open(&self.state().creel.cgroup).and_then(|group| {
            let populated = !group.pids()?.is_empty();
            group.signal(Signal::SIGKILL).map(|()| populated)
        });
        // Always: a rootless container may have no cgroup, or one that we may not touch.
        let init = self.signal_init(Signal::SIGKILL as i32);
        self.thaw();
        match hit {
            Ok(true) => Ok(()),
            Err(error) if error.errno() != Some(Errno::ENOENT) => {
                crate::log::warning(&error);
                init
            }
            _ => init,
        }
    }

    /// With v1's freezer a killed process dies only when thawed. A cgroup that is gone, or was
    /// never ours to freeze, needs no thawing.
    pub(crate) fn thaw(&self) {
        if let Ok(group) = Cgroup::open(&self.state().creel.cgroup)
            && group.is_frozen().unwrap_or(false)
            && let Err(error) = group.thaw()
        {
            crate::log::warning(&error);
        }
    }

    fn not_running(&self) -> Error {
        Error::rule(Doing::Kill, NOT_RUNNING).on(self.id())
    }
}

/// The words that containerd's and CRI-O's kill look for.
pub(crate) const NOT_RUNNING: &str = "container not running";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbers_or_names_in_any_case() {
        for (text, number) in [
            ("9", 9),
            ("0", 0),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Usr1", 10),
            ("winch", 28),
            ("SIGPOLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("RTMAX", 64),
        ] {
            assert_eq!(parse_signal(text).ok(), Some(number), "{text}");
        }
    }

    #[test]
    fn an_unknown_signal_is_named() {
        for text in [
            "BOGUS", "", "SIG", "RTMIN+31", "RTMIN3", "RTMAX-99", "RTMIN+-1", "9x",
        ] {
            let error = parse_signal(text).expect_err(text).to_string();
            assert!(
                error.contains(&format!("unknown signal \"{text}\"")),
                "{error}"
            );
        }
    }

    #[test]
    fn only_a_kill_without_an_own_pid_namespace_is_for_the_whole_cgroup() {
        assert_eq!(target(9, true), Target::Init);
        assert_eq!(target(9, false), Target::Cgroup);
        assert_eq!(target(15, false), Target::Init);
    }
}
