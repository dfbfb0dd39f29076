//! Fake, moved and covered /proc and /sys; masks that are no masks.
#![forbid(unsafe_code)]

use crate::attack::{Host, plant, without_dev};
use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::until;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::process::Command;

cases! {
    attack_19921_proc_is_a_symlink,
    attack_16884_a_volume_over_proc,
    attack_16884_a_volume_over_proc_by_a_symlink,
    attack_31133_null_is_a_symlink,
    attack_31133_null_is_replaced_by_a_hook,
    attack_52881_a_sysctl_in_a_fake_proc,
    attack_52881_a_sysctl_covered_by_a_hook,
    attack_52881_proc_covered_by_the_container,
}

fn attack_19921_proc_is_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let deep = format!("{}{}", "../".repeat(20), host.way());
    for at in ["proc", "sys"] {
        for target in [
            host.decoy.to_string_lossy().as_ref(),
            &deep,
            "tmp",
            "/",
            "/dev",
        ] {
            let mut bundle = host.lab.bundle()?;
            bundle.mount("sysfs", "sysfs", "/sys", &["ro"])?;
            plant(&bundle, at, target)?;
            host.lab
                .run(&bundle)?
                .refused(&format!("/{at} as a symlink to {target}"))?;
            host.unharmed()?;
        }
    }
    Ok(())
}

fn attack_16884_a_volume_over_proc(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let source = host.lab.directory("source")?;
    let places = [
        "/proc",
        "/proc/",
        "/./proc",
        "/tmp/../proc",
        "/proc/self",
        "/proc/self/attr",
        "/proc/1",
        "/proc/sys/kernel",
        "/proc/thread-self",
        "/proc/net",
    ];
    for at in places {
        for kind in ["bind", "tmpfs"] {
            let mut bundle = host.lab.bundle()?;
            match kind {
                "bind" => bundle.mount("bind", &source, at, &["bind"])?,
                _ => bundle.mount("tmpfs", "tmpfs", at, &[])?,
            };
            host.lab.run(&bundle)?.refused(&format!("{kind} on {at}"))?;
        }
    }
    host.unharmed()
}

fn attack_16884_a_volume_over_proc_by_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let source = host.lab.directory("source")?;
    for (link, at) in [
        ("/proc", "/mnt"),
        ("../proc", "/mnt"),
        ("/proc", "/mnt/sys/kernel"),
        ("/proc/sys", "/mnt"),
        ("/proc/1", "/mnt"),
        ("/", "/mnt/proc"),
        ("/proc", "/procx"),
        ("/proc/sys/kernel", "/proc-data"),
    ] {
        let mut bundle = host.lab.bundle()?;
        let planted = at.split('/').nth(1).unwrap_or_default();
        plant(&bundle, planted, link)?;
        bundle.mount("bind", &source, at, &["bind"])?;
        host.lab
            .run(&bundle)?
            .refused(&format!("{at} where /{planted} is {link}"))?;
    }
    host.unharmed()
}

/// Reads what is masked, and no more than a little of it: who takes the image's null device for the
/// host's may have made its output of the very file that is read.
pub const PEEK: &str = "head -c 99 /etc/secret; echo pwned > /etc/secret; \
    head -c 99 /etc/secret /proc/sys/kernel/domainname; :";

/// A bundle that masks a file and would show if the mask is none. What could be written to through a
/// false null device is a parameter of the container's own uts namespace.
fn masked(lab: &Lab) -> Result<Bundle> {
    let mut bundle = lab.script(PEEK)?;
    bundle.set(
        "/linux/maskedPaths",
        json!(["/etc/secret", "/proc/kallsyms"]),
    )?;
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]))?;
    std::fs::write(bundle.inside("etc/secret"), "hidden\n")?;
    std::fs::write(bundle.inside("etc/decoy"), "decoy\n")?;
    Ok(bundle)
}

fn hidden(host: &Host, bundle: &Bundle, what: &str) -> Result {
    let output = host.lab.run(bundle)?;
    if output.code == 0 {
        for word in ["hidden", "pwned", "decoy"] {
            check!(
                !output.out.contains(word),
                "{what}: the mask shows {}",
                output.out
            );
        }
    }
    same!(
        "decoy",
        std::fs::read_to_string(bundle.inside("etc/decoy"))?,
        "decoy\n"
    );
    same!(
        "masked",
        std::fs::read_to_string(bundle.inside("etc/secret"))?,
        "hidden\n"
    );
    host.unharmed()
}

