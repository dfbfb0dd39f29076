//! A config of the shape that dockerd writes: everything at once, as most containers in the world
//! have it.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::field;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::Value;
use std::path::Path;

cases! {
    docker_default_runs,
    docker_default_confines_as_runc_does: [Tool("runc")],
    docker_default_refuses_what_it_should,
    docker_default_execs,
}

const CONFIG: &str = include_str!("../../data/docker-default.json");

fn with(lab: &Lab, script: &str) -> Result<Bundle> {
    let mut bundle = lab.bundle()?;
    bundle.config = serde_json::from_str::<Value>(CONFIG)?;
    for name in ["hosts", "hostname", "resolv.conf"] {
        let file = lab.file(name, "")?;
        let at = format!("/etc/{name}");
        bundle.mount("bind", file, &at, &["rbind", "rprivate"])?;
    }
    bundle.script(script)?;
    bundle.set("/linux/cgroupsPath", format!("/{}", lab.id()))?;
    Ok(bundle)
}

fn docker_default_runs(lab: &Lab) -> Result {
    same!("stdout", lab.told(&with(lab, "echo ran")?)?, "ran\n");
    Ok(())
}

const LINES: [&str; 10] = [
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "Seccomp",
    "Seccomp_filters",
    "NoNewPrivs",
    "Groups",
    "Uid",
];

fn docker_default_confines_as_runc_does(lab: &Lab) -> Result {
    let bundle = with(lab, "cat /proc/self/status")?;
    let ours = lab.told(&bundle)?;
    let mut reference = lab.command_in("root2", &["run", "-b"]);
    reference.arg(&bundle.dir).arg(lab.id());
    let mut runc = std::process::Command::new("runc");
    runc.args(reference.get_args()).stdin(lab.null()?);
    let theirs = lab.finish(&mut runc)?.ok()?.out;
    for line in LINES {
        same!(line, field(&ours, line), field(&theirs, line));
    }
    same!(
        "CapEff",
        field(&ours, "CapEff"),
        Some("00000000a80425fb".into())
    );
    same!("Seccomp", field(&ours, "Seccomp"), Some("2".into()));
    Ok(())
}

fn docker_default_refuses_what_it_should(lab: &Lab) -> Result {
    let script = "mount -t tmpfs x /mnt 2>&1; unshare -m true 2>&1; cat /proc/kcore | wc -c; \
                  echo 1 2>/dev/null > /proc/sys/kernel/hostname || echo readonly; \
                  ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | grep -c .; date -s 2001-01-01 2>&1";
    let told = lab.run(&with(lab, script)?)?.out;
    check!(told.matches("not permitted").count() >= 2, "{told}");
    check!(told.contains("mount: permission denied"), "{told}");
    check!(told.contains("readonly"), "{told}");
    check!(told.lines().any(|line| line == "0"), "{told}");
    Ok(())
}

fn docker_default_execs(lab: &Lab) -> Result {
    let container = lab.started(&with(lab, "exec sleep 1000")?)?;
    let pid = container.executes("sleep")?;
    let init = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let text = container.exec(&["cat", "/proc/self/status"])?.ok()?.out;
    for line in LINES {
        same!(line, field(&text, line), field(&init, line));
    }
    Ok(())
}
