//! Every field for Linux at once: the config has all that the schema lists and this host allows, and
//! `runtimetest` agrees with it part by part.
#![forbid(unsafe_code)]

use super::netdevices;
use super::runtimetest::inside;
use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::scene::Holder;
use crate::{cases, check};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

cases! {
    every_field_at_once_is_applied: [
        Creel, Runtimetest, Userns, CgroupV1, Namespace("time"), Tool("ip"), Kernel(6, 3), NoAppArmor,
        NoSelinux
    ],
}

/// What cannot be in a config that runs here, and why; whatever is below it neither.
const ABSENT: [(&str, &str); 19] = [
    ("/process/apparmorProfile", "the host has no AppArmor"),
    ("/process/selinuxLabel", "the host has no SELinux"),
    ("/linux/mountLabel", "the host has no SELinux"),
    ("/linux/intelRdt", "takes a processor with RDT"),
    ("/linux/resources/hugepageLimits", "no such controller here"),
    ("/linux/resources/network", "no such controllers here"),
    ("/linux/resources/rdma", "no such controller here"),
    ("/linux/resources/unified", "cgroup v2 only"),
    ("/linux/resources/blockIO/weight", "takes the scheduler BFQ"),
    (
        "/linux/resources/blockIO/weightDevice",
        "takes the scheduler BFQ",
    ),
    (
        "/linux/resources/blockIO/leafWeight",
        "went with the scheduler CFQ",
    ),
    (
        "/linux/resources/cpu/realtimePeriod",
        "the host gives none away",
    ),
    (
        "/linux/resources/cpu/realtimeRuntime",
        "the host gives none away",
    ),
    ("/process/commandLine", "Windows"),
    ("/process/user/username", "Windows"),
    ("/windows", "another platform"),
    ("/solaris", "another platform"),
    ("/zos", "another platform"),
    ("/freebsd", "another platform"),
];

/// The parts of runtimetest that must have something to say of it.
const PARTS: [&str; 31] = [
    "args",
    "env",
    "cwd",
    "user",
    "stdio",
    "namespaces",
    "ids",
    "time",
    "names",
    "net",
    "sysctl",
    "root",
    "mounts",
    "devices",
    "links",
    "masked",
    "readonly",
    "cgroup",
    "rlimits",
    "oom",
    "scheduler",
    "ioprio",
    "mempolicy",
    "personality",
    "caps",
    "privileges",
    "seccomp",
    "fds",
    "signals",
    "processes",
    "terminal",
];

