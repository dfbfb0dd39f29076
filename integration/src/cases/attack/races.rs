//! Names that change while the runtime looks: a second container shares the volume or the rootfs.
#![forbid(unsafe_code)]

use crate::attack::{Host, Swapper, again_and_again, plant, without_dev};
use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

cases! {
    attack_30465_a_mount_point_that_becomes_a_symlink,
    attack_45310_directories_made_while_names_change,
    attack_27561_proc_that_becomes_a_symlink,
    attack_41579_dev_that_becomes_a_symlink,
    attack_31133_null_that_changes,
    attack_52565_console_that_changes,
    attack_cwd_that_becomes_a_symlink,
    attack_copy_up_while_names_change,
    attack_exec_while_names_change,
}

/// A volume with `x`, a directory, and `y`, a way to the decoy.
fn volume(host: &Host) -> Result<PathBuf> {
    let volume = host.lab.directory("volume")?;
    std::fs::create_dir_all(volume.join("x"))?;
    symlink(&host.decoy, volume.join("y"))?;
    Ok(volume)
}

/// Runs what `attack` has bent for a moment while two names of the volume are exchanged.
fn swapped(
    lab: &Lab,
    attack: impl Fn(&Host, &mut Bundle) -> Result,
    judge: impl Fn(&str) -> Option<String>,
) -> Result {
    let host = Host::new(lab)?;
    let volume = volume(&host)?;
    let mut bundle = host.lab.script("cat /proc/self/mountinfo")?;
    bundle.mount("bind", &volume, "/vol", &["bind"])?;
    attack(&host, &mut bundle)?;
    let attacker = Swapper::new(&volume.join("x"), &volume.join("y"));
    again_and_again(|| {
        let output = host.lab.run(&bundle)?;
        if output.code == 0
            && let Some(wrong) = judge(&output.out)
        {
            return Err(wrong.into());
        }
        host.unharmed()
    })?;
    attacker.end()
}

fn attack_30465_a_mount_point_that_becomes_a_symlink(lab: &Lab) -> Result {
    let count = |told: &str| {
        let seen = told
            .lines()
            .filter(|line| line.contains("size=4324k"))
            .count();
        (seen != 3).then(|| format!("{seen} of 3 mounts are in the container"))
    };
    let mounts = |_: &Host, bundle: &mut Bundle| {
        for at in ["/vol/x", "/vol/x/sub", "/vol/x/other"] {
            bundle.mount("tmpfs", "tmpfs", at, &["size=4321k"])?;
        }
        Ok(())
    };
    swapped(lab, mounts, count)
}

fn attack_45310_directories_made_while_names_change(lab: &Lab) -> Result {
    let deep = |_: &Host, bundle: &mut Bundle| {
        for (index, at) in ["/vol/x/a/b/c", "/vol/x/d/e", "/vol/x/f"]
            .iter()
            .enumerate()
        {
            bundle.mount("tmpfs", "tmpfs", &format!("{at}{index}"), &[])?;
        }
        let node = json!({"type": "c", "path": "/vol/x/dev/null", "major": 1, "minor": 3});
        bundle.set("/linux/devices", json!([node]))?;
        Ok(())
    };
    swapped(lab, deep, |_| None)
}

fn attack_cwd_that_becomes_a_symlink(lab: &Lab) -> Result {
    let enter = |_: &Host, bundle: &mut Bundle| {
        bundle.script("cat secret ../secret 2>/dev/null; :")?;
        bundle.set("/process/cwd", "/vol/x/made")?;
        Ok(())
    };
    let secret = |told: &str| {
        told.contains("secret")
            .then(|| "cwd is on the host".to_owned())
    };
    swapped(lab, enter, secret)
}

/// Two names in the image, exchanged while containers are made of it.
fn image_swapped(
    host: &Host,
    bundle: &Bundle,
    names: (&str, &str),
    judge: impl Fn(&str) -> Option<String>,
) -> Result {
    let attacker = Swapper::new(&bundle.inside(names.0), &bundle.inside(names.1));
    again_and_again(|| {
        let output = host.lab.run(bundle)?;
        if output.code == 0
            && let Some(wrong) = judge(&output.out)
        {
            return Err(wrong.into());
        }
        host.unharmed()
    })?;
    attacker.end()
}

