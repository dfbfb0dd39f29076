//! A container's life as Docker tells of it.
#![forbid(unsafe_code)]

use super::{ENDLESS, Lesson, reason};
use crate::case::Result;
use crate::docker::Docker;
use crate::engine::IMAGE;
use crate::kernel::until;
use crate::pty::Pty;
use crate::{check, same};
use std::fs::File;
use std::io::Write;
use std::process::Command;

pub(super) const LESSONS: &[Lesson] = &[
    ("docker import", import),
    ("docker run --rm", run),
    ("docker run --rm -i", input),
    ("docker run --rm -it", terminal),
    ("docker run --env --workdir --hostname --entrypoint", asked),
    ("docker run IMAGE nosuch", missing),
    ("docker run IMAGE /etc/passwd", no_program),
    ("docker run -d, docker logs", logs),
    ("docker stop", stop),
    ("docker stop --time 1, of one that does not listen", deaf),
    ("docker kill, docker wait, docker start", kill),
    ("docker kill --signal USR1", signal),
    ("docker rm, docker rm --force", remove),
    ("docker attach", attach),
    ("docker inspect", inspect),
];

fn import(docker: &mut Docker<'_>) -> Result<String> {
    let lab = docker.lab;
    let tar = lab.path("rootfs.tar");
    let mut pack = Command::new("tar");
    pack.arg("-C").arg(lab.image()).arg("-cf").arg(&tar);
    lab.finish(pack.arg("."))?.ok()?;
    let name = "localhost/imported";
    docker
        .call(&["import", &tar.to_string_lossy(), name])?
        .ok()?;
    let output = docker.call(&["run", "--rm", name, "echo", "hello"])?.ok()?;
    same!("stdout", output.out, "hello\n");
    Ok(output.out)
}

fn run(docker: &mut Docker<'_>) -> Result<String> {
    let output = docker.run(&[], "echo out; echo err >&2; exit 3")?;
    same!("stdout", output.out, "out\n");
    same!("stderr", output.err, "err\n");
    same!("exit code", output.code, 3);
    let much = docker.run(&[], "head -c 3000000 /dev/zero")?.ok()?.out;
    same!("much output", much.len(), 3_000_000);
    let left = docker.call(&["ps", "-aq"])?.ok()?.out;
    same!("left", left, "");
    Ok(format!(
        "{} {} exit {}, nothing left",
        output.out, output.err, output.code
    ))
}

fn input(docker: &mut Docker<'_>) -> Result<String> {
    let cat = ["run", "--rm", "-i", IMAGE, "cat"];
    same!("cat", docker.call_with("data\n", &cat)?.ok()?.out, "data\n");
    let large = "0123456789abcdef".repeat(100_000);
    let sum = ["run", "--rm", "-i", IMAGE, "wc", "-c"];
    let counted = docker.call_with(&large, &sum)?.ok()?.out;
    same!("much input", counted.trim(), "1600000");
    Ok(format!("all {} bytes", counted.trim()))
}

fn terminal(docker: &mut Docker<'_>) -> Result<String> {
    let script =
        "tty; until test \"$(stty size)\" = '24 80'; do sleep 0.05; done 2>/dev/null; exit 4";
    let args = ["run", "--rm", "-it", IMAGE, "sh", "-c", script];
    let (code, text) = Pty::new(24, 80)?.run(&mut docker.command(&args))?;
    same!("exit code", code, 4);
    check!(text.contains("/dev/pts/0"), "{text:?}");
    Ok(format!("{text} 24 rows, 80 columns, exit {code}"))
}

fn asked(docker: &mut Docker<'_>) -> Result<String> {
    let mut args = vec!["run", "--rm", "--env", "A=b", "--workdir", "/tmp"];
    args.extend(["--hostname", "box", "--entrypoint", "sh", IMAGE, "-c"]);
    args.push("echo $A; pwd; hostname");
    let output = docker.call(&args)?.ok()?;
    same!("as asked", output.out, "b\n/tmp\nbox\n");
    Ok(output.out)
}

fn missing(docker: &mut Docker<'_>) -> Result<String> {
    let output = docker.call(&["run", "--rm", IMAGE, "nosuch"])?;
    same!("exit code", output.code, 127);
    Ok(format!("exit {}, {}", output.code, reason(&output.err)))
}

fn no_program(docker: &mut Docker<'_>) -> Result<String> {
    let output = docker.call(&["run", "--rm", IMAGE, "/etc/passwd"])?;
    same!("exit code", output.code, 126);
    Ok(format!("exit {}, {}", output.code, reason(&output.err)))
}

