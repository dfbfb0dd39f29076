//! Those that a runtime waits for, and commands that meet: hooks, consoles, two at once.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel;
use crate::lab::{self, Lab};
use crate::{cases, check, same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};

cases! {
    fault_a_hook_that_hangs_is_killed_at_each_stage,
    fault_a_hook_may_leave_a_daemon_with_its_stdio,
    fault_a_failing_hook_may_leave_a_daemon_with_its_stdio,
    fault_a_console_that_never_answers,
    fault_a_console_that_hangs_up,
    fault_a_console_that_is_busy_for_ever,
    fault_two_deletes_at_once,
    fault_start_during_delete,
    fault_exec_during_delete,
    fault_kill_during_start,
}

fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 1})
}

fn fault_a_hook_that_hangs_is_killed_at_each_stage(lab: &Lab) -> Result {
    for kind in crate::cases::hooks::KINDS {
        let mut bundle = lab.idle()?;
        bundle.set(&format!("/hooks/{kind}"), json!([hook("exec sleep 1000")]))?;
        let container = lab.adopt(&lab.id(), &bundle);
        let mut failed = Vec::new();
        let made = lab.launch("create", &bundle, &container.id, &[])?;
        for (verb, output) in [("create", Ok(made)), ("start", container.start())] {
            let output = output?;
            if output.code != 0 {
                check!(
                    output.err.trim().lines().count() == 1,
                    "{kind}: {verb}: {}",
                    output.err
                );
                failed.push(verb);
            }
        }
        container.delete(&["--force"])?.ok()?;
        // A poststop hook is nobody's obstacle; the others are, to the command that runs them.
        same!(kind, failed.is_empty(), kind == "poststop");
    }
    Ok(())
}

/// A hook whose child outlives it and holds on to its stdin, stdout and stderr.
fn with_daemon(lab: &Lab, last: &str) -> Result<(Bundle, std::path::PathBuf)> {
    let pid = lab.path("daemon");
    let mut bundle = lab.idle()?;
    let script = format!("sleep 1000 & echo $! > {}; {last}", pid.display());
    bundle.set("/hooks/createRuntime", json!([hook(&script)]))?;
    Ok((bundle, pid))
}

fn end_daemon(file: &std::path::Path) -> Result {
    let pid = Pid::from_raw(lab::text(file)?.trim().parse()?);
    kill(pid, Signal::SIGKILL)?;
    kernel::until("the end of the daemon", || {
        (!kernel::alive(pid.as_raw())).then_some(())
    })
}

fn fault_a_hook_may_leave_a_daemon_with_its_stdio(lab: &Lab) -> Result {
    let (bundle, pid) = with_daemon(lab, "true")?;
    let container = lab.create(&bundle)?;
    same!("status", container.status()?, "created");
    container.delete(&["--force"])?.ok()?;
    end_daemon(&pid)
}

fn fault_a_failing_hook_may_leave_a_daemon_with_its_stdio(lab: &Lab) -> Result {
    let (bundle, pid) = with_daemon(lab, "echo my reason >&2; exit 3")?;
    let output = lab
        .launch("create", &bundle, &lab.id(), &[])?
        .refused("create")?;
    end_daemon(&pid)?;
    check!(
        !lab.is_creel() || output.err.contains("my reason"),
        "{}",
        output.err
    );
    check!(lab.states().is_empty(), "state is left: {:?}", lab.states());
    Ok(())
}

fn terminal(lab: &Lab) -> Result<Bundle> {
    let mut bundle = lab.idle()?;
    bundle.set("/process/terminal", true)?;
    bundle.save()?;
    Ok(bundle)
}

fn fault_a_console_that_never_answers(lab: &Lab) -> Result {
    let bundle = terminal(lab)?;
    let path = lab.path("console");
    let _never_accepts = UnixListener::bind(&path)?;
    let container = lab.create_with(&bundle, &["--console-socket", &path.to_string_lossy()])?;
    container.start()?.ok()?;
    container.executes("sleep")?;
    container.delete(&["--force"])?.ok()?;
    Ok(())
}

fn fault_a_console_that_hangs_up(lab: &Lab) -> Result {
    let bundle = terminal(lab)?;
    let path = lab.path("console");
    drop(UnixListener::bind(&path)?);
    let id = lab.id();
    let output = lab.launch(
        "create",
        &bundle,
        &id,
        &["--console-socket", &path.to_string_lossy()],
    )?;
    let output = output.refused("a console that nobody listens at")?;
    check!(
        output.err.to_lowercase().contains("connection refused"),
        "{}",
        output.err
    );
    check!(lab.states().is_empty(), "state is left: {:?}", lab.states());
    Ok(())
}

