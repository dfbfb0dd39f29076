//! `exec` by flags: another process in a running container.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{self, field, namespace};
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::fs::File;

cases! {
    exec_runs_in_the_container,
    exec_enters_every_namespace,
    exec_returns_the_status_of_the_program,
    exec_returns_128_and_the_signal,
    exec_of_a_missing_program_is_255,
    exec_in_a_missing_container_fails,
    exec_in_a_stopped_container_is_255,
    exec_in_a_created_container_works,
    exec_takes_cwd,
    exec_without_cwd_uses_the_configs,
    exec_with_a_missing_cwd_fails: [Creel],
    exec_adds_env,
    exec_env_overrides_the_configs,
    exec_takes_user,
    exec_takes_user_and_group,
    exec_refuses_a_bad_user,
    exec_sets_home_from_passwd,
    exec_takes_additional_groups,
    exec_without_user_is_the_configs,
    exec_adds_capabilities,
    exec_capabilities_are_not_inheritable,
    exec_has_the_containers_capabilities,
    exec_sets_no_new_privileges,
    exec_detached_returns_at_once,
    exec_pid_file_holds_the_pid,
    exec_passes_stdin_on,
    exec_passes_flags_behind_the_id_to_the_program,
    exec_looks_the_program_up_in_path,
    exec_survives_many_in_a_row,
    exec_preserves_fds,
    exec_dies_with_init,
    exec_sees_the_masked_paths,
    exec_without_a_program_fails,
    exec_wakes_no_zombie_in_the_container,
}

fn exec_runs_in_the_container(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    std::fs::write(bundle.inside("here"), "here")?;
    let container = lab.started(&bundle)?;
    same!(
        "stdout",
        container.exec(&["cat", "/here"])?.ok()?.out,
        "here"
    );
    Ok(())
}

fn exec_enters_every_namespace(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.namespace("cgroup", None)?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let told = container
            .exec(&["readlink", &format!("/proc/self/ns/{kind}")])?
            .ok()?
            .out;
        same!(kind, told.trim(), namespace(pid, kind)?.to_string_lossy());
    }
    Ok(())
}

fn exec_returns_the_status_of_the_program(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    for code in [0, 1, 7, 200] {
        same!(
            "exit code",
            container.sh(&format!("exit {code}"))?.code,
            code
        );
    }
    Ok(())
}

fn exec_returns_128_and_the_signal(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    for signal in [9, 15] {
        same!(
            "exit code",
            container.sh(&format!("kill -{signal} $$"))?.code,
            128 + signal
        );
    }
    Ok(())
}

fn exec_of_a_missing_program_is_255(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.exec(&["/no/such/program"])?;
    same!("exit code", output.code, 255);
    check!(
        output.err.contains("no such file or directory"),
        "{}",
        output.err
    );
    let output = container.exec(&["no-such-program"])?;
    same!("exit code", output.code, 255);
    check!(
        output.err.contains("executable file not found in $PATH"),
        "{}",
        output.err
    );
    Ok(())
}

fn exec_in_a_missing_container_fails(lab: &Lab) -> Result {
    let output = lab
        .call(&["exec", &lab.id(), "true"])?
        .refused("exec in nothing")?;
    check!(output.err.contains("does not exist"), "{}", output.err);
    Ok(())
}

fn exec_in_a_stopped_container_is_255(lab: &Lab) -> Result {
    let container = lab.started(&lab.bundle()?)?;
    container.stopped()?;
    let output = container.exec(&["true"])?;
    same!("exit code", output.code, 255);
    check!(
        output.err.contains("cannot exec in a stopped container"),
        "{}",
        output.err
    );
    Ok(())
}

fn exec_in_a_created_container_works(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    same!("stdout", container.exec(&["echo", "x"])?.ok()?.out, "x\n");
    same!("status", container.status()?, "created");
    Ok(())
}

fn exec_takes_cwd(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container
        .call("exec", &["--cwd", "/home/user"], &["pwd"])?
        .ok()?;
    same!("pwd", output.out, "/home/user\n");
    Ok(())
}

fn exec_without_cwd_uses_the_configs(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/process/cwd", "/home")?;
    let container = lab.started(&bundle)?;
    same!("pwd", container.exec(&["pwd"])?.ok()?.out, "/home\n");
    Ok(())
}

fn exec_with_a_missing_cwd_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.call("exec", &["--cwd", "/no/such"], &["pwd"])?;
    same!("exit code", output.code, 255);
    Ok(())
}

