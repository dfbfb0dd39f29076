//! The container's cgroup as a part of a tree: who owns it, what lies above and below it, and how it is
//! frozen, filtered and emptied as a whole (cgroup v2).
#![forbid(unsafe_code)]

use super::limits::{started, with};
use crate::bundle::Bundle;
use crate::case::Result;
use crate::cgroup::Limits;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

cases! {
    v2_every_controller_reaches_the_container: [CgroupV2],
    v2_a_container_below_processes_needs_no_controllers: [CgroupV2],
    v2_a_limit_below_processes_is_refused: [CgroupV2],
    v2_below_a_threaded_cgroup_threads_are_limited: [CgroupV2],
    v2_below_a_threaded_cgroup_memory_is_refused: [CgroupV2],
    v2_a_populated_cgroup_is_refused: [CgroupV2],
    v2_a_frozen_cgroup_is_refused: [CgroupV2],
    v2_the_cgroup_is_the_users_own: [CgroupV2, Userns],
    v2_a_readonly_cgroup_stays_the_hosts: [CgroupV2, Userns],
    v2_without_a_cgroup_namespace_the_cgroup_stays_the_hosts: [CgroupV2, Userns],
    v2_the_container_may_part_its_cgroup: [CgroupV2],
    v2_exec_follows_init_into_a_sub_cgroup: [CgroupV2],
    v2_exec_goes_where_it_is_told: [CgroupV2],
    v2_pause_shows_in_the_events: [CgroupV2],
    v2_exec_inherits_the_device_filter: [CgroupV2],
    v2_a_fork_bomb_is_deleted: [CgroupV2],
}

const TOP: &str = "/sys/fs/cgroup";

/// A cgroup of the case's own, empty again and removed with the value.
struct Tree(PathBuf);

impl Tree {
    fn new(lab: &Lab) -> Result<Self> {
        let dir = Path::new(TOP).join(lab.id());
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }

    /// A cgroup in it, as a cgroupsPath.
    fn below(&self, name: &str) -> String {
        let path = self.0.join(name);
        path.to_string_lossy().replacen(TOP, "", 1)
    }

    /// A process in it.
    fn inhabitant(&self) -> Result<Inhabitant> {
        let child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()?;
        let inhabitant = Inhabitant(child);
        std::fs::write(self.0.join("cgroup.procs"), inhabitant.0.id().to_string())?;
        Ok(inhabitant)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left below is the runtime's, and found by the supervisor.
        std::fs::remove_dir(&self.0).ok();
    }
}

struct Inhabitant(Child);

