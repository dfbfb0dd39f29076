//! User and group id mappings.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::status_line;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

cases! {
    id_maps_are_the_configs: [Userns],
    several_id_maps_are_written: [Userns],
    root_inside_is_the_mapped_id_outside: [Userns],
    a_user_inside_is_the_mapped_id_outside: [Userns],
    files_made_inside_belong_to_the_mapped_id: [Userns],
    devices_exist_in_a_user_namespace: [Userns],
    namespaces_belong_to_the_new_user_namespace: [Userns],
    additional_groups_work_in_a_user_namespace: [Userns],
    mounts_work_in_a_user_namespace: [Userns],
    exec_enters_the_user_namespace: [Userns],
}

fn id_maps_are_the_configs(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/uid_map /proc/self/gid_map")?;
    bundle.mapped()?;
    let told = lab.told(&bundle)?;
    let words: Vec<&str> = told.split_whitespace().collect();
    same!(
        "maps",
        words,
        ["0", "100000", "65536", "0", "100000", "65536"]
    );
    Ok(())
}

fn several_id_maps_are_written(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/uid_map")?;
    bundle.mapped()?;
    let maps = json!([
        {"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 2000, "hostID": 300_000, "size": 5},
        {"containerID": 1000, "hostID": 200_000, "size": 1}
    ]);
    bundle.set("/linux/uidMappings", maps)?;
    let told = lab.told(&bundle)?;
    same!("lines", told.lines().count(), 3);
    check!(
        told.split_whitespace().any(|word| word == "300000"),
        "map: {told}"
    );
    Ok(())
}

fn root_inside_is_the_mapped_id_outside(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.mapped()?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    same!(
        "uids",
        status_line(pid, "Uid")?,
        "100000 100000 100000 100000"
    );
    same!(
        "gids",
        status_line(pid, "Gid")?,
        "100000 100000 100000 100000"
    );
    Ok(())
}

fn a_user_inside_is_the_mapped_id_outside(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle
        .mapped()?
        .set("/process/user", json!({"uid": 1000, "gid": 1001}))?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    same!(
        "uids",
        status_line(pid, "Uid")?,
        "101000 101000 101000 101000"
    );
    same!(
        "gids",
        status_line(pid, "Gid")?,
        "101001 101001 101001 101001"
    );
    Ok(())
}

fn files_made_inside_belong_to_the_mapped_id(lab: &Lab) -> Result {
    let mut bundle = lab.script("touch /tmp/made; stat -c %u:%g /tmp/made")?;
    bundle.mapped()?;
    same!("inside", lab.told(&bundle)?, "0:0\n");
    let meta = std::fs::metadata(bundle.inside("tmp/made"))?;
    same!("outside", (meta.uid(), meta.gid()), (100_000, 100_000));
    Ok(())
}

fn devices_exist_in_a_user_namespace(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo x > /dev/null && head -c 4 /dev/zero | wc -c")?;
    bundle.mapped()?;
    same!("bytes", lab.told(&bundle)?.trim(), "4");
    Ok(())
}

fn namespaces_belong_to_the_new_user_namespace(lab: &Lab) -> Result {
    // Only root of the owning user namespace may do these, and it has the capabilities only there.
    let mut bundle = lab.script("hostname changed && ip link set lo down && echo done")?;
    bundle.mapped()?.caps(&["CAP_SYS_ADMIN", "CAP_NET_ADMIN"])?;
    same!("stdout", lab.told(&bundle)?, "done\n");
    Ok(())
}

fn additional_groups_work_in_a_user_namespace(lab: &Lab) -> Result {
    let mut bundle = lab.script("grep ^Groups /proc/self/status")?;
    bundle.mapped()?;
    bundle.set(
        "/process/user",
        json!({"uid": 1, "gid": 1, "additionalGids": [7, 9]}),
    )?;
    let told = lab.told(&bundle)?;
    let words: Vec<&str> = told.split_whitespace().collect();
    same!("groups", words, ["Groups:", "7", "9"]);
    Ok(())
}

fn mounts_work_in_a_user_namespace(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o777))?;
    lab.file("source/file", "text")?;
    let mut bundle = lab.script("cat /mnt/file; touch /mnt/x 2>&1; mount -t tmpfs x /tmp 2>&1")?;
    bundle
        .mapped()?
        .mount("bind", &source, "/mnt", &["bind", "ro"])?;
    bundle.mount("tmpfs", "tmpfs", "/var", &["nosuid", "size=64k"])?;
    let output = lab.run(&bundle)?;
    check!(
        output.out.starts_with("text"),
        "{}{}",
        output.out,
        output.err
    );
    check!(
        output.out.contains("Read-only file system"),
        "{}",
        output.out
    );
    check!(
        !source.join("x").exists(),
        "a read-only bind was written to"
    );
    Ok(())
}

fn exec_enters_the_user_namespace(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.mapped()?;
    let container = lab.started(&bundle)?;
    let output = container.sh("id -u; cat /proc/self/uid_map")?.ok()?;
    same!("words", output.words(), ["0", "0", "100000", "65536"]);
    let pid = container.pid()?;
    let link = container
        .exec(&["readlink", "/proc/self/ns/user"])?
        .ok()?
        .out;
    let its = crate::kernel::namespace(pid, "user")?;
    same!("namespace", link.trim(), its.to_string_lossy());
    Ok(())
}