/// As many wait to be accepted as the kernel lets wait: a connect(2) would sleep until one is.
fn fault_a_console_that_is_busy_for_ever(lab: &Lab) -> Result {
    let bundle = terminal(lab)?;
    let path = lab.path("console");
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )?;
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path)?)?;
    rustix::net::listen(&socket, 0)?;
    let _waits = UnixStream::connect(&path)?;
    let id = lab.id();
    let output = lab.launch(
        "create",
        &bundle,
        &id,
        &["--console-socket", &path.to_string_lossy()],
    )?;
    let output = output.refused("a console that is busy for ever")?;
    check!(
        output
            .err
            .to_lowercase()
            .contains("temporarily unavailable"),
        "{}",
        output.err
    );
    check!(lab.states().is_empty(), "state is left: {:?}", lab.states());
    Ok(())
}

/// A command that runs while others do, its words in a file.
struct Running {
    child: Child,
    err: std::path::PathBuf,
}

fn spawn(lab: &Lab, args: &[&str]) -> Result<Running> {
    let err = lab.path(&format!("{}.err", lab.id()));
    let mut command = lab.command(args);
    command
        .stdin(lab.null()?)
        .stdout(Stdio::null())
        .stderr(File::create(&err)?);
    Ok(Running {
        child: command.spawn()?,
        err,
    })
}

impl Running {
    /// Its exit status and its words: none if it succeeded, one line if not.
    fn end(mut self) -> Result<(i32, String)> {
        let code = lab::code(self.child.wait()?);
        let text = lab::text(&self.err)?;
        check!(code < 256, "died of signal {}: {text}", code - 256);
        check!(
            code == 0 || text.trim().lines().count() == 1,
            "exit {code}, not one line: {text:?}"
        );
        Ok((code, text))
    }
}

/// How often two commands meet; each time, the second has a little more time before it.
const ROUNDS: u64 = 20;

/// Has two commands meet on a container, which must be gone when both have ended.
fn meet(
    lab: &Lab,
    started: bool,
    first: &[&str],
    second: &[&str],
    judge: impl Fn(&str, &str) -> Result,
) -> Result {
    let bundle = lab.idle()?;
    for round in 0..ROUNDS {
        let container = lab.create(&bundle)?;
        if started {
            container.start()?.ok()?;
        }
        let with_id = |words: &[&str]| -> Vec<String> {
            words
                .iter()
                .map(|word| word.replace("ID", &container.id))
                .collect()
        };
        let (first, second) = (with_id(first), with_id(second));
        let call =
            |words: &[String]| spawn(lab, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let one = call(&first)?;
        std::thread::sleep(std::time::Duration::from_micros(300 * round));
        let other = call(&second)?;
        let ((one, said), (other, added)) = (one.end()?, other.end()?);
        check!(one == 0 || other == 0, "both failed: {said} {added}");
        judge(&said, &added)?;
        container.delete(&["--force"])?.ok()?;
        check!(
            lab.states().is_empty(),
            "round {round}: state is left: {:?}",
            lab.states()
        );
    }
    Ok(())
}

/// What a command may say of a container that another one ends.
fn is_about_its_end(text: &str) -> Result {
    let words = [
        "does not exist",
        "stopped",
        "not running",
        "has died",
        "signal 9",
        "died",
        "killed",
    ];
    check!(
        text.is_empty() || words.iter().any(|word| text.contains(word)),
        "{text}"
    );
    Ok(())
}

fn fault_two_deletes_at_once(lab: &Lab) -> Result {
    let delete = ["delete", "--force", "ID"];
    meet(lab, true, &delete, &delete, |one, other| {
        check!(one.is_empty() && other.is_empty(), "{one}{other}");
        Ok(())
    })
}

fn fault_start_during_delete(lab: &Lab) -> Result {
    meet(
        lab,
        false,
        &["delete", "--force", "ID"],
        &["start", "ID"],
        |delete, start| {
            check!(delete.is_empty(), "{delete}");
            is_about_its_end(start)
        },
    )
}

fn fault_exec_during_delete(lab: &Lab) -> Result {
    meet(
        lab,
        true,
        &["delete", "--force", "ID"],
        &["exec", "ID", "/bin/true"],
        |delete, exec| {
            check!(delete.is_empty(), "{delete}");
            is_about_its_end(exec)
        },
    )
}

fn fault_kill_during_start(lab: &Lab) -> Result {
    meet(
        lab,
        false,
        &["start", "ID"],
        &["kill", "ID", "KILL"],
        |start, kill| {
            is_about_its_end(start)?;
            is_about_its_end(kill)
        },
    )
}
