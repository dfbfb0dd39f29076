//! Clients that leave, hurry, or never come.
#![forbid(unsafe_code)]

use super::{idle, of, threads};
use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::proto::Message;
use crate::task::{Shim, creation, descriptors};
use crate::{cases, check, same};
use serde_json::json;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Command;

cases! {
    shim_keeps_nothing_of_clients_that_left: [Creel],
    shim_sends_away_clients_that_it_has_no_descriptors_for: [Creel, Tool("prlimit")],
    shim_answers_who_waits_for_what_never_starts: [Creel],
    shim_stays_for_a_container_that_is_on_its_way: [Creel],
    shim_answers_while_all_its_hands_are_full: [Creel],
}

/// As when containerd restarts again and again, and asks each time to be told of the end.
fn shim_keeps_nothing_of_clients_that_left(lab: &Lab) -> Result {
    let (_events, mut shim, id, bundle) = idle(lab)?;
    shim.run(lab, &id, &bundle)?;
    let address = format!("unix://{}", shim.path.display());
    let visit = || -> Result {
        let mut client = Shim::connect(&address)?;
        client.send("Wait", Message::new().bytes(1, &id))?;
        client.of("State", &id, "")?.ok()?;
        Ok(())
    };
    visit()?;
    visit()?;
    let before = descriptors(shim.pid)?;
    (0..20).try_for_each(|_| visit())?;
    until("their descriptors are closed", || {
        (descriptors(shim.pid).ok()? <= before).then_some(())
    })?;
    shim.end(&id)?;
    shim.shutdown()
}

/// In the queue, they would wake it for ever.
fn shim_sends_away_clients_that_it_has_no_descriptors_for(lab: &Lab) -> Result {
    let (_events, mut shim, id, bundle) = idle(lab)?;
    shim.run(lab, &id, &bundle)?;
    let allow = |count: usize| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args([
            "--pid",
            &shim.pid.to_string(),
            &format!("--nofile={count}:4096"),
        ]);
        lab.finish(&mut prlimit)?.ok()
    };
    allow(descriptors(shim.pid)? + 2)?;
    let clients = (0..8).map(|_| UnixStream::connect(&shim.path));
    let mut clients: Vec<_> = clients.collect::<std::io::Result<_>>()?;
    let last = clients.last_mut().ok_or("no clients")?;
    last.set_read_timeout(Some(kernel::patience()))?;
    same!("bytes", last.read(&mut [0])?, 0);
    drop(clients);
    until("who comes later is served", || {
        let mut client = Shim::connect(&format!("unix://{}", shim.path.display())).ok()?;
        client.of("State", &id, "").ok()?.ok().ok()
    })?;
    allow(4096)?;
    shim.end(&id)?;
    shim.shutdown()
}

fn shim_answers_who_waits_for_what_never_starts(lab: &Lab) -> Result {
    let (_events, mut shim, id, bundle) = idle(lab)?;
    shim.run(lab, &id, &bundle)?;
    let mut waits = Vec::new();
    for exec in ["e", "f"] {
        shim.exec(&id, exec, "true")?.ok()?;
        waits.push(shim.send("Wait", Message::new().bytes(1, &id).bytes(2, exec))?);
    }
    // One is deleted, the other one goes with its container.
    shim.of("Delete", &id, "e")?.ok()?;
    shim.end(&id)?;
    for wait in waits {
        same!("status", shim.answer(wait)?.ok()?.number(1), 0);
    }
    shim.shutdown()
}

/// The last one is deleted while the next is being made.
fn shim_stays_for_a_container_that_is_on_its_way(lab: &Lab) -> Result {
    let (_events, mut shim, id, bundle) = idle(lab)?;
    for _ in 0..20 {
        let create = shim.send("Create", creation(lab, &id, &bundle))?;
        let shutdown = shim.send("Shutdown", Message::new().bytes(1, "other"))?;
        shim.answer(shutdown)?.ok()?;
        shim.answer(create)?.ok()?;
        shim.end(&id)?;
    }
    shim.shutdown()
}

/// More calls that hang than it has threads for.
fn shim_answers_while_all_its_hands_are_full(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let go = lab.path("go");
    let script = format!("until test -e {}; do sleep 0.02; done", go.display());
    bundle.set(
        "/hooks/poststart/-",
        json!({"path": "/bin/sh", "args": ["sh", "-c", script]}),
    )?;
    let (events, mut shim, id, bundle) = of(lab, bundle)?;
    shim.create(lab, &id, &bundle)?;
    let starts: Result<Vec<u32>> = (0..80)
        .map(|_| shim.send("Start", Message::new().bytes(1, &id)))
        .collect();
    let starts = starts?;
    until("all hands are full", || {
        (threads(shim.pid, "Name").ok()?.len() > 60).then_some(())
    })?;
    same!("state", shim.of("State", &id, "")?.ok()?.text(1), id);
    std::fs::write(&go, "")?;
    let codes: Result<Vec<u64>> = starts
        .into_iter()
        .map(|one| Ok(shim.answer(one)?.code))
        .collect();
    let codes = codes?;
    same!(
        "started",
        codes.iter().filter(|code| **code == 0).count(),
        1
    );
    events.of(&id, "start")?;
    shim.end(&id)?;
    until("it rests", || {
        (threads(shim.pid, "Name").ok()?.len() == 2).then_some(())
    })?;
    check!(descriptors(shim.pid)? < 40, "descriptors are left");
    shim.shutdown()
}
