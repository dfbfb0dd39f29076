//! The six kinds of hooks: when, where, with what, and what a failing one does.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::own_namespace;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};

cases! {
    hooks_run_in_order,
    hooks_of_one_kind_run_as_listed,
    hooks_get_the_state_on_stdin,
    hooks_get_the_status_of_their_moment,
    hooks_get_exactly_their_env_and_args,
    prestart_and_create_runtime_run_on_the_host,
    create_container_runs_in_the_containers_namespaces,
    start_container_runs_inside_the_root,
    poststart_runs_when_the_program_does,
    poststop_runs_after_delete_and_outside,
    poststop_runs_once,
    a_failing_prestart_fails_create,
    a_failing_create_runtime_fails_create,
    a_failing_create_container_fails_create,
    a_failing_start_container_fails_run,
    a_failing_poststart_does_not_hang,
    a_failing_poststop_does_not_fail_delete,
    poststop_runs_after_a_failed_create: [Creel],
    the_output_of_a_failing_hook_is_in_the_error: [Creel],
    a_hook_that_is_too_slow_is_killed,
    a_missing_hook_fails_create,
    a_hook_may_ignore_its_stdin,
}

/// The six points of life that have hooks, in their order.
pub const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that runs a script after it has read its stdin: crun may die of one that ends without, which
/// only `a_hook_may_ignore_its_stdin` is to ask about. That of startContainer sees the container's
/// files, so all use its shell path, which exists on both sides.
fn hook(script: &str) -> Value {
    let script = format!("cat > /dev/null; {script}");
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

/// A hook that keeps what it reads.
fn keeper(file: &str) -> Value {
    let script = format!("cat > {file}");
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

/// A bundle whose root shows the case's log at the path it has on the host.
fn logged(lab: &Lab, script: &str) -> Result<(Bundle, String)> {
    let dir = lab.directory("log")?;
    let mut bundle = lab.script(script)?;
    let path = dir.to_string_lossy().into_owned();
    bundle.mount("bind", &dir, &path, &["bind"])?;
    Ok((bundle, format!("{path}/log")))
}

fn hooks_run_in_order(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    bundle.script(&format!("echo program >> {log}; exec sleep 1000"))?;
    for kind in KINDS {
        bundle.set(
            &format!("/hooks/{kind}"),
            json!([hook(&format!("echo {kind} >> {log}"))]),
        )?;
    }
    let container = lab.create(&bundle)?;
    let lines = || -> Result<Vec<String>> {
        Ok(crate::lab::text(log.as_ref())?
            .lines()
            .map(str::to_owned)
            .collect())
    };
    same!(
        "after create",
        lines()?,
        ["prestart", "createRuntime", "createContainer"]
    );
    container.start()?.ok()?;
    container.executes("sleep")?;
    let mut after = lines()?.split_off(3);
    same!(
        "after start",
        after.first().map(String::as_str),
        Some("startContainer")
    );
    // Older runtimes run poststart before the program's first instruction, newer ones after it.
    after.sort();
    same!(
        "all of start",
        after,
        ["poststart", "program", "startContainer"]
    );
    container.delete(&["-f"])?.ok()?;
    same!(
        "after delete",
        lines()?.last().map(String::as_str),
        Some("poststop")
    );
    Ok(())
}

fn hooks_of_one_kind_run_as_listed(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    let list: Vec<Value> = (0..5)
        .map(|n| hook(&format!("echo {n} >> {log}")))
        .collect();
    bundle.set("/hooks/createRuntime", json!(list))?;
    lab.run(&bundle)?.ok()?;
    same!("log", crate::lab::text(log.as_ref())?, "0\n1\n2\n3\n4\n");
    Ok(())
}

fn hooks_get_the_state_on_stdin(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "exec sleep 1000")?;
    bundle.set("/annotations", json!({"note": "this"}))?;
    for kind in KINDS {
        let keeper = keeper(&format!("{log}.{kind}"));
        bundle.set(&format!("/hooks/{kind}"), json!([keeper]))?;
    }
    let container = lab.started(&bundle)?;
    let pid = container.pid()?;
    container.delete(&["-f"])?.ok()?;
    for kind in KINDS {
        let text = crate::lab::text(format!("{log}.{kind}").as_ref())?;
        let state: Value =
            serde_json::from_str(&text).map_err(|e| format!("{kind}: {e}: {text}"))?;
        same!(kind, state["id"], container.id.as_str());
        same!(kind, state["bundle"], bundle.dir.to_string_lossy().as_ref());
        same!(kind, state["annotations"]["note"], "this");
        check!(
            state["ociVersion"].is_string(),
            "{kind}: no ociVersion: {text}"
        );
        // Inside a pid namespace the number may be the one seen there.
        if ["prestart", "createRuntime", "poststart"].contains(&kind) {
            same!(kind, state["pid"], pid);
        }
    }
    Ok(())
}

fn hooks_get_the_status_of_their_moment(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "exec sleep 1000")?;
    for kind in KINDS {
        let keeper = keeper(&format!("{log}.{kind}"));
        bundle.set(&format!("/hooks/{kind}"), json!([keeper]))?;
    }
    lab.started(&bundle)?.delete(&["-f"])?.ok()?;
    for (kind, want) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        let text = crate::lab::text(format!("{log}.{kind}").as_ref())?;
        let state: Value = serde_json::from_str(&text)?;
        // The deprecated kind was once run by `start`; some still tell its status of then.
        if kind == "prestart" && state["status"] == "created" {
            continue;
        }
        same!(kind, state["status"], want);
    }
    Ok(())
}

