//! Checkpoints as tasks have them: one that ended by it, and one that begins with it.
#![forbid(unsafe_code)]

use super::{idle, of};
use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::proto::{Message, any};
use crate::task::{self, Shim, creation};
use crate::{cases, check, same};

cases! {
    shim_ends_a_task_with_a_checkpoint_and_begins_another: [Criu],
    shim_leaves_a_checkpointed_task_running: [Criu],
    shim_deletes_a_task_whose_restore_failed: [Creel],
}

/// Counts in a file that it has open, and in memory.
const COUNT: &str = "exec 5>/tmp/count; i=0; while :; do i=$((i+1)); echo $i >&5; sleep 0.01; done";

/// `Checkpoint` into a directory; `exit` ends the container by it.
fn checkpoint(shim: &mut Shim, id: &str, images: &[u8], exit: bool) -> Result<task::Answer> {
    let options = Message::new().number(1, exit.into());
    let options = any("containerd.runc.v1.CheckpointOptions", options);
    let asked = Message::new().bytes(1, id).bytes(2, images);
    shim.call("Checkpoint", asked.bytes(3, options))
}

fn shim_ends_a_task_with_a_checkpoint_and_begins_another(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = of(lab, lab.script(COUNT)?)?;
    shim.run(lab, &id, &bundle)?;
    let counted = || -> Option<u32> {
        let text = crate::lab::text(&bundle.inside("/tmp/count")).ok()?;
        text.lines().last()?.parse().ok()
    };
    until("it counts", || counted().filter(|count| *count > 3))?;
    let images = lab
        .directory("images")?
        .into_os_string()
        .into_encoded_bytes();
    checkpoint(&mut shim, &id, &images, true)?.ok()?;
    same!("status", shim.of("Wait", &id, "")?.ok()?.number(1), 137);
    let before = counted().ok_or("no count")?;
    // The runtime has forgotten it by then.
    shim.of("Delete", &id, "")?.ok()?;
    // Its end may be known before criu has said that all is well.
    events.of(&id, "checkpointed")?;
    let mut told = events.of(&id, "delete 137")?;
    told.retain(|one| one != "checkpointed");
    same!(
        "events",
        told,
        ["create", "start", "exit 137", "delete 137"]
    );

    let asked = creation(lab, &id, &bundle).bytes(8, &images);
    same!("pid", shim.call("Create", asked)?.ok()?.number(1), 0);
    let from = events.told().len();
    let pid = i32::try_from(shim.of("Start", &id, "")?.ok()?.number(1))?;
    check!(kernel::alive(pid), "pid {pid} is dead");
    until("it goes on", || {
        counted().filter(|count| *count > before + 3)
    })?;
    let counts = crate::lab::text(&bundle.inside("/tmp/count"))?;
    let counts: Vec<u32> = counts
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    check!(
        counts.windows(2).all(|two| two[1] == two[0] + 1),
        "{counts:?}"
    );
    shim.exec(&id, "e", "exit 4")?.ok()?;
    shim.of("Start", &id, "e")?.ok()?;
    same!("exec", shim.of("Wait", &id, "e")?.ok()?.number(1), 4);
    shim.end(&id)?;
    let last = format!("delete {id} 137");
    let told = until("the end is told", || {
        let told = events.told().split_off(from);
        told.contains(&last).then_some(told)
    })?;
    let of_init: Vec<&String> = told.iter().filter(|one| one.contains(&id)).collect();
    same!(
        "events",
        of_init,
        [&format!("start {id}"), &format!("exit {id} 137"), &last]
    );
    shim.shutdown()
}

fn shim_leaves_a_checkpointed_task_running(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = idle(lab)?;
    let pid = shim.run(lab, &id, &bundle)?;
    let images = lab
        .directory("images")?
        .into_os_string()
        .into_encoded_bytes();
    checkpoint(&mut shim, &id, &images, false)?.ok()?;
    check!(kernel::alive(pid), "pid {pid} is dead");
    let refused = checkpoint(&mut shim, &id, b"/proc/nosuch/images", false)?;
    check!(refused.code != 0, "images into nowhere");
    check!(kernel::alive(pid), "pid {pid} is dead");
    shim.end(&id)?;
    let want = ["create", "start", "checkpointed", "exit 137", "delete 137"];
    same!("events", events.of(&id, "delete 137")?, want);
    shim.shutdown()
}

/// There are no images: it never came to life, and can be taken away as if it had.
fn shim_deletes_a_task_whose_restore_failed(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = idle(lab)?;
    let images = lab
        .directory("images")?
        .into_os_string()
        .into_encoded_bytes();
    for _ in 0..2 {
        let asked = creation(lab, &id, &bundle).bytes(8, &images);
        shim.call("Create", asked)?.ok()?;
        let refused = shim.of("Start", &id, "")?;
        check!(refused.code != 0, "started from nothing");
        check!(refused.why.contains("restore failed"), "{}", refused.why);
        shim.of("Delete", &id, "")?.ok()?;
    }
    // And one that nobody has started.
    let asked = creation(lab, &id, &bundle).bytes(8, &images);
    shim.call("Create", asked)?.ok()?;
    shim.of("Delete", &id, "")?.ok()?;
    let want = ["create", "delete 0"].repeat(3);
    let told = until("all is told", || {
        Some(events.of(&id, "delete 0").ok()?).filter(|told| told.len() >= want.len())
    })?;
    same!("events", told, want);
    shim.shutdown()
}
