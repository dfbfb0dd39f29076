//! Mounts: binds, file systems, order, and where the destinations end up.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{mount_at, process};
use crate::lab::Lab;
use crate::scene;
use crate::{cases, check, same};
use nix::mount::MsFlags;
use serde_json::json;
use std::os::unix::fs::symlink;

cases! {
    a_bind_mount_shows_the_source,
    a_bind_source_may_be_relative_to_the_bundle,
    a_bind_of_a_file_makes_a_missing_file,
    a_bind_of_a_directory_makes_missing_directories,
    a_bind_is_not_recursive: [Tool("unshare")],
    an_rbind_is_recursive,
    a_readonly_bind_refuses_writes,
    a_readonly_rbind_covers_only_the_top,
    an_rro_bind_covers_everything_below: [Kernel(5, 12)],
    a_bind_without_a_type_is_a_bind,
    a_bind_ignores_options_of_filesystems,
    mounts_come_in_the_listed_order,
    a_later_mount_covers_an_earlier_one,
    a_symlinked_destination_stays_inside,
    a_relative_symlinked_destination_stays_inside,
    a_dangling_destination_is_made_inside,
    nothing_leaks_to_a_shared_host_tree,
    a_tmpfs_has_its_size_and_mode,
    a_tmpfs_takes_the_mode_of_what_it_covers,
    a_tmpfs_may_copy_up,
    proc_is_the_containers_own,
    sysfs_can_be_mounted_read_only,
    devpts_has_its_own_instance,
    mqueue_can_be_mounted,
    cgroup_v1_shows_each_controller: [CgroupV1],
    cgroup_v2_shows_the_own_cgroup: [CgroupV2],
    a_destination_need_not_start_with_a_slash: [Creel],
    an_idmapped_bind_shifts_owners: [Creel, IdMaps],
    proc_over_a_symlink_is_refused,
    a_mount_on_proc_is_refused,
    a_file_may_cover_one_in_proc,
}

fn a_bind_mount_shows_the_source(lab: &Lab) -> Result {
    lab.directory("source")?;
    lab.file("source/file", "text")?;
    let mut bundle = lab.script("cat /mnt/file; echo made > /mnt/made")?;
    bundle.mount("bind", lab.path("source"), "/mnt", &["rbind", "rw"])?;
    same!("stdout", lab.told(&bundle)?, "text");
    same!(
        "made",
        std::fs::read_to_string(lab.path("source/made"))?,
        "made\n"
    );
    Ok(())
}

fn a_bind_source_may_be_relative_to_the_bundle(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /mnt/file")?;
    std::fs::create_dir(bundle.dir.join("source"))?;
    std::fs::write(bundle.dir.join("source/file"), "text")?;
    bundle.mount("bind", "source", "/mnt", &["bind"])?;
    same!("stdout", lab.told(&bundle)?, "text");
    Ok(())
}

fn a_bind_of_a_file_makes_a_missing_file(lab: &Lab) -> Result {
    let file = lab.file("file", "text")?;
    let mut bundle = lab.script("cat /new/dir/file")?;
    bundle.mount("bind", &file, "/new/dir/file", &["bind"])?;
    same!("stdout", lab.told(&bundle)?, "text");
    check!(
        bundle.inside("new/dir/file").is_file(),
        "the mount point is no file"
    );
    Ok(())
}

fn a_bind_of_a_directory_makes_missing_directories(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    let mut bundle = lab.script("touch /new/dir/made")?;
    bundle.mount("bind", &source, "/new/dir", &["bind"])?;
    lab.told(&bundle)?;
    check!(source.join("made").exists(), "the mount point is elsewhere");
    Ok(())
}

/// A directory with a tmpfs on its `sub`, each holding a file; only this process sees the tmpfs.
fn tree(lab: &Lab) -> Result<std::path::PathBuf> {
    scene::own_mounts(MsFlags::MS_PRIVATE)?;
    let sub = lab.directory("tree/sub")?;
    lab.file("tree/sub/covered", "")?;
    scene::tmpfs(&sub)?;
    lab.file("tree/sub/mounted", "")?;
    Ok(lab.path("tree"))
}

fn a_bind_is_not_recursive(lab: &Lab) -> Result {
    let tree = tree(lab)?;
    let mut bundle = lab.script("ls /mnt/sub")?;
    bundle.mount("bind", &tree, "/mnt", &["bind"])?;
    same!("ls", lab.told(&bundle)?, "covered\n");
    Ok(())
}

