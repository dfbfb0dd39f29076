//! Sentences of the runtime specification that no other part is about; `docs/conformance.md` maps
//! each MUST and SHOULD to its case.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::{self, alive};
use crate::lab::{Lab, text};
use crate::scene::Holder;
use crate::{cases, check, same};
use serde_json::{Value, json};
use std::path::Path;

cases! {
    the_map_of_the_specification_names_cases,
    unknown_properties_are_ignored,
    unknown_annotations_are_ignored,
    console_size_without_a_terminal_is_ignored,
    a_mounts_options_may_be_any_word_of_the_specification,
    the_versions_of_features_are_accepted,
    a_file_in_the_way_of_a_device_is_refused,
    a_device_that_is_there_already_is_taken,
    what_the_container_did_not_make_outlives_it,
    a_failed_create_does_not_take_the_id,
    a_failing_start_container_stops_the_container,
    a_failing_poststart_stops_the_container,
    poststop_runs_after_a_failing_poststart: [Creel],
    hooks_after_a_failed_one_do_not_run,
    hooks_resolve_their_path_where_they_run,
    hooks_in_the_container_get_its_pid,
    hooks_get_the_pid_of_a_joined_namespace: [Tool("unshare")],
    hooks_without_env_and_args_work,
    prestart_sees_the_mounts_before_the_pivot,
    poststart_comes_before_start_returns,
    kill_reaches_the_containers_process,
    state_tells_no_status_of_its_own,
    a_pids_limit_of_zero_lets_nothing_fork,
}

fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

/// A bundle with hooks: (kind, script); `LOG` in a script is a file that both sides see.
fn hooked(lab: &Lab, script: &str, hooks: &[(&str, &str)]) -> Result<(Bundle, String)> {
    let dir = lab.directory("log")?.to_string_lossy().into_owned();
    let log = format!("{dir}/log");
    let mut bundle = lab.script(&script.replace("LOG", &log))?;
    bundle.mount("bind", &dir, &dir, &["bind"])?;
    for (kind, script) in hooks {
        let hook = hook(&script.replace("LOG", &log));
        bundle.set(&format!("/hooks/{kind}/-"), hook)?;
    }
    Ok((bundle, log))
}

fn the_map_of_the_specification_names_cases(_: &Lab) -> Result {
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md");
    let map = text(&map)?;
    let all: Vec<String> = super::all()?.into_iter().map(|case| case.name).collect();
    let mut named = 0;
    for row in map.lines().filter(|line| line.starts_with("| ")) {
        let Some(cell) = row.trim_end_matches([' ', '|']).rsplit('|').next() else {
            continue;
        };
        // Words in backticks; one that ends in `_` stands for all cases that begin so.
        for name in cell.split('`').skip(1).step_by(2) {
            named += 1;
            let family = name.ends_with('_');
            let known = all
                .iter()
                .any(|case| case == name || (family && case.starts_with(name)));
            check!(known, "docs/conformance.md names {name}, which is no case");
        }
    }
    check!(named > 100, "docs/conformance.md names only {named} cases");
    Ok(())
}

fn unknown_properties_are_ignored(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    for pointer in [
        "/unknown",
        "/process/unknown",
        "/process/user/unknown",
        "/root/unknown",
        "/mounts/0/unknown",
        "/linux/unknown",
        "/linux/namespaces/0/unknown",
        "/linux/resources/unknown",
        "/linux/resources/memory/unknown",
        "/hooks/unknown",
    ] {
        bundle.set(pointer, json!({"of": ["tomorrow"]}))?;
    }
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}

fn unknown_annotations_are_ignored(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    let annotations = json!({"org.opencontainers.tomorrow": "x", "io.example/y": "", "z": "{}"});
    bundle.set("/annotations", annotations)?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}

fn console_size_without_a_terminal_is_ignored(lab: &Lab) -> Result {
    let mut bundle = lab.script("[ -t 0 ] || echo none")?;
    bundle
        .set("/process/terminal", false)?
        .set("/process/consoleSize", json!({"height": 10, "width": 20}))?;
    same!("stdout", lab.told(&bundle)?, "none\n");
    Ok(())
}

fn a_mounts_options_may_be_any_word_of_the_specification(lab: &Lab) -> Result {
    // Each is taken for what it is: a file system would refuse a word that it does not know.
    let words = [
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "relatime",
        "silent",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "ratime",
        "rdev",
        "rdiratime",
        "rexec",
        "rnoatime",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "rrelatime",
        "rro",
        "rrw",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "ro",
        "rw",
        "tmpcopyup",
    ];
    let mut bundle = lab.script("echo x > /mnt/x && cat /mnt/x")?;
    bundle.mount("tmpfs", "tmpfs", "/mnt", &words)?;
    same!("stdout", lab.told(&bundle)?, "x\n");
    Ok(())
}

