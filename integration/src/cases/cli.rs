//! The command line itself: help, version, spec, features, logs.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};

cases! {
    version_names_the_spec,
    help_succeeds,
    an_unknown_command_fails,
    an_unknown_flag_fails,
    a_missing_argument_fails,
    spec_writes_a_config_that_runs,
    spec_writes_what_runc_writes,
    spec_refuses_to_overwrite,
    spec_rootless_maps_the_caller,
    features_is_json_with_the_required_keys: [Creel],
    an_error_goes_to_the_log_and_to_stderr,
    a_json_log_line_has_level_msg_and_time,
    an_unknown_log_format_fails,
    a_good_run_logs_no_error,
    an_error_is_one_line: [Creel],
}

fn version_names_the_spec(lab: &Lab) -> Result {
    let output = lab.call(&["--version"])?.ok()?;
    let lines: Vec<&str> = output.out.lines().collect();
    check!(
        lines.first().is_some_and(|line| line.contains(" version ")),
        "{}",
        output.out
    );
    check!(
        lines.iter().any(|line| line.starts_with("spec: 1.")),
        "{}",
        output.out
    );
    Ok(())
}

fn help_succeeds(lab: &Lab) -> Result {
    for args in [&["--help"][..], &["create", "--help"], &["exec", "--help"]] {
        let output = lab.call(args)?.ok()?;
        check!(!output.out.is_empty(), "{args:?} prints nothing");
    }
    Ok(())
}

fn an_unknown_command_fails(lab: &Lab) -> Result {
    lab.call(&["frobnicate"])?.refused("an unknown command")?;
    Ok(())
}

fn an_unknown_flag_fails(lab: &Lab) -> Result {
    lab.call(&["list", "--frobnicate"])?
        .refused("an unknown flag")?;
    lab.call(&["--frobnicate", "list"])?
        .refused("an unknown global flag")?;
    Ok(())
}

fn a_missing_argument_fails(lab: &Lab) -> Result {
    for command in ["create", "start", "state", "kill", "delete", "run", "exec"] {
        lab.call(&[command])?
            .refused(&format!("{command} without an id"))?;
    }
    Ok(())
}

fn spec_writes_a_config_that_runs(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    lab.call(&["spec", "--bundle", &bundle.dir.to_string_lossy()])?
        .ok()?;
    bundle.config =
        serde_json::from_str(&std::fs::read_to_string(bundle.dir.join("config.json"))?)?;
    bundle
        .set("/process/terminal", false)?
        .args(&["/bin/echo", "spec"])?;
    same!("stdout", lab.told(&bundle)?, "spec\n");
    Ok(())
}

fn spec_writes_what_runc_writes(lab: &Lab) -> Result {
    let dir = lab.directory("spec")?;
    lab.call(&["spec", "-b", &dir.to_string_lossy()])?.ok()?;
    let text = std::fs::read_to_string(dir.join("config.json"))?;
    let spec: Value = serde_json::from_str(&text)?;
    same!("args", spec["process"]["args"], json!(["sh"]));
    same!("terminal", spec["process"]["terminal"], true);
    same!("cwd", spec["process"]["cwd"], "/");
    same!("noNewPrivileges", spec["process"]["noNewPrivileges"], true);
    same!(
        "root",
        spec["root"],
        json!({"path": "rootfs", "readonly": true})
    );
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    for set in ["bounding", "effective", "permitted"] {
        same!(set, spec["process"]["capabilities"][set], caps);
    }
    let targets = spec["mounts"].as_array().into_iter().flatten();
    let targets: Vec<&str> = targets
        .filter_map(|mount| mount["destination"].as_str())
        .collect();
    let want = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
    ];
    same!("mounts", targets, want);
    for kind in ["pid", "network", "ipc", "uts", "mount"] {
        let list = spec["linux"]["namespaces"].as_array().into_iter().flatten();
        check!(
            list.into_iter()
                .any(|entry| *entry == json!({"type": kind})),
            "no {kind}"
        );
    }
    for list in ["maskedPaths", "readonlyPaths"] {
        let paths = spec["linux"][list].as_array().map_or(0, Vec::len);
        check!(paths > 3, "{list} has {paths} paths");
    }
    Ok(())
}

fn spec_refuses_to_overwrite(lab: &Lab) -> Result {
    let dir = lab.directory("spec")?;
    std::fs::write(dir.join("config.json"), "mine")?;
    lab.call(&["spec", "-b", &dir.to_string_lossy()])?
        .refused("an overwrite")?;
    same!(
        "config.json",
        std::fs::read_to_string(dir.join("config.json"))?,
        "mine"
    );
    Ok(())
}

