//! `start`: what containerds of all ages ask, and where the shim finds itself afterwards.
#![forbid(unsafe_code)]

use super::{idle, of, threads};
use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::{Lab, Output};
use crate::proto::{Fields, Message, any};
use crate::task::{self, Events, Shim, any_options, command, creation, options};
use crate::{cases, check, same};
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

cases! {
    shim_answers_a_bare_address_until_containerd_1_6,
    shim_answers_json_up_to_containerd_2_2: [Creel],
    shim_answers_protobuf_since_containerd_2_3: [Creel],
    shim_takes_both_types_of_options: [Creel],
    shim_serves_the_containers_of_a_pod,
    shim_goes_before_containerd_when_memory_runs_out,
    shim_joins_the_cgroup_that_is_named,
    shim_is_jailed_and_its_containers_are_not: [Creel],
}

/// Calls `start` with that on stdin; it never says anything on stderr.
fn ask(
    lab: &Lab,
    events: &Events,
    id: &str,
    bundle: &Bundle,
    input: &Message,
    env: &[(&str, &str)],
) -> Result<Vec<u8>> {
    bundle.save()?;
    let file = lab.path("input");
    std::fs::write(&file, input)?;
    let output = command(lab, events, id, bundle)?
        .arg("start")
        .envs(env.iter().copied())
        .stdin(File::open(file)?)
        .output()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    same!("stderr of start", err, "");
    let code = crate::lab::code(output.status);
    let out = String::new();
    Output { code, out, err }.ok()?;
    Ok(output.stdout)
}

/// A container's life with the service of that version.
fn serves(lab: &Lab, address: &str, version: u32, id: &str, bundle: &Bundle) -> Result {
    let mut shim = Shim::connect(address)?;
    check!(kernel::alive(shim.pid), "no shim");
    let kept = crate::lab::text(&bundle.dir.join("address"))?;
    same!("address in the bundle", kept, address);
    let service = format!("containerd.task.v{version}.Task");
    let mut call = |method: &str, asked: Message| -> Result<Fields> {
        let stream = shim.send_to(&service, method, asked)?;
        shim.answer(stream)?.ok()
    };
    let of = || Message::new().bytes(1, id);
    call("Create", creation(lab, id, bundle))?;
    call("Start", of())?;
    call("Kill", of().number(3, 9))?;
    same!("exit status", call("Wait", of())?.number(1), 137);
    call("Delete", of())?;
    shim.shutdown()
}

fn shim_answers_a_bare_address_until_containerd_1_6(lab: &Lab) -> Result {
    let (events, bundle, id) = (Events::listen(lab)?, lab.idle()?, lab.id());
    let said = ask(lab, &events, &id, &bundle, &any_options(lab), &[])?;
    serves(lab, String::from_utf8(said)?.trim(), 2, &id, &bundle)?;
    let want = ["create", "start", "exit 137", "delete 137"];
    same!("events", events.of(&id, "delete 137")?, want);
    Ok(())
}

/// 1.7 speaks version 2, 2.0 to 2.2 version 3; none later is answered with what we do not speak.
fn shim_answers_json_up_to_containerd_2_2(lab: &Lab) -> Result {
    let events = Events::listen(lab)?;
    for (newest, version) in [("2", 2), ("3", 3), ("4", 3)] {
        let (bundle, id) = (lab.idle()?, lab.id());
        let env = [("MAX_SHIM_VERSION", newest)];
        let said = ask(lab, &events, &id, &bundle, &any_options(lab), &env)?;
        let said: serde_json::Value = serde_json::from_slice(&said)?;
        let address = said["address"].as_str().unwrap_or_default();
        let want = json!({"version": version, "protocol": "ttrpc", "address": address});
        same!("answer", said, want);
        serves(lab, address, version, &id, &bundle)?;
    }
    Ok(())
}

