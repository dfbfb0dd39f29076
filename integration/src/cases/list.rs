//! `list` in its three forms.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::Value;

cases! {
    list_of_an_empty_root_shows_nothing,
    list_json_holds_every_container,
    list_json_of_none_is_null,
    list_quiet_prints_one_id_a_line,
    list_table_has_the_columns,
    list_shows_each_status,
    list_refuses_an_unknown_format,
    list_of_a_missing_root_fails_and_makes_none: [Creel],
}

fn list_of_an_empty_root_shows_nothing(lab: &Lab) -> Result {
    lab.directory("root")?;
    let output = lab.call(&["list", "--quiet"])?.ok()?;
    same!("stdout", output.out, "");
    let output = lab.call(&["list"])?.ok()?;
    same!("lines", output.out.lines().count(), 1);
    Ok(())
}

fn list_json_holds_every_container(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let (one, two) = (lab.create(&bundle)?, lab.started(&bundle)?);
    let output = lab.call(&["list", "--format", "json"])?.ok()?;
    let list: Value = serde_json::from_str(&output.out)?;
    let list = list.as_array().ok_or("no array")?;
    same!("length", list.len(), 2);
    for container in [&one, &two] {
        let entry = list
            .iter()
            .find(|entry| entry["id"] == container.id.as_str());
        let entry = entry.ok_or(format!("{} is not listed", container.id))?;
        same!("pid", entry["pid"], container.pid()?);
        same!("status", entry["status"], container.status()?);
        same!(
            "bundle",
            entry["bundle"],
            bundle.dir.to_string_lossy().as_ref()
        );
        same!("owner", entry["owner"], "root");
    }
    Ok(())
}

fn list_json_of_none_is_null(lab: &Lab) -> Result {
    lab.directory("root")?;
    let output = lab.call(&["list", "-f", "json"])?.ok()?;
    same!("stdout", output.out.trim(), "null");
    Ok(())
}

fn list_quiet_prints_one_id_a_line(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let (one, two) = (lab.create(&bundle)?, lab.create(&bundle)?);
    let output = lab.call(&["list", "-q"])?.ok()?;
    let mut lines: Vec<&str> = output.out.lines().collect();
    lines.sort_unstable();
    let mut want = vec![one.id.as_str(), two.id.as_str()];
    want.sort_unstable();
    same!("ids", lines, want);
    Ok(())
}

fn list_table_has_the_columns(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    let output = lab.call(&["list"])?.ok()?;
    let mut lines = output.out.lines();
    let head: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    same!(
        "head",
        head,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    let row: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let pid = container.pid()?.to_string();
    same!("id", row.first(), Some(&container.id.as_str()));
    same!("pid", row.get(1), Some(&pid.as_str()));
    same!("status", row.get(2), Some(&"created"));
    same!("owner", row.last(), Some(&"root"));
    Ok(())
}

fn list_shows_each_status(lab: &Lab) -> Result {
    let idle = lab.idle()?;
    let (created, running) = (lab.create(&idle)?, lab.started(&idle)?);
    let stopped = lab.started(&lab.bundle()?)?;
    stopped.stopped()?;
    let output = lab.call(&["list"])?.ok()?;
    for (container, want) in [
        (&created, "created"),
        (&running, "running"),
        (&stopped, "stopped"),
    ] {
        let line = output
            .out
            .lines()
            .find(|line| line.contains(container.id.as_str()));
        let line = line.ok_or(format!("{} is not listed", container.id))?;
        check!(line.contains(want), "want {want}: {line}");
    }
    Ok(())
}

fn list_refuses_an_unknown_format(lab: &Lab) -> Result {
    lab.directory("root")?;
    lab.call(&["list", "--format", "xml"])?
        .refused("format xml")?;
    Ok(())
}

fn list_of_a_missing_root_fails_and_makes_none(lab: &Lab) -> Result {
    lab.call(&["list"])?.refused("a missing root")?;
    check!(!lab.path("root").exists(), "list made the root");
    Ok(())
}
