//! Hooks: the operator's programs, run at points of the container's life (config.md, "POSIX-platform
//! Hooks").
//!
//! A hook is spawned by vfork and attended (see [`Running`]) until it ends; that takes no thread, so
//! the same code serves the process outside and the one that becomes the container.
#![forbid(unsafe_code)]

use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Result};
use crate::run::attend::{Capture, End, Feed, Running};
use crate::sys::reap::Exit;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

/// The points of life that have hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Deprecated by the spec and in wide use: outside, before the root is entered.
    Prestart,
    /// Outside, right after `Prestart`.
    CreateRuntime,
    /// In the container's namespaces, before the root is entered.
    CreateContainer,
    /// In the container, right before its program.
    StartContainer,
    /// Outside, once the program runs.
    Poststart,
    /// Outside, once the container is deleted.
    Poststop,
}

impl Kind {
    /// All of them, in the order of life.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// The name in config.json.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// All hooks of a config, checked and in the form that the kernel takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    all: Vec<Hook>,
}

#[derive(Debug, Clone)]
struct Hook {
    kind: Kind,
    number: usize,
    path: CString,
    args: Vec<CString>,
    /// None: the environment of whoever runs the hook, as runc and crun have it.
    env: Option<Vec<CString>>,
    timeout: Option<Duration>,
}

impl Hooks {
    /// Checks what the spec demands of every hook.
    pub(crate) fn plan(config: &Config) -> Result<Self> {
        let Some(hooks) = &config.hooks else {
            return Ok(Self::default());
        };
        #[allow(deprecated)] // by the spec, not by engines
        let prestart = hooks.prestart();
        let lists = [
            (Kind::Prestart, prestart),
            (Kind::CreateRuntime, hooks.create_runtime()),
            (Kind::CreateContainer, hooks.create_container()),
            (Kind::StartContainer, hooks.start_container()),
            (Kind::Poststart, hooks.poststart()),
            (Kind::Poststop, hooks.poststop()),
        ];
        // runc gives startContainer hooks the container's environment by default; people rely on it.
        let process = config.process.as_ref().map(|process| &process.env);
        let mut all = Vec::new();
        for (kind, list) in lists {
            let default = process.filter(|_| kind == Kind::StartContainer);
            for (number, hook) in list.iter().flatten().enumerate() {
                all.push(Hook::plan(kind, number, hook, default)?);
            }
        }
        Ok(Self { all })
    }

    /// Whether there is any hook of that kind.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.all.iter().any(|hook| hook.kind == kind)
    }

    /// Runs the hooks of a kind in their order, each with the container's state on its stdin.
    ///
    /// Stops at the first that fails; whether that ends the container is for the caller to say.
    /// They run where the caller is: in its namespaces, its root and its current directory.
    pub(crate) fn run(&self, kind: Kind, state: &[u8]) -> Result<()> {
        self.of(kind).try_for_each(|hook| hook.run(state, None))
    }

    /// As [`run`](Self::run), for a process that must live for them to make sense: whoever kills
    /// it must not wait for a hook that hangs.
    pub(crate) fn run_for(&self, init: BorrowedFd<'_>, kind: Kind, state: &[u8]) -> Result<()> {
        self.of(kind)
            .try_for_each(|hook| hook.run(state, Some(init)))
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Hook> {
        self.all.iter().filter(move |hook| hook.kind == kind)
    }

    /// Runs every hook of a kind, whatever becomes of the others, and returns what went wrong: the
    /// spec wants failures of poststart and poststop logged and the rest run.
    pub(crate) fn run_all(&self, kind: Kind, state: &[u8]) -> Vec<Error> {
        self.of(kind)
            .filter_map(|hook| hook.run(state, None).err())
            .collect()
    }
}

