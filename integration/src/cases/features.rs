//! `features`: the document beside runc's, key by key, and what newer runcs say.
#![forbid(unsafe_code)]

use crate::case::{Failure, Result};
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

cases! {
    features_have_the_specs_keys_and_no_others: [Creel],
    features_are_no_less_than_runcs: [Creel, Tool("runc")],
    what_features_name_is_accepted: [Creel],
}

/// Every key of features.md and features-linux.md (1.3), and whether runc 1.5 has it.
const KEYS: [&str; 32] = [
    "/ociVersionMin",
    "/ociVersionMax",
    "/hooks",
    "/mountOptions",
    "/annotations",
    "/potentiallyUnsafeConfigAnnotations",
    "/linux/namespaces",
    "/linux/capabilities",
    "/linux/cgroup/v1",
    "/linux/cgroup/v2",
    "/linux/cgroup/systemd",
    "/linux/cgroup/systemdUser",
    "/linux/cgroup/rdma",
    "/linux/seccomp/enabled",
    "/linux/seccomp/actions",
    "/linux/seccomp/operators",
    "/linux/seccomp/archs",
    "/linux/seccomp/knownFlags",
    "/linux/seccomp/supportedFlags",
    "/linux/apparmor/enabled",
    "/linux/selinux/enabled",
    "/linux/intelRdt/enabled",
    "/linux/intelRdt/schemata",
    "/linux/intelRdt/monitoring",
    "/linux/memoryPolicy/modes",
    "/linux/memoryPolicy/flags",
    "/linux/mountExtensions/idmap/enabled",
    "/linux/netDevices/enabled",
    "/linux",
    "/linux/mountExtensions",
    "/linux/seccomp",
    "/linux/cgroup",
];

/// What Debian's runc 1.1.5 names and newer ones do not: it never had an effect.
const DROPPED: [&str; 2] = ["acl", "noacl"];

/// What a program says of its own build.
const OWN: [&str; 3] = [
    "io.github.seccomp.libseccomp.version",
    "org.opencontainers.runc.commit",
    "org.opencontainers.runc.version",
];

fn document(lab: &Lab) -> Result<Value> {
    Ok(serde_json::from_str(&lab.call(&["features"])?.ok()?.out)?)
}

/// Every leaf by its pointer; lists and annotations are leaves.
fn leaves(value: &Value, at: &str, out: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) if at != "/annotations" => {
            for (key, value) in map {
                leaves(value, &format!("{at}/{key}"), out);
            }
        }
        _ => {
            out.insert(at.to_owned());
        }
    }
}

fn features_have_the_specs_keys_and_no_others(lab: &Lab) -> Result {
    let ours = document(lab)?;
    let mut has = BTreeSet::new();
    leaves(&ours, "", &mut has);
    let below = |key: &str| {
        KEYS.iter()
            .any(|other| other.starts_with(&format!("{key}/")))
    };
    let want: BTreeSet<String> = KEYS
        .iter()
        .filter(|key| !below(key))
        .map(|key| (*key).to_owned())
        .collect();
    same!("keys", has, want);
    for key in has.iter().filter(|key| key.starts_with("/linux/")) {
        let value = ours.pointer(key).unwrap_or(&Value::Null);
        let full = value.as_array().is_none_or(|list| !list.is_empty());
        check!(full && *value != json!(false), "{key}: {value}");
    }
    Ok(())
}

fn features_are_no_less_than_runcs(lab: &Lab) -> Result {
    let ours = document(lab)?;
    let output = Command::new("runc").arg("features").output()?;
    if !output.status.success() {
        return Err(Failure::skip("this runc has no features"));
    }
    let runcs: Value = serde_json::from_slice(&output.stdout)?;
    let mut keys = BTreeSet::new();
    leaves(&runcs, "", &mut keys);
    for key in &keys {
        let theirs = runcs.pointer(key).unwrap_or(&Value::Null);
        let Some(mine) = ours.pointer(key) else {
            return Err(format!("{key} is missing").into());
        };
        match (key.as_str(), theirs) {
            ("/ociVersionMin", theirs) => same!(key, mine, theirs),
            ("/ociVersionMax", theirs) => {
                let (mine, theirs) = (mine.as_str(), theirs.as_str());
                check!(mine >= theirs, "{key}: {mine:?}, runc's is {theirs:?}");
            }
            ("/annotations", Value::Object(theirs)) => {
                for (name, value) in theirs
                    .iter()
                    .filter(|(name, _)| !OWN.contains(&name.as_str()))
                {
                    check!(mine.get(name).is_some(), "no annotation {name} ({value})");
                }
            }
            (_, Value::Array(theirs)) => {
                let lacks: Vec<&Value> = theirs
                    .iter()
                    .filter(|one| !mine.as_array().is_some_and(|mine| mine.contains(one)))
                    .filter(|one| !one.as_str().is_some_and(|one| DROPPED.contains(&one)))
                    .collect();
                check!(lacks.is_empty(), "{key} lacks {lacks:?}");
            }
            (_, theirs) => same!(key, mine, theirs),
        }
    }
    Ok(())
}

fn words<'a>(features: &'a Value, key: &str) -> Vec<&'a str> {
    let list = features.pointer(key).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// "The runtime MUST recognize the elements": both versions, every capability without a warning,
/// every seccomp word; options and namespaces have cases of their own.
fn what_features_name_is_accepted(lab: &Lab) -> Result {
    let features = document(lab)?;
    for version in ["/ociVersionMin", "/ociVersionMax"] {
        let mut bundle = lab.bundle()?;
        bundle.set(
            "/ociVersion",
            features.pointer(version).cloned().unwrap_or_default(),
        )?;
        lab.run(&bundle)?.ok()?;
    }
    let mut bundle = lab.bundle()?;
    bundle.caps(&words(&features, "/linux/capabilities"))?;
    let err = lab.run(&bundle)?.ok()?.err;
    // What this host cannot grant is another matter.
    check!(!err.contains("unknown"), "{err}");
    let mut rules = Vec::new();
    for action in words(&features, "/linux/seccomp/actions") {
        // A container has one agent, and none is here.
        if action != "SCMP_ACT_NOTIFY" {
            rules.push(json!({"names": ["getcpu"], "action": action, "args": [
                {"index": 0, "value": rules.len(), "op": "SCMP_CMP_EQ"}]}));
        }
    }
    for operator in words(&features, "/linux/seccomp/operators") {
        rules.push(
            json!({"names": ["kcmp"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": 1, "value": 7, "valueTwo": 7, "op": operator}]}),
        );
    }
    let mut bundle = lab.bundle()?;
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": words(&features, "/linux/seccomp/archs"),
            "flags": words(&features, "/linux/seccomp/supportedFlags"),
            "syscalls": rules,
        }),
    )?;
    lab.run(&bundle)?.ok()?;
    Ok(())
}