fn logs(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], ENDLESS)?;
    let logs = until("both streams in the logs", || {
        let logs = docker.call(&["logs", "c1"]).ok()?;
        (logs.out.contains("up") && logs.err.contains("down")).then_some(logs)
    })?;
    Ok(format!("stdout {} stderr {}", logs.out, logs.err))
}

fn stop(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], ENDLESS)?;
    docker.says("c1", "up")?;
    docker.call(&["stop", "c1"])?.ok()?;
    docker.says("c1", "bye")?;
    let state = docker.inspect("c1", "{{.State.Status}} {{.State.ExitCode}}")?;
    same!("stopped", state, "exited 7");
    Ok(format!("bye, {state}"))
}

fn deaf(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached(
        "c1",
        &[],
        "trap '' TERM; echo up; while :; do sleep 1; done",
    )?;
    docker.says("c1", "up")?;
    docker.call(&["stop", "--time", "1", "c1"])?.ok()?;
    let state = docker.inspect("c1", "{{.State.Status}} {{.State.ExitCode}}")?;
    same!("stopped", state, "exited 137");
    Ok(state)
}

fn kill(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], ENDLESS)?;
    docker.call(&["kill", "c1"])?.ok()?;
    let code = docker.call(&["wait", "c1"])?.ok()?.out;
    same!("wait", code, "137\n");
    docker.call(&["start", "c1"])?.ok()?;
    let state = docker.inspect("c1", "{{.State.Status}}")?;
    same!("again", state, "running");
    Ok(format!("{}, then {state}", code.trim()))
}

fn signal(docker: &mut Docker<'_>) -> Result<String> {
    let script = "trap 'echo heard; exit 5' USR1; echo up; while :; do sleep 0.1; done";
    docker.detached("c1", &[], script)?;
    docker.says("c1", "up")?;
    docker.call(&["kill", "--signal", "USR1", "c1"])?.ok()?;
    let code = docker.call(&["wait", "c1"])?.ok()?.out;
    same!("wait", code, "5\n");
    docker.says("c1", "heard")?;
    Ok(format!("heard, {code}"))
}

fn remove(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], ENDLESS)?;
    docker
        .call(&["rm", "c1"])?
        .refused("the removal of what runs")?;
    docker.call(&["rm", "--force", "c1"])?.ok()?;
    same!("left", docker.call(&["ps", "-aq"])?.ok()?.out, "");
    Ok("refused while it runs; nothing left".into())
}

fn attach(docker: &mut Docker<'_>) -> Result<String> {
    docker
        .call(&["run", "-d", "-i", "--name", "c1", IMAGE, "cat"])?
        .ok()?;
    talk(docker, "c1")
}

/// What is typed into an attached `cat` comes back; then it is killed.
pub(super) fn talk(docker: &Docker<'_>, name: &str) -> Result<String> {
    // Its end would end the answers, too: dockerd closes both ways then.
    let (input, mut to_input) = std::io::pipe()?;
    to_input.write_all(b"hello\n")?;
    let heard = docker.lab.path("heard");
    let mut attach = docker.command(&["attach", name]);
    let mut attach = attach.stdin(input).stdout(File::create(&heard)?).spawn()?;
    let answer = until("the answer", || {
        let text = crate::lab::text(&heard).ok()?;
        (text == "hello\n").then_some(text)
    });
    docker.call(&["kill", name])?;
    attach.wait()?;
    drop(to_input);
    answer
}

/// What it tells of containers that ended each in its own way.
fn inspect(docker: &mut Docker<'_>) -> Result<String> {
    let state = "{{.State.Status}} {{.State.ExitCode}} OOMKilled={{.State.OOMKilled}} \
                 Paused={{.State.Paused}} Dead={{.State.Dead}} Pid={{.State.Pid}}";
    let mut seen = Vec::new();
    for (name, script, code) in [
        ("c1", "true", "0"),
        ("c2", "exit 42", "42"),
        ("c3", "kill -KILL $$", "137"),
    ] {
        docker.detached(name, &["--init"], script)?;
        same!("wait", docker.call(&["wait", name])?.ok()?.out.trim(), code);
        let told = docker.inspect(name, state)?;
        let want = format!("exited {code} OOMKilled=false Paused=false Dead=false Pid=0");
        same!(name, told, want);
        seen.push(told);
    }
    Ok(seen.join("; "))
}
