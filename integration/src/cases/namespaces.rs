//! Namespaces: fresh ones differ from the host's, joined ones are the path's, others are shared.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Case, Need, Result};
use crate::kernel::{mounts_below, namespace, own_namespace};
use crate::lab::Lab;
use crate::scene::Holder;
use crate::{check, same};
use serde_json::json;

/// (type in config.json, name in /proc/PID/ns, flag of unshare)
const KINDS: [(&str, &str, &str); 8] = [
    ("pid", "pid", "--pid"),
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("mount", "mnt", "--mount"),
    ("cgroup", "cgroup", "--cgroup"),
    ("user", "user", "--user"),
    ("time", "time", "--time"),
];

/// The cases of this part: three for each kind, and some of their own.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, link, flag) in KINDS {
        let need = [Need::Namespace(link)];
        let fresh = Case::new(
            &format!("a_new_{kind}_namespace_differs_from_the_host"),
            move |lab| fresh(lab, kind, link),
        );
        cases.push(fresh.needs(&need));
        // The host's mount namespace has cases of its own; in one of others, the root would be theirs.
        if kind != "mount" {
            let shared = Case::new(
                &format!("without_a_{kind}_namespace_it_is_shared"),
                move |lab| shared(lab, kind, link),
            );
            cases.push(shared.needs(&need));
            let joined = Case::new(
                &format!("a_{kind}_namespace_is_joined_by_path"),
                move |lab| joined(lab, kind, link, flag),
            );
            cases.push(joined.needs(&need).needs(&[Need::Tool("unshare")]));
        }
    }
    cases.extend(more());
    cases
}

crate::cases! {
    in more;
    loopback_is_up_in_a_new_network_namespace,
    a_joined_namespace_keeps_its_state: [Tool("unshare")],
    two_containers_share_namespaces_by_path,
    a_new_user_namespace_goes_with_joined_ones: [Userns],
    time_offsets_are_seen_inside: [Namespace("time")],
    time_offsets_are_set_in_a_user_namespace: [Namespace("time"), Userns],
    init_is_pid_1_in_a_new_pid_namespace,
    a_new_cgroup_namespace_hides_the_path: [Namespace("cgroup")],
    without_a_mount_namespace_it_is_shared,
    without_a_mount_namespace_a_failed_create_unmounts,
    without_a_mount_namespace_hooks_run,
}

fn with(lab: &Lab, kind: &str, path: Option<&str>) -> Result<Bundle> {
    let mut bundle = lab.idle()?;
    match (kind, path) {
        ("user", None) => bundle.mapped()?,
        _ => bundle.namespace(kind, path)?,
    };
    Ok(bundle)
}

fn fresh(lab: &Lab, kind: &str, link: &str) -> Result {
    let container = lab.started(&with(lab, kind, None)?)?;
    let pid = container.executes("sleep")?;
    let (own, its) = (own_namespace(link)?, namespace(pid, link)?);
    check!(
        own != its,
        "the container is in the host's {}",
        own.display()
    );
    Ok(())
}

fn shared(lab: &Lab, kind: &str, link: &str) -> Result {
    let mut bundle = lab.idle()?;
    bundle.drop_namespace(kind)?;
    if kind == "uts" {
        bundle.unset("/hostname")?;
    }
    if kind == "ipc" {
        // The mqueue file system belongs to an ipc namespace.
        let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
        mounts.retain(|mount| mount["type"] != "mqueue");
    }
    let container = lab.started(&bundle)?;
    same!(
        "namespace",
        namespace(container.executes("sleep")?, link)?,
        own_namespace(link)?
    );
    Ok(())
}

