//! `exec --process`: everything from a file.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::container::Container;
use crate::kernel::field;
use crate::lab::{Lab, Output};
use crate::{cases, check, same};
use serde_json::{Value, json};

cases! {
    exec_process_runs_its_args,
    exec_process_replaces_the_env,
    exec_process_takes_its_user,
    exec_process_takes_its_cwd,
    exec_process_takes_its_capabilities,
    exec_process_takes_its_rlimits,
    exec_process_takes_its_no_new_privileges,
    exec_process_detached_works,
    exec_process_without_args_fails,
    exec_process_of_bad_json_fails,
    exec_process_of_a_missing_file_fails,
}

/// Runs what the file says in a fresh idle container.
fn with(lab: &Lab, change: Value) -> Result<Output> {
    let container = lab.started(&lab.idle()?)?;
    by_file(lab, &container, change, &[])
}

fn by_file(lab: &Lab, container: &Container, change: Value, flags: &[&str]) -> Result<Output> {
    let mut process = json!({
        "args": ["cat", "/proc/self/status"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        process[key] = value.clone();
    }
    let file = lab.file("process.json", &process.to_string())?;
    let path = file.to_string_lossy();
    let mut all = vec!["--process", &*path];
    all.extend(flags);
    container.call("exec", &all, &[])
}

fn exec_process_runs_its_args(lab: &Lab) -> Result {
    let output = with(lab, json!({"args": ["sh", "-c", "echo out; exit 9"]}))?;
    same!("exit code", output.code, 9);
    same!("stdout", output.out, "out\n");
    Ok(())
}

fn exec_process_replaces_the_env(lab: &Lab) -> Result {
    let change = json!({"args": ["env"], "env": ["PATH=/bin", "ONLY=1", "HOME=/x"]});
    let output = with(lab, change)?.ok()?;
    let mut lines: Vec<&str> = output.out.lines().collect();
    lines.sort_unstable();
    same!("env", lines, ["HOME=/x", "ONLY=1", "PATH=/bin"]);
    Ok(())
}

fn exec_process_takes_its_user(lab: &Lab) -> Result {
    let user = json!({"uid": 12, "gid": 34, "additionalGids": [56]});
    let text = with(lab, json!({"user": user}))?.ok()?.out;
    same!("uids", field(&text, "Uid"), Some("12 12 12 12".into()));
    same!("gids", field(&text, "Gid"), Some("34 34 34 34".into()));
    same!("groups", field(&text, "Groups"), Some("56".into()));
    Ok(())
}

fn exec_process_takes_its_cwd(lab: &Lab) -> Result {
    let output = with(lab, json!({"args": ["pwd"], "cwd": "/home/user"}))?.ok()?;
    same!("pwd", output.out, "/home/user\n");
    Ok(())
}

fn exec_process_takes_its_capabilities(lab: &Lab) -> Result {
    let set = ["CAP_NET_RAW"];
    let caps = json!({"bounding": set, "effective": set, "permitted": set});
    let text = with(lab, json!({"capabilities": caps}))?.ok()?.out;
    same!(
        "CapEff",
        field(&text, "CapEff"),
        Some(format!("{:016x}", 1 << 13))
    );
    same!(
        "CapBnd",
        field(&text, "CapBnd"),
        Some(format!("{:016x}", 1 << 13))
    );
    Ok(())
}

fn exec_process_takes_its_rlimits(lab: &Lab) -> Result {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 40, "hard": 41}]);
    let args = ["sh", "-c", "ulimit -Sn; ulimit -Hn"];
    let output = with(lab, json!({"rlimits": limits, "args": args}))?.ok()?;
    same!("limits", output.words(), ["40", "41"]);
    Ok(())
}

fn exec_process_takes_its_no_new_privileges(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/process/noNewPrivileges", false)?;
    let container = lab.started(&bundle)?;
    for (given, want) in [(true, "1"), (false, "0")] {
        let text = by_file(lab, &container, json!({"noNewPrivileges": given}), &[])?
            .ok()?
            .out;
        same!("NoNewPrivs", field(&text, "NoNewPrivs"), Some(want.into()));
    }
    Ok(())
}

fn exec_process_detached_works(lab: &Lab) -> Result {
    let container = lab.started(&lab.script("exec sleep 2000")?)?;
    let change = json!({"args": ["sleep", "1000"]});
    by_file(lab, &container, change, &["--detach"])?.ok()?;
    let told = container.exec(&["ps"])?.ok()?.out;
    check!(told.contains("sleep 1000"), "{told}");
    Ok(())
}

fn exec_process_without_args_fails(lab: &Lab) -> Result {
    with(lab, json!({"args": []}))?.refused("no args")?;
    Ok(())
}

fn exec_process_of_bad_json_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let file = lab.file("process.json", "{\"args\": [")?;
    container
        .call("exec", &["-p", &file.to_string_lossy()], &[])?
        .refused("bad JSON")?;
    Ok(())
}

fn exec_process_of_a_missing_file_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let file = lab.path("nowhere");
    container
        .call("exec", &["-p", &file.to_string_lossy()], &[])?
        .refused("a missing file")?;
    Ok(())
}