/// Wherever its name went meanwhile, the procfs that was mounted must have the mask in it.
fn unmasked(told: &str) -> Option<String> {
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    let procs = lines.iter().filter(|words| words.contains(&"proc"));
    let ids: Vec<&str> = procs.filter_map(|words| words.first().copied()).collect();
    let mask = |words: &Vec<&str>| {
        let on_proc = words.get(1).is_some_and(|parent| ids.contains(parent));
        on_proc && words.get(4).is_some_and(|at| at.ends_with("/kallsyms"))
    };
    let open = !ids.is_empty() && !lines.iter().any(mask);
    open.then(|| format!("a procfs without its mask: {told}"))
}

fn attack_27561_proc_that_becomes_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let script = "cat /proc/self/mountinfo || cat /other/self/mountinfo";
    let mut bundle = host.lab.script(script)?;
    bundle.set("/linux/maskedPaths", json!(["/proc/kallsyms"]))?;
    std::fs::create_dir_all(bundle.inside("tmp"))?;
    std::fs::write(bundle.inside("tmp/kallsyms"), "fake")?;
    plant(&bundle, "other", "/tmp")?;
    image_swapped(&host, &bundle, ("proc", "other"), unmasked)
}

fn attack_41579_dev_that_becomes_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let mut bundle = host.lab.bundle()?;
    without_dev(&mut bundle)?;
    plant(&bundle, "other", &host.decoy)?;
    image_swapped(&host, &bundle, ("dev", "other"), |_| None)
}

fn attack_31133_null_that_changes(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let mut bundle = host.lab.script(super::procfs::PEEK)?;
    without_dev(&mut bundle)?;
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]))?;
    std::fs::write(bundle.inside("etc/secret"), "hidden\n")?;
    let null = bundle.inside("dev/null");
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&null, kind, mode, nix::sys::stat::makedev(1, 3))?;
    plant(&bundle, "dev/other", "/proc/sys/kernel/domainname")?;
    image_swapped(&host, &bundle, ("dev/null", "dev/other"), |told| {
        let bad = told.contains("hidden") || told.contains("pwned");
        bad.then(|| format!("a masked file is open: {told}"))
    })
}

fn attack_52565_console_that_changes(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let mut bundle = host.lab.bundle()?;
    let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
    mounts.retain(|mount| mount["destination"] != "/dev");
    std::fs::write(bundle.inside("dev/console"), "")?;
    plant(&bundle, "dev/other", host.decoy.join("secret"))?;
    bundle.set("/process/terminal", true)?;
    bundle.script("echo pwned > /dev/console")?;
    let attacker = Swapper::new(&bundle.inside("dev/console"), &bundle.inside("dev/other"));
    bundle.save()?;
    again_and_again(|| {
        let (dir, id) = (bundle.dir.to_string_lossy(), host.lab.id());
        let mut command = host.lab.command(&["run", "-b", &dir, &id]);
        crate::pty::Pty::new(24, 80)?.run(&mut command)?;
        host.unharmed()
    })?;
    attacker.end()
}

fn attack_copy_up_while_names_change(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let mut bundle = host
        .lab
        .script("find /var -name 'secret*' -o -name prog; :")?;
    std::fs::create_dir_all(bundle.inside("var/x"))?;
    plant(&bundle, "var/y", &host.decoy)?;
    bundle.mount("tmpfs", "tmpfs", "/var", &["tmpcopyup"])?;
    image_swapped(&host, &bundle, ("var/x", "var/y"), |told| {
        (!told.trim().is_empty()).then(|| format!("the host's files were copied: {told}"))
    })
}

fn attack_exec_while_names_change(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let volume = volume(&host)?;
    let mut bundle = host.lab.idle()?;
    bundle.mount("bind", &volume, "/vol", &["bind"])?;
    let container = host.lab.started(&bundle)?;
    let attacker = Swapper::new(&volume.join("x"), &volume.join("y"));
    again_and_again(|| {
        let program = ["/bin/sh", "-c", "cat secret ../secret 2>/dev/null; :"];
        let output = container.call("exec", &["--cwd", "/vol/x"], &program)?;
        check!(!output.out.contains("secret"), "exec's cwd is on the host");
        Ok(())
    })?;
    attacker.end()?;
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}