fn attack_31133_null_is_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for target in [
        "/proc/sys/kernel/domainname",
        "/etc/decoy",
        "../etc/decoy",
        "/nowhere",
    ] {
        let mut bundle = masked(&host.lab)?;
        without_dev(&mut bundle)?;
        plant(&bundle, "dev/null", target)?;
        hidden(&host, &bundle, target)?;
    }
    let mut bundle = masked(&host.lab)?;
    without_dev(&mut bundle)?;
    std::fs::write(bundle.inside("dev/null"), "decoy\n")?;
    hidden(&host, &bundle, "a file")
}

fn attack_31133_null_is_replaced_by_a_hook(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for trick in [
        "ln -s /proc/sys/kernel/domainname null",
        "ln -s /etc/decoy null",
        "echo decoy > null",
        "mkdir null",
        ":",
    ] {
        let mut bundle = masked(&host.lab)?;
        let dev = bundle.inside("dev");
        let script = format!("cd {} && rm -f null && {trick}", dev.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        bundle.set("/hooks/createContainer", json!([hook]))?;
        hidden(&host, &bundle, trick)?;
    }
    Ok(())
}

/// ip_forward of the container's network namespace.
fn forward(pid: i32) -> Result<String> {
    let target = format!("--target={pid}");
    let file = "/proc/sys/net/ipv4/ip_forward";
    let output = Command::new("nsenter")
        .args([&target, "--net", "cat", file])
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The parameter is set where it belongs, or the container is refused; the decoy is as it was.
fn set_or_refused(host: &Host, bundle: &mut Bundle, decoy: &std::path::Path) -> Result {
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))?;
    bundle.idle()?;
    let id = host.lab.id();
    let container = host.lab.adopt(&id, bundle);
    if host.lab.launch("create", bundle, &id, &[])?.code == 0 {
        same!("ip_forward", forward(container.pid()?)?, "1");
    }
    same!("the decoy", std::fs::read_to_string(decoy)?, "decoy");
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}

fn attack_52881_a_sysctl_in_a_fake_proc(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let mut bundle = host.lab.bundle()?;
    let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
    mounts.retain(|mount| mount["destination"] != "/proc");
    let fake = bundle.inside("proc/sys/net/ipv4/ip_forward");
    std::fs::create_dir_all(fake.parent().ok_or("no parent")?)?;
    std::fs::write(&fake, "decoy")?;
    set_or_refused(&host, &mut bundle, &fake)
}

fn attack_52881_a_sysctl_covered_by_a_hook(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let decoy = host.lab.file("target", "decoy")?;
    let tree = host.lab.directory("tree/net/ipv4")?;
    let below = host.lab.file("tree/net/ipv4/ip_forward", "decoy")?;
    let top = tree.ancestors().nth(2).ok_or("no top")?.display();
    for (trick, target) in [
        (
            format!("mount --bind {} sys/net/ipv4/ip_forward", decoy.display()),
            &decoy,
        ),
        (format!("mount --bind {top} sys"), &below),
        (format!("mount --bind {top}/net sys/net"), &below),
    ] {
        let mut bundle = host.lab.bundle()?;
        let script = format!("cd {} && {trick}", bundle.inside("proc").display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        bundle.set("/hooks/createContainer", json!([hook]))?;
        set_or_refused(&host, &mut bundle, target)?;
    }
    Ok(())
}

/// An init that may mount makes its /proc lie; exec must neither believe it nor hang.
fn attack_52881_proc_covered_by_the_container(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let script = "mkdir -p /tmp/f/self/attr /tmp/f/1 /tmp/f/sys; \
        for n in exec current fscreate; do echo decoy > /tmp/f/self/attr/$n; done; \
        echo decoy > /tmp/f/self/oom_score_adj; mkfifo /tmp/f/self/status; \
        ln -s self /tmp/f/thread-self; mount --bind /tmp/f /proc && echo covered; exec sleep 1000";
    let mut bundle = host.lab.script(script)?;
    bundle.caps(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])?;
    let container = host.lab.create(&bundle)?;
    container.start()?.ok()?;
    container.says("covered")?;
    let output = container.exec(&["/bin/sh", "-c", "cat /tmp/f/self/oom_score_adj"])?;
    check!(
        output.code != 0 || output.out == "decoy\n",
        "exec wrote to it: {}",
        output.out
    );
    for name in ["exec", "current", "fscreate"] {
        let file = bundle.inside("tmp/f/self/attr").join(name);
        same!("the decoy", std::fs::read_to_string(file)?, "decoy\n");
    }
    container.delete(&["--force"])?.ok()?;
    until("its end", || host.lab.states().is_empty().then_some(()))?;
    host.unharmed()
}
