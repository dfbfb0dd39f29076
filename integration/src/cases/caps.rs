//! The five capability sets.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{field, status_line};
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;

cases! {
    the_five_sets_are_the_configs,
    no_capabilities_is_none_at_all,
    an_absent_object_is_none_at_all,
    ambient_capabilities_survive_a_change_of_user,
    a_user_without_ambient_has_no_effective,
    a_dropped_capability_is_felt,
    a_kept_capability_is_felt,
    the_bounding_set_limits_root,
    an_ambient_capability_that_cannot_be_raised_is_left_out,
    an_unknown_capability_does_not_fail: [Creel],
    every_capability_the_caller_has_can_be_given,
}

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND: u64 = 1 << 10;
const NET_RAW: u64 = 1 << 13;

/// Inheritable, permitted, effective, bounding, ambient, in a status file's text.
fn sets(text: &str) -> Result<[u64; 5]> {
    let mut sets = [0; 5];
    for (set, name) in sets
        .iter_mut()
        .zip(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
    {
        let value = field(text, name).ok_or(format!("no {name}"))?;
        *set = u64::from_str_radix(&value, 16)?;
    }
    Ok(sets)
}

fn the_five_sets_are_the_configs(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_KILL"]
        }),
    )?;
    // Not root, or the exec would recompute permitted and effective from the bounding set.
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    let sets = sets(&lab.told(&bundle)?)?;
    // After execve of an ordinary file a user keeps the ambient set.
    let bounding = CHOWN | KILL | NET_BIND | NET_RAW;
    same!(
        "inh, prm, eff, bnd, amb",
        sets,
        [CHOWN | KILL, KILL, KILL, bounding, KILL]
    );
    Ok(())
}

fn no_capabilities_is_none_at_all(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.set("/process/capabilities", json!({}))?;
    same!("sets", sets(&lab.told(&bundle)?)?, [0; 5]);
    Ok(())
}

fn an_absent_object_is_none_at_all(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.unset("/process/capabilities")?;
    same!("sets", sets(&lab.told(&bundle)?)?, [0; 5]);
    Ok(())
}

fn ambient_capabilities_survive_a_change_of_user(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let caps = json!(["CAP_NET_RAW"]);
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        bundle.set(&format!("/process/capabilities/{set}"), caps.clone())?;
    }
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    same!("sets", sets(&text)?, [NET_RAW; 5]);
    Ok(())
}

fn a_user_without_ambient_has_no_effective(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.caps(&["CAP_NET_RAW"])?;
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
    same!("sets", sets(&lab.told(&bundle)?)?, [0, 0, 0, NET_RAW, 0]);
    Ok(())
}

fn a_dropped_capability_is_felt(lab: &Lab) -> Result {
    let mut bundle = lab.script("chown 5 /tmp 2>&1; ip link set lo down 2>&1; echo end")?;
    bundle.caps(&["CAP_KILL"])?;
    let told = lab.told(&bundle)?;
    same!("refusals", told.matches("not permitted").count(), 2);
    Ok(())
}

fn a_kept_capability_is_felt(lab: &Lab) -> Result {
    let mut bundle = lab.script("chown 5 /tmp && ip link set lo down && echo done")?;
    bundle.caps(&["CAP_CHOWN", "CAP_NET_ADMIN"])?;
    same!("stdout", lab.told(&bundle)?, "done\n");
    Ok(())
}

fn the_bounding_set_limits_root(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.caps(&["CAP_CHOWN", "CAP_KILL"])?;
    let set = CHOWN | KILL;
    same!("sets", sets(&lab.told(&bundle)?)?, [0, set, set, set, 0]);
    Ok(())
}

fn an_ambient_capability_that_cannot_be_raised_is_left_out(lab: &Lab) -> Result {
    // The spec asks for a warning, not a failure, when a capability cannot be granted.
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.set("/process/capabilities/ambient", json!(["CAP_CHOWN"]))?;
    same!("ambient", sets(&lab.told(&bundle)?)?.last(), Some(&0));
    Ok(())
}

fn an_unknown_capability_does_not_fail(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.caps(&["CAP_CHOWN", "CAP_TIME_TRAVEL"])?;
    let output = lab.run(&bundle)?.ok()?;
    check!(
        output.err.contains("CAP_TIME_TRAVEL"),
        "no warning: {:?}",
        output.err
    );
    same!("sets", sets(&output.out)?, [0, CHOWN, CHOWN, CHOWN, 0]);
    Ok(())
}

fn every_capability_the_caller_has_can_be_given(lab: &Lab) -> Result {
    let own = status_line(i32::try_from(std::process::id())?, "CapBnd")?;
    let own = u64::from_str_radix(&own, 16)?;
    let names: Vec<&str> = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| own >> bit & 1 == 1)
        .map(|(_, name)| *name)
        .collect();
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.caps(&names)?;
    same!("sets", sets(&lab.told(&bundle)?)?, [0, own, own, own, 0]);
    Ok(())
}

/// capabilities(7), in the order of their numbers.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];