impl Drop for Inhabitant {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn words(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.sort();
    Ok(words)
}

fn v2_every_controller_reaches_the_container(lab: &Lab) -> Result {
    let tree = Tree::new(lab)?;
    let mut bundle = lab.idle()?;
    bundle.set("/linux/cgroupsPath", tree.below("a/b"))?;
    let container = lab.started(&bundle)?;
    let all = words(&Path::new(TOP).join("cgroup.controllers"))?;
    same!(
        "controllers",
        words(&tree.0.join("a/b/cgroup.controllers"))?,
        all
    );
    // It may part them further itself.
    check!(
        words(&tree.0.join("a/b/cgroup.subtree_control"))?.is_empty(),
        "given on to cgroups that are not"
    );
    container.delete(&["-f"])?.ok()?;
    std::fs::remove_dir(tree.0.join("a")).ok();
    Ok(())
}

fn v2_a_container_below_processes_needs_no_controllers(lab: &Lab) -> Result {
    let tree = Tree::new(lab)?;
    let _inhabitant = tree.inhabitant()?;
    let mut bundle = lab.script("echo ran")?;
    bundle.unset("/linux/resources")?;
    bundle.set("/linux/cgroupsPath", tree.below("child"))?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}

fn v2_a_limit_below_processes_is_refused(lab: &Lab) -> Result {
    let tree = Tree::new(lab)?;
    let _inhabitant = tree.inhabitant()?;
    let mut bundle = lab.script("echo ran")?;
    bundle
        .set("/linux/cgroupsPath", tree.below("child"))?
        .set("/linux/resources", json!({"memory": {"limit": 64 << 20}}))?;
    let err = lab.run(&bundle)?.refused("a limit that cannot be")?.err;
    check!(err.contains("memory"), "{err}");
    check!(!tree.0.join("child").exists(), "the cgroup is left");
    Ok(())
}

/// A tree that has a threaded cgroup in it: new cgroups beside that one are invalid.
fn threaded(lab: &Lab) -> Result<Tree> {
    let tree = Tree::new(lab)?;
    std::fs::create_dir(tree.0.join("threads"))?;
    std::fs::write(tree.0.join("threads/cgroup.type"), "threaded")?;
    Ok(tree)
}

fn v2_below_a_threaded_cgroup_threads_are_limited(lab: &Lab) -> Result {
    let tree = threaded(lab)?;
    let mut bundle = lab.idle()?;
    bundle
        .set("/linux/cgroupsPath", tree.below("a/b"))?
        .set("/linux/resources", json!({"pids": {"limit": 9}}))?;
    let container = lab.started(&bundle)?;
    let dir = tree.0.join("a/b");
    same!("pids.max", words(&dir.join("pids.max"))?, ["9"]);
    same!("type", words(&dir.join("cgroup.type"))?, ["threaded"]);
    let pid = container.pid()?.to_string();
    same!("threads", words(&dir.join("cgroup.threads"))?, [pid]);
    same!("exec", container.sh("echo in")?.ok()?.out, "in\n");
    container.delete(&["-f"])?.ok()?;
    for name in ["a", "threads"] {
        std::fs::remove_dir(tree.0.join(name)).ok();
    }
    Ok(())
}

fn v2_below_a_threaded_cgroup_memory_is_refused(lab: &Lab) -> Result {
    let tree = threaded(lab)?;
    let mut bundle = lab.script("true")?;
    bundle
        .set("/linux/cgroupsPath", tree.below("child"))?
        .set("/linux/resources", json!({"memory": {"limit": 64 << 20}}))?;
    let output = lab.run(&bundle)?.refused("memory in a threaded tree");
    std::fs::remove_dir(tree.0.join("threads"))?;
    let err = output?.err;
    check!(
        err.contains("invalid state") || err.contains("threaded"),
        "{err}"
    );
    check!(!tree.0.join("child").exists(), "the cgroup is left");
    Ok(())
}

fn v2_a_populated_cgroup_is_refused(lab: &Lab) -> Result {
    let tree = Tree::new(lab)?;
    let inhabitant = tree.inhabitant()?;
    let mut bundle = lab.script("true")?;
    bundle.set("/linux/cgroupsPath", tree.below(""))?;
    let err = lab.run(&bundle)?.refused("a cgroup that is in use")?.err;
    check!(err.contains("not empty"), "{err}");
    check!(
        kernel::alive(i32::try_from(inhabitant.0.id())?),
        "its process was ended"
    );
    Ok(())
}

fn v2_a_frozen_cgroup_is_refused(lab: &Lab) -> Result {
    let tree = Tree::new(lab)?;
    std::fs::write(tree.0.join("cgroup.freeze"), "1")?;
    let mut bundle = lab.script("true")?;
    bundle.set("/linux/cgroupsPath", tree.below(""))?;
    let err = lab.run(&bundle)?.refused("a cgroup that is frozen")?.err;
    check!(err.contains("frozen"), "{err}");
    Ok(())
}

/// A container of mapped ids, with a cgroup namespace and a writable view of the cgroup.
fn owned(lab: &Lab) -> Result<(Bundle, String)> {
    let (mut bundle, path) = with(lab, "exec sleep 1000", json!({"pids": {"limit": 50}}))?;
    bundle.mapped()?.namespace("cgroup", None)?;
    // A mapped root cannot make it in a rootfs that is not its own.
    std::fs::create_dir_all(bundle.inside("/sys/fs/cgroup"))?;
    bundle.mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev"],
    )?;
    Ok((bundle, path))
}

/// Who owns the cgroup and some of its files.
fn owners(path: &str) -> Result<Vec<(&'static str, u32)>> {
    let dir = Path::new(TOP).join(path.trim_matches('/'));
    let files = [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
        "pids.max",
    ];
    let owner = |file: &&'static str| Ok((*file, std::fs::metadata(dir.join(file))?.uid()));
    files.iter().map(owner).collect()
}

fn v2_the_cgroup_is_the_users_own(lab: &Lab) -> Result {
    let (bundle, path) = owned(lab)?;
    let container = lab.started(&bundle)?;
    let want = [
        ("", 100_000),
        ("cgroup.procs", 100_000),
        ("cgroup.subtree_control", 100_000),
        ("cgroup.threads", 100_000),
        // Its limits are not its own.
        ("pids.max", 0),
    ];
    same!("owners", owners(&path)?, want);
    container
        .sh("mkdir /sys/fs/cgroup/own && echo 0 > /sys/fs/cgroup/own/cgroup.procs")?
        .ok()?;
    Ok(())
}

fn v2_a_readonly_cgroup_stays_the_hosts(lab: &Lab) -> Result {
    let (mut bundle, path) = owned(lab)?;
    bundle.set(
        "/mounts/-1/options",
        json!(["nosuid", "noexec", "nodev", "ro"]),
    )?;
    let _container = lab.started(&bundle)?;
    check!(
        owners(&path)?.iter().all(|(_, uid)| *uid == 0),
        "{:?}",
        owners(&path)?
    );
    Ok(())
}