fn hooks_get_exactly_their_env_and_args(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    let args = [
        "name",
        "-c",
        &format!("(cat > /dev/null; echo $0 \"$1\" \"$2\"; env) > {log}"),
        "zero",
        "a b",
        "*",
    ];
    let hook = json!({"path": "/bin/sh", "args": args, "env": ["PATH=/bin:/usr/bin", "ONE=1"]});
    bundle.set("/hooks/createRuntime", json!([hook]))?.save()?;
    let (dir, id) = (bundle.dir.to_string_lossy(), lab.id());
    let mut command = lab.command(&["run", "-b", &dir, &id]);
    lab.finish(command.env("LEAKED", "yes").stdin(lab.null()?))?
        .ok()?;
    let text = crate::lab::text(log.as_ref())?;
    same!("args", text.lines().next(), Some("zero a b *"));
    check!(text.contains("\nONE=1\n"), "{text}");
    check!(
        !text.contains("LEAKED"),
        "the caller's environment leaks: {text}"
    );
    Ok(())
}

/// The mount namespace and the names in the root that a hook of that kind sees.
fn place(lab: &Lab, kind: &str) -> Result<(String, bool)> {
    let (mut bundle, log) = logged(lab, "exec sleep 1000")?;
    std::fs::write(bundle.inside("only-inside"), "")?;
    let script = format!("(readlink /proc/self/ns/mnt; ls /) > {log}");
    bundle.set(&format!("/hooks/{kind}"), json!([hook(&script)]))?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    container.delete(&["-f"])?.ok()?;
    let text = crate::lab::text(log.as_ref())?;
    let namespace = text.lines().next().unwrap_or_default().to_owned();
    Ok((namespace, text.contains("only-inside")))
}

fn prestart_and_create_runtime_run_on_the_host(lab: &Lab) -> Result {
    let own = own_namespace("mnt")?.to_string_lossy().into_owned();
    for kind in ["prestart", "createRuntime", "poststart"] {
        same!(kind, place(lab, kind)?, (own.clone(), false));
    }
    Ok(())
}

fn create_container_runs_in_the_containers_namespaces(lab: &Lab) -> Result {
    let own = own_namespace("mnt")?.to_string_lossy().into_owned();
    let (namespace, inside) = place(lab, "createContainer")?;
    check!(namespace != own, "it runs in the host's mount namespace");
    check!(!inside, "the root has been changed before it");
    Ok(())
}

fn start_container_runs_inside_the_root(lab: &Lab) -> Result {
    let own = own_namespace("mnt")?.to_string_lossy().into_owned();
    let (namespace, inside) = place(lab, "startContainer")?;
    check!(namespace != own && inside, "it runs outside: {namespace}");
    Ok(())
}

fn poststart_runs_when_the_program_does(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "exec sleep 1000")?;
    bundle.set(
        "/hooks/poststart",
        json!([hook(&format!("echo ran > {log}"))]),
    )?;
    let container = lab.create(&bundle)?;
    check!(!std::path::Path::new(&log).exists(), "it ran at create");
    container.start()?.ok()?;
    same!("log", crate::lab::text(log.as_ref())?, "ran\n");
    Ok(())
}

fn poststop_runs_after_delete_and_outside(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    bundle.set(
        "/hooks/poststop",
        json!([hook(&format!("readlink /proc/self/ns/mnt > {log}"))]),
    )?;
    let container = lab.started(&bundle)?;
    container.stopped()?;
    check!(!std::path::Path::new(&log).exists(), "it ran before delete");
    container.delete(&[])?.ok()?;
    same!(
        "namespace",
        crate::lab::text(log.as_ref())?.trim(),
        own_namespace("mnt")?.to_string_lossy()
    );
    Ok(())
}