fn exec_adds_env(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let flags = ["--env", "A=1", "--env", "B=x=y"];
    let output = container.call("exec", &flags, &["env"])?.ok()?;
    let lines: Vec<&str> = output.out.lines().collect();
    for want in ["A=1", "B=x=y", "TERM=xterm", "PATH=/bin:/usr/bin"] {
        check!(lines.contains(&want), "no {want} in {lines:?}");
    }
    Ok(())
}

fn exec_env_overrides_the_configs(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container
        .call("exec", &["-e", "TERM=new"], &["sh", "-c", "echo $TERM"])?
        .ok()?;
    same!("TERM", output.out, "new\n");
    Ok(())
}

fn exec_takes_user(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container
        .call("exec", &["--user", "1000"], &["id", "-u"])?
        .ok()?;
    same!("uid", output.out, "1000\n");
    Ok(())
}

fn exec_takes_user_and_group(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let script = ["sh", "-c", "id -u; id -g"];
    let output = container
        .call("exec", &["-u", "1000:1234"], &script)?
        .ok()?;
    same!("ids", output.words(), ["1000", "1234"]);
    Ok(())
}

fn exec_refuses_a_bad_user(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    for user in ["4294967296", "-1", "1a", "1 ", "1:x", ":"] {
        let output = container.call("exec", &["--user", user], &["id", "-u"])?;
        check!(
            output.code != 0,
            "user {user:?} was taken as {}",
            output.out
        );
    }
    Ok(())
}

fn exec_sets_home_from_passwd(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let script = ["sh", "-c", "echo $HOME"];
    same!("HOME", container.exec(&script)?.ok()?.out, "/root\n");
    let output = container.call("exec", &["-u", "1000"], &script)?.ok()?;
    same!("HOME", output.out, "/home/user\n");
    Ok(())
}

fn exec_takes_additional_groups(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let flags = ["-u", "1000:1000", "-g", "7", "-g", "9"];
    let output = container
        .call("exec", &flags, &["cat", "/proc/self/status"])?
        .ok()?;
    same!("groups", field(&output.out, "Groups"), Some("7 9".into()));
    Ok(())
}

fn exec_without_user_is_the_configs(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set(
        "/process/user",
        json!({"uid": 5, "gid": 6, "additionalGids": [7]}),
    )?;
    let container = lab.started(&bundle)?;
    let output = container.exec(&["cat", "/proc/self/status"])?.ok()?;
    same!("uids", field(&output.out, "Uid"), Some("5 5 5 5".into()));
    same!("gids", field(&output.out, "Gid"), Some("6 6 6 6".into()));
    same!("groups", field(&output.out, "Groups"), Some("7".into()));
    Ok(())
}

fn caps(text: &str, set: &str) -> Result<u64> {
    let value = field(text, set).ok_or(format!("no {set}"))?;
    Ok(u64::from_str_radix(&value, 16)?)
}

fn exec_adds_capabilities(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.call(
        "exec",
        &["--cap", "CAP_NET_RAW"],
        &["cat", "/proc/self/status"],
    )?;
    let text = output.ok()?.out;
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        check!(caps(&text, set)? >> 13 & 1 == 1, "{set} lacks CAP_NET_RAW");
        check!(
            caps(&text, set)? >> 5 & 1 == 1,
            "{set} lacks the config's CAP_KILL"
        );
    }
    Ok(())
}

fn exec_capabilities_are_not_inheritable(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.call(
        "exec",
        &["--cap", "CAP_NET_RAW"],
        &["cat", "/proc/self/status"],
    )?;
    let text = output.ok()?.out;
    same!("CapInh", caps(&text, "CapInh")?, 0);
    same!("CapAmb", caps(&text, "CapAmb")?, 0);
    Ok(())
}

fn exec_has_the_containers_capabilities(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.executes("sleep")?;
    let init = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let text = container.exec(&["cat", "/proc/self/status"])?.ok()?.out;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        same!(set, caps(&text, set)?, caps(&init, set)?);
    }
    same!("NoNewPrivs", field(&text, "NoNewPrivs"), Some("1".into()));
    Ok(())
}

fn exec_sets_no_new_privileges(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/process/noNewPrivileges", false)?;
    let container = lab.started(&bundle)?;
    let plain = container.exec(&["cat", "/proc/self/status"])?.ok()?.out;
    same!(
        "without the flag",
        field(&plain, "NoNewPrivs"),
        Some("0".into())
    );
    let output = container.call("exec", &["--no-new-privs"], &["cat", "/proc/self/status"])?;
    same!(
        "with it",
        field(&output.ok()?.out, "NoNewPrivs"),
        Some("1".into())
    );
    Ok(())
}