fn an_rbind_is_recursive(lab: &Lab) -> Result {
    let tree = tree(lab)?;
    let mut bundle = lab.script("ls /mnt/sub")?;
    bundle.mount("bind", &tree, "/mnt", &["rbind"])?;
    same!("ls", lab.told(&bundle)?, "mounted\n");
    Ok(())
}

fn a_readonly_bind_refuses_writes(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    let mut bundle = lab.script("touch /mnt/made 2>&1 | grep -c Read-only")?;
    bundle.mount("bind", &source, "/mnt", &["bind", "ro"])?;
    same!("refused", lab.told(&bundle)?, "1\n");
    check!(!source.join("made").exists(), "it was written");
    Ok(())
}

fn a_readonly_rbind_covers_only_the_top(lab: &Lab) -> Result {
    let tree = tree(lab)?;
    let mut bundle =
        lab.script("touch /mnt/sub/made && touch /mnt/made 2>&1 | grep -c Read-only")?;
    bundle.mount("bind", &tree, "/mnt", &["rbind", "ro"])?;
    same!("refused", lab.told(&bundle)?, "1\n");
    Ok(())
}

fn an_rro_bind_covers_everything_below(lab: &Lab) -> Result {
    let tree = tree(lab)?;
    let mut bundle = lab.script("touch /mnt/made /mnt/sub/made 2>&1 | grep -c Read-only")?;
    bundle.mount("bind", &tree, "/mnt", &["rbind", "rro"])?;
    same!("refused", lab.told(&bundle)?, "2\n");
    Ok(())
}

fn a_bind_without_a_type_is_a_bind(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    lab.file("source/file", "text")?;
    let mut bundle = lab.script("cat /mnt/file")?;
    let source = source.to_string_lossy();
    let mount = json!({"destination": "/mnt", "source": source, "options": ["rbind"]});
    bundle.set("/mounts/-", mount)?;
    same!("stdout", lab.told(&bundle)?, "text");
    Ok(())
}

fn mounts_come_in_the_listed_order(lab: &Lab) -> Result {
    let (one, two) = (lab.directory("one")?, lab.directory("two")?);
    lab.file("two/file", "two")?;
    let mut bundle = lab.script("cat /mnt/a/b/file")?;
    bundle.mount("bind", &one, "/mnt", &["bind"])?;
    bundle.mount("tmpfs", "tmpfs", "/mnt/a", &[])?;
    bundle.mount("bind", &two, "/mnt/a/b", &["bind"])?;
    same!("stdout", lab.told(&bundle)?, "two");
    check!(
        one.join("a").is_dir(),
        "the second mount point was not made in the first mount"
    );
    check!(
        !one.join("a/b").exists(),
        "the third mount point was not made in the second mount"
    );
    Ok(())
}

fn a_later_mount_covers_an_earlier_one(lab: &Lab) -> Result {
    for name in ["one", "two"] {
        lab.directory(name)?;
        lab.file(&format!("{name}/{name}"), "")?;
    }
    let mut bundle = lab.script("ls /mnt")?;
    bundle.mount("bind", lab.path("one"), "/mnt", &["bind"])?;
    bundle.mount("bind", lab.path("two"), "/mnt", &["bind"])?;
    same!("ls", lab.told(&bundle)?, "two\n");
    Ok(())
}

fn a_symlinked_destination_stays_inside(lab: &Lab) -> Result {
    let decoy = lab.directory("decoy")?;
    let source = lab.directory("source")?;
    let mut bundle = lab.script("touch /escape/sub/made; ls /escape/sub")?;
    symlink(&decoy, bundle.inside("escape"))?;
    bundle.mount("bind", &source, "/escape/sub", &["bind"])?;
    let output = lab.run(&bundle)?;
    same!("made on the host", std::fs::read_dir(&decoy)?.count(), 0);
    check!(
        output.code != 0 || source.join("made").exists(),
        "mounted elsewhere"
    );
    Ok(())
}

fn a_relative_symlinked_destination_stays_inside(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    let mut bundle = lab.script("touch /escape/sub/made")?;
    symlink("../../../../../../../../../var", bundle.inside("escape"))?;
    bundle.mount("bind", &source, "/escape/sub", &["bind"])?;
    lab.told(&bundle)?;
    check!(source.join("made").exists(), "mounted elsewhere");
    check!(
        bundle.inside("var/sub").is_dir(),
        "the mount point is elsewhere"
    );
    Ok(())
}

