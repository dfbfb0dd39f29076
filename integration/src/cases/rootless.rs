//! Containers of a plain user: with and without newuidmap, with and without a cgroup of its own.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel;
use crate::lab::{Lab, Output};
use crate::scene::{USER, own_mounts, plain_user};
use crate::{cases, check, same};
use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid, chown};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

cases! {
    rootless_runs_as_root_of_its_own_ids: [Userns],
    rootless_goes_through_all_commands: [Userns],
    rootless_takes_more_ids_with_newuidmap: [Userns, Tool("newuidmap")],
    rootless_more_ids_without_an_entry_are_refused: [Userns, Tool("newuidmap")],
    rootless_needs_a_user_namespace: [Userns],
    rootless_refuses_a_user_that_is_not_mapped: [Userns],
    rootless_refuses_groups: [Userns],
    rootless_is_shown_the_hosts_sysfs: [Userns],
    rootless_goes_without_the_group_of_terminals: [Userns],
    rootless_is_shown_the_cgroup_that_it_is_in: [Userns, CgroupV1],
    rootless_limits_need_a_cgroup: [Userns],
    rootless_limits_hold_in_a_delegated_cgroup: [Userns, CgroupV1],
    the_rootless_flag_takes_three_words,
}

/// A plain user with a copy of the runtime and a bundle of its own.
struct Plain<'lab> {
    lab: &'lab Lab,
    runtime: PathBuf,
    bundle: Bundle,
}

impl<'lab> Plain<'lab> {
    /// Its bundle's process is a shell with this script.
    fn new(lab: &'lab Lab, script: &str) -> Result<Self> {
        let (runtime, bundle) = plain_user(lab, script)?;
        Ok(Self {
            lab,
            runtime,
            bundle,
        })
    }

    /// A call of the runtime by the user.
    fn call(&self, args: &[&str]) -> Result<Output> {
        let mut command = std::process::Command::new(&self.runtime);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.lab.path("home"))
            .env("XDG_RUNTIME_DIR", self.lab.path("xdg"))
            .args(args)
            .stdin(self.lab.null()?)
            .uid(USER)
            .gid(USER);
        self.lab.finish(&mut command)
    }

    /// `run`, `create`, ... of the bundle.
    fn launch(&self, verb: &str, flags: &[&str], id: &str) -> Result<Output> {
        self.bundle.save()?;
        let dir = self.bundle.dir.to_string_lossy();
        let mut args = vec![verb, "--bundle", &dir];
        args.extend(flags);
        args.push(id);
        self.call(&args)
    }

    fn run(&self) -> Result<Output> {
        self.launch("run", &[], &self.lab.id())
    }
}

fn rootless_runs_as_root_of_its_own_ids(lab: &Lab) -> Result {
    let script = "id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /home/mine";
    let plain = Plain::new(lab, script)?;
    let told = plain.run()?.ok()?;
    let map = format!("{USER}");
    same!("told", told.words(), ["0", "0", map.as_str(), "1", "deny"]);
    let owner = std::fs::metadata(plain.bundle.inside("/home/mine"))?.uid();
    same!("owner", owner, USER);
    Ok(())
}

fn rootless_goes_through_all_commands(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "")?;
    plain.bundle.idle()?;
    let id = lab.id();
    // Its output goes to files, so that nobody waits for the container to close it.
    plain.launch("create", &[], &id)?.ok()?;
    let state = || -> Result<serde_json::Value> {
        Ok(serde_json::from_str(
            &plain.call(&["state", &id])?.ok()?.out,
        )?)
    };
    same!("status", state()?["status"], "created");
    let pid = state()?["pid"].as_i64().ok_or("no pid")?;
    let uid = kernel::status_line(i32::try_from(pid)?, "Uid")?;
    same!(
        "uid",
        uid.split(' ').next(),
        Some(USER.to_string().as_str())
    );
    plain.call(&["start", &id])?.ok()?;
    same!("status", state()?["status"], "running");
    let list = plain.call(&["list", "-q"])?.ok()?.out;
    same!("list", list.trim(), id);
    let told = plain.call(&["exec", &id, "id", "-u"])?.ok()?.out;
    same!("exec", told.trim(), "0");
    plain.call(&["kill", &id, "KILL"])?.ok()?;
    kernel::until("stopped", || {
        (state().ok()?["status"] == "stopped").then_some(())
    })?;
    plain.call(&["delete", &id])?.ok()?;
    same!("list", plain.call(&["list", "-q"])?.ok()?.out, "");
    let roots: Vec<_> = std::fs::read_dir(lab.path("xdg"))?.collect::<std::io::Result<_>>()?;
    let mode = roots.first().ok_or("no state root")?.metadata()?.mode();
    check!(mode & 0o777 == 0o700, "the state root has mode {mode:o}");
    Ok(())
}