impl Hook {
    fn plan(
        kind: Kind,
        number: usize,
        hook: &oci_spec::runtime::Hook,
        default: Option<&Vec<String>>,
    ) -> Result<Self> {
        let field = |name: &str| format!("hooks.{}[{number}].{name}", kind.name());
        let wrong = |name, why: &str| Error::rule(Doing::CheckConfig, why).field(field(name));
        let text = |name, text: &[u8]| {
            CString::new(text).map_err(|_| wrong(name, "must not contain a NUL byte"))
        };
        let texts = |name, list: &Vec<String>| -> Result<Vec<CString>> {
            list.iter().map(|one| text(name, one.as_bytes())).collect()
        };
        if !hook.path().is_absolute() {
            return Err(wrong("path", "must be absolute").on(hook.path().display()));
        }
        let path = text("path", hook.path().as_os_str().as_bytes())?;
        let args = match hook.args().as_ref().filter(|args| !args.is_empty()) {
            Some(args) => texts("args", args)?,
            None => vec![path.clone()],
        };
        let env = hook.env().as_ref().or(default);
        let env = env.map(|env| texts("env", env)).transpose()?;
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) => match u64::try_from(seconds) {
                Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
                _ => return Err(wrong("timeout", "must be greater than zero").on(seconds)),
            },
        };
        Ok(Self {
            kind,
            number,
            path,
            args,
            env,
            timeout,
        })
    }

    fn run(&self, state: &[u8], init: Option<BorrowedFd<'_>>) -> Result<()> {
        let Self { kind, number, .. } = self;
        let kind = kind.name();
        self.go(state, init).map_err(|why| {
            Error::quoting(
                Doing::RunHook,
                format!("error running {kind} hook #{number}: {why}"),
            )
            .on(self.path.to_string_lossy())
            .field(format!("hooks.{kind}[{number}]"))
        })
    }

    /// From spawn to reaped, in the words that follow `hook #0: ` when it fails.
    fn go(&self, state: &[u8], init: Option<BorrowedFd<'_>>) -> std::result::Result<(), String> {
        let deadline = self
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let mut running = self.spawn(state).map_err(|error| error.to_string())?;
        let ended = running.attend(deadline, init);
        let exit = ended.map_err(|errno| Error::os(Doing::RunHook, errno).to_string())?;
        let how = match exit {
            End::Bereft => return Err("the container's process died meanwhile".to_owned()),
            End::Late => {
                let seconds = self.timeout.unwrap_or_default().as_secs_f64();
                return Err(format!("hook ran past specified timeout of {seconds:.1}s"));
            }
            End::Exit(Exit::Code(0)) => return Ok(()),
            End::Exit(Exit::Code(code)) => format!("exit status {code}"),
            End::Exit(Exit::Killed(signal)) => match Signal::try_from(signal) {
                Ok(signal) => format!("signal: {signal}"),
                Err(_) => format!("signal: {signal}"),
            },
        };
        Err(format!(
            "{how}, stdout: {}, stderr: {}",
            running.out.said(),
            running.err.said()
        ))
    }

    fn spawn(&self, state: &[u8]) -> Result<Running> {
        let mut stdin = Feed::new(state).doing(Doing::RunHook)?;
        let (out, stdout) = Capture::new().doing(Doing::RunHook)?;
        let (err, stderr) = Capture::new().doing(Doing::RunHook)?;
        // A caller may ignore or block signals, and the runtime itself blocks nearly all while it
        // is in the foreground; a hook must not inherit that.
        let mut attr = PosixSpawnAttr::init().doing(Doing::RunHook)?;
        let mut actions = PosixSpawnFileActions::init().doing(Doing::RunHook)?;
        attr.set_sigmask(&SigSet::empty())
            .and_then(|()| attr.set_sigdefault(&SigSet::all()))
            .and_then(|()| {
                attr.set_flags(
                    PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                        | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
                )
            })
            .and_then(|()| actions.add_dup2(stdin.reader().as_raw_fd(), 0))
            .and_then(|()| actions.add_dup2(stdout.as_raw_fd(), 1))
            .and_then(|()| actions.add_dup2(stderr.as_raw_fd(), 2))
            .doing(Doing::RunHook)?;
        stdin.feed().doing(Doing::RunHook)?;

        let inherited;
        let env = match &self.env {
            Some(env) => env,
            None => {
                inherited = environment();
                &inherited
            }
        };
        let pid = posix_spawn(self.path.as_c_str(), &actions, &attr, &self.args, env)
            .doing(Doing::ExecProgram)
            .map_err(|error| error.on(self.path.to_string_lossy()))?;
        Ok(Running::new(pid.as_raw(), stdin, out, err))
    }
}

