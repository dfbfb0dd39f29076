//! Whom Docker lets a container be, and what it lets it do.
#![forbid(unsafe_code)]

use super::{ENDLESS, Lesson};
use crate::case::Result;
use crate::docker::Docker;
use crate::{check, same};

pub(super) const LESSONS: &[Lesson] = &[
    ("docker run", default),
    ("docker run --user 1000:1000 --group-add 5", user),
    ("docker run --cap-drop ALL", drop),
    ("docker run --cap-drop ALL --cap-add NET_RAW", add),
    (
        "docker run --security-opt no-new-privileges",
        no_new_privileges,
    ),
    ("docker run --security-opt seccomp=unconfined", unconfined),
    ("docker run --security-opt seccomp=FILE", profile),
    ("docker run --privileged", privileged),
    ("docker run --device /dev/null:/dev/mine:r", device),
    ("docker run --init", init),
    ("docker run --pid=host", host_pids),
    ("docker run --pid=container:NAME", shared_pids),
    ("docker run --ipc=host --uts=host", host_names),
];

const CONFINED: &str = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2";

fn told(docker: &Docker<'_>, flags: &[&str], script: &str) -> Result<String> {
    Ok(docker.run(flags, script)?.ok()?.out.trim().to_owned())
}

/// Capabilities, seccomp, and what of /proc and /sys is kept away.
fn default(docker: &mut Docker<'_>) -> Result<String> {
    let confined = told(docker, &[], CONFINED)?;
    same!("confined", confined, "00000000a80425fb\n0\n2");
    let script = "cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
                  touch /proc/sys/kernel/domainname /sys/x 2>&1 | grep -c Read-only";
    let hidden = told(docker, &[], script)?;
    same!("hidden", hidden, "0\n0\n2");
    Ok(format!("{confined}; masked and read-only"))
}

fn user(docker: &mut Docker<'_>) -> Result<String> {
    let flags = ["--user", "1000:1000", "--group-add", "5"];
    let who = told(docker, &flags, "id -u; id -G")?;
    same!("user", who, "1000\n1000 5");
    Ok(who)
}

fn drop(docker: &mut Docker<'_>) -> Result<String> {
    let caps = told(docker, &["--cap-drop", "ALL"], CONFINED)?;
    same!("caps", caps, "0000000000000000\n0\n2");
    Ok(caps)
}

fn add(docker: &mut Docker<'_>) -> Result<String> {
    let flags = ["--cap-drop", "ALL", "--cap-add", "NET_RAW"];
    let caps = told(docker, &flags, CONFINED)?;
    same!("caps", caps, "0000000000002000\n0\n2");
    Ok(caps)
}

fn no_new_privileges(docker: &mut Docker<'_>) -> Result<String> {
    let status = told(docker, &["--security-opt", "no-new-privileges"], CONFINED)?;
    same!("status", status, "00000000a80425fb\n1\n2");
    Ok(status)
}

fn unconfined(docker: &mut Docker<'_>) -> Result<String> {
    let status = told(docker, &["--security-opt", "seccomp=unconfined"], CONFINED)?;
    same!("status", status, "00000000a80425fb\n0\n0");
    Ok(status)
}

/// A profile that has mkdir fail with EDOM, which nothing else would.
fn profile(docker: &mut Docker<'_>) -> Result<String> {
    let names = ["mkdir", "mkdirat"];
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 33}]
    });
    let file = docker.lab.file("profile.json", &profile.to_string())?;
    let option = format!("seccomp={}", file.display());
    let output = docker.run(&["--security-opt", &option], "mkdir /tmp/d")?;
    same!("exit code", output.code, 1);
    check!(output.err.contains("out of domain"), "{}", output.err);
    Ok(output.err)
}

fn privileged(docker: &mut Docker<'_>) -> Result<String> {
    let devices = told(docker, &["--privileged"], "ls /dev | wc -l")?;
    check!(devices.parse::<u32>()? > 20, "{devices} devices");
    let script = "touch /proc/sys/kernel/domainname /sys/kernel/uevent_seqnum && \
                  cat /proc/timer_list | wc -c; \
                  grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2";
    let confined = told(docker, &["--privileged"], script)?;
    check!(!confined.starts_with("0\n"), "/proc is masked");
    check!(confined.ends_with("\n0\n0"), "{confined}");
    Ok("the host's devices, no seccomp, nothing masked, /proc/sys and /sys may be written".into())
}

fn device(docker: &mut Docker<'_>) -> Result<String> {
    let script = "stat -c '%t %T' /dev/mine; cat /dev/mine; echo >/dev/mine";
    let flags = ["--device", "/dev/null:/dev/mine:r"];
    let output = docker.run(&flags, script)?;
    same!("the null device", output.out, "1 3\n");
    // Docker always lets null itself be written; the node is another, the device is not.
    same!("exit code", output.code, 0);
    Ok(output.out)
}

fn init(docker: &mut Docker<'_>) -> Result<String> {
    let init = told(docker, &["--init"], "cat /proc/1/comm")?;
    same!("init", init, "docker-init");
    Ok(init)
}

fn host_pids(docker: &mut Docker<'_>) -> Result<String> {
    let own = std::fs::read_to_string("/proc/1/comm")?;
    let init = told(docker, &["--pid=host"], "cat /proc/1/comm")?;
    same!("the host's", init, own.trim());
    Ok("the host's init".into())
}

fn shared_pids(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &[], ENDLESS)?;
    let processes = told(docker, &["--pid=container:c1"], "ps")?;
    check!(processes.contains("echo bye"), "{processes}");
    Ok("the other's init".into())
}

fn host_names(docker: &mut Docker<'_>) -> Result<String> {
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}"));
    let script = "for kind in ipc uts; do readlink /proc/self/ns/$kind; done";
    let seen = told(docker, &["--ipc=host", "--uts=host"], script)?;
    let want = format!("{}\n{}", own("ipc")?.display(), own("uts")?.display());
    same!("namespaces", seen, want);
    Ok("the host's namespaces".into())
}