fn shim_answers_protobuf_since_containerd_2_3(lab: &Lab) -> Result {
    let (events, bundle, id) = (Events::listen(lab)?, lab.idle()?, lab.id());
    let dir = lab.path("s");
    let params = Message::new()
        .bytes(1, &id)
        .bytes(2, lab.mark())
        .bytes(4, "2.3.0")
        .bytes(5, lab.path("ttrpc").as_os_str().as_encoded_bytes())
        .bytes(6, lab.path("sock").as_os_str().as_encoded_bytes())
        .bytes(8, Message::new().bytes(1, any_options(lab)))
        .bytes(9, dir.as_os_str().as_encoded_bytes());
    // What is in the message counts, and not what an older containerd would have said.
    let env = [("TTRPC_ADDRESS", "/nosuch"), ("MAX_SHIM_VERSION", "2")];
    let said = ask(lab, &events, &id, &bundle, &params, &env)?;
    let said = Fields::parse(&said)?;
    same!("version", said.number(1), 3);
    same!("protocol", said.text(3), "ttrpc");
    let address = said.text(2);
    let path = Path::new(address.trim_start_matches("unix://"));
    same!("socket's directory", path.parent(), Some(dir.as_path()));
    serves(lab, &address, 3, &id, &bundle)?;
    events.of(&id, "delete 137")?;
    Ok(())
}

fn shim_takes_both_types_of_options(lab: &Lab) -> Result {
    let toml = format!(
        "# as CRI sends it\nBinaryName = {:?}\nRoot = '{}' # ours\nSystemdCgroup = false\n[x]\ny = 1\n",
        lab.runtime,
        lab.path("state").display(),
    );
    let runtime = "runtimeoptions.v1.Options";
    let file = lab.file("options.toml", &toml)?;
    let file = file.as_os_str().as_encoded_bytes();
    let all = [
        any("containerd.runc.v1.Options", options(lab)),
        any(
            "type.googleapis.com/containerd.runc.v1.Options",
            options(lab),
        ),
        any(runtime, Message::new().bytes(1, "x").bytes(3, toml)),
        any(runtime, Message::new().bytes(2, file)),
    ];
    let events = Events::listen(lab)?;
    for given in all {
        let (bundle, id) = (lab.idle()?, lab.id());
        let said = ask(lab, &events, &id, &bundle, &given, &[])?;
        let mut shim = Shim::connect(std::str::from_utf8(&said)?)?;
        let dir = bundle.dir.as_os_str().as_encoded_bytes();
        let asked = Message::new().bytes(1, &id).bytes(2, dir);
        shim.call("Create", asked.bytes(10, given))?.ok()?;
        let state = lab.path("state").join(lab.mark()).join(&id);
        check!(state.is_dir(), "no state in {}", state.display());
        shim.end(&id)?;
        shim.shutdown()?;
    }
    let (bundle, id) = (lab.idle()?, lab.id());
    bundle.save()?;
    let input = lab.path("input");
    std::fs::write(&input, any("some.other.Options", "x"))?;
    let mut start = command(lab, &events, &id, &bundle)?;
    let refused = lab.finish(start.arg("start").stdin(File::open(input)?))?;
    let refused = refused.refused("options of an unknown type")?;
    check!(
        refused.err.contains("some.other.Options"),
        "{}",
        refused.err
    );
    Ok(())
}

/// One process; and what becomes of one container is nothing to the others.
fn shim_serves_the_containers_of_a_pod(lab: &Lab) -> Result {
    let pod = |mut bundle: Bundle| -> Result<Bundle> {
        bundle.set(
            "/annotations/io.kubernetes.cri.sandbox-id",
            lab.mark().to_owned(),
        )?;
        Ok(bundle)
    };
    let (events, mut shim, first, bundle) = of(lab, pod(lab.idle()?)?)?;
    shim.run(lab, &first, &bundle)?;
    let mut others = Vec::new();
    for _ in 0..3 {
        let (bundle, id) = (pod(lab.idle()?)?, lab.id());
        let other = task::start(lab, &events, &id, &bundle)?;
        same!("shim", (other.pid, &other.path), (shim.pid, &shim.path));
        shim.run(lab, &id, &bundle)?;
        others.push(id);
    }
    shim.end(&first)?;
    // It is asked to go when the first one does, and stays for the others.
    shim.call("Shutdown", Message::new().bytes(1, &first))?
        .ok()?;
    for id in &others {
        same!("exit", shim.end(id)?.number(2), 137);
        let want = ["create", "start", "exit 137", "delete 137"];
        same!("events", events.of(id, "delete 137")?, want);
    }
    shim.shutdown()
}