/// Our environment, for hooks that bring none.
fn environment() -> Vec<CString> {
    let entries = std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        CString::new(entry)
    });
    entries.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::attend::KEEP;

    fn plan(json: &str) -> Result<Hooks> {
        Hooks::plan(&serde_json::from_str(json).unwrap())
    }

    fn hook(script: &str, more: &str) -> Hooks {
        let script = serde_json::to_string(script).unwrap();
        let json = format!(r#"{{"path": "/bin/sh", "args": ["sh", "-c", {script}]{more}}}"#);
        plan(&format!(r#"{{"hooks": {{"poststop": [{json}]}}}}"#)).unwrap()
    }

    fn fails(script: &str, more: &str) -> String {
        let error = hook(script, more).run(Kind::Poststop, b"{}").unwrap_err();
        error.to_string()
    }

    #[test]
    fn a_path_must_be_absolute_and_a_timeout_greater_than_zero() {
        let error = plan(r#"{"hooks": {"prestart": [{"path": "bin/x"}]}}"#).unwrap_err();
        assert!(
            error.to_string().contains("hooks.prestart[0].path"),
            "{error}"
        );
        for timeout in [0, -1] {
            let json = format!(r#"[{{"path": "/x"}}, {{"path": "/x", "timeout": {timeout}}}]"#);
            let error = plan(&format!(r#"{{"hooks": {{"createRuntime": {json}}}}}"#)).unwrap_err();
            assert!(
                error.to_string().contains("hooks.createRuntime[1].timeout"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_hooks_are_no_work() {
        let hooks = plan("{}").unwrap();
        assert!(!hooks.has(Kind::Prestart));
        assert_eq!(hooks.run(Kind::Prestart, b"{}"), Ok(()));
    }

    #[test]
    fn a_hook_reads_the_state_to_its_end() {
        let hooks = hook(r#"test "$(cat)" = '{"id": "web1"}'"#, "");
        assert_eq!(hooks.run(Kind::Poststop, br#"{"id": "web1"}"#), Ok(()));
    }

    #[test]
    fn a_state_larger_than_a_pipe_arrives_whole() {
        let hooks = hook("sleep 0.05; test $(wc -c) = 1000000", "");
        assert_eq!(hooks.run(Kind::Poststop, &vec![b'x'; 1_000_000]), Ok(()));
    }

    #[test]
    fn a_hook_need_not_read_the_state() {
        let hooks = hook("exec <&-; sleep 0.05", "");
        assert_eq!(hooks.run(Kind::Poststop, &vec![b'x'; 1_000_000]), Ok(()));
    }

    #[test]
    fn a_failure_tells_kind_number_status_and_output() {
        let error = fails("echo out; echo err >&2; exit 9", "");
        assert!(
            error.contains("error running poststop hook #0: exit status 9"),
            "{error}"
        );
        assert!(error.contains("stdout: out\n, stderr: err\n"), "{error}");
        let error = fails("kill -KILL $$", "");
        assert!(error.contains("hook #0: signal: SIGKILL"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure_of_its_hook() {
        let hooks = plan(r#"{"hooks": {"poststop": [{"path": "/no/such"}]}}"#).unwrap();
        let error = hooks.run(Kind::Poststop, b"{}").unwrap_err().to_string();
        let want = "error running poststop hook #0: exec /no/such: no such file or directory";
        assert!(error.contains(want), "{error}");
        assert_eq!(hooks.run_all(Kind::Poststop, b"{}").len(), 1);
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let start = Instant::now();
        let error = fails("sleep 60", r#", "timeout": 1"#);
        assert!(
            error.contains("hook ran past specified timeout of 1.0s"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_daemon_that_keeps_the_pipes_open_is_not_waited_for() {
        let start = Instant::now();
        let hooks = hook("sleep 60 & echo $! >&2", "");
        assert_eq!(hooks.run(Kind::Poststop, b"{}"), Ok(()));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn more_output_than_is_kept_does_not_block_the_hook() {
        let error = fails("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", "");
        assert!(
            error.len() > KEEP && error.len() < KEEP + 1000,
            "{}",
            error.len()
        );
    }

    #[test]
    fn the_environment_is_the_hooks_own_when_it_says_one() {
        let hooks = hook(r#"test "$A" = b && test -z "$HOME""#, r#", "env": ["A=b"]"#);
        assert_eq!(hooks.run(Kind::Poststop, b"{}"), Ok(()));
    }

    #[test]
    fn a_start_container_hook_has_the_containers_environment_by_default() {
        let json = r#"{"process": {"env": ["IN=side"]}, "hooks": {"startContainer":
            [{"path": "/bin/sh", "args": ["sh", "-c", "test \"$IN\" = side"]}]}}"#;
        assert_eq!(plan(json).unwrap().run(Kind::StartContainer, b"{}"), Ok(()));
    }

    #[test]
    fn signals_that_the_runtime_blocks_or_ignores_reach_a_hook() {
        SigSet::all().thread_block().unwrap();
        let error = fails("kill -PIPE $$; exit 0", "");
        assert!(error.contains("signal: SIGPIPE"), "{error}");
    }

    #[test]
    fn no_descriptor_of_ours_reaches_a_hook() {
        let hooks = hook("test ! -e /proc/self/fd/3 -a ! -e /proc/self/fd/4", "");
        let open = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(hooks.run(Kind::Poststop, b"{}"), Ok(()));
        drop(open);
    }
}
