//! Terminals that the image or the container prepared.
#![forbid(unsafe_code)]

use crate::attack::{Host, plant, without_dev};
use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::pty::Pty;
use crate::{cases, check, same};
use serde_json::json;

cases! {
    attack_52565_console_is_a_symlink,
    attack_52565_console_is_replaced_by_a_hook,
    attack_52565_devpts_is_a_volume,
    attack_52565_devpts_of_the_container_lies,
}

/// Runs it on a terminal; neither the domain name nor a decoy is written.
fn on_pty(host: &Host, bundle: &Bundle, what: &str) -> Result<(i32, String)> {
    bundle.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), host.lab.id());
    let mut command = host.lab.command(&["run", "-b", &dir, &id]);
    let ended = Pty::new(24, 80)?.run(&mut command)?;
    check!(!ended.1.contains("escaped"), "{what}: {}", ended.1);
    host.unharmed()
        .map_err(|failure| format!("{what}: {}", failure.why))?;
    Ok(ended)
}

const WRITE: &str = "echo pwned > /dev/console; f=/proc/sys/kernel/domainname; \
    [ -f $f ] && grep -q pwned $f && echo escaped; :";

fn with_terminal(lab: &Lab) -> Result<Bundle> {
    let mut bundle = lab.script(WRITE)?;
    bundle.set("/process/terminal", true)?;
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]))?;
    Ok(bundle)
}

fn attack_52565_console_is_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let secret = host.decoy.join("secret").to_string_lossy().into_owned();
    let deep = format!("{}{}/secret", "../".repeat(20), host.way());
    for target in [secret.as_str(), &deep, "/proc/sys/kernel/domainname"] {
        for name in ["dev/console", "dev/ptmx", "dev/tty"] {
            let mut bundle = with_terminal(&host.lab)?;
            let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
            mounts.retain(|mount| mount["destination"] != "/dev");
            plant(&bundle, name, target)?;
            on_pty(&host, &bundle, &format!("{name} is {target}"))?;
        }
    }
    Ok(())
}

fn attack_52565_console_is_replaced_by_a_hook(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for target in [
        host.decoy.join("secret").as_path(),
        "/proc/sys/kernel/domainname".as_ref(),
    ] {
        for name in ["console", "ptmx", "pts/ptmx", "pts/0"] {
            let mut bundle = with_terminal(&host.lab)?;
            let dev = bundle.inside("dev");
            let script = format!(
                "cd {} && rm -f {name}; ln -s {} {name} || mount --bind {} {name}; :",
                dev.display(),
                target.display(),
                host.decoy.join("secret").display()
            );
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
            bundle.set("/hooks/createContainer", json!([hook]))?;
            on_pty(&host, &bundle, &format!("{name} is {}", target.display()))?;
        }
    }
    Ok(())
}

fn attack_52565_devpts_is_a_volume(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let volume = host.lab.directory("pts")?;
    std::os::unix::fs::symlink(host.decoy.join("secret"), volume.join("ptmx"))?;
    std::fs::write(volume.join("0"), "a file")?;
    let mut bundle = with_terminal(&host.lab)?;
    without_dev(&mut bundle)?;
    bundle.mount("bind", &volume, "/dev/pts", &["bind"])?;
    let (code, _) = on_pty(&host, &bundle, "a volume for a devpts")?;
    check!(code != 0, "a volume passed for a devpts");
    Ok(())
}

/// An init that may mount prepares /dev/pts for the next `exec --tty`.
fn attack_52565_devpts_of_the_container_lies(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for lie in [
        "mount -t tmpfs tmpfs /dev/pts && ln -s /etc/decoy /dev/pts/ptmx && ln -s /etc/decoy /dev/pts/0",
        "mount --bind /etc/decoy /dev/pts/ptmx",
        "mount -t tmpfs tmpfs /dev/pts && mkfifo /dev/pts/ptmx",
        "umount /dev/pts; rm -rf /dev/pts; ln -s /etc /dev/pts",
    ] {
        let mut bundle = host
            .lab
            .script(&format!("{lie}; echo lying; exec sleep 1000"))?;
        std::fs::write(bundle.inside("etc/decoy"), "decoy")?;
        bundle.caps(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])?;
        let container = host.lab.create(&bundle)?;
        container.start()?.ok()?;
        container.says("lying")?;
        let script = ["sh", "-c", "test -t 0 && tty"];
        let args = [
            "exec",
            "--tty",
            &container.id,
            script[0],
            script[1],
            script[2],
        ];
        let (code, told) = Pty::new(24, 80)?.run(&mut host.lab.command(&args))?;
        // A terminal of a true devpts, or none.
        check!(code != 0 || told.contains("/dev/"), "{lie}: {code} {told}");
        same!(
            "decoy",
            std::fs::read_to_string(bundle.inside("etc/decoy"))?,
            "decoy"
        );
        container.delete(&["--force"])?.ok()?;
        host.unharmed()?;
    }
    Ok(())
}