fn v2_without_a_cgroup_namespace_the_cgroup_stays_the_hosts(lab: &Lab) -> Result {
    let (mut bundle, path) = owned(lab)?;
    bundle.drop_namespace("cgroup")?;
    let _container = lab.started(&bundle)?;
    check!(
        owners(&path)?.iter().all(|(_, uid)| *uid == 0),
        "{:?}",
        owners(&path)?
    );
    Ok(())
}

/// Its first process moves down and enables controllers beside itself, as systemd does.
const PART: &str = "cd /sys/fs/cgroup && mkdir init && echo 1 > init/cgroup.procs && \
                    echo '+memory +pids' > cgroup.subtree_control && mkdir job && \
                    echo 5 > job/pids.max && echo parted && exec sleep 1000";

fn parted(lab: &Lab) -> Result<(Bundle, String)> {
    let (mut bundle, path) = with(lab, PART, json!({}))?;
    bundle.namespace("cgroup", None)?;
    bundle.mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev"],
    )?;
    Ok((bundle, path))
}

fn v2_the_container_may_part_its_cgroup(lab: &Lab) -> Result {
    let (bundle, path) = parted(lab)?;
    let container = lab.started(&bundle)?;
    container.says("parted")?;
    let limits = Limits::at(&path);
    same!("pids.max below", limits.file("pids", "job/pids.max")?, "5");
    container.delete(&["-f"])?.ok()?;
    check!(!limits.directory("pids").exists(), "the cgroup is left");
    Ok(())
}

fn v2_exec_follows_init_into_a_sub_cgroup(lab: &Lab) -> Result {
    let (bundle, path) = parted(lab)?;
    let container = lab.started(&bundle)?;
    container.says("parted")?;
    // The container's own cgroup takes no process any more: it has controllers below.
    let told = container.sh("cat /proc/self/cgroup")?.ok()?.out;
    same!("seen from inside", told.trim(), "0::/init");
    check!(
        Limits::at(&format!("{path}/init")).processes().len() == 1,
        "not its init alone"
    );
    Ok(())
}

fn v2_exec_goes_where_it_is_told(lab: &Lab) -> Result {
    let (bundle, _) = parted(lab)?;
    let container = lab.started(&bundle)?;
    container.says("parted")?;
    let rest = ["cat", "/proc/self/cgroup"];
    let told = container
        .call("exec", &["--cgroup", "job"], &rest)?
        .ok()?
        .out;
    same!("seen from inside", told.trim(), "0::/job");
    container
        .call("exec", &["--cgroup", "missing"], &rest)?
        .refused("a sub cgroup that is not")?;
    container
        .call("exec", &["--cgroup", "../.."], &rest)?
        .refused("a cgroup outside")?;
    Ok(())
}

fn v2_pause_shows_in_the_events(lab: &Lab) -> Result {
    let (container, limits) = started(lab, json!({}))?;
    let events = |line: &str| -> Result<bool> {
        Ok(limits
            .file("pids", "cgroup.events")?
            .lines()
            .any(|one| one == line))
    };
    check!(events("frozen 0")?, "frozen from the start");
    container.call("pause", &[], &[])?.ok()?;
    // All stand still by the time that the command returns.
    check!(
        events("frozen 1")?,
        "not frozen: {}",
        limits.file("pids", "cgroup.events")?
    );
    same!("status", container.status()?, "paused");
    container.call("resume", &[], &[])?.ok()?;
    until("thawed", || {
        events("frozen 0").ok().filter(|thawed| *thawed)
    })?;
    same!("status", container.status()?, "running");
    Ok(())
}

fn v2_exec_inherits_the_device_filter(lab: &Lab) -> Result {
    // kmsg is there and not allowed; the tty driver's numbers are allowed to read only.
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]);
    let (mut bundle, _) = with(lab, "exec sleep 1000", json!({"devices": rules}))?;
    let node = |path: &str, major: i64, minor: i64| json!({"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666});
    bundle.set(
        "/linux/devices",
        json!([node("/dev/kmsg", 1, 11), node("/dev/fuse", 10, 229)]),
    )?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    let err = container
        .sh("exec 3< /dev/kmsg")?
        .refused("a denied device")?
        .err;
    check!(err.contains("not permitted"), "{err}");
    container.sh("exec 3< /dev/fuse")?.ok()?;
    let err = container
        .sh("exec 3> /dev/fuse")?
        .refused("writing where reading is allowed")?
        .err;
    check!(err.contains("not permitted"), "{err}");
    Ok(())
}

fn v2_a_fork_bomb_is_deleted(lab: &Lab) -> Result {
    let script = "bomb() { while :; do sleep 0.01 & sleep 0.02 & done; }; bomb & bomb & bomb & echo lit; wait";
    let (bundle, path) = with(lab, script, json!({"pids": {"limit": 60}}))?;
    let container = lab.started(&bundle)?;
    container.says("lit")?;
    container.delete(&["-f"])?.ok()?;
    check!(
        !Limits::at(&path).directory("pids").exists(),
        "the cgroup is left"
    );
    Ok(())
}