fn spec_rootless_maps_the_caller(lab: &Lab) -> Result {
    let dir = lab.directory("spec")?;
    lab.call(&["spec", "--rootless", "-b", &dir.to_string_lossy()])?
        .ok()?;
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("config.json"))?)?;
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    same!("uidMappings", spec["linux"]["uidMappings"], map);
    same!("gidMappings", spec["linux"]["gidMappings"], map);
    let mut list = spec["linux"]["namespaces"].as_array().into_iter().flatten();
    check!(
        list.any(|entry| entry["type"] == "user"),
        "no user namespace"
    );
    Ok(())
}

fn features_is_json_with_the_required_keys(lab: &Lab) -> Result {
    let output = lab.call(&["features"])?.ok()?;
    let features: Value = serde_json::from_str(&output.out)?;
    for key in ["ociVersionMin", "ociVersionMax"] {
        check!(features[key].is_string(), "{key}: {}", features[key]);
    }
    let hooks = json!([
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop"
    ]);
    same!("hooks", features["hooks"], hooks);
    for (list, some) in [
        ("/mountOptions", "rbind"),
        ("/linux/namespaces", "mount"),
        ("/linux/capabilities", "CAP_CHOWN"),
        ("/linux/seccomp/actions", "SCMP_ACT_ERRNO"),
        ("/linux/seccomp/operators", "SCMP_CMP_EQ"),
        ("/linux/seccomp/archs", "SCMP_ARCH_X86_64"),
    ] {
        let list = features
            .pointer(list)
            .and_then(Value::as_array)
            .ok_or(format!("no {list}"))?;
        check!(
            list.iter().any(|value| value == some),
            "{some} is missing in {list:?}"
        );
    }
    for key in [
        "cgroup",
        "apparmor",
        "selinux",
        "intelRdt",
        "mountExtensions",
    ] {
        check!(
            features["linux"][key].is_object(),
            "linux.{key}: {}",
            features["linux"][key]
        );
    }
    Ok(())
}

fn an_error_goes_to_the_log_and_to_stderr(lab: &Lab) -> Result {
    let log = lab.path("log");
    let output = lab.call(&["--log", &log.to_string_lossy(), "state", &lab.id()])?;
    let output = output.refused("state of nothing")?;
    let logged = std::fs::read_to_string(&log)?;
    check!(logged.contains("does not exist"), "log: {logged}");
    check!(
        output.err.contains("does not exist"),
        "stderr: {}",
        output.err
    );
    Ok(())
}

fn a_json_log_line_has_level_msg_and_time(lab: &Lab) -> Result {
    let log = lab.path("log");
    let path = log.to_string_lossy();
    let id = lab.id();
    let output = lab.call(&["--log", &path, "--log-format", "json", "state", &id])?;
    output.refused("state of nothing")?;
    let text = std::fs::read_to_string(&log)?;
    let line: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    same!("level", line["level"], "error");
    check!(
        line["msg"]
            .as_str()
            .is_some_and(|msg| msg.contains("does not exist")),
        "{line}"
    );
    check!(
        line["time"].as_str().is_some_and(|time| time.contains('T')),
        "{line}"
    );
    Ok(())
}

fn an_unknown_log_format_fails(lab: &Lab) -> Result {
    lab.call(&["--log-format", "xml", "list"])?
        .refused("log format xml")?;
    Ok(())
}

fn a_good_run_logs_no_error(lab: &Lab) -> Result {
    let log = lab.path("log");
    let bundle = lab.script("echo ran")?;
    bundle.save()?;
    let (path, dir, id) = (
        log.to_string_lossy(),
        bundle.dir.to_string_lossy(),
        lab.id(),
    );
    let output = lab.call(&["--log", &path, "run", "-b", &dir, &id])?.ok()?;
    same!("stdout", output.out, "ran\n");
    same!("stderr", output.err, "");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    check!(!text.contains("error"), "log: {text}");
    Ok(())
}

fn an_error_is_one_line(lab: &Lab) -> Result {
    let mut bundle = lab.bundle()?;
    bundle.mount("no-such-fs", "x", "/mnt", &[])?;
    let output = lab.run(&bundle)?.refused("an unknown filesystem")?;
    same!("lines", output.err.lines().count(), 1);
    check!(
        output.err.contains("(mounts[5]"),
        "names no field: {}",
        output.err
    );
    check!(
        output.err.contains("(ENODEV)"),
        "names no errno: {}",
        output.err
    );
    Ok(())
}
