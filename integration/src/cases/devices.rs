//! Device nodes, links, and the rules of who may open what.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;

cases! {
    default_devices_exist,
    default_devices_work,
    dev_links_exist,
    listed_devices_have_their_numbers_mode_and_owner,
    a_listed_device_may_replace_a_default_one,
    a_fifo_can_be_listed,
    a_block_device_can_be_listed,
    a_device_in_a_missing_directory_is_made,
    a_device_without_a_rule_cannot_be_opened,
    a_device_with_a_rule_can_be_opened,
    a_read_rule_forbids_writing,
    a_later_rule_wins,
    a_rule_keeps_its_letters: [CgroupV1],
    default_devices_pass_a_deny_all,
    device_nodes_can_be_made_but_not_opened,
    a_symlinked_dev_is_not_populated_outside,
}

fn default_devices_exist(lab: &Lab) -> Result {
    let script = "cd /dev; stat -c '%n %t:%T %a %F' null zero full tty random urandom";
    let told = lab.told(&lab.script(script)?)?;
    let want = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("tty", "5:0"),
        ("random", "1:8"),
        ("urandom", "1:9"),
    ];
    for (name, numbers) in want {
        let line = format!("{name} {numbers} 666 character special file");
        check!(
            told.lines().any(|got| got == line),
            "want {line:?} in {told}"
        );
    }
    Ok(())
}

fn default_devices_work(lab: &Lab) -> Result {
    let script = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c; \
                  echo x 2>/dev/null > /dev/full || echo full";
    let told = lab.told(&lab.script(script)?)?;
    let words: Vec<&str> = told.split_whitespace().collect();
    same!("stdout", words, ["3", "5", "full"]);
    Ok(())
}

fn dev_links_exist(lab: &Lab) -> Result {
    let script = "cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done";
    let told = lab.told(&lab.script(script)?)?;
    let words: Vec<&str> = told.split_whitespace().collect();
    let fds = [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
    ];
    same!("links", words.get(..4), Some(&fds[..]));
    let ptmx = words.get(4).copied().unwrap_or_default();
    check!(
        ptmx == "pts/ptmx" || ptmx == "/dev/pts/ptmx",
        "ptmx: {ptmx}"
    );
    Ok(())
}

fn device(path: &str, kind: &str, numbers: (i64, i64), mode: u32) -> Value {
    json!({"path": path, "type": kind, "major": numbers.0, "minor": numbers.1, "fileMode": mode})
}

fn listed_devices_have_their_numbers_mode_and_owner(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c '%t:%T %a %u %g %F' /dev/mine /dev/tty7")?;
    let mut mine = device("/dev/mine", "c", (10, 229), 0o640);
    mine["uid"] = json!(12);
    mine["gid"] = json!(34);
    let tty = device("/dev/tty7", "c", (4, 7), 0o600);
    bundle.set("/linux/devices", json!([mine, tty]))?;
    let told = lab.told(&bundle)?;
    let lines: Vec<&str> = told.lines().collect();
    let want = [
        "a:e5 640 12 34 character special file",
        "4:7 600 0 0 character special file",
    ];
    same!("stat", lines, want);
    Ok(())
}

fn a_listed_device_may_replace_a_default_one(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c '%t:%T %a' /dev/null")?;
    bundle.set(
        "/linux/devices",
        json!([device("/dev/null", "c", (1, 3), 0o622)]),
    )?;
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
    bundle.set("/linux/resources/devices/-", rule)?;
    same!("stat", lab.told(&bundle)?, "1:3 622\n");
    Ok(())
}

fn a_fifo_can_be_listed(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c '%a %F' /dev/pipe")?;
    bundle.set(
        "/linux/devices",
        json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]),
    )?;
    same!("stat", lab.told(&bundle)?, "622 fifo\n");
    Ok(())
}

fn a_block_device_can_be_listed(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c '%t:%T %F' /dev/disk")?;
    bundle.set(
        "/linux/devices",
        json!([device("/dev/disk", "b", (7, 250), 0o660)]),
    )?;
    same!("stat", lab.told(&bundle)?, "7:fa block special file\n");
    Ok(())
}

fn a_device_in_a_missing_directory_is_made(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c '%t:%T' /dev/net/deep/tun")?;
    bundle.set(
        "/linux/devices",
        json!([device("/dev/net/deep/tun", "c", (10, 200), 0o666)]),
    )?;
    same!("stat", lab.told(&bundle)?, "a:c8\n");
    Ok(())
}