fn the_versions_of_features_are_accepted(lab: &Lab) -> Result {
    let features: Value = serde_json::from_str(&lab.call(&["features"])?.ok()?.out)?;
    for key in ["ociVersionMin", "ociVersionMax"] {
        let mut bundle = lab.script("echo ran")?;
        bundle.set("/ociVersion", features[key].clone())?;
        same!(key, lab.told(&bundle)?, "ran\n");
    }
    Ok(())
}

fn a_file_in_the_way_of_a_device_is_refused(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    std::fs::write(bundle.inside("mnt/device"), "a file")?;
    let device = json!({"path": "/mnt/device", "type": "c", "major": 1, "minor": 3});
    bundle.set("/linux/devices", json!([device]))?;
    lab.run(&bundle)?
        .refused("a device where a regular file is")?;
    let kept = text(&bundle.inside("mnt/device"))?;
    same!("the file", kept, "a file");
    Ok(())
}

fn a_device_that_is_there_already_is_taken(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo x > /mnt/device; ls -l /mnt/device | cut -c1")?;
    let device = json!({"path": "/mnt/device", "type": "c", "major": 1, "minor": 3});
    bundle.set("/linux/devices", json!([device]))?;
    // The second finds the node that the first has made.
    same!("first", lab.told(&bundle)?, "c\n");
    same!("second", lab.told(&bundle)?, "c\n");
    Ok(())
}

fn what_the_container_did_not_make_outlives_it(lab: &Lab) -> Result {
    let holder = Holder::new(&["--net"])?;
    let source = lab.directory("source")?;
    std::fs::write(source.join("x"), "there")?;
    let mut bundle = lab.idle()?;
    bundle.namespace("network", Some(&holder.path("net")))?;
    bundle.mount("bind", &source, "/mnt", &["bind"])?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    container.delete(&["--force"])?.ok()?;
    check!(alive(holder.pid()?), "the namespace's holder is dead");
    same!("the source", text(&source.join("x"))?, "there");
    check!(bundle.inside("bin/busybox").exists(), "the root is empty");
    check!(
        bundle.dir.join("config.json").exists(),
        "the bundle is not whole"
    );
    Ok(())
}

fn a_failed_create_does_not_take_the_id(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/hooks/createRuntime", json!([hook("exit 1")]))?;
    let id = lab.id();
    lab.launch("create", &bundle, &id, &[])?
        .refused("create with a failing hook")?;
    bundle.unset("/hooks")?;
    let container = lab.adopt(&id, &bundle);
    lab.launch("create", &bundle, &id, &[])?.ok()?;
    same!("status", container.status()?, "created");
    Ok(())
}

fn a_failing_start_container_stops_the_container(lab: &Lab) -> Result {
    let mut bundle = lab.script("touch /ran; exec sleep 1000")?;
    bundle.set("/hooks/startContainer", json!([hook("exit 3")]))?;
    let container = lab.create(&bundle)?;
    let pid = container.pid()?;
    container
        .start()?
        .refused("start with a failing startContainer hook")?;
    check!(!alive(pid), "the container's process is alive");
    container.stopped()?;
    check!(!bundle.inside("ran").exists(), "the program ran");
    container.delete(&[])?.ok()?;
    Ok(())
}

fn a_failing_poststart_stops_the_container(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/hooks/poststart", json!([hook("exit 3")]))?;
    let container = lab.create(&bundle)?;
    let pid = container.pid()?;
    container
        .start()?
        .refused("start with a failing poststart hook")?;
    check!(!alive(pid), "the container's process is alive");
    Ok(())
}

fn poststop_runs_after_a_failing_poststart(lab: &Lab) -> Result {
    let hooks = [("poststart", "exit 3"), ("poststop", "echo ran > LOG")];
    let (bundle, log) = hooked(lab, "exec sleep 1000", &hooks)?;
    lab.run(&bundle)?
        .refused("run with a failing poststart hook")?;
    same!("log", text(log.as_ref())?, "ran\n");
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn hooks_after_a_failed_one_do_not_run(lab: &Lab) -> Result {
    let hooks = [
        ("createRuntime", "echo first >> LOG; exit 1"),
        ("createRuntime", "echo second >> LOG"),
        ("createContainer", "echo third >> LOG"),
        ("startContainer", "echo fourth >> LOG"),
    ];
    let (bundle, log) = hooked(lab, "echo program >> LOG", &hooks)?;
    lab.run(&bundle)?.refused("run with a failing hook")?;
    same!("log", text(log.as_ref())?, "first\n");
    Ok(())
}

fn hooks_resolve_their_path_where_they_run(lab: &Lab) -> Result {
    // A program that is only on the host, and one that is only in the image.
    let outside = lab.file("outside", "#!/bin/sh\ncat > /dev/null\n")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&outside, mode)?;
    let mut bundle = lab.script("echo ran")?;
    std::fs::copy(&outside, bundle.inside("bin/only-inside"))?;
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        bundle.set(&format!("/hooks/{kind}"), json!([{"path": outside}]))?;
    }
    let inside = json!([{"path": "/bin/only-inside", "env": ["PATH=/bin"]}]);
    bundle.set("/hooks/startContainer", inside)?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}

