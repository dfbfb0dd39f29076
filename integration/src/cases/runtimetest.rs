//! The view from inside: `runtimetest` compares what it finds with the config it was started from.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Case, Need, Result};
use crate::check;
use crate::lab::Lab;
use serde_json::{Value, json};

type Change = fn(&mut Bundle) -> Result;

/// (name, checks there must be at the least, how the plain config is changed)
const CONFIGS: [(&str, u64, Change); 15] = [
    ("plain", 20, |_| Ok(())),
    ("readonly_root", 20, |bundle| {
        bundle.set("/root/readonly", true).map(drop)
    }),
    ("user", 20, |bundle| {
        let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 9]});
        bundle.set("/process/user", user).map(drop)
    }),
    ("user_namespace", 20, |bundle| bundle.mapped().map(drop)),
    ("cgroup_namespace", 20, |bundle| {
        bundle.namespace("cgroup", None).map(drop)
    }),
    ("no_capabilities", 20, |bundle| {
        bundle.set("/process/capabilities", json!({})).map(drop)
    }),
    ("ambient_capabilities", 20, |bundle| {
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            let set = format!("/process/capabilities/{set}");
            bundle.set(&set, json!(["CAP_KILL", "CAP_NET_RAW"]))?;
        }
        Ok(())
    }),
    ("privileges", 20, |bundle| {
        bundle.set("/process/noNewPrivileges", false).map(drop)
    }),
    ("rlimits", 21, |bundle| {
        let limits = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
        ]);
        bundle.set("/process/rlimits", limits).map(drop)
    }),
    ("mounts", 22, |bundle| {
        bundle.mount(
            "tmpfs",
            "tmpfs",
            "/tmp",
            &["nosuid", "nodev", "noexec", "size=1m"],
        )?;
        bundle.mount("bind", "/usr", "/usr", &["rbind", "ro"])?;
        bundle
            .mount(
                "sysfs",
                "sysfs",
                "/sys",
                &["nosuid", "noexec", "nodev", "ro"],
            )
            .map(drop)
    }),
    ("devices", 21, |bundle| {
        let device = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
            "fileMode": 0o640, "uid": 3, "gid": 4});
        bundle.set("/linux/devices", json!([device])).map(drop)
    }),
    ("hidden_paths", 21, |bundle| {
        let masked = json!([
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/proc/acpi"
        ]);
        let readonly = json!(["/proc/sys", "/proc/irq", "/proc/bus", "/proc/sysrq-trigger"]);
        bundle
            .set("/linux/maskedPaths", masked)?
            .set("/linux/readonlyPaths", readonly)
            .map(drop)
    }),
    ("names_and_sysctls", 21, |bundle| {
        bundle.set("/hostname", "other")?;
        let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"});
        bundle.set("/linux/sysctl", sysctl).map(drop)
    }),
    ("process", 20, |bundle| {
        bundle
            .set("/process/oomScoreAdj", 77)?
            .set("/process/cwd", "/home/user")
            .map(drop)
    }),
    ("seccomp", 20, |bundle| {
        let rule = json!({"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO"});
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        bundle.set("/linux/seccomp", profile).map(drop)
    }),
];

/// One case for each config.
pub fn cases() -> Result<Vec<Case>> {
    let cases = CONFIGS.iter().map(|(name, least, change)| {
        let (least, change) = (*least, *change);
        let run = move |lab: &Lab| inside(lab, least, change).map(drop);
        Case::new(&format!("runtimetest_{name}"), run).needs(&[Need::Runtimetest])
    });
    Ok(cases.collect())
}

/// Runs runtimetest in a container of the changed config; its checks, which all hold.
pub fn inside(
    lab: &Lab,
    least: u64,
    change: impl FnOnce(&mut Bundle) -> Result,
) -> Result<Vec<Value>> {
    let program = std::env::var("RUNTIMETEST")?;
    let mut bundle = lab.bundle()?;
    bundle.args(&["/runtimetest", "--config", "/config.json"])?;
    change(&mut bundle)?;
    let config = bundle.dir.join("config.json");
    // The root of a user namespace could not make these in a rootfs that is not its own.
    for name in ["runtimetest", "config.json"] {
        std::fs::write(bundle.inside(name), "")?;
    }
    bundle.mount("bind", &program, "/runtimetest", &["bind", "ro"])?;
    bundle.mount("bind", &config, "/config.json", &["bind", "ro"])?;
    let output = lab.run(&bundle)?;
    let mut wrong = Vec::new();
    let mut counted = 0;
    let mut checks = Vec::new();
    let mut total = None;
    for line in output.out.lines() {
        let line: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        if let Some(checks) = line["checks"].as_u64() {
            total = Some(checks);
        } else {
            counted += 1;
            if line["ok"] != true {
                let (part, claim) = (&line["part"], &line["claim"]);
                wrong.push(format!(
                    "{part} {claim}: want {}, got {}",
                    line["want"], line["got"]
                ));
            }
            checks.push(line);
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("; "));
    check!(output.code == 0, "exit {}: {}", output.code, output.err);
    // Silence is failure.
    check!(
        total == Some(counted),
        "{counted} checks were told, {total:?} were made"
    );
    check!(counted >= least, "only {counted} checks, {least} expected");
    Ok(checks)
}
