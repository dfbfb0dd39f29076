//! The process: its arguments, environment, directory, umask and standing with the kernel.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

cases! {
    args_arrive_as_they_are,
    the_program_is_found_in_the_containers_path,
    the_program_may_be_a_script,
    a_program_that_is_a_directory_is_refused,
    a_program_without_the_x_bit_is_refused,
    a_program_missing_in_path_is_refused,
    env_is_exactly_the_configs,
    env_keeps_odd_values,
    the_callers_env_does_not_leak,
    cwd_is_respected,
    a_missing_cwd_is_made,
    a_cwd_that_is_a_file_is_refused,
    umask_is_set: [Creel],
    umask_defaults_to_022,
    oom_score_adj_is_set,
    oom_score_adj_is_set_before_a_time_namespace_is_entered: [Namespace("time")],
    oom_score_adj_may_be_raised_to_the_top,
    without_oom_score_adj_it_is_the_callers,
    no_new_privileges_is_set,
    no_new_privileges_is_off_if_false,
    the_process_leads_a_session,
    the_scheduler_is_set: [Creel],
    the_io_priority_is_set: [Creel],
    the_personality_is_set: [Creel],
    the_cpu_affinity_is_everything_allowed,
    the_apparmor_profile_is_applied: [AppArmor],
}

fn args_arrive_as_they_are(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    let args = [
        "a b",
        "",
        "*",
        "$HOME",
        "'\"",
        "\u{e9}\u{4e16}",
        "-x",
        "a\nb",
    ];
    let mut all = vec!["/bin/printf", "[%s]"];
    all.extend(args);
    bundle.args(&all)?;
    let want: String = args.iter().map(|arg| format!("[{arg}]")).collect();
    same!("arguments", lab.told(&bundle)?, want);
    Ok(())
}

fn the_program_is_found_in_the_containers_path(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    std::fs::create_dir(bundle.inside("odd"))?;
    let file = bundle.inside("odd/program");
    std::fs::write(&file, "#!/bin/sh\necho found \"$@\"\n")?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    bundle
        .args(&["program", "x"])?
        .set("/process/env", json!(["PATH=/nowhere:/odd:/bin"]))?;
    same!("stdout", lab.told(&bundle)?, "found x\n");
    Ok(())
}

fn the_program_may_be_a_script(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    std::fs::write(bundle.inside("run.sh"), "#!/bin/sh\necho \"$0\" \"$@\"\n")?;
    std::fs::set_permissions(
        bundle.inside("run.sh"),
        std::fs::Permissions::from_mode(0o755),
    )?;
    bundle.args(&["/run.sh", "x"])?;
    same!("stdout", lab.told(&bundle)?, "/run.sh x\n");
    Ok(())
}

fn a_program_that_is_a_directory_is_refused(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/etc"])?;
    let output = lab.run(&bundle)?.refused("a directory")?;
    check!(!output.err.is_empty(), "no reason given");
    Ok(())
}

fn a_program_without_the_x_bit_is_refused(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/etc/passwd"])?;
    let output = lab.run(&bundle)?.refused("a text")?;
    check!(
        output.err.to_lowercase().contains("permission denied"),
        "{}",
        output.err
    );
    Ok(())
}

fn a_program_missing_in_path_is_refused(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["no-such-program"])?;
    let output = lab.run(&bundle)?.refused("a missing program")?;
    check!(
        output.err.contains("executable file not found in $PATH"),
        "{}",
        output.err
    );
    Ok(())
}

fn env_is_exactly_the_configs(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/bin/env"])?;
    bundle.set("/process/env", json!(["PATH=/bin", "A=1", "HOME=/h", "B="]))?;
    let told = lab.told(&bundle)?;
    let mut lines: Vec<&str> = told.lines().collect();
    lines.sort_unstable();
    same!("env", lines, ["A=1", "B=", "HOME=/h", "PATH=/bin"]);
    Ok(())
}

fn env_keeps_odd_values(lab: &Lab) -> Result {
    let mut bundle = lab.script("printf '[%s]' \"$A\" \"$B\"")?;
    bundle.set(
        "/process/env",
        json!(["PATH=/bin", "A=x=y=z", "B= two\tparts "]),
    )?;
    same!("values", lab.told(&bundle)?, "[x=y=z][ two\tparts ]");
    Ok(())
}

fn the_callers_env_does_not_leak(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/bin/env"])?.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let mut command = lab.command(&["run", "-b", &dir, &id]);
    let output = lab
        .finish(command.env("LEAKED", "yes").stdin(lab.null()?))?
        .ok()?;
    check!(output.out.contains("PATH="), "env: {}", output.out);
    check!(!output.out.contains("LEAKED"), "env: {}", output.out);
    Ok(())
}

fn cwd_is_respected(lab: &Lab) -> Result {
    let mut bundle = lab.script("pwd")?;
    bundle.set("/process/cwd", "/home/user")?;
    same!("pwd", lab.told(&bundle)?, "/home/user\n");
    Ok(())
}

