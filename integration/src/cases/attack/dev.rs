//! An image whose /dev leads elsewhere.
#![forbid(unsafe_code)]

use crate::attack::{Host, plant, without_dev};
use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check};
use serde_json::json;

cases! {
    attack_41579_dev_is_a_symlink,
    attack_41579_parts_of_dev_are_symlinks,
    attack_devices_that_are_others,
}

fn attack_41579_dev_is_a_symlink(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let deep = format!("{}{}", "../".repeat(20), host.way());
    let absolute = host.decoy.to_string_lossy().into_owned();
    for target in [absolute.clone(), deep, format!("/proc/self/root{absolute}")] {
        for terminal in [false, true] {
            let mut bundle = host.lab.bundle()?;
            without_dev(&mut bundle)?;
            plant(&bundle, "dev", &target)?;
            bundle.set("/process/terminal", terminal)?;
            // Refused or done inside: both are right.
            bundle.save()?;
            let (dir, id) = (bundle.dir.to_string_lossy(), host.lab.id());
            let mut command = host.lab.command(&["run", "-b", &dir, &id]);
            crate::pty::Pty::new(24, 80)?.run(&mut command)?;
            host.unharmed()
                .map_err(|failure| format!("/dev is {target}: {}", failure.why))?;
        }
    }
    Ok(())
}

fn attack_41579_parts_of_dev_are_symlinks(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for name in [
        "ptmx", "fd", "stdin", "core", "null", "zero", "console", "pts", "shm",
    ] {
        for target in ["secret", "new"] {
            let mut bundle = host.lab.bundle()?;
            let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
            mounts.retain(|mount| mount["destination"] != "/dev");
            plant(&bundle, &format!("dev/{name}"), host.decoy.join(target))?;
            host.lab.run(&bundle)?;
            host.unharmed()
                .map_err(|failure| format!("{name}: {}", failure.why))?;
        }
    }
    Ok(())
}

/// What the image has where a device belongs must not pass for it.
fn attack_devices_that_are_others(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let script = "echo pwned > /dev/null; head -c 4 /dev/zero | od -An -tx1; stat -c %t:%T \
        /dev/null /dev/zero /dev/mine";
    let mut bundle = host.lab.script(script)?;
    without_dev(&mut bundle)?;
    std::fs::write(bundle.inside("dev/null"), "file")?;
    let node = json!({"type": "c", "path": "/dev/mine", "major": 1, "minor": 7});
    bundle.set("/linux/devices", json!([node]))?;
    let output = host.lab.run(&bundle)?;
    let right = output.out.contains("1:3\n1:5\n1:7");
    check!(output.code != 0 || right, "devices: {}", output.out);
    host.unharmed()
}
