//! The life of a task as it is told: every end once, in its place, and only when it was so.
#![forbid(unsafe_code)]

use super::{idle, of};
use crate::case::Result;
use crate::cgroup::Limits;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::proto::Message;
use crate::task::{NOT_FOUND, PRECONDITION, creation};
use crate::{cases, check, same};
use serde_json::json;

cases! {
    shim_tells_ends_that_come_early_in_order,
    shim_tells_of_init_last: [Creel],
    shim_kills_what_outlives_init_in_the_pid_namespace_of_the_host: [Creel],
    shim_tells_how_a_container_ended_that_never_started: [Creel],
    shim_deletes_once_whoever_asks_twice: [Creel],
    shim_has_no_task_after_a_create_that_failed: [Creel],
    shim_tells_of_memory_running_out_before_the_end: [Creel],
    shim_has_metrics_of_the_version_of_the_cgroup,
    shim_takes_input_until_it_is_closed,
}

/// So early that the end is there before anybody could say that it has started.
fn shim_tells_ends_that_come_early_in_order(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = idle(lab)?;
    shim.run(lab, &id, &bundle)?;
    for number in 0..8 {
        let exec = format!("{id}e{number}");
        shim.exec(&id, &exec, &format!("exit {number}"))?.ok()?;
        let waits = shim.send("Wait", Message::new().bytes(1, &id).bytes(2, &exec))?;
        shim.of("Start", &id, &exec)?.ok()?;
        same!("status", shim.answer(waits)?.ok()?.number(1), number);
        same!(
            "of delete",
            shim.of("Delete", &id, &exec)?.ok()?.number(2),
            number
        );
        let last = format!("exit {number}");
        let want = ["exec-added", "exec-started", &last];
        same!("events", events.of(&exec, &last)?, want);
    }
    shim.end(&id)?;
    for number in 0..5 {
        let (id, bundle) = (lab.id(), lab.script(&format!("exit {number}"))?);
        bundle.save()?;
        shim.create(lab, &id, &bundle)?;
        let waits = shim.send("Wait", Message::new().bytes(1, &id))?;
        shim.of("Start", &id, "")?.ok()?;
        same!("status", shim.answer(waits)?.ok()?.number(1), number);
        shim.of("Delete", &id, "")?.ok()?;
        let (exit, delete) = (format!("exit {number}"), format!("delete {number}"));
        let want = ["create", "start", &exit, &delete];
        same!("events", events.of(&id, &delete)?, want);
    }
    shim.shutdown()
}

/// Whatever of a container is still running dies with init, and is told of before it.
fn shim_tells_of_init_last(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = idle(lab)?;
    for round in 0..5 {
        shim.run(lab, &id, &bundle)?;
        let execs: Vec<String> = (0..8)
            .map(|number| format!("{id}e{round}.{number}"))
            .collect();
        for exec in &execs {
            shim.exec(&id, exec, "sleep 1000")?.ok()?;
        }
        // Half of them are being started when init dies.
        let (early, late) = execs.split_at(4);
        for exec in early {
            shim.of("Start", &id, exec)?.ok()?;
        }
        let mut starts = Vec::new();
        for exec in late {
            starts.push(shim.send("Start", Message::new().bytes(1, &id).bytes(2, exec))?);
        }
        let from = events.told().len();
        shim.kill(&id)?;
        same!("status", shim.of("Wait", &id, "")?.ok()?.number(1), 137);
        let mut started = early.to_vec();
        for (exec, stream) in late.iter().zip(starts) {
            if shim.answer(stream)?.code == 0 {
                started.push(exec.clone());
            }
        }
        let refused = shim.exec(&id, "late", "true")?.code;
        same!("exec in the dead", refused, PRECONDITION);
        let ended = format!("exit {id} 137");
        let told = until("init's end is told", || {
            let told = events.told().split_off(from);
            told.contains(&ended).then_some(told)
        })?;
        let place = |what: &str| told.iter().position(|one| one == what);
        let last = place(&ended).ok_or("init's end")?;
        for exec in &started {
            let end = place(&format!("exit {exec} 137"));
            check!(end.is_some_and(|end| end < last), "{exec}: {told:?}");
        }
        shim.of("Delete", &id, "")?.ok()?;
    }
    shim.shutdown()
}

