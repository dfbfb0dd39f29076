//! Id-mapped mounts: binds and new filesystems, by the container's maps and by maps of their own.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::{check, kernel, same};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

crate::cases! {
    an_idmapped_tmpfs_shifts_owners: [Creel, Kernel(6, 3)],
    an_idmapped_tmpfs_has_the_containers_ids: [Creel, Userns, Kernel(6, 3)],
    a_read_only_idmapped_tmpfs_is_read_only: [Creel, Userns, Kernel(6, 3)],
    tmpcopyup_works_on_an_idmapped_tmpfs: [Creel, Userns, Kernel(6, 3)],
    idmap_takes_the_containers_maps: [Userns, IdMaps],
    idmap_takes_the_maps_of_a_joined_namespace: [Userns, IdMaps],
    ridmap_maps_submounts_and_idmap_does_not: [Userns, Kernel(6, 3)],
    each_mount_may_have_maps_of_its_own: [IdMaps],
}

fn map(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 65536}])
}

fn tmpfs(at: &str, options: &[&str], maps: Option<Value>) -> Value {
    let mut mount = json!({"destination": at, "type": "tmpfs", "source": "tmpfs",
        "options": options});
    if let Some(map) = maps {
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
    }
    mount
}

/// A directory whose one file belongs to these ids.
fn owned(lab: &Lab, name: &str, uid: u32, gid: u32) -> Result<std::path::PathBuf> {
    let dir = lab.directory(name)?;
    std::fs::write(dir.join("file"), "text")?;
    nix::unistd::chown(&dir.join("file"), Some(uid.into()), Some(gid.into()))?;
    Ok(dir)
}

/// The option word that mountinfo has for it.
fn is_mapped(pid: i32, at: &str) -> Result<bool> {
    let mount = kernel::mount_at(pid, at)?;
    Ok(mount.mount_options.contains_key("idmapped"))
}

fn an_idmapped_tmpfs_shifts_owners(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c %u:%g:%a /mnt; grep ' /mnt ' /proc/self/mountinfo")?;
    let options = ["uid=5", "gid=6", "mode=711", "nosuid"];
    bundle.set("/mounts/-", tmpfs("/mnt", &options, Some(map(1000))))?;
    let told = lab.told(&bundle)?;
    let (owner, line) = told.split_once('\n').unwrap_or_default();
    same!("owner and mode", owner, "1005:1006:711");
    check!(line.contains("idmapped"), "{line}");
    check!(line.contains("nosuid"), "{line}");
    Ok(())
}

fn an_idmapped_tmpfs_has_the_containers_ids(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle
        .mapped()?
        .set("/mounts/-", tmpfs("/mnt", &["idmap", "uid=3"], None))?;
    let container = lab.started(&bundle)?;
    let pid = container.pid()?;
    check!(is_mapped(pid, "/mnt")?, "/mnt is not id-mapped");
    let inside = container.exec(&["stat", "-c", "%u", "/mnt"])?.ok()?.out;
    // Root's maps put 3 where the container's 3 is: on the host that is 100003.
    same!("the owner inside", inside, "3\n");
    let outside = format!("/proc/{pid}/root/mnt");
    same!("outside", std::fs::metadata(&outside)?.uid(), 100_003);
    container.exec(&["touch", "/mnt/new"])?.ok()?;
    let new = std::fs::metadata(format!("{outside}/new"))?;
    same!("the owner of a new file outside", new.uid(), 100_000);
    Ok(())
}

fn a_read_only_idmapped_tmpfs_is_read_only(lab: &Lab) -> Result {
    let mut bundle = lab.script("! touch /mnt/x 2>/dev/null && ls -d /mnt/below")?;
    bundle
        .mapped()?
        .set("/mounts/-", tmpfs("/mnt", &["idmap", "ro"], None))?
        .mount("tmpfs", "tmpfs", "/mnt/below", &[])?;
    same!("stdout", lab.told(&bundle)?, "/mnt/below\n");
    Ok(())
}

fn tmpcopyup_works_on_an_idmapped_tmpfs(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /mnt/file && stat -c %u:%g /mnt/file")?;
    let file = bundle.inside("/mnt/file");
    std::fs::write(&file, "text\n")?;
    nix::unistd::chown(&file, Some(100_001.into()), Some(100_002.into()))?;
    bundle
        .mapped()?
        .set("/mounts/-", tmpfs("/mnt", &["idmap", "tmpcopyup"], None))?;
    same!("stdout", lab.told(&bundle)?, "text\n1:2\n");
    Ok(())
}

fn bind(source: &Path, at: &str, options: &[&str]) -> Value {
    json!({"destination": at, "type": "bind", "source": source, "options": options})
}

fn idmap_takes_the_containers_maps(lab: &Lab) -> Result {
    let source = owned(lab, "source", 5, 6)?;
    let mut bundle = lab.script("stat -c %u:%g /mnt/file /run/file")?;
    bundle
        .mapped()?
        .set("/mounts/-", bind(&source, "/mnt", &["bind", "idmap"]))?
        .set("/mounts/-", bind(&source, "/run", &["bind"]))?;
    same!("owners", lab.told(&bundle)?, "5:6\n65534:65534\n");
    Ok(())
}

fn idmap_takes_the_maps_of_a_joined_namespace(lab: &Lab) -> Result {
    let mut first = lab.idle()?;
    first.mapped()?;
    let first = lab.started(&first)?;
    let path = format!("/proc/{}/ns/user", first.pid()?);
    let source = owned(lab, "source", 5, 6)?;
    let mut bundle = lab.script("stat -c %u:%g /mnt/file; stat -c %u /tmp")?;
    bundle
        .namespace("user", Some(&path))?
        .set("/mounts/-", bind(&source, "/mnt", &["bind", "idmap"]))?
        .set("/mounts/-", tmpfs("/tmp", &["idmap", "uid=9"], None))?;
    same!("owners", lab.told(&bundle)?, "5:6\n9\n");
    Ok(())
}

/// Unmounts what a case has mounted on the host.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // The case is over either way.
        umount2(self.0, MntFlags::MNT_DETACH).ok();
    }
}

fn ridmap_maps_submounts_and_idmap_does_not(lab: &Lab) -> Result {
    let source = owned(lab, "source", 5, 6)?;
    let below = source.join("below");
    std::fs::create_dir(&below)?;
    let data = Some("uid=7,gid=8");
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), data)?;
    let _mounted = Mounted(&below);
    for (word, want) in [("idmap", "5:6\n65534:65534\n"), ("ridmap", "5:6\n7:8\n")] {
        let mut bundle = lab.script("stat -c %u:%g /mnt/file /mnt/below")?;
        bundle
            .mapped()?
            .set("/mounts/-", bind(&source, "/mnt", &["rbind", word]))?;
        same!(word, lab.told(&bundle)?, want);
    }
    Ok(())
}

fn each_mount_may_have_maps_of_its_own(lab: &Lab) -> Result {
    let source = owned(lab, "source", 5, 6)?;
    let mut bundle: Bundle = lab.script("stat -c %u:%g /mnt/file /run/file /tmp/file")?;
    for (at, host) in [("/mnt", 1000), ("/run", 2000), ("/tmp", 1000)] {
        let mut mount = bind(&source, at, &["bind", "idmap"]);
        mount["uidMappings"] = map(host);
        mount["gidMappings"] = map(host + 100);
        bundle.set("/mounts/-", mount)?;
    }
    let want = "1005:1106\n2005:2106\n1005:1106\n";
    same!("owners", lab.told(&bundle)?, want);
    Ok(())
}