/// Gives the user a name and 1000 more ids, in this process's own view of /etc.
fn entries(lab: &Lab, ids: &str) -> Result {
    own_mounts(MsFlags::MS_PRIVATE)?;
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\nplain:x:{USER}:{USER}::/:/bin/sh\n");
    for (name, text) in [
        ("passwd", passwd.as_str()),
        ("subuid", ids),
        ("subgid", ids),
    ] {
        let file = lab.file(name, text)?;
        let target = Path::new("/etc").join(name);
        if !target.exists() {
            return Err(crate::case::Failure::skip(format!(
                "no {}",
                target.display()
            )));
        }
        mount(
            Some(&file),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    Ok(())
}

fn with_more_ids(lab: &Lab) -> Result<Plain<'_>> {
    let mut plain = Plain::new(lab, "cat /proc/self/uid_map; id")?;
    let maps = json!([
        {"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 200_000, "size": 1000}
    ]);
    plain
        .bundle
        .set("/linux/uidMappings", maps.clone())?
        .set("/linux/gidMappings", maps)?;
    Ok(plain)
}

fn rootless_takes_more_ids_with_newuidmap(lab: &Lab) -> Result {
    entries(lab, "plain:200000:1000\n")?;
    let mut plain = with_more_ids(lab)?;
    plain.bundle.set(
        "/process/user",
        json!({"uid": 77, "gid": 78, "additionalGids": [79]}),
    )?;
    let told = plain.run()?.ok()?;
    let user = USER.to_string();
    let words = told.words();
    same!(
        "map",
        words.get(..6),
        Some(&["0", &user, "1", "1", "200000", "1000"][..])
    );
    check!(told.out.contains("uid=77 gid=78 groups=79"), "{}", told.out);
    Ok(())
}

fn rootless_more_ids_without_an_entry_are_refused(lab: &Lab) -> Result {
    entries(lab, "other:200000:1000\n")?;
    let refused = with_more_ids(lab)?.run()?.refused("foreign ids")?;
    check!(refused.err.contains("newuidmap"), "{}", refused.err);
    Ok(())
}

fn rootless_needs_a_user_namespace(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "true")?;
    plain
        .bundle
        .drop_namespace("user")?
        .unset("/linux/uidMappings")?
        .unset("/linux/gidMappings")?;
    let refused = plain.run()?.refused("no user namespace")?;
    let words = "rootless container requires user namespaces";
    check!(refused.err.contains(words), "{}", refused.err);
    Ok(())
}

fn rootless_refuses_a_user_that_is_not_mapped(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "true")?;
    plain.bundle.set("/process/user/uid", 1000)?;
    let refused = plain.run()?.refused("an unmapped user")?;
    check!(refused.err.contains("mapped"), "{}", refused.err);
    Ok(())
}

fn rootless_refuses_groups(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "true")?;
    plain
        .bundle
        .set("/process/user/additionalGids", json!([0]))?;
    let refused = plain.run()?.refused("additional groups")?;
    check!(refused.err.contains("additional"), "{}", refused.err);
    Ok(())
}

fn rootless_is_shown_the_hosts_sysfs(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "grep -c ' /sys ro,.* - sysfs' /proc/self/mountinfo")?;
    plain
        .bundle
        .mount("sysfs", "sysfs", "/sys", &["nosuid", "ro"])?;
    same!("read-only sysfs", plain.run()?.ok()?.out.trim(), "1");
    Ok(())
}