/// A block device with numbers, for throttling.
fn block_device() -> Result<(u64, u64)> {
    for entry in std::fs::read_dir("/sys/block")?.flatten() {
        let text = std::fs::read_to_string(entry.path().join("dev"))?;
        if let Some((major, minor)) = text.trim().split_once(':') {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    Err("no block device".into())
}

fn bend(bundle: &mut Bundle, ipc: &str, lab: &Lab) -> Result {
    let caps = json!(["CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"]);
    let hook = |kind: &str| -> (String, Value) {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null"],
            "env": ["PATH=/bin"], "timeout": 20}]);
        (kind.to_owned(), hook)
    };
    let hooks: serde_json::Map<String, Value> = super::hooks::KINDS.map(hook).into_iter().collect();
    let (major, minor) = block_device()?;
    let throttle = json!([{"major": major, "minor": minor, "rate": 104_857_600}]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let other = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    let source = lab.directory("shared")?;
    bundle
        .mapped()?
        .namespace("cgroup", None)?
        .namespace("time", None)?
        .namespace("ipc", Some(ipc))?;
    // A message queue's filesystem is for the root of the namespace's owner.
    let mounts = bundle
        .config
        .pointer_mut("/mounts")
        .and_then(Value::as_array_mut);
    mounts
        .ok_or("no mounts")?
        .retain(|mount| mount["type"] != "mqueue");
    bundle.mount(
        "sysfs",
        "sysfs",
        "/sys",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    bundle.mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    bundle.mount(
        "tmpfs",
        "tmpfs",
        "/run",
        &["tmpcopyup", "mode=755", "nosuid"],
    )?;
    bundle.mount(
        "bind",
        &source,
        "var",
        &["rbind", "rro", "rnosuid", "rprivate"],
    )?;
    bundle.set(
        "/mounts/-",
        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs",
            "options": ["idmap", "noexec"], "uidMappings": other, "gidMappings": other}),
    )?;
    bundle
        .set("/ociVersion", "1.3.0")?
        .set("/domainname", "example.test")?
        .set("/annotations", json!({"org.example.all": "yes"}))?
        .set("/hooks", hooks)?
        .set("/root/readonly", true)?
        .set("/process/consoleSize", json!({"height": 25, "width": 80}))?
        .set(
            "/process/user",
            json!({"uid": 0, "gid": 0, "umask": 0o27, "additionalGids": [5, 6]}),
        )?
        .set("/process/cwd", "/home/user")?
        .set("/process/oomScoreAdj", 100)?
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024}]),
        )?
        .set(
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
        )?
        .set(
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "nice": 3, "priority": 0, "runtime": 0, "deadline": 0,
                "period": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        )?
        .set(
            "/process/execCPUAffinity",
            json!({"initial": "0", "final": "0"}),
        )?;
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        bundle.set(&format!("/process/capabilities/{set}"), caps.clone())?;
    }
    let group = format!("/it-{}-all", lab.mark());
    let linux = json!({
        "uidMappings": map, "gidMappings": map,
        "timeOffsets": {"monotonic": {"secs": 1000, "nanosecs": 5}, "boottime": {"secs": 2000, "nanosecs": 6}},
        "devices": [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o644,
            "uid": 0, "gid": 0}],
        "netDevices": {"one": {"name": "eth0"}},
        "cgroupsPath": group,
        "resources": {
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}
            ],
            "memory": {"limit": 536_870_912, "reservation": 268_435_456, "swap": 1_073_741_824,
                "kernel": -1, "kernelTCP": -1, "swappiness": 30, "disableOOMKiller": true,
                "useHierarchy": true, "checkBeforeUpdate": true},
            "cpu": {"shares": 1024, "quota": 90_000, "burst": 1000, "period": 100_000, "cpus": "0-1",
                "mems": "0", "idle": 0},
            "pids": {"limit": 100},
            "blockIO": {"throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
                "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle}
        },
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore", "/proc/keys"],
        "readonlyPaths": ["/proc/sys", "/proc/bus"],
        "personality": {"domain": "LINUX32", "flags": []},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": Value::Null,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/nobody/asks", "listenerMetadata": "as nothing notifies",
            "syscalls": [
                {"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["kcmp"], "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 2, "value": 255, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}
            ]
        }
    });
    for (key, value) in linux.as_object().into_iter().flatten() {
        bundle.set(&format!("/linux/{key}"), value.clone())?;
    }
    Ok(())
}

/// Every pointer into the value, with `*` for indices and for the keys of maps.
fn pointers(value: &Value, at: &str, known: &BTreeSet<String>, out: &mut BTreeSet<String>) {
    out.insert(at.to_owned());
    match value {
        Value::Array(list) => {
            for value in list {
                pointers(value, &format!("{at}/*"), known, out);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let named = format!("{at}/{key}");
                let at = if known.contains(&named) {
                    named
                } else {
                    format!("{at}/*")
                };
                pointers(value, &at, known, out);
            }
        }
        _ => {}
    }
}

/// No field of the schema may be left out without a reason.
fn complete(config: &Value) -> Result {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/bundle/pointers.txt");
    let text = std::fs::read_to_string(file)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let known: BTreeSet<String> = lines
        .filter_map(|line| line.split_once(' '))
        .map(|(pointer, _)| pointer.to_owned())
        .collect();
    check!(known.len() > 300, "only {} pointers", known.len());
    let mut has = BTreeSet::new();
    pointers(config, "", &known, &mut has);
    let is_absent = |pointer: &str| {
        let excused = ABSENT.iter().any(|(absent, _)| pointer.starts_with(absent));
        // Flags of personality(2): the spec has none yet.
        excused || pointer.starts_with("/vm") || pointer == "/linux/personality/flags/*"
    };
    let missing: Vec<&String> = known
        .iter()
        .filter(|pointer| !has.contains(*pointer) && !is_absent(pointer))
        .collect();
    check!(missing.is_empty(), "not in the config: {missing:?}");
    Ok(())
}

fn every_field_at_once_is_applied(lab: &Lab) -> Result {
    netdevices::host()?;
    let holder = Holder::new(&["--ipc"])?;
    let ipc = holder.path("ipc");
    let checks = inside(lab, 150, |bundle| {
        bend(bundle, &ipc, lab)?;
        complete(&bundle.config)
    })?;
    let parts: BTreeSet<&str> = checks
        .iter()
        .filter_map(|line| line["part"].as_str())
        .collect();
    let silent: Vec<_> = PARTS.iter().filter(|part| !parts.contains(*part)).collect();
    check!(
        silent.is_empty(),
        "nothing was said of {silent:?}, only of {parts:?}"
    );
    Ok(())
}