fn joined(lab: &Lab, kind: &str, link: &str, flag: &str) -> Result {
    let mut flags = vec![flag];
    match kind {
        "pid" => flags.push("--fork"),
        "user" => flags.push("--map-root-user"),
        "time" => flags.push("--fork"),
        _ => {}
    }
    let holder = Holder::new(&flags)?;
    // unshare's own process stays outside of these two; its children are inside.
    let path = match kind {
        "pid" => holder.path("pid_for_children"),
        "time" => holder.path("time_for_children"),
        _ => holder.path(link),
    };
    let mut bundle = with(lab, kind, Some(&path))?;
    if kind == "uts" {
        bundle.unset("/hostname")?;
    }
    if kind == "user" {
        // Root there is root here, but only its ids are mapped. Runtimes want to be told that, too.
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        bundle
            .set("/linux/uidMappings", map.clone())?
            .set("/linux/gidMappings", map)?;
        bundle.set(
            "/mounts/2/options",
            json!(["nosuid", "noexec", "newinstance"]),
        )?;
    }
    let want = std::fs::read_link(&path)?;
    let container = lab.started(&bundle)?;
    same!(
        "namespace",
        namespace(container.executes("sleep")?, link)?,
        want
    );
    Ok(())
}

fn loopback_is_up_in_a_new_network_namespace(lab: &Lab) -> Result {
    let told = lab.told(&lab.script("ip addr show lo")?)?;
    check!(told.contains("UP"), "lo is down: {told}");
    check!(told.contains("127.0.0.1"), "lo has no address: {told}");
    Ok(())
}

fn a_joined_namespace_keeps_its_state(lab: &Lab) -> Result {
    let holder = Holder::new(&["--uts"])?;
    let pid = holder.pid()?.to_string();
    let set = ["--uts", "--target", &pid, "hostname", "held"];
    let status = std::process::Command::new("nsenter").args(set).status()?;
    check!(status.success(), "nsenter: {status}");
    let mut bundle = lab.script("hostname")?;
    bundle
        .namespace("uts", Some(&holder.path("uts")))?
        .unset("/hostname")?;
    same!("hostname", lab.told(&bundle)?, "held\n");
    Ok(())
}

fn two_containers_share_namespaces_by_path(lab: &Lab) -> Result {
    let first = lab.started(&lab.idle()?)?;
    let pid = first.executes("sleep")?;
    let mut bundle = lab.idle()?;
    bundle.unset("/hostname")?;
    let kinds = [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ];
    for (kind, link) in kinds {
        bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{link}")))?;
    }
    let second = lab.started(&bundle)?;
    let other = second.executes("sleep")?;
    for (_, link) in kinds {
        same!(link, namespace(other, link)?, namespace(pid, link)?);
    }
    let told = second.sh("ps")?.ok()?.out;
    check!(told.matches("sleep 1000").count() == 2, "ps shows {told}");
    // The second ends first: the pid namespace is the first's.
    second.delete(&["-f"])?.ok()?;
    Ok(())
}

fn time_offsets_are_seen_inside(lab: &Lab) -> Result {
    offsets(lab, false)
}

fn time_offsets_are_set_in_a_user_namespace(lab: &Lab) -> Result {
    offsets(lab, true)
}

fn offsets(lab: &Lab, mapped: bool) -> Result {
    let mut bundle = lab.script("cat /proc/self/timens_offsets; cat /proc/uptime")?;
    bundle.namespace("time", None)?;
    if mapped {
        bundle.mapped()?;
    }
    bundle.set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}}),
    )?;
    let told = lab.told(&bundle)?;
    let line = told
        .lines()
        .find(|line| line.starts_with("boottime"))
        .unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    same!("offset", words, ["boottime", "1000000", "5"]);
    let uptime = told
        .lines()
        .last()
        .and_then(|line| line.split(['.', ' ']).next());
    let uptime: u64 = uptime.unwrap_or_default().parse()?;
    check!(uptime >= 1_000_000, "uptime is {uptime}");
    Ok(())
}

fn init_is_pid_1_in_a_new_pid_namespace(lab: &Lab) -> Result {
    same!("pid", lab.told(&lab.script("echo $$")?)?, "1\n");
    Ok(())
}