fn shim_kills_what_outlives_init_in_the_pid_namespace_of_the_host(lab: &Lab) -> Result {
    let mut bundle = lab.script("sleep 1001 & sleep 1002")?;
    bundle.drop_namespace("pid")?;
    let (events, mut shim, id, bundle) = of(lab, bundle)?;
    shim.run(lab, &id, &bundle)?;
    let exec = format!("{id}e");
    shim.exec(&id, &exec, "sleep 1003")?.ok()?;
    shim.of("Start", &id, &exec)?.ok()?;
    let alive = || {
        let all = kernel::descendants(u32::try_from(shim.pid).unwrap_or(0));
        let lines = all.into_iter().map(kernel::command_line);
        lines.filter(|line| line.contains("sleep 100")).count()
    };
    until("all run", || (alive() >= 3).then_some(()))?;
    shim.kill(&id)?;
    shim.of("Wait", &id, "")?.ok()?;
    until("nothing runs", || {
        let all = kernel::descendants(u32::try_from(shim.pid).ok()?);
        all.is_empty().then_some(())
    })?;
    same!("exec", events.of(&exec, "exit 137")?.len(), 3);
    let told = events.told();
    let place = |what: String| told.iter().position(|one| *one == what);
    let (of_exec, of_init) = (format!("exit {exec} 137"), format!("exit {id} 137"));
    check!(place(of_exec) < place(of_init), "{told:?}");
    shim.of("Delete", &id, "")?.ok()?;
    shim.shutdown()
}

fn shim_tells_how_a_container_ended_that_never_started(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = idle(lab)?;
    let pid = shim.create(lab, &id, &bundle)?;
    let said = shim.of("Delete", &id, "")?.ok()?;
    same!(
        "status",
        (said.number(1), said.number(2)),
        (u64::try_from(pid)?, 137)
    );
    let want = ["create", "exit 137", "delete 137"];
    same!("events", events.of(&id, "delete 137")?, want);
    check!(!kernel::alive(pid), "init lives");
    shim.shutdown()
}

fn shim_deletes_once_whoever_asks_twice(lab: &Lab) -> Result {
    let (events, mut shim, id, bundle) = idle(lab)?;
    for _ in 0..5 {
        shim.run(lab, &id, &bundle)?;
        shim.exec(&id, "e", "true")?.ok()?;
        shim.of("Start", &id, "e")?.ok()?;
        shim.of("Wait", &id, "e")?.ok()?;
        for exec in ["e", ""] {
            if exec.is_empty() {
                shim.kill(&id)?;
                shim.of("Wait", &id, "")?.ok()?;
            }
            let asked = || Message::new().bytes(1, &id).bytes(2, exec);
            let both = [shim.send("Delete", asked())?, shim.send("Delete", asked())?];
            let mut codes = [shim.answer(both[0])?.code, shim.answer(both[1])?.code];
            codes.sort_unstable();
            same!("codes", codes, [0, NOT_FOUND]);
        }
    }
    shim.shutdown()?;
    let told = events.told();
    let deleted = told.iter().filter(|one| one.starts_with("delete"));
    same!("deletes", deleted.count(), 5);
    Ok(())
}

/// The runtime had done its part, but nobody can have the terminal's output: the id is free again.
fn shim_has_no_task_after_a_create_that_failed(lab: &Lab) -> Result {
    let (_events, mut shim, id, mut bundle) = idle(lab)?;
    bundle.set("/process/terminal", true)?;
    bundle.save()?;
    let fifo = lab.path("nosuch");
    let asked = creation(lab, &id, &bundle).number(4, 1);
    let asked = asked.bytes(5, fifo.as_os_str().as_encoded_bytes());
    let refused = shim.call("Create", asked)?;
    check!(refused.code != 0, "created without a way out");
    check!(refused.why.contains("nosuch"), "{}", refused.why);
    let own = u32::try_from(shim.pid)?;
    until("nothing runs", || {
        kernel::descendants(own).is_empty().then_some(())
    })?;
    bundle.set("/process/terminal", false)?;
    bundle.save()?;
    shim.run(lab, &id, &bundle)?;
    shim.end(&id)?;
    shim.shutdown()
}