fn shim_goes_before_containerd_when_memory_runs_out(lab: &Lab) -> Result {
    let score = |pid: &str| -> Result<i32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?;
        Ok(text.trim().parse()?)
    };
    let (_events, shim, ..) = idle(lab)?;
    let own = score("self")?;
    same!("score", score(&shim.pid.to_string())?, (own + 1).min(1000));
    shim.shutdown()
}

fn shim_joins_the_cgroup_that_is_named(lab: &Lab) -> Result {
    let top = Path::new("/sys/fs/cgroup");
    let name = format!("{}shim", lab.mark());
    let hierarchies: Vec<PathBuf> = match top.join("cgroup.controllers").exists() {
        true => vec![top.into()],
        false => ["memory", "pids"].map(|name| top.join(name)).into(),
    };
    for hierarchy in &hierarchies {
        std::fs::create_dir(hierarchy.join(&name))?;
    }
    let given = options(lab).bytes(3, format!("/{name}"));
    let given = any("containerd.runc.v1.Options", given);
    let (events, bundle, id) = (Events::listen(lab)?, lab.idle()?, lab.id());
    let said = ask(lab, &events, &id, &bundle, &given, &[])?;
    let shim = Shim::connect(String::from_utf8(said)?.trim())?;
    for hierarchy in &hierarchies {
        let inside = std::fs::read_to_string(hierarchy.join(&name).join("cgroup.procs"))?;
        let mut inside = inside.lines();
        let own = shim.pid.to_string();
        check!(inside.any(|pid| pid == own), "{}", hierarchy.display());
    }
    shim.shutdown()?;
    for hierarchy in &hierarchies {
        let dir = hierarchy.join(&name);
        until("the cgroup is empty", || std::fs::remove_dir(&dir).ok())?;
    }
    Ok(())
}

/// The filter is on the thread that serves, and on nothing that the shim starts.
fn shim_is_jailed_and_its_containers_are_not(lab: &Lab) -> Result {
    let mut bundle = lab.script("read line")?;
    bundle.set("/process/noNewPrivileges", false)?;
    bundle.set(
        "/hooks/poststart/-",
        json!({"path": "/bin/sh", "args": ["sh", "-c", format!(
            "grep Seccomp: /proc/self/status >{}", lab.path("hook").display()
        )]}),
    )?;
    let fifo = lab.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let (_events, mut shim, id, bundle) = of(lab, bundle)?;
    // It rests with its jailed thread and one that waits for work.
    let jailed = || -> Result<Vec<String>> {
        let mut all = threads(shim.pid, "Seccomp")?;
        all.sort_unstable();
        Ok(all.into_iter().map(|(_, mode)| mode).collect())
    };
    until("it rests, jailed", || {
        (jailed().ok()? == ["2", "0"]).then_some(())
    })?;
    let fifo = fifo.as_os_str().as_encoded_bytes();
    let asked = creation(lab, &id, &bundle).bytes(5, fifo);
    let pid = i32::try_from(shim.call("Create", asked)?.ok()?.number(1))?;
    shim.of("Start", &id, "")?.ok()?;
    shim.exec(&id, "e", "sleep 1000")?.ok()?;
    let exec = shim.of("Start", &id, "e")?.ok()?.number(1);
    for pid in [pid, i32::try_from(exec)?] {
        same!("seccomp", kernel::status_line(pid, "Seccomp")?, "0");
    }
    same!("privileges", kernel::status_line(pid, "NoNewPrivs")?, "0");
    same!(
        "hook",
        crate::lab::text(&lab.path("hook"))?,
        "Seccomp:\t0\n"
    );
    shim.end(&id)?;
    until("it rests again", || {
        let all = threads(shim.pid, "Seccomp").ok()?;
        (all.len() == 2).then_some(())
    })?;
    shim.shutdown()
}
