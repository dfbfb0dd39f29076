//! What must not cross the border, one way or the other: descriptors, paths, umask, keyring, ids.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;

cases! {
    a_cwd_through_a_descriptor_makes_nothing_on_the_host,
    a_missing_cwd_is_made_below_a_readonly_root,
    a_create_container_hook_has_the_callers_umask,
    more_preserved_fds_than_were_passed_are_refused,
    exec_has_the_containers_session_keyring,
    exec_process_without_capabilities_has_the_containers,
    exec_without_a_mount_namespace_stays_in_the_root: [Creel],
    exec_has_the_personality: [Creel],
    a_failed_create_leaves_no_pid_file,
    delete_force_during_create_ends_it: [Creel],
    delete_force_does_not_wait_for_a_hook_that_hangs: [Creel],
}

fn a_cwd_through_a_descriptor_makes_nothing_on_the_host(lab: &Lab) -> Result {
    let mut bundle = lab.script("pwd")?;
    for number in 3..12 {
        let name = format!("climbed{number}");
        bundle.set("/process/cwd", format!("/proc/self/fd/{number}/../{name}"))?;
        let output = lab.run(&bundle)?;
        // In its own root it may make what it likes: a link of procfs can lead there, too.
        let found = std::process::Command::new("find")
            .arg(&lab.dir)
            .args([
                "-path", "*/rootfs", "-prune", "-o", "-name", &name, "-print",
            ])
            .output()?;
        check!(
            found.stdout.is_empty(),
            "made {}",
            String::from_utf8_lossy(&found.stdout)
        );
        check!(
            output.code != 0 || output.out.starts_with('/'),
            "{}",
            output.out
        );
    }
    Ok(())
}

fn a_missing_cwd_is_made_below_a_readonly_root(lab: &Lab) -> Result {
    let mut bundle = lab.script("pwd")?;
    bundle
        .set("/root/readonly", true)?
        .set("/process/cwd", "/made/for/it")?;
    same!("pwd", lab.told(&bundle)?.trim(), "/made/for/it");
    Ok(())
}

fn a_create_container_hook_has_the_callers_umask(lab: &Lab) -> Result {
    let log = lab.path("umask");
    let mut bundle = lab.script("true")?;
    let script = format!("umask > {}", log.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle.set("/hooks/createContainer", json!([hook]))?;
    lab.run(&bundle)?.ok()?;
    same!("umask", crate::lab::text(&log)?.trim(), "0022");
    Ok(())
}

fn more_preserved_fds_than_were_passed_are_refused(lab: &Lab) -> Result {
    let bundle = lab.script("ls /proc/self/fd")?;
    let output = lab.launch("run", &bundle, &lab.id(), &["--preserve-fds", "40"])?;
    check!(output.code != 0, "{}", output.out);
    Ok(())
}

fn exec_has_the_containers_session_keyring(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    // The keyrings that the process possesses, by name.
    let told = container.sh("cat /proc/keys")?.ok()?.out;
    check!(told.contains(&format!("_ses.{}", container.id)), "{told}");
    Ok(())
}

fn exec_process_without_capabilities_has_the_containers(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.caps(&["CAP_KILL"])?;
    let container = lab.started(&bundle)?;
    let process = json!({"args": ["grep", "CapBnd", "/proc/self/status"], "cwd": "/",
        "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    let file = lab.file("process.json", &process.to_string())?;
    let output = container
        .call("exec", &["--process", &file.to_string_lossy()], &[])?
        .ok()?;
    same!(
        "CapBnd",
        output.out.split_whitespace().last(),
        Some("0000000000000020")
    );
    Ok(())
}

fn exec_without_a_mount_namespace_stays_in_the_root(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.drop_namespace("mount")?;
    bundle.set("/mounts", json!([]))?;
    bundle.unset("/linux/maskedPaths").ok();
    bundle.unset("/linux/readonlyPaths").ok();
    std::fs::write(bundle.inside("here"), "inside")?;
    let container = lab.started(&bundle)?;
    same!(
        "file",
        container.exec(&["/bin/cat", "/here"])?.ok()?.out,
        "inside"
    );
    Ok(())
}

fn exec_has_the_personality(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}))?;
    let container = lab.started(&bundle)?;
    let told = container.sh("cat /proc/self/personality")?.ok()?.out;
    same!("personality", told.trim(), "00000008");
    Ok(())
}

fn a_failed_create_leaves_no_pid_file(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/no/such/program"])?;
    let file = lab.path("pid");
    let output = lab.launch(
        "create",
        &bundle,
        &lab.id(),
        &["--pid-file", &file.to_string_lossy()],
    )?;
    check!(output.code != 0, "created");
    check!(!file.exists(), "the pid file is there");
    Ok(())
}

fn delete_force_during_create_ends_it(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    for delay in 0..20 {
        let id = lab.id();
        let path = bundle.dir.to_string_lossy().into_owned();
        let mut create = lab
            .command(&["create", "--bundle", &path, &id])
            .stdin(lab.null()?)
            .spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(delay * 2));
        lab.call(&["delete", "--force", &id])?.ok()?;
        create.wait()?;
        lab.call(&["delete", "--force", &id])?.ok()?;
    }
    Ok(())
}

fn delete_force_does_not_wait_for_a_hook_that_hangs(lab: &Lab) -> Result {
    let reached = lab.path("reached");
    let script = format!("touch {}; exec sleep 1000", reached.display());
    let mut bundle = lab.idle()?;
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle.set("/hooks/createRuntime", json!([hook]))?;
    bundle.save()?;
    let (id, path) = (lab.id(), bundle.dir.to_string_lossy().into_owned());
    let mut create = lab
        .command(&["create", "--bundle", &path, &id])
        .stdin(lab.null()?)
        .spawn()?;
    crate::kernel::until("the hook", || reached.exists().then_some(()))?;
    // The hook would outlast the case.
    lab.call(&["delete", "--force", &id])?.ok()?;
    check!(!create.wait()?.success(), "create succeeded");
    Ok(())
}
