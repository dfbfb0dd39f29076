//! The root: where it is, what is left of the host's, and whether it can be written.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{mount_at, process};
use crate::lab::Lab;
use crate::{cases, check, same};

cases! {
    root_path_may_be_relative,
    root_path_may_be_absolute,
    the_root_is_writable,
    a_readonly_root_is,
    a_readonly_root_keeps_its_mounts_writable,
    the_hosts_root_is_gone,
    only_the_configs_mounts_are_there,
    no_pivot_hides_the_hosts_root,
    dotdot_at_the_root_stays_inside,
    the_bundle_may_hold_odd_bytes,
}

fn root_path_may_be_relative(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /here")?;
    bundle.set("/root/path", "./rootfs/../rootfs/")?;
    std::fs::write(bundle.inside("here"), "here")?;
    same!("stdout", lab.told(&bundle)?, "here");
    Ok(())
}

fn root_path_may_be_absolute(lab: &Lab) -> Result {
    let other = lab.bundle()?;
    std::fs::write(other.inside("here"), "other")?;
    let mut bundle = lab.script("cat /here")?;
    bundle.set(
        "/root/path",
        other.dir.join("rootfs").to_string_lossy().into_owned(),
    )?;
    same!("stdout", lab.told(&bundle)?, "other");
    Ok(())
}

fn the_root_is_writable(lab: &Lab) -> Result {
    let bundle = lab.script("echo made > /made")?;
    lab.told(&bundle)?;
    same!(
        "file",
        std::fs::read_to_string(bundle.inside("made"))?,
        "made\n"
    );
    Ok(())
}

fn a_readonly_root_is(lab: &Lab) -> Result {
    let mut bundle = lab.script("touch /made /etc/made /tmp/made 2>&1 | grep -c Read-only")?;
    bundle.set("/root/readonly", true)?;
    same!("refused", lab.told(&bundle)?, "3\n");
    let mut idle = lab.idle()?;
    idle.set("/root/readonly", true)?;
    let container = lab.started(&idle)?;
    let mount = mount_at(container.executes("sleep")?, "/")?;
    check!(
        mount.mount_options.contains_key("ro"),
        "/ is {:?}",
        mount.mount_options
    );
    Ok(())
}

fn a_readonly_root_keeps_its_mounts_writable(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    let mut bundle = lab.script("touch /mnt/made /dev/shm/made && echo done")?;
    bundle
        .set("/root/readonly", true)?
        .mount("bind", &source, "/mnt", &["bind"])?;
    same!("stdout", lab.told(&bundle)?, "done\n");
    check!(source.join("made").exists(), "nothing was written");
    Ok(())
}

fn the_hosts_root_is_gone(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.executes("sleep")?;
    let mounts = process(pid)?.mountinfo()?;
    let host = procfs::process::Process::myself()?.mountinfo()?;
    for mount in &mounts {
        let strange = host
            .iter()
            .any(|of| of.mnt_id == mount.mnt_id && of.mount_point == mount.mount_point);
        check!(!strange, "a host mount is left: {mount:?}");
        let parent = mounts.iter().any(|of| of.mnt_id == mount.pid);
        check!(
            parent || mount.mount_point.as_os_str() == "/",
            "unreachable: {mount:?}"
        );
    }
    Ok(())
}

fn only_the_configs_mounts_are_there(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.executes("sleep")?;
    let mounts = process(pid)?.mountinfo()?.into_iter();
    let mut points: Vec<_> = mounts
        .map(|mount| mount.mount_point.display().to_string())
        .collect();
    points.sort();
    same!(
        "mount points",
        points,
        ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc"]
    );
    Ok(())
}

fn no_pivot_hides_the_hosts_root(lab: &Lab) -> Result {
    // What the host has at a path that the image does not.
    let host = lab.dir.display();
    let bundle = lab.script(&format!("ls -d {host} 2>/dev/null; cat /here"))?;
    std::fs::write(bundle.inside("here"), "here")?;
    let output = lab
        .launch("run", &bundle, &lab.id(), &["--no-pivot"])?
        .ok()?;
    same!("output", output.out, "here");
    Ok(())
}

fn dotdot_at_the_root_stays_inside(lab: &Lab) -> Result {
    let bundle = lab.script("cat /../../../../here; cd -P /proc/1/root/..; cat here")?;
    std::fs::write(bundle.inside("here"), "here ")?;
    same!("stdout", lab.told(&bundle)?, "here here ");
    Ok(())
}

fn the_bundle_may_hold_odd_bytes(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /here")?;
    std::fs::write(bundle.inside("here"), "here")?;
    let odd = lab.path("a b:c,d\u{e9}'\"");
    std::fs::rename(&bundle.dir, &odd)?;
    bundle.dir = odd;
    same!("stdout", lab.told(&bundle)?, "here");
    Ok(())
}
