//! Terminals: the console socket, its size, and `run` on a pty.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::pty::{Pty, Receiver, drain, size};
use crate::{cases, check, same};
use serde_json::json;
use std::fs::File;
use std::io::Write;

cases! {
    the_console_socket_receives_the_terminal,
    the_console_is_dev_console,
    the_console_has_the_configs_size,
    the_console_is_the_controlling_terminal,
    the_console_belongs_to_the_user,
    a_terminal_without_a_console_socket_is_refused,
    a_console_socket_without_a_terminal_is_refused,
    a_console_socket_that_is_missing_is_refused,
    run_with_a_terminal_speaks_through_the_callers,
    run_with_a_terminal_takes_the_callers_size,
    run_with_a_terminal_passes_input_on,
    exec_with_a_tty_speaks_through_the_callers,
    exec_with_a_console_socket_sends_its_terminal,
    without_a_terminal_there_is_no_console,
}

fn with(lab: &Lab, script: &str) -> Result<Bundle> {
    let mut bundle = lab.script(script)?;
    bundle.set("/process/terminal", true)?;
    Ok(bundle)
}

/// Runs the bundle to its end and returns what it wrote to its terminal.
fn on_console(lab: &Lab, bundle: &Bundle) -> Result<String> {
    let socket = Receiver::new(&lab.path("console"))?;
    let flags = ["--console-socket", &socket.path.to_string_lossy()];
    let container = lab.create_with(bundle, &flags)?;
    let (_, master) = socket.receive()?;
    container.start()?.ok()?;
    drain(&File::from(master))
}

fn the_console_socket_receives_the_terminal(lab: &Lab) -> Result {
    let bundle = with(
        lab,
        "test -t 0 && test -t 1 && test -t 2 && echo yes; read x; echo got $x",
    )?;
    let socket = Receiver::new(&lab.path("console"))?;
    let flags = ["--console-socket", &socket.path.to_string_lossy()];
    let container = lab.create_with(&bundle, &flags)?;
    let (_, master) = socket.receive()?;
    let mut master = File::from(master);
    container.start()?.ok()?;
    master.write_all(b"typed\n")?;
    let told = drain(&master)?;
    check!(told.contains("yes") && told.contains("got typed"), "{told}");
    Ok(())
}

fn the_console_is_dev_console(lab: &Lab) -> Result {
    let script = "stat -c '%t:%T' /dev/console /dev/pts/0; tty";
    let told = on_console(lab, &with(lab, script)?)?;
    let words: Vec<&str> = told.split_whitespace().collect();
    same!("console, pts, tty", words, ["88:0", "88:0", "/dev/pts/0"]);
    Ok(())
}

fn the_console_has_the_configs_size(lab: &Lab) -> Result {
    let mut bundle = with(lab, "stty size")?;
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 101}))?;
    same!("stty size", on_console(lab, &bundle)?.trim(), "33 101");
    Ok(())
}

fn the_console_is_the_controlling_terminal(lab: &Lab) -> Result {
    let told = on_console(lab, &with(lab, "echo direct > /dev/tty")?)?;
    same!("told", told.trim(), "direct");
    Ok(())
}

fn the_console_belongs_to_the_user(lab: &Lab) -> Result {
    let mut bundle = with(
        lab,
        "stat -c %u /dev/pts/0; echo x > /dev/pts/0 && echo done",
    )?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    let told = on_console(lab, &bundle)?;
    let words: Vec<&str> = told.split_whitespace().collect();
    same!("told", words, ["1000", "x", "done"]);
    Ok(())
}

fn a_terminal_without_a_console_socket_is_refused(lab: &Lab) -> Result {
    let bundle = with(lab, "true")?;
    lab.launch("create", &bundle, &lab.id(), &[])?
        .refused("create with a terminal")?;
    lab.launch("run", &bundle, &lab.id(), &["-d"])?
        .refused("run -d with a terminal")?;
    Ok(())
}

fn a_console_socket_without_a_terminal_is_refused(lab: &Lab) -> Result {
    let socket = Receiver::new(&lab.path("console"))?;
    let flags = ["--console-socket", &socket.path.to_string_lossy()];
    lab.launch("create", &lab.bundle()?, &lab.id(), &flags)?
        .refused("a needless socket")?;
    Ok(())
}

fn a_console_socket_that_is_missing_is_refused(lab: &Lab) -> Result {
    let path = lab.path("nowhere");
    let flags = ["--console-socket", &path.to_string_lossy()];
    lab.launch("create", &with(lab, "true")?, &lab.id(), &flags)?
        .refused("a missing socket")?;
    Ok(())
}

fn run_on_pty(lab: &Lab, bundle: &Bundle, pty: Pty) -> Result<(i32, String)> {
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    pty.run(&mut lab.command(&["run", "-b", &dir, &id]))
}

fn run_with_a_terminal_speaks_through_the_callers(lab: &Lab) -> Result {
    let bundle = with(lab, "test -t 0 && echo yes; exit 5")?;
    let (code, told) = run_on_pty(lab, &bundle, Pty::new(24, 80)?)?;
    same!("told", told.trim(), "yes");
    same!("exit code", code, 5);
    Ok(())
}

fn run_with_a_terminal_takes_the_callers_size(lab: &Lab) -> Result {
    let pty = Pty::new(40, 132)?;
    same!("our own", size(&pty.master)?, (40, 132));
    // The size may arrive a moment after the start.
    let script =
        "for i in $(seq 500); do s=$(stty size); [ \"$s\" = '40 132' ] && break; done; echo $s";
    let (_, told) = run_on_pty(lab, &with(lab, script)?, pty)?;
    same!("stty size", told.trim(), "40 132");
    Ok(())
}

fn run_with_a_terminal_passes_input_on(lab: &Lab) -> Result {
    let pty = Pty::new(24, 80)?;
    let mut master = pty.master.try_clone()?;
    master.write_all(b"typed\n")?;
    let (code, told) = run_on_pty(lab, &with(lab, "read x; echo got $x")?, pty)?;
    check!(told.contains("got typed"), "{told}");
    same!("exit code", code, 0);
    Ok(())
}

fn exec_with_a_tty_speaks_through_the_callers(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let script = "test -t 0 && echo yes; exit 6";
    let mut command = lab.command(&["exec", "--tty", &container.id, "sh", "-c", script]);
    let (code, told) = Pty::new(24, 80)?.run(&mut command)?;
    same!("told", told.trim(), "yes");
    same!("exit code", code, 6);
    Ok(())
}

fn exec_with_a_console_socket_sends_its_terminal(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let socket = Receiver::new(&lab.path("console"))?;
    let path = socket.path.to_string_lossy();
    let flags = ["--tty", "--detach", "--console-socket", &path];
    let script = ["sh", "-c", "test -t 1 && echo yes"];
    container.call("exec", &flags, &script)?.ok()?;
    let (_, master) = socket.receive()?;
    same!("told", drain(&File::from(master))?.trim(), "yes");
    Ok(())
}

fn without_a_terminal_there_is_no_console(lab: &Lab) -> Result {
    let bundle = lab.script("test -e /dev/console && echo there; test -t 0 || echo no tty")?;
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let mut command = lab.command(&["run", "-b", &dir, &id]);
    same!(
        "told",
        lab.finish(command.stdin(lab.null()?))?.ok()?.out,
        "no tty\n"
    );
    Ok(())
}
