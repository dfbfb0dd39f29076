//! What an `exec` was asked for on the command line, and how it bends the container's process.
#![forbid(unsafe_code)]

use super::status::Status;
use crate::bundle::config::{Capabilities, Process};
use crate::error::{Doing, Error, Explain, Result};
use crate::plan::wishes::Wishes;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Whether terminal, `--detach` and `--console-socket` go together; in runc's words.
///
/// # Errors
/// A terminal would have nobody at its other end, or a socket would get none.
pub fn check_console(wishes: &Wishes, terminal: bool) -> Result<()> {
    let why = match (wishes.detach && terminal, wishes.console_socket.is_some()) {
        (true, false) => "cannot allocate tty if runc will detach without setting console socket",
        (false, true) => "cannot use console socket if runc will not detach or allocate tty",
        _ => return Ok(()),
    };
    Err(Error::rule(Doing::OpenConsole, why))
}

/// The options of `exec`.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// `--process`: a process.json instead of everything else here, absolute.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `--cwd`
    pub cwd: Option<String>,
    /// `--env`, added to config.json's.
    pub env: Vec<String>,
    /// `--tty`
    pub tty: bool,
    /// `--user`
    pub user: Option<UserId>,
    /// `--additional-gids`, added to config.json's.
    pub additional_gids: Vec<u32>,
    /// `--process-label`
    pub selinux_label: Option<String>,
    /// `--apparmor`
    pub apparmor_profile: Option<String>,
    /// `--no-new-privs`
    pub no_new_privileges: bool,
    /// `--cap`, added to config.json's.
    pub caps: Vec<String>,
    /// `--cgroup`: sub-cgroup by controller; on v2 the controller is empty.
    pub cgroup: BTreeMap<String, String>,
    /// `--ignore-paused`
    pub ignore_paused: bool,
    /// The options shared with `create`.
    pub wishes: Wishes,
}

/// `--user uid[:gid]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserId {
    /// The user.
    pub uid: u32,
    /// The group, if given.
    pub gid: Option<u32>,
}

impl UserId {
    /// Reads `uid[:gid]`, digits only: what does not parse must never become root
    /// (CVE-2026-30892).
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let id = |what: &str, text: &str| match text.parse() {
            // u32::MAX means "leave as it is" to the kernel.
            Ok(u32::MAX) | Err(_) => Err(Error::rule(
                Doing::Exec,
                format!("bad {what}: {text:?} is not an id"),
            )),
            Ok(_) if !text.starts_with(|c: char| c.is_ascii_digit()) => Err(Error::rule(
                Doing::Exec,
                format!("bad {what}: {text:?} is not an id"),
            )),
            Ok(id) => Ok(id),
        };
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(id("gid", gid)?)),
            None => (text, None),
        };
        Ok(Self {
            uid: id("uid", uid)?,
            gid,
        })
    }
}

/// Reads `--cgroup [controller[,controller]:]path`, any number of them.
///
/// # Errors
/// A controller is empty, missing or said twice.
pub fn parse_cgroups(args: &[String]) -> Result<BTreeMap<String, String>> {
    let mut paths = BTreeMap::new();
    let wrong = |why: String| Err(Error::rule(Doing::Exec, why));
    for arg in args {
        let Some((controllers, path)) = arg.split_once(':') else {
            if args.len() != 1 {
                return wrong(format!(
                    "invalid --cgroup argument: {arg} (missing <controller>: prefix)"
                ));
            }
            paths.insert(String::new(), arg.clone());
            continue;
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return wrong(format!(
                    "invalid --cgroup argument: {arg} (empty <controller> prefix)"
                ));
            }
            if paths
                .insert(controller.to_owned(), path.to_owned())
                .is_some()
            {
                return wrong(format!(
                    "invalid --cgroup argument(s): controller {controller} specified multiple times"
                ));
            }
        }
    }
    Ok(paths)
}

impl ExecRequest {
    /// Whether a container of that status takes another process; in runc's words.
    ///
    /// # Errors
    /// It is stopped, or paused and `--ignore-paused` was not given.
    pub fn check_status(&self, status: Status) -> Result<()> {
        let why = match status {
            Status::Paused if !self.ignore_paused => {
                "cannot exec in a paused container (use --ignore-paused to override)"
            }
            Status::Stopped => "cannot exec in a stopped container",
            Status::Creating => "cannot exec in a container that is being created",
            Status::Created | Status::Running | Status::Paused => return Ok(()),
        };
        Err(Error::rule(Doing::Exec, why))
    }

