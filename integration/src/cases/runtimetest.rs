//! The view from inside: `runtimetest` compares what it finds with the config it was started from.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Case, Need, Result};
use crate::check;
use crate::lab::Lab;
use serde_json::{Value, json};

type Change = fn(&mut Bundle) -> Result;

/// (name, checks there must be at the least, how the plain config is changed)
const CONFIGS: [(&str, u64, Change); 18] = [
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
    ("seccomp_actions", 45, |bundle| {
        let rule = |names: &[&str], action: &str| json!({"names": names, "action": action});
        let when = |name: &str, errno: u32, args: Value| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args});
        let test = |index: u32, value: u64, op: &str| json!([{"index": index, "value": value, "op": format!("SCMP_CMP_{op}")}]);
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            rule(&["mkdir", "mkdirat"], "SCMP_ACT_KILL_PROCESS"),
            rule(&["symlinkat"], "SCMP_ACT_KILL"),
            rule(&["linkat"], "SCMP_ACT_TRAP"),
            rule(&["chroot"], "SCMP_ACT_TRACE"),
            rule(&["truncate"], "SCMP_ACT_LOG"),
            when("kill", 28, test(1, 9, "EQ")),
            when("socket", 95, test(0, 40, "EQ")),
            when("umount2", 30, test(1, 1, "GT")),
        ]});
        bundle.set("/linux/seccomp", profile).map(drop)
    }),
    ("tmpcopyup", 24, |bundle| {
        let rootfs = bundle.inside("");
        let deep = bundle.inside("var/some/where");
        std::fs::create_dir_all(&deep)?;
        std::fs::write(deep.join("file"), "content")?;
        std::os::unix::fs::symlink("nowhere", deep.join("link"))?;
        std::os::unix::fs::chown(deep.join("file"), Some(3), Some(4))?;
        bundle.mount("bind", rootfs, "/image", &["bind", "ro"])?;
        bundle.mount("tmpfs", "tmpfs", "/var", &["tmpcopyup", "nosuid"])?;
        let args = [
            "/runtimetest",
            "--config",
            "/config.json",
            "--image",
            "/image",
        ];
        bundle.args(&args).map(drop)
    }),
    ("scheduler", 23, |bundle| {
        let flags = ["SCHED_FLAG_RESET_ON_FORK"];
        bundle
            .set(
                "/process/scheduler",
                json!({"policy": "SCHED_BATCH", "nice": 3, "flags": flags}),
            )?
            .set(
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            )
            .map(drop)
    }),
];

/// The process of an exec, by a file of its own.
fn exec(lab: &Lab) -> Result {
    let mut bundle = prepared(lab)?;
    bundle.idle()?;
    std::fs::write(bundle.inside("process.json"), "")?;
    let process = json!({
        "cwd": "/home/user",
        "args": ["/runtimetest", "--config", "/config.json", "--process", "/process.json"],
        "env": ["PATH=/bin", "ONE=1"],
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o077},
        "noNewPrivileges": true,
        "oomScoreAdj": 200,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 90, "hard": 90}],
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "scheduler": {"policy": "SCHED_BATCH", "nice": 2},
        "execCPUAffinity": {"initial": "0", "final": "0"}
    });
    let file = lab.file("process.json", &process.to_string())?;
    bundle.mount("bind", &file, "/process.json", &["bind", "ro"])?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    let flags = ["--process", &file.to_string_lossy()];
    verdict(&container.call("exec", &flags, &[])?, 30).map(drop)
}

/// A filter that asks an agent: one that closes its listener answers ENOSYS for ever.
fn notify(lab: &Lab) -> Result {
    let agent = crate::pty::Receiver::new(&lab.path("agent"))?;
    let mut bundle = prepared(lab)?;
    let rule = json!({"names": ["chroot", "syncfs"], "action": "SCMP_ACT_NOTIFY"});
    let path = agent.path.to_string_lossy().into_owned();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule],
        "listenerPath": path});
    bundle.set("/linux/seccomp", profile)?;
    let args = [
        "/runtimetest",
        "--config",
        "/config.json",
        "--agent-errno",
        "38",
    ];
    bundle.args(&args)?;
    let container = lab.started(&bundle)?;
    // Some load the filter only now.
    drop(agent.receive()?);
    container.stopped()?;
    let output = crate::lab::Output {
        code: 0,
        out: container.out()?,
        err: container.err()?,
    };
    verdict(&output, 40).map(drop)
}

/// One case for each config.
pub fn cases() -> Result<Vec<Case>> {
    let cases = CONFIGS.iter().map(|(name, least, change)| {
        let (least, change) = (*least, *change);
        let run = move |lab: &Lab| inside(lab, least, change).map(drop);
        Case::new(&format!("runtimetest_{name}"), run).needs(&[Need::Runtimetest])
    });
    let more = [
        Case::new("runtimetest_exec", exec).needs(&[Need::Runtimetest]),
        Case::new("runtimetest_notify", notify).needs(&[Need::Runtimetest]),
    ];
    Ok(cases.chain(more).collect())
}

/// A bundle whose process is the witness.
fn prepared(lab: &Lab) -> Result<Bundle> {
    let program = std::env::var("RUNTIMETEST")?;
    let mut bundle = lab.bundle()?;
    bundle.args(&["/runtimetest", "--config", "/config.json"])?;
    let config = bundle.dir.join("config.json");
    // The root of a user namespace could not make these in a rootfs that is not its own.
    for name in ["runtimetest", "config.json"] {
        std::fs::write(bundle.inside(name), "")?;
    }
    bundle.mount("bind", &program, "/runtimetest", &["bind", "ro"])?;
    bundle.mount("bind", &config, "/config.json", &["bind", "ro"])?;
    Ok(bundle)
}

/// Runs runtimetest in a container of the changed config; its checks, which all hold.
pub fn inside(
    lab: &Lab,
    least: u64,
    change: impl FnOnce(&mut Bundle) -> Result,
) -> Result<Vec<Value>> {
    let mut bundle = prepared(lab)?;
    change(&mut bundle)?;
    verdict(&lab.run(&bundle)?, least)
}

/// All checks hold, all were told, and there were enough.
fn verdict(output: &crate::lab::Output, least: u64) -> Result<Vec<Value>> {
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