fn a_dangling_destination_is_made_inside(lab: &Lab) -> Result {
    let gone = lab.path("gone");
    let source = lab.directory("source")?;
    let mut bundle = lab.bundle()?;
    symlink(&gone, bundle.inside("escape"))?;
    bundle.mount("bind", &source, "/escape", &["bind"])?;
    // It may be refused or made inside, but never be made on the host.
    lab.run(&bundle)?;
    check!(!gone.exists(), "{} was made on the host", gone.display());
    Ok(())
}

fn nothing_leaks_to_a_shared_host_tree(lab: &Lab) -> Result {
    scene::own_mounts(MsFlags::MS_SHARED)?;
    let source = lab.directory("source")?;
    let mut bundle = lab.idle()?;
    bundle.mount("tmpfs", "tmpfs", "/tmp", &[])?;
    bundle.mount("bind", &source, "/mnt", &["rbind"])?;
    let points = || -> Result<Vec<_>> {
        let mounts = procfs::process::Process::myself()?.mountinfo()?;
        Ok(mounts.into_iter().map(|mount| mount.mount_point).collect())
    };
    let before = points()?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    same!("while it runs", points()?, before);
    container.delete(&["-f"])?.ok()?;
    same!("afterwards", points()?, before);
    Ok(())
}

fn a_tmpfs_has_its_size_and_mode(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c %a /mnt; df -k /mnt | tail -n 1; exec sleep 1000")?;
    bundle.mount(
        "tmpfs",
        "mine",
        "/mnt",
        &["size=128k", "mode=1710", "nr_inodes=50", "uid=5"],
    )?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    let out = container.out()?;
    let words: Vec<&str> = out.split_whitespace().collect();
    same!("mode", words.first(), Some(&"1710"));
    same!("size", words.get(2), Some(&"128"));
    let mount = mount_at(pid, "/mnt")?;
    same!("type", mount.fs_type, "tmpfs");
    same!("source", mount.mount_source.as_deref(), Some("mine"));
    for (option, want) in [("size", "128k"), ("nr_inodes", "50"), ("uid", "5")] {
        let got = mount.super_options.get(option).cloned().flatten();
        same!(option, got.as_deref(), Some(want));
    }
    Ok(())
}

fn a_tmpfs_takes_the_mode_of_what_it_covers(lab: &Lab) -> Result {
    let mut bundle = lab.script("stat -c %a /tmp")?;
    bundle.mount("tmpfs", "tmpfs", "/tmp", &[])?;
    same!("mode", lab.told(&bundle)?, "1777\n");
    Ok(())
}

fn a_tmpfs_may_copy_up(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /var/file /var/dir/file; echo new > /var/file")?;
    std::fs::create_dir(bundle.inside("var/dir"))?;
    std::fs::write(bundle.inside("var/file"), "one ")?;
    std::fs::write(bundle.inside("var/dir/file"), "two")?;
    bundle.mount("tmpfs", "tmpfs", "/var", &["tmpcopyup"])?;
    same!("stdout", lab.told(&bundle)?, "one two");
    same!(
        "image",
        std::fs::read_to_string(bundle.inside("var/file"))?,
        "one "
    );
    Ok(())
}

fn proc_is_the_containers_own(lab: &Lab) -> Result {
    let told = lab.told(&lab.script("ls -d /proc/[0-9]* | wc -l; readlink /proc/self")?)?;
    let words: Vec<u32> = told
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    check!(
        words.len() == 2 && words.iter().all(|number| *number < 10),
        "/proc shows more: {told}"
    );
    Ok(())
}

