//! `kill`: which signals, by which names, to whom.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{cases, check, same};

cases! {
    kill_takes_names_and_numbers_in_any_case,
    kill_takes_realtime_signals: [Creel],
    kill_sends_term_by_default,
    kill_signals_only_init,
    kill_all_reaches_every_process,
    kill_of_an_unknown_signal_fails,
    kill_of_a_created_container_ends_it,
    kill_of_a_stopped_container_fails,
    kill_of_a_missing_container_fails,
    kill_without_a_pid_namespace_ends_all,
    kill_0_tells_whether_it_is_there,
}

const COUNT: &str = "trap 'echo got' USR1; trap 'echo term; exit 0' TERM; echo up; \
                     while :; do sleep 0.01; done";

fn kill_takes_names_and_numbers_in_any_case(lab: &Lab) -> Result {
    let container = lab.started(&lab.script(COUNT)?)?;
    container.says("up")?;
    for (sent, form) in ["USR1", "SIGUSR1", "usr1", "sigusr1", "SigUsr1", "10"]
        .iter()
        .enumerate()
    {
        container.kill(form)?.ok()?;
        until(&format!("signal {form}"), || {
            let out = container.out().ok()?;
            (out.matches("got").count() == sent + 1).then_some(())
        })?;
    }
    Ok(())
}

fn kill_takes_realtime_signals(lab: &Lab) -> Result {
    let container = lab
        .started(&lab.script("trap 'echo got; exit' 37; echo up; while :; do sleep 0.01; done")?)?;
    container.says("up")?;
    container.kill("RTMIN+3")?.ok()?;
    container.says("got")
}

fn kill_sends_term_by_default(lab: &Lab) -> Result {
    let container = lab.started(&lab.script(COUNT)?)?;
    container.says("up")?;
    container.call("kill", &[], &[])?.ok()?;
    container.says("term")
}

fn kill_signals_only_init(lab: &Lab) -> Result {
    let script = "(trap 'echo child' USR1; echo up; while :; do sleep 0.01; done) & \
                  trap 'echo init' USR1; while :; do sleep 0.01; done";
    let container = lab.started(&lab.script(script)?)?;
    container.says("up")?;
    container.kill("USR1")?.ok()?;
    container.says("init")?;
    check!(
        !container.out()?.contains("child"),
        "the child was signalled, too"
    );
    Ok(())
}

fn kill_all_reaches_every_process(lab: &Lab) -> Result {
    let mut bundle = lab.script("sleep 1000 & sleep 1000 & echo up; wait")?;
    bundle.drop_namespace("pid")?;
    let container = lab.started(&bundle)?;
    container.says("up")?;
    let init = container.pid()?;
    let pids = kernel::descendants(u32::try_from(init)?);
    same!("processes", pids.len(), 2);
    container.call("kill", &["--all"], &["KILL"])?.ok()?;
    until("the death of all", || {
        let alive = |pid: &u32| i32::try_from(*pid).is_ok_and(kernel::alive);
        (!pids.iter().any(alive) && !kernel::alive(init)).then_some(())
    })
}

fn kill_of_an_unknown_signal_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    for signal in ["NOPE", "SIG", "-1", "1x", "999"] {
        container
            .call("kill", &[], &[signal])?
            .refused(&format!("signal {signal:?}"))?;
    }
    same!("status", container.status()?, "running");
    Ok(())
}

fn kill_of_a_created_container_ends_it(lab: &Lab) -> Result {
    let container = lab.create(&lab.idle()?)?;
    container.kill("KILL")?.ok()?;
    container.stopped()
}

fn kill_of_a_stopped_container_fails(lab: &Lab) -> Result {
    let container = lab.started(&lab.bundle()?)?;
    container.stopped()?;
    let output = container
        .kill("KILL")?
        .refused("kill of a stopped container")?;
    check!(
        output.err.contains("container not running"),
        "stderr: {}",
        output.err
    );
    Ok(())
}

fn kill_of_a_missing_container_fails(lab: &Lab) -> Result {
    let output = lab
        .call(&["kill", &lab.id(), "KILL"])?
        .refused("kill of nothing")?;
    check!(
        output.err.contains("does not exist"),
        "stderr: {}",
        output.err
    );
    Ok(())
}

fn kill_without_a_pid_namespace_ends_all(lab: &Lab) -> Result {
    let mut bundle = lab.script("sleep 1000 & echo up; wait")?;
    bundle.drop_namespace("pid")?;
    let container = lab.started(&bundle)?;
    container.says("up")?;
    let pids = kernel::descendants(u32::try_from(container.pid()?)?);
    container.delete(&["--force"])?.ok()?;
    let alive = |pid: &u32| i32::try_from(*pid).is_ok_and(kernel::alive);
    check!(!pids.iter().any(alive), "delete --force left a process");
    Ok(())
}

fn kill_0_tells_whether_it_is_there(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    container.kill("0")?.ok()?;
    same!("status", container.status()?, "running");
    Ok(())
}
