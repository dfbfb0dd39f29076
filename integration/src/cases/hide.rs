//! Masked and read-only paths.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::mount_at;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::os::unix::fs::symlink;

cases! {
    a_masked_file_is_empty,
    a_masked_directory_is_empty_and_cannot_be_filled,
    a_masked_path_that_is_missing_is_ignored,
    a_masked_path_may_be_in_proc,
    a_masked_symlink_hides_its_target_inside,
    a_readonly_path_refuses_writes,
    a_readonly_path_that_is_missing_is_ignored,
    a_readonly_path_may_be_in_proc,
    a_readonly_path_keeps_other_flags,
    a_masked_path_never_leaves_the_root,
}

fn a_masked_file_is_empty(lab: &Lab) -> Result {
    let mut bundle =
        lab.script("wc -c < /etc/secret; echo x 2>&1 > /etc/secret; cat /etc/secret")?;
    std::fs::write(bundle.inside("etc/secret"), "secret")?;
    bundle.set("/linux/maskedPaths", json!(["/etc/secret"]))?;
    same!("stdout", lab.run(&bundle)?.words(), ["0"]);
    same!(
        "file",
        std::fs::read_to_string(bundle.inside("etc/secret"))?,
        "secret"
    );
    Ok(())
}

fn a_masked_directory_is_empty_and_cannot_be_filled(lab: &Lab) -> Result {
    let mut bundle = lab.script("ls -A /var | wc -l; touch /var/x 2>&1 | grep -c Read-only")?;
    std::fs::write(bundle.inside("var/secret"), "secret")?;
    bundle.set("/linux/maskedPaths", json!(["/var"]))?;
    same!("stdout", lab.run(&bundle)?.words(), ["0", "1"]);
    Ok(())
}

fn a_masked_path_that_is_missing_is_ignored(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    bundle.set("/linux/maskedPaths", json!(["/no/such/path", "/etc/no"]))?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    check!(!bundle.inside("no").exists(), "it was made");
    check!(!bundle.inside("etc/no").exists(), "it was made");
    Ok(())
}

fn a_masked_path_may_be_in_proc(lab: &Lab) -> Result {
    let mut bundle = lab.script("wc -c < /proc/kallsyms; ls -A /proc/bus | wc -l")?;
    bundle.set("/linux/maskedPaths", json!(["/proc/kallsyms", "/proc/bus"]))?;
    same!("stdout", lab.run(&bundle)?.words(), ["0", "0"]);
    Ok(())
}

fn a_masked_symlink_hides_its_target_inside(lab: &Lab) -> Result {
    let host = lab.file("host", "host")?;
    let mut bundle = lab.script("cat /etc/secret; echo x > /etc/link; cat /etc/secret")?;
    std::fs::write(bundle.inside("etc/secret"), "secret")?;
    symlink("/etc/secret", bundle.inside("etc/link"))?;
    symlink(&host, bundle.inside("etc/away"))?;
    bundle.set("/linux/maskedPaths", json!(["/etc/link", "/etc/away"]))?;
    let output = lab.run(&bundle)?;
    // A runtime may also refuse; what it must not do is mask something outside or nothing at all.
    check!(
        output.code != 0 || output.out.is_empty(),
        "it shows: {}",
        output.out
    );
    same!("host", std::fs::read_to_string(&host)?, "host");
    Ok(())
}

fn a_readonly_path_refuses_writes(lab: &Lab) -> Result {
    let script =
        "touch /etc/made /etc/passwd 2>&1 | grep -c Read-only; touch /var/made && echo var";
    let mut bundle = lab.script(script)?;
    bundle.set("/linux/readonlyPaths", json!(["/etc"]))?;
    same!("stdout", lab.run(&bundle)?.words(), ["2", "var"]);
    Ok(())
}

fn a_readonly_path_that_is_missing_is_ignored(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    bundle.set("/linux/readonlyPaths", json!(["/no/such/path"]))?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}

fn a_readonly_path_may_be_in_proc(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]))?;
    let container = lab.started(&bundle)?;
    let mount = mount_at(container.executes("sleep")?, "/proc/sys")?;
    check!(
        mount.mount_options.contains_key("ro"),
        "{:?}",
        mount.mount_options
    );
    let output = container.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
    check!(
        output.code != 0 && output.err.contains("Read-only"),
        "{}",
        output.err
    );
    Ok(())
}

fn a_readonly_path_keeps_other_flags(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.mount("tmpfs", "tmpfs", "/mnt", &["nosuid", "nodev", "noexec"])?;
    bundle.set("/linux/readonlyPaths", json!(["/mnt"]))?;
    let container = lab.started(&bundle)?;
    let flags = mount_at(container.executes("sleep")?, "/mnt")?.mount_options;
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        check!(flags.contains_key(flag), "no {flag} among {flags:?}");
    }
    Ok(())
}

fn a_masked_path_never_leaves_the_root(lab: &Lab) -> Result {
    let host = lab.file("host", "host")?;
    let mut bundle = lab.bundle()?;
    let up = format!("/../../../../../../../..{}", host.display());
    bundle.set("/linux/maskedPaths", json!([up]))?;
    lab.run(&bundle)?;
    same!("host", std::fs::read_to_string(&host)?, "host");
    check!(
        crate::kernel::mounts_below(&host).is_empty(),
        "the host's file was masked"
    );
    Ok(())
}