fn rootless_goes_without_the_group_of_terminals(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "grep ' /dev/pts ' /proc/self/mounts")?;
    plain.bundle.set("/mounts/2/options/-", "gid=5")?;
    let told = plain.run()?.ok()?.out;
    check!(told.contains("devpts") && !told.contains("gid=5"), "{told}");
    Ok(())
}

fn rootless_is_shown_the_cgroup_that_it_is_in(lab: &Lab) -> Result {
    let mut plain = Plain::new(
        lab,
        "ls /sys/fs/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs",
    )?;
    plain
        .bundle
        .mount("bind", "/sys", "/sys", &["rbind", "ro"])?;
    plain
        .bundle
        .mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro"])?;
    let told = plain.run()?.ok()?.out;
    let words: Vec<&str> = told.split_whitespace().collect();
    check!(
        words.contains(&"memory") && words.contains(&"pids"),
        "{told}"
    );
    check!(
        words.contains(&"1"),
        "the container is not in there: {told}"
    );
    Ok(())
}

fn rootless_limits_need_a_cgroup(lab: &Lab) -> Result {
    let mut plain = Plain::new(lab, "true")?;
    plain
        .bundle
        .set("/linux/resources", json!({"pids": {"limit": 10}}))?;
    let refused = plain.run()?.refused("a limit without a cgroup")?;
    check!(refused.err.contains("pids"), "{}", refused.err);
    check!(refused.err.contains("cgroup"), "{}", refused.err);
    Ok(())
}

/// The directory that the user may make cgroups in, in every v1 hierarchy.
fn delegate(lab: &Lab) -> Result<String> {
    let name = format!("{}-given", lab.mark());
    for entry in std::fs::read_dir("/sys/fs/cgroup")? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let dir = entry.path().join(&name);
        std::fs::create_dir(&dir)?;
        // A cpuset takes nobody before it has these.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(text) = std::fs::read(entry.path().join(file)) {
                std::fs::write(dir.join(file), text)?;
            }
        }
        for file in ["", "cgroup.procs", "tasks"] {
            let file = dir.join(file);
            if file.exists() {
                chown(&file, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER)))?;
            }
        }
    }
    Ok(name)
}

fn rootless_limits_hold_in_a_delegated_cgroup(lab: &Lab) -> Result {
    let name = delegate(lab)?;
    let verdict = limited(lab, &name);
    for cgroup in kernel::directories_named(Path::new("/sys/fs/cgroup"), &name) {
        // Only what the container's `delete` left above itself is still there.
        std::fs::remove_dir(&cgroup).ok();
    }
    verdict
}

fn limited(lab: &Lab, name: &str) -> Result {
    let mut plain = Plain::new(lab, "")?;
    plain
        .bundle
        .idle()?
        .set("/linux/cgroupsPath", format!("/{name}/c"))?
        .set(
            "/linux/resources",
            json!({"pids": {"limit": 10}, "memory": {"limit": 67_108_864}}),
        )?;
    let id = lab.id();
    plain.launch("run", &["-d"], &id)?.ok()?;
    let read = |path: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path));
    same!(
        "pids",
        read(&format!("pids/{name}/c/pids.max"))?.trim(),
        "10"
    );
    let memory = read(&format!("memory/{name}/c/memory.limit_in_bytes"))?;
    same!("memory", memory.trim(), "67108864");
    plain.call(&["pause", &id])?.ok()?;
    let frozen = read(&format!("freezer/{name}/c/freezer.state"))?;
    same!("freezer", frozen.trim(), "FROZEN");
    plain.call(&["resume", &id])?.ok()?;
    plain.call(&["delete", "--force", &id])?.ok()?;
    Ok(())
}

fn the_rootless_flag_takes_three_words(lab: &Lab) -> Result {
    let bundle = lab.script("echo ran")?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    for word in ["true", "false", "auto"] {
        let told = lab.call(&["--rootless", word, "run", "-b", &dir, &lab.id()])?;
        same!(word, told.ok()?.out, "ran\n");
    }
    Ok(())
}