/// By eventfd on v1, by inotify on v2.
fn shim_tells_of_memory_running_out_before_the_end(lab: &Lab) -> Result {
    let mut bundle = lab.script("dd if=/dev/zero of=/dev/null bs=64M count=1; exit 9")?;
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 16 << 20, "swap": 16 << 20}),
    )?;
    let (events, mut shim, id, bundle) = of(lab, bundle)?;
    shim.run(lab, &id, &bundle)?;
    same!("status", shim.of("Wait", &id, "")?.ok()?.number(1), 9);
    shim.of("Delete", &id, "")?.ok()?;
    let want = ["create", "start", "oom", "exit 9", "delete 9"];
    same!("events", events.of(&id, "delete 9")?, want);
    shim.shutdown()
}

fn shim_has_metrics_of_the_version_of_the_cgroup(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/linux/resources/memory", json!({"limit": 64 << 20}))?;
    bundle.set("/linux/resources/pids", json!({"limit": 33}))?;
    let path = format!("/{}", lab.id());
    bundle.set("/linux/cgroupsPath", path.as_str())?;
    let (_events, mut shim, id, bundle) = of(lab, bundle)?;
    shim.run(lab, &id, &bundle)?;
    let limits = Limits::at(&path);
    let unified = limits.v2();
    let any = shim
        .call("Stats", Message::new().bytes(1, &id))?
        .ok()?
        .message(1)?;
    let version = if unified { "v2" } else { "v1" };
    let kind = format!("io.containerd.cgroups.{version}.Metrics");
    same!("type", any.text(1), kind);
    let metrics = any.message(2)?;
    let (pids, cpu, memory) = if unified {
        (1, metrics.message(2)?.number(1), metrics.message(4)?)
    } else {
        let nanoseconds = metrics.message(3)?.message(1)?.number(1);
        (2, nanoseconds / 1000, metrics.message(4)?)
    };
    let pids = metrics.message(pids)?;
    same!("pids", (pids.number(1), pids.number(2)), (1, 33));
    let now = limits.cpu_usage()? / 1000;
    check!(cpu > 0 && cpu <= now, "{cpu} of {now} microseconds");
    let (usage, limit) = if unified {
        (memory.number(32), memory.number(33))
    } else {
        let entry = memory.message(33)?;
        (entry.number(2), entry.number(1))
    };
    same!("limit", limit, 64 << 20);
    check!(usage > 0 && usage < limit, "{usage} bytes");
    shim.end(&id)?;
    shim.shutdown()
}

/// Clients come and go; the end of input is what `CloseIO` says.
fn shim_takes_input_until_it_is_closed(lab: &Lab) -> Result {
    let fifo = |name: &str| -> Result<Vec<u8>> {
        let path = lab.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        Ok(path.into_os_string().into_encoded_bytes())
    };
    let [input, output, error] = [fifo("in")?, fifo("out")?, fifo("err")?];
    let open = |name: &str| {
        let mut both = std::fs::File::options();
        both.read(true).write(true).open(lab.path(name))
    };
    let (out, _err) = (open("out")?, open("err")?);
    let (_events, mut shim, id, bundle) = of(lab, lab.script("cat; exit 3")?)?;
    let asked = creation(lab, &id, &bundle).bytes(5, input);
    let asked = asked.bytes(6, output).bytes(7, error);
    shim.call("Create", asked)?.ok()?;
    shim.of("Start", &id, "")?.ok()?;
    let mut heard = std::io::BufReader::new(out);
    for word in ["one\n", "two\n", "three\n"] {
        // Each a client of its own, who leaves.
        std::fs::write(lab.path("in"), word)?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut heard, &mut line)?;
        same!("line", line, word);
    }
    let close = Message::new().bytes(1, &id).number(3, 1);
    shim.call("CloseIO", close)?.ok()?;
    same!("status", shim.of("Wait", &id, "")?.ok()?.number(1), 3);
    shim.of("Delete", &id, "")?.ok()?;
    shim.shutdown()
}
