//! Symlinks of the image's in every path that the runtime resolves in the rootfs.
#![forbid(unsafe_code)]

use crate::attack::{Host, plant};
use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::{Lab, Output};
use crate::{cases, check, same};
use serde_json::json;

cases! {
    attack_18837_a_mount_below_a_symlink,
    attack_18837_a_mount_on_a_symlink,
    attack_device_below_a_symlink,
    attack_cwd_below_a_symlink,
    attack_masked_and_readonly_behind_a_symlink,
    attack_copy_up_of_symlinks,
    attack_25809_cgroups_of_the_host: [CgroupV2],
}

/// Targets of a symlink that leave the rootfs for the decoy, if somebody follows them outside.
fn ways_out(host: &Host) -> Vec<String> {
    let (way, up) = (host.way(), "../".repeat(20));
    vec![
        format!("/{way}"),
        format!("{up}{way}"),
        format!("/proc/self/root/{way}"),
        format!("/proc/self/cwd/{up}{way}"),
        format!("/dev/fd/3/{up}{way}"),
    ]
}

/// Runs a bundle for each way out; what it does is bent by `attack`.
fn each(host: &Host, attack: impl Fn(&Host, &mut Bundle) -> Result) -> Result<Vec<Output>> {
    let mut outputs = Vec::new();
    for way in ways_out(host) {
        let mut bundle = host.lab.script("cat /proc/self/mountinfo")?;
        plant(&bundle, "mnt", &way)?;
        attack(host, &mut bundle)?;
        outputs.push(host.lab.run(&bundle)?);
        host.unharmed()
            .map_err(|failure| format!("symlink to {way}: {}", failure.why))?;
    }
    Ok(outputs)
}

/// A mount that is asked for must be in the container, or the runtime must have refused.
fn all_inside(outputs: Vec<Output>, mark: &str) -> Result {
    for output in outputs {
        let seen = output
            .out
            .lines()
            .filter(|line| line.contains(mark))
            .count();
        check!(
            output.code != 0 || seen == 1,
            "{seen} mounts inside: {}",
            output.out
        );
    }
    Ok(())
}

const TMPFS: [&str; 2] = ["size=4321k", "nosuid"];

fn attack_18837_a_mount_below_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for at in ["/mnt/sub", "/mnt/new/deep", "/mnt/sub/../sub"] {
        let outputs = each(&host, |_, bundle| {
            bundle.mount("tmpfs", "tmpfs", at, &TMPFS)?;
            Ok(())
        })?;
        all_inside(outputs, "size=4324k")?;
    }
    let file = host.lab.file("payload", "payload")?;
    for at in ["/mnt/secret", "/mnt/new"] {
        let outputs = each(&host, |_, bundle| {
            bundle.mount("bind", &file, at, &["bind"])?;
            Ok(())
        })?;
        all_inside(outputs, "/payload ")?;
    }
    Ok(())
}

fn attack_18837_a_mount_on_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let outputs = each(&host, |_, bundle| {
        bundle.mount("tmpfs", "tmpfs", "/mnt", &TMPFS)?;
        Ok(())
    })?;
    all_inside(outputs, "size=4324k")
}

fn attack_device_below_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for path in ["/mnt/fresh", "/mnt/new/deep"] {
        each(&host, |_, bundle| {
            let node = json!({"type": "c", "path": path, "major": 1, "minor": 3, "fileMode": 511,
                "uid": 7, "gid": 7});
            bundle.set("/linux/devices", json!([node]))?;
            Ok(())
        })?;
    }
    Ok(())
}

fn attack_cwd_below_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for cwd in ["/mnt/new/deep", "/mnt"] {
        let outputs = each(&host, |host, bundle| {
            let script = format!(
                "cat secret ../secret ../../secret /{}/secret; :",
                host.way()
            );
            bundle.script(&script)?.set("/process/cwd", cwd)?;
            Ok(())
        })?;
        for output in outputs {
            check!(
                !output.out.contains("secret"),
                "cwd is on the host: {}",
                output.out
            );
        }
    }
    Ok(())
}

fn attack_masked_and_readonly_behind_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for field in ["maskedPaths", "readonlyPaths"] {
        each(&host, |_, bundle| {
            bundle.set(
                &format!("/linux/{field}"),
                json!(["/mnt/sub", "/mnt/secret", "/mnt"]),
            )?;
            Ok(())
        })?;
        // The host's files are neither hidden nor closed to writers.
        std::fs::File::options()
            .append(true)
            .open(host.decoy.join("sub/file"))?;
        same!(
            "secret",
            std::fs::read_to_string(host.decoy.join("secret"))?,
            "secret"
        );
    }
    Ok(())
}

fn attack_copy_up_of_symlinks(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for way in ways_out(&host) {
        let mut bundle = host
            .lab
            .script("cat /var/out/secret /var/secret; ls -l /var; :")?;
        plant(&bundle, "var/out", &way)?;
        plant(&bundle, "var/secret", format!("{way}/secret"))?;
        bundle.mount("tmpfs", "tmpfs", "/var", &["tmpcopyup"])?;
        let output = host.lab.run(&bundle)?;
        let told = output.out.lines().any(|line| line == "secret");
        check!(!told, "the copy holds the host's file");
        host.unharmed()?;
    }
    Ok(())
}

fn attack_25809_cgroups_of_the_host(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do \
                  mkdir $d/escaped 2>/dev/null && echo made $d; done; :";
    let mut bundle = host.lab.script(script)?;
    bundle.mapped()?.drop_namespace("cgroup")?;
    bundle.mount(
        "bind",
        "/sys",
        "/sys",
        &["rbind", "nosuid", "noexec", "nodev", "ro"],
    )?;
    let output = host.lab.run(&bundle)?;
    check!(!output.out.contains("made"), "{}", output.out);
    host.unharmed()
}