fn exec_detached_returns_at_once(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("exec sleep 2000")?)?;
    container
        .call("exec", &["--detach"], &["sleep", "1000"])?
        .ok()?;
    let told = container.exec(&["ps"])?.ok()?.out;
    check!(told.contains("sleep 1000"), "{told}");
    Ok(())
}

fn exec_pid_file_holds_the_pid(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("exec sleep 2000")?)?;
    let file = lab.path("pid");
    let flags = ["-d", "--pid-file", &file.to_string_lossy()];
    container.call("exec", &flags, &["sleep", "1000"])?.ok()?;
    let text = std::fs::read_to_string(&file)?;
    let pid: i32 = text.parse().map_err(|e| format!("{text:?}: {e}"))?;
    kernel::until("the exec's program", || {
        kernel::command_line(u32::try_from(pid).ok()?)
            .contains("sleep 1000")
            .then_some(())
    })?;
    same!(
        "namespace",
        namespace(pid, "pid")?,
        namespace(container.pid()?, "pid")?
    );
    Ok(())
}

fn exec_passes_stdin_on(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let input = lab.file("input", "from outside\n")?;
    let mut command = lab.command(&["exec", &container.id, "cat"]);
    same!(
        "stdout",
        lab.finish(command.stdin(File::open(input)?))?.ok()?.out,
        "from outside\n"
    );
    Ok(())
}

fn exec_passes_flags_behind_the_id_to_the_program(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.exec(&["echo", "--cwd", "/x", "-u", "--"])?.ok()?;
    same!("stdout", output.out, "--cwd /x -u --\n");
    Ok(())
}

fn exec_looks_the_program_up_in_path(lab: &Lab) -> Result {
    use std::os::unix::fs::PermissionsExt;
    let bundle = lab.idle()?;
    let file = bundle.inside("home/program");
    std::fs::write(&file, "#!/bin/sh\necho found\n")?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    let container = lab.started(&bundle)?;
    let output = container
        .call("exec", &["-e", "PATH=/home:/bin"], &["program"])?
        .ok()?;
    same!("stdout", output.out, "found\n");
    Ok(())
}

fn exec_survives_many_in_a_row(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    for round in 0..30 {
        let word = round.to_string();
        same!(
            "stdout",
            container.exec(&["echo", &word])?.ok()?.out.trim(),
            word
        );
    }
    let told = container
        .exec(&["sh", "-c", "ls -d /proc/[0-9]* | wc -l"])?
        .ok()?;
    let count: u32 = told.out.trim().parse()?;
    check!(count <= 4, "{count} processes are left inside");
    Ok(())
}

fn exec_preserves_fds(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    lab.file("three", "three\n")?;
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "exec 3<three; exec \"$0\" \"$@\""])
        .current_dir(&lab.dir);
    shell.arg(&lab.runtime).arg("--root").arg(lab.path("root"));
    shell.args([
        "exec",
        "--preserve-fds",
        "1",
        &container.id,
        "sh",
        "-c",
        "cat <&3",
    ]);
    same!("stdout", lab.finish(&mut shell)?.ok()?.out, "three\n");
    Ok(())
}

fn exec_dies_with_init(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("exec sleep 2000")?)?;
    let mut child = lab
        .command(&["exec", &container.id, "sleep", "1000"])
        .spawn()?;
    kernel::until("the exec's program", || {
        let told = container.exec(&["ps"]).ok()?.out;
        told.contains("sleep 1000").then_some(())
    })?;
    container.kill("KILL")?.ok()?;
    same!("exit code", crate::lab::code(child.wait()?), 137);
    Ok(())
}

fn exec_sees_the_masked_paths(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    std::fs::write(bundle.inside("etc/secret"), "secret")?;
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]))?;
    let container = lab.started(&bundle)?;
    same!(
        "stdout",
        container.sh("cat /etc/secret; echo end")?.ok()?.out,
        "end\n"
    );
    Ok(())
}

fn exec_without_a_program_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    container.exec(&[])?.refused("exec of nothing")?;
    Ok(())
}

fn exec_wakes_no_zombie_in_the_container(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let init = u32::try_from(container.executes("sleep")?)?;
    container.exec(&["true"])?.ok()?;
    let children = kernel::children(init);
    check!(children.is_empty(), "init has children: {children:?}");
    Ok(())
}