fn poststop_runs_once(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    bundle.set(
        "/hooks/poststop",
        json!([hook(&format!("echo x >> {log}"))]),
    )?;
    lab.run(&bundle)?.ok()?;
    same!("log", crate::lab::text(log.as_ref())?, "x\n");
    Ok(())
}

fn failing(lab: &Lab, kind: &str) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set(&format!("/hooks/{kind}"), json!([hook("exit 3")]))?;
    let id = lab.id();
    let output = lab.launch("create", &bundle, &id, &[])?;
    drop(lab.adopt(&id, &bundle));
    output.refused(&format!("create with a failing {kind} hook"))?;
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn a_failing_prestart_fails_create(lab: &Lab) -> Result {
    failing(lab, "prestart")
}

fn a_failing_create_runtime_fails_create(lab: &Lab) -> Result {
    failing(lab, "createRuntime")
}

fn a_failing_create_container_fails_create(lab: &Lab) -> Result {
    failing(lab, "createContainer")
}

fn a_failing_start_container_fails_run(lab: &Lab) -> Result {
    let mut bundle = lab.script("touch /ran")?;
    bundle.set("/hooks/startContainer", json!([hook("exit 3")]))?;
    lab.run(&bundle)?
        .refused("run with a failing startContainer hook")?;
    check!(!bundle.inside("ran").exists(), "the program ran");
    Ok(())
}

fn a_failing_poststart_does_not_hang(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/hooks/poststart", json!([hook("exit 3")]))?;
    let container = lab.create(&bundle)?;
    // The spec changed its mind on what this does; only an end and a clean delete are promised.
    container.start()?;
    container.delete(&["-f"])?.ok()?;
    Ok(())
}

fn a_failing_poststop_does_not_fail_delete(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    let list = json!([hook("exit 3"), hook(&format!("echo second > {log}"))]);
    bundle.set("/hooks/poststop", list)?;
    let container = lab.started(&bundle)?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    same!("the next hook", crate::lab::text(log.as_ref())?, "second\n");
    Ok(())
}

fn poststop_runs_after_a_failed_create(lab: &Lab) -> Result {
    let (mut bundle, log) = logged(lab, "true")?;
    bundle.set("/hooks/createRuntime", json!([hook("exit 3")]))?;
    bundle.set(
        "/hooks/poststop",
        json!([hook(&format!("echo ran > {log}"))]),
    )?;
    lab.run(&bundle)?.refused("run with a failing hook")?;
    same!("log", crate::lab::text(log.as_ref())?, "ran\n");
    Ok(())
}

fn the_output_of_a_failing_hook_is_in_the_error(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.set(
        "/hooks/createRuntime",
        json!([hook("true"), hook("echo my reason >&2; exit 3")]),
    )?;
    let output = lab.run(&bundle)?.refused("run with a failing hook")?;
    check!(
        output.err.contains("error running createRuntime hook #1:"),
        "{}",
        output.err
    );
    check!(output.err.contains("my reason"), "{}", output.err);
    Ok(())
}

fn a_hook_that_is_too_slow_is_killed(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    let mut slow = hook("exec sleep 1000");
    slow["timeout"] = json!(1);
    bundle.set("/hooks/createRuntime", json!([slow]))?;
    // It would outlast the case.
    lab.run(&bundle)?
        .refused("run with a hook that is too slow")?;
    Ok(())
}

fn a_missing_hook_fails_create(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.set("/hooks/createRuntime", json!([{"path": "/no/such/hook"}]))?;
    lab.run(&bundle)?.refused("run with a missing hook")?;
    check!(lab.states().is_empty(), "state: {:?}", lab.states());
    Ok(())
}

fn a_hook_may_ignore_its_stdin(lab: &Lab) -> Result {
    let mut bundle = lab.script("echo ran")?;
    // A state larger than a pipe: a runtime that waits for the reader would hang or die of SIGPIPE.
    bundle.set("/annotations", json!({"big": "x".repeat(200_000)}))?;
    bundle.set("/hooks/createRuntime", json!([{"path": "/bin/true"}]))?;
    same!("stdout", lab.told(&bundle)?, "ran\n");
    bundle.set("/hooks/createRuntime", json!([{"path": "/bin/false"}]))?;
    lab.run(&bundle)?.refused("run with a hook that fails")?;
    Ok(())
}