fn a_missing_cwd_is_made(lab: &Lab) -> Result {
    let mut bundle = lab.script("pwd")?;
    bundle.set("/process/cwd", "/new/dir")?;
    same!("pwd", lab.told(&bundle)?, "/new/dir\n");
    Ok(())
}

fn a_cwd_that_is_a_file_is_refused(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.set("/process/cwd", "/etc/passwd")?;
    lab.run(&bundle)?.refused("a file as cwd")?;
    Ok(())
}

fn umask_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("umask")?;
    bundle.set("/process/user/umask", 0o77)?;
    same!("umask", lab.told(&bundle)?, "0077\n");
    Ok(())
}

fn umask_defaults_to_022(lab: &Lab) -> Result {
    let bundle = lab.script("umask")?;
    bundle.save()?;
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(&lab.runtime)
        .arg("--root");
    shell
        .arg(lab.path("root"))
        .args(["run", "-b"])
        .arg(&bundle.dir)
        .arg(lab.id());
    let output = lab.finish(shell.stdin(lab.null()?))?.ok()?;
    same!("umask", output.out, "0022\n");
    Ok(())
}

fn oom_score_adj_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/oom_score_adj")?;
    bundle.set("/process/oomScoreAdj", 100)?;
    same!("oom_score_adj", lab.told(&bundle)?, "100\n");
    Ok(())
}

/// The process that makes such a namespace must not have its child before it has the score.
fn oom_score_adj_is_set_before_a_time_namespace_is_entered(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/oom_score_adj")?;
    bundle
        .namespace("time", None)?
        .set("/process/oomScoreAdj", 100)?;
    for _ in 0..20 {
        same!("oom_score_adj", lab.told(&bundle)?, "100\n");
    }
    Ok(())
}

fn oom_score_adj_may_be_raised_to_the_top(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/oom_score_adj")?;
    bundle.set("/process/oomScoreAdj", 1000)?;
    same!("oom_score_adj", lab.told(&bundle)?, "1000\n");
    Ok(())
}

fn without_oom_score_adj_it_is_the_callers(lab: &Lab) -> Result {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    same!(
        "oom_score_adj",
        lab.told(&lab.script("cat /proc/self/oom_score_adj")?)?,
        own
    );
    Ok(())
}

fn no_new_privileges_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("grep NoNewPrivs /proc/self/status")?;
    bundle.set("/process/noNewPrivileges", true)?;
    same!("NoNewPrivs", lab.told(&bundle)?, "NoNewPrivs:\t1\n");
    Ok(())
}

fn no_new_privileges_is_off_if_false(lab: &Lab) -> Result {
    let mut bundle = lab.script("grep NoNewPrivs /proc/self/status")?;
    bundle.set("/process/noNewPrivileges", false)?;
    same!("NoNewPrivs", lab.told(&bundle)?, "NoNewPrivs:\t0\n");
    Ok(())
}

fn the_process_leads_a_session(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.executes("sleep")?;
    let stat = kernel::process(pid)?.stat()?;
    same!("session", stat.session, pid);
    same!("group", stat.pgrp, pid);
    Ok(())
}

fn the_scheduler_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_BATCH", "nice": 5}),
    )?;
    let container = lab.started(&bundle)?;
    let stat = kernel::process(container.executes("sleep")?)?.stat()?;
    same!("policy", stat.policy, Some(3));
    same!("nice", stat.nice, 5);
    Ok(())
}

fn the_io_priority_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("ionice -p $$")?;
    bundle.set(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
    )?;
    same!("ionice", lab.told(&bundle)?, "best-effort: prio 6\n");
    Ok(())
}

fn the_personality_is_set(lab: &Lab) -> Result {
    let told = std::process::Command::new("setarch")
        .args(["i686", "uname", "-m"])
        .output();
    let changes = |told: std::process::Output| {
        told.status.success() && !String::from_utf8_lossy(&told.stdout).contains("64")
    };
    if !told.is_ok_and(changes) {
        return Err(crate::case::Failure::skip(
            "the kernel calls the machine the same in every personality",
        ));
    }
    let mut bundle = lab.script("uname -m")?;
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}))?;
    let told = lab.told(&bundle)?;
    check!(!told.contains("64"), "uname -m: {told}");
    Ok(())
}

fn the_cpu_affinity_is_everything_allowed(lab: &Lab) -> Result {
    let bundle = lab.script("grep Cpus_allowed_list /proc/self/status")?;
    let own = kernel::status_line(i32::try_from(std::process::id())?, "Cpus_allowed_list")?;
    let told = lab.told(&bundle)?;
    same!("cpus", told.split_whitespace().last(), Some(own.as_str()));
    Ok(())
}

fn the_apparmor_profile_is_applied(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/attr/current")?;
    bundle.set("/process/apparmorProfile", "unconfined")?;
    same!(
        "label",
        lab.told(&bundle)?.trim_matches(['\n', '\0']),
        "unconfined"
    );
    let mut bundle = lab.bundle()?;
    bundle.set("/process/apparmorProfile", "no-such-profile")?;
    lab.run(&bundle)?.refused("a profile that is not loaded")?;
    Ok(())
}