/// The pid that the state on the stdin of a hook told.
fn told(log: &str, kind: &str) -> Result<Value> {
    let text = text(format!("{log}.{kind}").as_ref())?;
    let state: Value = serde_json::from_str(&text).map_err(|e| format!("{kind}: {e}: {text}"))?;
    Ok(state["pid"].clone())
}

const TELL: [(&str, &str); 4] = [
    ("createRuntime", "cat > LOG.createRuntime"),
    ("createContainer", "cat > LOG.createContainer"),
    ("startContainer", "cat > LOG.startContainer"),
    ("poststart", "cat > LOG.poststart"),
];

fn hooks_in_the_container_get_its_pid(lab: &Lab) -> Result {
    let (bundle, log) = hooked(lab, "exec sleep 1000", &TELL)?;
    let container = lab.started(&bundle)?;
    let pid = container.pid()?;
    for (kind, want) in [
        ("createRuntime", pid),
        ("createContainer", 1),
        ("startContainer", 1),
        ("poststart", pid),
    ] {
        same!(kind, told(&log, kind)?, want);
    }
    Ok(())
}

fn hooks_get_the_pid_of_a_joined_namespace(lab: &Lab) -> Result {
    let first = lab.started(&lab.idle()?)?;
    let (mut bundle, log) = hooked(lab, "exec sleep 1000", &TELL)?;
    bundle.namespace("pid", Some(&format!("/proc/{}/ns/pid", first.pid()?)))?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    let numbers = kernel::status_line(pid, "NSpid")?;
    let inside: i32 = numbers
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .parse()?;
    check!(inside != pid && inside != 1, "NSpid: {numbers}");
    for (kind, want) in [
        ("createRuntime", pid),
        ("createContainer", inside),
        ("startContainer", inside),
        ("poststart", pid),
    ] {
        same!(kind, told(&log, kind)?, want);
    }
    Ok(())
}

fn hooks_without_env_and_args_work(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    for kind in ["createRuntime", "startContainer", "poststop"] {
        bundle.set(&format!("/hooks/{kind}"), json!([{"path": "/bin/true"}]))?;
    }
    same!("stdout", lab.told(&bundle)?, "ran\n");
    Ok(())
}

fn prestart_sees_the_mounts_before_the_pivot(lab: &Lab) -> Result {
    // In the container's mount namespace, which its process is in already, its root is not changed.
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); ls /proc/$pid/root > LOG";
    let (mut bundle, log) = hooked(lab, "true", &[("createRuntime", script)])?;
    std::fs::write(bundle.inside("only-inside"), "")?;
    bundle.set(
        "/hooks/prestart",
        bundle.config["hooks"]["createRuntime"].clone(),
    )?;
    lab.run(&bundle)?.ok()?;
    let seen = text(log.as_ref())?;
    check!(
        seen.contains("bin") && !seen.contains("only-inside"),
        "the root was changed before: {seen}"
    );
    Ok(())
}

fn poststart_comes_before_start_returns(lab: &Lab) -> Result {
    let slow = "until [ -e LOG.go ]; do sleep 0.01; done; echo ran > LOG";
    let (bundle, log) = hooked(lab, "touch LOG.go; exec sleep 1000", &[("poststart", slow)])?;
    // The hook waits for the program: both are there, and only then start returns.
    let container = lab.create(&bundle)?;
    container.start()?.ok()?;
    same!("log", text(log.as_ref())?, "ran\n");
    Ok(())
}

fn kill_reaches_the_containers_process(lab: &Lab) -> Result {
    let script = "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.01; done";
    let container = lab.started(&lab.script(script)?)?;
    container.says("ready\n")?;
    container.kill("USR1")?.ok()?;
    container.says("got\n")?;
    container.stopped()
}

fn state_tells_no_status_of_its_own(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    let mut seen = vec![container.status()?];
    container.start()?.ok()?;
    seen.push(container.status()?);
    container.kill("KILL")?.ok()?;
    container.stopped()?;
    seen.push(container.status()?);
    same!("statuses", seen, ["created", "running", "stopped"]);
    Ok(())
}

fn a_pids_limit_of_zero_lets_nothing_fork(lab: &Lab) -> Result {
    let mut bundle = lab.script("(echo forked) 2>&1; echo end")?;
    bundle.set("/linux/resources/pids/limit", 0)?;
    let output = lab.run(&bundle)?;
    check!(!output.out.contains("forked"), "{}", output.out);
    Ok(())
}