fn sysfs_can_be_mounted_read_only(lab: &Lab) -> Result {
    let mut bundle =
        lab.script("ls -d /sys/class/net/lo; ls /sys/class/net | wc -l; exec sleep 1000")?;
    bundle.mount(
        "sysfs",
        "sysfs",
        "/sys",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    same!(
        "stdout",
        container.out()?.split_whitespace().next(),
        Some("/sys/class/net/lo")
    );
    let mount = mount_at(pid, "/sys")?;
    same!("type", mount.fs_type, "sysfs");
    check!(
        mount.mount_options.contains_key("ro"),
        "/sys is {:?}",
        mount.mount_options
    );
    Ok(())
}

fn devpts_has_its_own_instance(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let mount = mount_at(container.executes("sleep")?, "/dev/pts")?;
    same!("type", mount.fs_type, "devpts");
    let mode = mount.super_options.get("ptmxmode").cloned().flatten();
    same!("ptmxmode", mode.as_deref(), Some("666"));
    let host = procfs::process::Process::myself()?.mountinfo()?;
    check!(
        host.0.iter().all(|of| of.majmin != mount.majmin),
        "it is the host's devpts"
    );
    Ok(())
}

fn mqueue_can_be_mounted(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    same!(
        "type",
        mount_at(container.executes("sleep")?, "/dev/mqueue")?.fs_type,
        "mqueue"
    );
    Ok(())
}

fn cgroup_v1_shows_each_controller(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.mount(
        "sysfs",
        "sysfs",
        "/sys",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    bundle.mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    let mounts = process(pid)?.mountinfo()?;
    let cgroups: Vec<_> = mounts
        .0
        .iter()
        .filter(|mount| mount.fs_type == "cgroup")
        .collect();
    for controller in ["memory", "pids", "devices"] {
        let mount = cgroups
            .iter()
            .find(|mount| mount.super_options.contains_key(controller));
        let mount = mount.ok_or(format!("{controller} is not mounted"))?;
        check!(
            mount.mount_options.contains_key("ro"),
            "{controller}: {:?}",
            mount.mount_options
        );
        let root = &mount.root;
        let own = container
            .exec(&["sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs"])?
            .ok()?;
        check!(
            own.words().contains(&"1"),
            "{root} is not the own cgroup: {}",
            own.out
        );
    }
    Ok(())
}

fn cgroup_v2_shows_the_own_cgroup(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /sys/fs/cgroup/cgroup.procs")?;
    bundle.namespace("cgroup", None)?;
    bundle.mount(
        "sysfs",
        "sysfs",
        "/sys",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    bundle.mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev", "ro"],
    )?;
    let told = lab.told(&bundle)?;
    check!(told.lines().any(|line| line == "1"), "cgroup.procs: {told}");
    Ok(())
}

fn a_destination_need_not_start_with_a_slash(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /mnt/file")?;
    lab.directory("source")?;
    lab.file("source/file", "text")?;
    bundle.mount("bind", lab.path("source"), "mnt", &["bind"])?;
    same!("stdout", lab.told(&bundle)?, "text");
    Ok(())
}

fn an_idmapped_bind_shifts_owners(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    lab.file("source/file", "text")?;
    nix::unistd::chown(&source.join("file"), Some(5.into()), Some(6.into()))?;
    let mut bundle = lab.script("stat -c %u:%g /mnt/file")?;
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let source = source.to_string_lossy();
    let mount = json!({"destination": "/mnt", "type": "bind", "source": source,
        "options": ["bind"], "uidMappings": map, "gidMappings": map});
    bundle.set("/mounts/-", mount)?;
    same!("owner", lab.told(&bundle)?, "1005:1006\n");
    Ok(())
}

fn proc_over_a_symlink_is_refused(lab: &Lab) -> Result {
    for name in ["proc", "sys"] {
        let mut bundle = lab.bundle()?;
        bundle.mount("sysfs", "sysfs", "/sys", &["ro"])?;
        std::fs::remove_dir(bundle.inside(name))?;
        symlink("tmp", bundle.inside(name))?;
        lab.run(&bundle)?
            .refused(&format!("a symlink at /{name}"))?;
    }
    Ok(())
}

fn a_mount_on_proc_is_refused(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    for at in [
        "/proc",
        "/proc/self",
        "/proc/1",
        "/proc/sys/kernel",
        "/proc/self/attr",
    ] {
        let mut bundle = lab.bundle()?;
        bundle.mount("bind", &source, at, &["bind"])?;
        lab.run(&bundle)?.refused(&format!("a mount on {at}"))?;
    }
    Ok(())
}

fn a_file_may_cover_one_in_proc(lab: &Lab) -> Result {
    let file = lab.file("uptime", "1.00 1.00\n")?;
    let mut bundle = lab.script("cat /proc/uptime")?;
    bundle.mount("bind", &file, "/proc/uptime", &["bind", "ro"])?;
    same!("uptime", lab.told(&bundle)?, "1.00 1.00\n");
    Ok(())
}

fn a_bind_ignores_options_of_filesystems(lab: &Lab) -> Result {
    let source = lab.directory("source")?;
    std::fs::write(source.join("x"), "there\n")?;
    let mut bundle = lab.script("cat /mnt/x")?;
    bundle.mount("", &source, "/mnt", &["bind", "mode=700", "size=1k"])?;
    same!("stdout", lab.told(&bundle)?, "there\n");
    Ok(())
}
