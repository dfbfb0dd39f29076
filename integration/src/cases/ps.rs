//! `ps`: the processes of a container, as a table and as JSON.
#![forbid(unsafe_code)]

use crate::case::{Failure, Result};
use crate::lab::Lab;
use crate::{cases, check, same};
use std::process::Command;

cases! {
    ps_shows_the_processes_of_the_container_alone: [Tool("ps")],
    ps_json_is_one_line_of_pids,
    ps_hands_options_to_ps: [Tool("ps")],
    ps_tells_what_ps_does_not_understand: [Tool("ps")],
    ps_of_a_stopped_container_is_empty_and_no_error: [Tool("ps")],
    ps_sees_execs_and_sub_cgroups,
    ps_refuses_another_format,
    ps_of_no_container_fails,
}

/// User-mode Linux has no boot time, and ps then no default table.
fn ps_works() -> Result {
    let output = Command::new("ps").arg("-ef").output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Failure::skip(String::from_utf8_lossy(&output.stderr))),
    }
}

fn pids(out: &str) -> Result<Vec<i32>> {
    check!(out.ends_with("]\n") && out.lines().count() == 1, "{out:?}");
    Ok(serde_json::from_str(out)?)
}

fn ps_shows_the_processes_of_the_container_alone(lab: &Lab) -> Result {
    ps_works()?;
    let container = lab.started(&lab.script("sleep 1000 & echo up; exec sleep 1000")?)?;
    container.says("up")?;
    let pid = container.executes("sleep")?.to_string();
    let table = container.call("ps", &[], &[])?.ok()?.out;
    let title: Vec<_> = table
        .lines()
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    same!("column", title.get(1), Some(&"PID"));
    same!("lines", table.lines().count(), 3);
    let has = |line: &str| line.split_whitespace().nth(1) == Some(&pid);
    check!(table.lines().skip(1).any(has), "no {pid}: {table}");
    Ok(())
}

fn ps_json_is_one_line_of_pids(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let out = container.call("ps", &["--format", "json"], &[])?.ok()?.out;
    same!("pids", pids(&out)?, [container.pid()?]);
    same!(
        "short",
        container.call("ps", &["-f", "json"], &[])?.ok()?.out,
        out
    );
    Ok(())
}

fn ps_hands_options_to_ps(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.executes("sleep")?;
    let table = container
        .call("ps", &[], &["-e", "-o", "pid,args"])?
        .ok()?
        .out;
    let last = table.lines().last().unwrap_or("");
    same!(
        "line",
        last.split_whitespace().collect::<Vec<_>>().join(" "),
        format!("{pid} /bin/sleep 1000")
    );
    let output = container.call("ps", &[], &["-e", "-o", "args"])?;
    let output = output.refused("a table without pids")?;
    check!(
        output.err.contains("couldn't find PID field in ps output"),
        "{}",
        output.err
    );
    Ok(())
}

fn ps_tells_what_ps_does_not_understand(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.call("ps", &[], &["--no-such-option"])?;
    let output = output.refused("an option that ps does not have")?;
    check!(
        output.err.contains("exit status 1: error: unknown"),
        "{}",
        output.err
    );
    Ok(())
}

fn ps_of_a_stopped_container_is_empty_and_no_error(lab: &Lab) -> Result {
    ps_works()?;
    let container = lab.started(&lab.script("exit 0")?)?;
    container.stopped()?;
    let table = container.call("ps", &[], &[])?.ok()?.out;
    same!("lines", table.lines().count(), 1);
    same!(
        "json",
        container.call("ps", &["-f", "json"], &[])?.ok()?.out,
        "null\n"
    );
    Ok(())
}

fn ps_sees_execs_and_sub_cgroups(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    container.call("exec", &["-d"], &["sleep", "1000"])?.ok()?;
    let out = container.call("ps", &["-f", "json"], &[])?.ok()?.out;
    same!("processes", pids(&out)?.len(), 2);
    Ok(())
}

fn ps_refuses_another_format(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let output = container.call("ps", &["-f", "xml"], &[])?.refused("xml")?;
    check!(
        output.err.contains("invalid format option"),
        "{}",
        output.err
    );
    Ok(())
}

fn ps_of_no_container_fails(lab: &Lab) -> Result {
    let output = lab.call(&["ps", "nobody"])?.refused("an id of nothing")?;
    check!(
        output.err.contains("container does not exist"),
        "{}",
        output.err
    );
    let output = lab.call(&["ps"])?.refused("no id")?;
    check!(
        output.err.contains("requires a minimum of 1 argument"),
        "{}",
        output.err
    );
    Ok(())
}
