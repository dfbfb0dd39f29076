//! SCMP_ACT_NOTIFY: the listener's descriptor reaches an agent, which is this case itself.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::pty::{Receiver, readable};
use crate::{cases, check, same};
use serde_json::{Value, json};

cases! {
    seccomp_notify_reaches_the_agent: [Kernel(5, 6)],
    seccomp_notify_of_an_exec_reaches_the_agent: [Kernel(5, 6)],
    seccomp_notify_without_an_agent_fails: [Kernel(5, 6)],
    seccomp_notify_without_a_path_fails: [Kernel(5, 6)],
    seccomp_notify_as_the_default_is_refused: [Kernel(5, 6)],
}

fn with(lab: &Lab, script: &str, path: Option<&std::path::Path>) -> Result<Bundle> {
    let mut bundle = lab.script(script)?;
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
        }),
    )?;
    if let Some(path) = path {
        bundle.set(
            "/linux/seccomp/listenerPath",
            path.to_string_lossy().into_owned(),
        )?;
        bundle.set("/linux/seccomp/listenerMetadata", "about this")?;
    }
    Ok(bundle)
}

/// Checks the message, waits for a call and lets it fail: a closed listener answers ENOSYS.
fn answer(agent: &Receiver, id: &str, status: &str) -> Result<Value> {
    let (text, fd) = agent.receive()?;
    let state: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    same!("fds", state["fds"], json!(["seccompFd"]));
    same!("metadata", state["metadata"], "about this");
    same!("id", state["state"]["id"], id);
    same!("status", state["state"]["status"], status);
    check!(
        state["pid"].as_i64().is_some_and(|pid| pid > 0),
        "pid: {}",
        state["pid"]
    );
    check!(readable(&fd)?, "no call was notified");
    Ok(state)
}

const TRY: &str = "mkdir /tmp/made 2>&1; echo end; exec sleep 1000";

fn seccomp_notify_reaches_the_agent(lab: &Lab) -> Result {
    let agent = Receiver::new(&lab.path("agent"))?;
    let bundle = with(lab, TRY, Some(&agent.path))?;
    let container = lab.create(&bundle)?;
    container.start()?.ok()?;
    let state = answer(&agent, &container.id, "creating")?;
    same!("pid", state["pid"], container.pid()?);
    container.says("end\n")?;
    check!(
        container.out()?.contains("Function not implemented"),
        "{}",
        container.out()?
    );
    Ok(())
}

fn seccomp_notify_of_an_exec_reaches_the_agent(lab: &Lab) -> Result {
    let agent = Receiver::new(&lab.path("agent"))?;
    let bundle = with(lab, "exec sleep 1000", Some(&agent.path))?;
    let container = lab.started(&bundle)?;
    drop(agent.receive()?);
    let mut command = lab.command(&["exec", &container.id, "sh", "-c", "mkdir /tmp/made 2>&1"]);
    let out = lab.path("exec.out");
    let mut child = command
        .stdin(lab.null()?)
        .stdout(std::fs::File::create(&out)?)
        .spawn()?;
    let state = answer(&agent, &container.id, "running");
    child.wait()?;
    state?;
    let told = crate::lab::text(&out)?;
    check!(told.contains("Function not implemented"), "{told}");
    Ok(())
}

fn seccomp_notify_without_an_agent_fails(lab: &Lab) -> Result {
    let bundle = with(lab, "true", Some(&lab.path("nobody")))?;
    let output = lab.run(&bundle)?.refused("a profile without its agent")?;
    check!(!output.err.is_empty(), "no reason given");
    Ok(())
}

fn seccomp_notify_without_a_path_fails(lab: &Lab) -> Result {
    lab.run(&with(lab, "true", None)?)?
        .refused("NOTIFY without listenerPath")?;
    Ok(())
}

fn seccomp_notify_as_the_default_is_refused(lab: &Lab) -> Result {
    let agent = Receiver::new(&lab.path("agent"))?;
    let mut bundle = with(lab, "true", Some(&agent.path))?;
    bundle.set("/linux/seccomp/defaultAction", "SCMP_ACT_NOTIFY")?;
    lab.run(&bundle)?.refused("NOTIFY as the default action")?;
    Ok(())
}