fn a_new_cgroup_namespace_hides_the_path(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/cgroup")?;
    bundle.namespace("cgroup", None)?;
    let told = lab.told(&bundle)?;
    check!(
        !told.is_empty() && !told.contains(lab.mark()),
        "the path shows: {told}"
    );
    Ok(())
}

/// As with Docker's `--userns-remap` and `--network=container:ID`: what is joined belongs to others,
/// the host or another container's user namespace.
fn a_new_user_namespace_goes_with_joined_ones(lab: &Lab) -> Result {
    for mapped in [false, true] {
        let mut bundle = lab.idle()?;
        if mapped {
            bundle.mapped()?;
        }
        let first = lab.started(&bundle)?;
        let pid = first.executes("sleep")?;
        let mut bundle = lab.idle()?;
        bundle.mapped()?.unset("/hostname")?;
        // Not mqueue: that can be mounted by the root of the ipc namespace's owner only.
        bundle.set("/mounts/4", json!({"destination": "/mnt", "type": "tmpfs"}))?;
        let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
        for (kind, link) in kinds {
            bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{link}")))?;
        }
        let second = lab.started(&bundle)?;
        let other = second.executes("sleep")?;
        for (_, link) in kinds {
            same!(link, namespace(other, link)?, namespace(pid, link)?);
        }
        check!(
            namespace(other, "user")? != namespace(pid, "user")?,
            "the user namespace is the first's"
        );
        same!(
            "uid",
            crate::kernel::status_line(other, "Uid")?,
            "100000 100000 100000 100000"
        );
    }
    Ok(())
}

fn without_a_mount_namespace_it_is_shared(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo x > /tmp/x; cat /proc/1/comm; exec sleep 1000")?;
    bundle.drop_namespace("mount")?;
    bundle.mount("tmpfs", "tmpfs", "/tmp", &[])?;
    let before = mounts_below(&lab.dir);
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    same!("namespace", namespace(pid, "mnt")?, own_namespace("mnt")?);
    // Its mounts are there for itself, and for what joins it ...
    container.says("sh\n")?;
    let inside = container.sh("cat /tmp/x; cat /proc/1/comm; ls /home; ls /dev/null")?;
    same!(
        "exec",
        inside.ok()?.words(),
        ["x", "sleep", "user", "/dev/null"]
    );
    // ... in the namespace that it shares, but not in the bundle, ...
    let seen = container.sh("cut -d' ' -f5 /proc/self/mountinfo")?;
    let seen: Vec<_> = seen.ok()?.words().iter().map(ToString::to_string).collect();
    for place in ["/", "/tmp", "/proc", "/dev/pts"] {
        check!(seen.iter().any(|one| one == place), "no {place}: {seen:?}");
    }
    check!(
        !bundle.inside("tmp/x").exists(),
        "its tmpfs is in the bundle"
    );
    // ... and not for longer than it is there.
    container.delete(&["--force"])?.ok()?;
    same!("mounts", mounts_below(&lab.dir), before);
    check!(bundle.inside("bin/busybox").exists(), "its files are gone");
    Ok(())
}

fn without_a_mount_namespace_a_failed_create_unmounts(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle
        .drop_namespace("mount")?
        .args(&["/no/such/program"])?;
    let before = mounts_below(&lab.dir);
    lab.run(&bundle)?.refused("no such file or directory")?;
    same!("mounts", mounts_below(&lab.dir), before);
    Ok(())
}

fn without_a_mount_namespace_hooks_run(lab: &Lab) -> Result {
    let log = lab.path("log");
    let mut bundle = lab.bundle()?;
    bundle.drop_namespace("mount")?.unset("/mounts")?;
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let script = format!("echo {kind} >> {}", log.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        bundle.set(&format!("/hooks/{kind}"), json!([hook]))?;
    }
    lab.run(&bundle)?.ok()?;
    let told = crate::lab::text(&log)?;
    same!("hooks", told, "prestart\ncreateRuntime\ncreateContainer\n");
    Ok(())
}