/// /dev/kmsg's numbers: no default rule lets a container have it, and every kernel has it.
fn with_kmsg(lab: &Lab, script: &str, rules: Value) -> Result<String> {
    let mut bundle = lab.script(script)?;
    bundle.caps(&[
        "CAP_SYSLOG",
        "CAP_SYS_ADMIN",
        "CAP_MKNOD",
        "CAP_DAC_OVERRIDE",
    ])?;
    bundle.set(
        "/linux/devices",
        json!([device("/dev/kmsg", "c", (1, 11), 0o666)]),
    )?;
    bundle.set("/linux/resources/devices", rules)?;
    Ok(lab.run(&bundle)?.out)
}

const READ: &str = "(: < /dev/kmsg) 2>&1 && echo opened";

fn a_device_without_a_rule_cannot_be_opened(lab: &Lab) -> Result {
    let told = with_kmsg(lab, READ, json!([{"allow": false, "access": "rwm"}]))?;
    check!(told.contains("Operation not permitted"), "{told}");
    Ok(())
}

fn a_device_with_a_rule_can_be_opened(lab: &Lab) -> Result {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}
    ]);
    check!(
        with_kmsg(lab, READ, rules)?.contains("opened"),
        "the rule does not allow it"
    );
    Ok(())
}

fn a_read_rule_forbids_writing(lab: &Lab) -> Result {
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}
    ]);
    let script = format!("{READ}; (: > /dev/kmsg) 2>&1 && echo written");
    let told = with_kmsg(lab, &script, rules)?;
    check!(told.contains("opened"), "it cannot be read: {told}");
    check!(
        told.contains("Operation not permitted"),
        "it can be written: {told}"
    );
    Ok(())
}

fn a_later_rule_wins(lab: &Lab) -> Result {
    let rules = json!([
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
        {"allow": false, "access": "rwm"}
    ]);
    let told = with_kmsg(lab, READ, rules)?;
    check!(told.contains("Operation not permitted"), "{told}");
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}
    ]);
    let told = with_kmsg(lab, "(: > /dev/kmsg) 2>&1 && echo written", rules)?;
    check!(told.contains("Operation not permitted"), "{told}");
    Ok(())
}

fn default_devices_pass_a_deny_all(lab: &Lab) -> Result {
    let script = "for d in null zero full tty random urandom; do \
                  (: < /dev/$d) 2>/dev/null && echo $d; done; (: < /dev/ptmx) && echo ptmx";
    let told = lab.told(&lab.script(script)?)?;
    let words: Vec<&str> = told
        .split_whitespace()
        .filter(|word| *word != "tty")
        .collect();
    same!(
        "opened",
        words,
        ["null", "zero", "full", "random", "urandom", "ptmx"]
    );
    Ok(())
}

fn device_nodes_can_be_made_but_not_opened(lab: &Lab) -> Result {
    let script = "mknod /tmp/made c 1 11 && (: < /tmp/made) 2>&1 && echo opened";
    let told = with_kmsg(lab, script, json!([{"allow": false, "access": "rwm"}]))?;
    check!(
        told.contains("Operation not permitted") && told.contains("open"),
        "{told}"
    );
    Ok(())
}

fn a_symlinked_dev_is_not_populated_outside(lab: &Lab) -> Result {
    let decoy = lab.directory("decoy")?;
    lab.file("decoy/ptmx", "mine")?;
    let deep = "../".repeat(20);
    let relative = format!("{deep}{}", decoy.to_string_lossy().trim_start_matches('/'));
    for target in [decoy.to_string_lossy().into_owned(), relative] {
        let mut bundle = lab.bundle()?;
        let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
        mounts.retain(|mount| {
            !mount["destination"]
                .as_str()
                .is_some_and(|at| at.starts_with("/dev"))
        });
        std::fs::remove_dir(bundle.inside("dev"))?;
        symlink(target, bundle.inside("dev"))?;
        // Refused or done inside: both are right.
        lab.run(&bundle)?;
        let names: Vec<_> = std::fs::read_dir(&decoy)?
            .flatten()
            .map(|e| e.file_name())
            .collect();
        same!("entries of the host's directory", names, ["ptmx"]);
        same!("ptmx", std::fs::read_to_string(decoy.join("ptmx"))?, "mine");
    }
    Ok(())
}

fn a_rule_keeps_its_letters(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "minor": 20, "access": "rw"},
        {"allow": true, "type": "b", "major": 10, "minor": 200, "access": "r"}
    ]);
    bundle.set("/linux/resources/devices", rules)?;
    let path = format!("/{}rules", lab.mark());
    bundle.set("/linux/cgroupsPath", path.as_str())?;
    let _container = lab.started(&bundle)?;
    let list = crate::cgroup::Limits::at(&path).file("devices", "devices.list")?;
    for line in ["b 8:20 rw", "b 10:200 r"] {
        check!(list.lines().any(|got| got == line), "no {line:?} in {list}");
    }
    Ok(())
}