    /// The process to run: config.json's, with the options applied. Not for `--process`.
    ///
    /// # Errors
    /// There is nothing to run.
    pub fn bend(&self, mut process: Process) -> Result<Process> {
        if self.args.is_empty() {
            return Err(Error::rule(Doing::Exec, "exec args cannot be empty"))
                .hint("name a program, or give --process");
        }
        process.args.clone_from(&self.args);
        let set = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        set(&mut process.cwd, &self.cwd);
        set(&mut process.apparmor_profile, &self.apparmor_profile);
        set(&mut process.selinux_label, &self.selinux_label);
        process.env.extend_from_slice(&self.env);
        process.terminal = self.tty;
        process.no_new_privileges |= self.no_new_privileges;
        if let Some(UserId { uid, gid }) = self.user {
            process.user.uid = uid;
            process.user.gid = gid.unwrap_or(process.user.gid);
        }
        process
            .user
            .additional_gids
            .extend_from_slice(&self.additional_gids);
        if !self.caps.is_empty() {
            add(process.capabilities.get_or_insert_default(), &self.caps);
        }
        Ok(process)
    }
}

/// Never to the inheritable set (CVE-2022-29162); ambient needs inheritable, so only with it.
fn add(sets: &mut Capabilities, caps: &[String]) {
    sets.bounding.extend_from_slice(caps);
    sets.effective.extend_from_slice(caps);
    sets.permitted.extend_from_slice(caps);
    if !sets.inheritable.is_empty() {
        sets.ambient.extend_from_slice(caps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_socket_is_for_a_detached_terminal_and_for_nothing_else() {
        let wishes = |detach, socket: bool| Wishes {
            detach,
            console_socket: socket.then(|| "/s".into()),
            ..Wishes::default()
        };
        for (detach, terminal, socket, fine) in [
            (true, true, true, true),
            (true, true, false, false),
            (true, false, true, false),
            (false, true, true, false),
            (true, false, false, true),
            (false, true, false, true),
        ] {
            assert_eq!(
                check_console(&wishes(detach, socket), terminal).is_ok(),
                fine
            );
        }
    }

    #[test]
    fn a_user_is_strictly_digits() {
        assert_eq!(UserId::parse("1"), Ok(UserId { uid: 1, gid: None }));
        assert_eq!(
            UserId::parse("1:2"),
            Ok(UserId {
                uid: 1,
                gid: Some(2)
            })
        );
        for bad in [
            "",
            ":5",
            "1:",
            "-1",
            "+1",
            "1a",
            "1 ",
            "4294967295",
            "4294967296",
            "root",
        ] {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sub_cgroups_are_a_path_or_controllers_with_one() {
        let parse = |args: &[&str]| {
            parse_cgroups(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
        };
        let owned = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(parse(&[]), Ok(owned(&[])));
        assert_eq!(parse(&["sub"]), Ok(owned(&[("", "sub")])));
        assert_eq!(
            parse(&["cpu,memory:a"]),
            Ok(owned(&[("cpu", "a"), ("memory", "a")]))
        );
        for bad in [&["a", "b"][..], &[":a"], &["cpu,:a"], &["cpu:a", "cpu:b"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn options_bend_the_process_of_config_json() {
        let process = Process {
            terminal: true,
            env: vec!["A=1".into()],
            cwd: "/".into(),
            capabilities: Some(Capabilities::default()),
            ..Process::default()
        };
        let request = ExecRequest {
            args: vec!["sh".into()],
            env: vec!["B=2".into()],
            user: UserId::parse("5").ok(),
            caps: vec!["CAP_KILL".into()],
            ..ExecRequest::default()
        };
        let bent = request.bend(process).expect("bent");
        assert_eq!(bent.args, ["sh"]);
        assert_eq!(bent.env, ["A=1", "B=2"]);
        assert_eq!((bent.user.uid, bent.user.gid), (5, 0));
        assert!(!bent.terminal, "a terminal is asked for anew");
        let caps = bent.capabilities.expect("sets");
        assert_eq!(caps.effective, ["CAP_KILL"]);
        assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
    }

    #[test]
    fn a_process_joins_created_running_and_on_request_paused_containers() {
        let polite = ExecRequest::default();
        let bold = ExecRequest {
            ignore_paused: true,
            ..ExecRequest::default()
        };
        for status in [Status::Created, Status::Running] {
            assert_eq!(polite.check_status(status), Ok(()));
        }
        let error = polite
            .check_status(Status::Paused)
            .expect_err("paused")
            .to_string();
        assert!(
            error.contains("cannot exec in a paused container"),
            "{error}"
        );
        assert_eq!(bold.check_status(Status::Paused), Ok(()));
        assert!(bold.check_status(Status::Stopped).is_err());
    }

    #[test]
    fn an_exec_of_nothing_is_refused() {
        let error = ExecRequest::default()
            .bend(Process::default())
            .expect_err("must fail");
        assert!(error.to_string().contains("exec args cannot be empty"));
    }
}
