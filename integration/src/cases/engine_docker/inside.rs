//! What Docker does with a container while it runs.
#![forbid(unsafe_code)]

use super::{ENDLESS, Lesson, reason};
use crate::case::Result;
use crate::docker::Docker;
use crate::kernel::until;
use crate::lab::{Output, text};
use crate::pty::Pty;
use crate::{check, same};
use std::process::Stdio;

pub(super) const LESSONS: &[Lesson] = &[
    ("docker exec", exec),
    ("docker exec -i", input),
    ("docker exec -it", terminal),
    ("docker exec --user --workdir --env", asked),
    ("docker exec nosuch", missing),
    ("docker exec -d", detached),
    ("docker exec, while the container is killed", killed),
    ("docker top", top),
    ("docker stats --no-stream", stats),
    ("docker cp, in and out", copy),
    ("docker diff, docker commit", commit),
    ("docker pause, docker unpause", pause),
];

/// Its pid in the container is 1, whoever else is there.
fn started(docker: &Docker<'_>) -> Result {
    docker.detached("c1", &[], ENDLESS)
}

fn in_it(docker: &Docker<'_>, words: &[&str]) -> Result<Output> {
    docker.call(&[&["exec"], words].concat())
}

fn exec(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let output = in_it(
        docker,
        &["c1", "sh", "-c", "echo out; echo err >&2; exit 6"],
    )?;
    same!("stdout", output.out, "out\n");
    same!("stderr", output.err, "err\n");
    same!("exit code", output.code, 6);
    Ok(format!(
        "{} {} exit {}",
        output.out, output.err, output.code
    ))
}

fn input(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let cat = docker.call_with("data\n", &["exec", "-i", "c1", "cat"])?;
    same!("stdin", cat.out, "data\n");
    Ok(cat.ok()?.out)
}

fn terminal(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let script =
        "tty; until test \"$(stty size)\" = '24 80'; do sleep 0.05; done 2>/dev/null; exit 4";
    let args = ["exec", "-it", "c1", "sh", "-c", script];
    let (code, text) = Pty::new(24, 80)?.run(&mut docker.command(&args))?;
    same!("exit code", code, 4);
    check!(text.contains("/dev/pts/0"), "{text:?}");
    Ok(format!("{text} 24 rows, 80 columns, exit {code}"))
}

fn asked(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let mut words = vec!["--user", "1000", "--workdir", "/tmp", "--env", "A=b"];
    words.extend(["c1", "sh", "-c", "id -u; pwd; echo $A"]);
    let output = in_it(docker, &words)?.ok()?;
    same!("as asked", output.out, "1000\n/tmp\nb\n");
    Ok(output.out)
}

fn missing(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let output = in_it(docker, &["c1", "nosuch"])?;
    // 126 until Docker 20.10, 127 since.
    check!(matches!(output.code, 126 | 127), "exit {}", output.code);
    let said = reason(&format!("{}{}", output.out, output.err));
    Ok(format!("exit {}, {said}", output.code))
}

fn detached(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    in_it(docker, &["-d", "c1", "touch", "/tmp/was-here"])?.ok()?;
    until("it has run", || {
        let test = in_it(docker, &["c1", "test", "-e", "/tmp/was-here"]).ok()?;
        (test.code == 0).then_some(())
    })?;
    Ok("it runs".into())
}

fn killed(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let mut exec = docker.command(&["exec", "c1", "sh", "-c", "touch /tmp/in; sleep 1000"]);
    let mut exec = exec.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    until("it runs", || {
        let test = in_it(docker, &["c1", "test", "-e", "/tmp/in"]).ok()?;
        (test.code == 0).then_some(())
    })?;
    docker.call(&["kill", "c1"])?.ok()?;
    let code = crate::lab::code(exec.wait()?);
    same!("exit code", code, 137);
    Ok(format!("exit {code}"))
}

fn top(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], "exec sleep 1000")?;
    let top = docker.call(&["top", "c1", "-o", "pid,comm"])?.ok()?.out;
    let pid = docker.inspect("c1", "{{.State.Pid}}")?;
    let lines: Vec<Vec<&str>> = top
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    same!(
        "processes",
        lines.get(1..),
        Some(&[vec![&*pid, "sleep"]][..])
    );
    Ok("sleep, by its pid on the host".into())
}

fn stats(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &["--memory", "64m"], "exec sleep 1000")?;
    let format = "{{.PIDs}} {{.MemUsage}}";
    let told = docker
        .call(&["stats", "--no-stream", "--format", format, "c1"])?
        .ok()?;
    let words = told.words();
    same!("processes", words.first(), Some(&"1"));
    same!("limit", words.last(), Some(&"64MiB"));
    check!(words.get(1) != Some(&"0B"), "{}", told.out);
    Ok("1 process, some memory of 64MiB".into())
}

fn copy(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    let file = docker.lab.file("file", "hello\n")?;
    docker
        .call(&["cp", &file.to_string_lossy(), "c1:/tmp/file"])?
        .ok()?;
    let inside = in_it(docker, &["c1", "cat", "/tmp/file"])?.ok()?.out;
    same!("in", inside, "hello\n");
    let back = docker.lab.path("back");
    docker
        .call(&["cp", "c1:/tmp/file", &back.to_string_lossy()])?
        .ok()?;
    same!("out", text(&back)?, "hello\n");
    Ok(inside)
}

fn commit(docker: &mut Docker<'_>) -> Result<String> {
    started(docker)?;
    in_it(docker, &["c1", "touch", "/kept"])?.ok()?;
    let diff = docker.call(&["diff", "c1"])?.ok()?.out;
    check!(diff.contains("A /kept"), "{diff}");
    docker.call(&["commit", "c1", "localhost/kept"])?.ok()?;
    docker
        .call(&["run", "--rm", "localhost/kept", "test", "-e", "/kept"])?
        .ok()?;
    Ok("A /kept, and it is in the image".into())
}

fn pause(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], "while :; do echo; sleep 0.01; done")?;
    docker.call(&["pause", "c1"])?.ok()?;
    let state = docker.inspect("c1", "{{.State.Status}}")?;
    same!("state", state, "paused");
    in_it(docker, &["c1", "true"])?.refused("exec")?;
    docker.call(&["unpause", "c1"])?.ok()?;
    in_it(docker, &["c1", "true"])?.ok()?;
    let again = docker.inspect("c1", "{{.State.Status}}")?;
    same!("state", again, "running");
    Ok(format!("{state}, exec refused, then {again}"))
}
