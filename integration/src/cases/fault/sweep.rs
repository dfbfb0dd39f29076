//! A container's whole life, over and over, with one fault in it each time.
#![forbid(unsafe_code)]

use super::judge::{Verdict, faults, judge, shows};
use crate::bundle::Bundle;
use crate::case::{Case, Failure, Need, Result};
use crate::check;
use crate::kernel;
use crate::lab::Lab;
use crate::tracer::{Role, Seen, Site, Strike, Tracer};
use nix::errno::Errno;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Lives of containers, as a list of commands each.
struct Life {
    name: &'static str,
    bundle: fn(&Lab) -> Result<Bundle>,
    /// Words before the id, words after it, and the processes that the command consists of.
    steps: &'static [(
        &'static [&'static str],
        &'static [&'static str],
        &'static [Role],
    )],
    /// The processes that faults are made in.
    sweeps: &'static [Role],
}

static LIVES: [Life; 3] = [
    Life {
        name: "create_and_start",
        bundle: plain,
        steps: &[
            (&["create", "--bundle"], &[], &["create", "init"]),
            (&["start"], &[], &["start"]),
            (&["exec"], &["/bin/echo", "ran"], &["exec", "process"]),
            (&["delete", "--force"], &[], &["delete"]),
        ],
        sweeps: &["create", "init", "start", "exec", "process", "delete"],
    },
    Life {
        name: "a_user_namespace",
        bundle: mapped,
        steps: &[
            (&["create", "--bundle"], &[], &["create", "bridge", "init"]),
            (&["start"], &[], &["start"]),
            (&["exec"], &["/bin/echo", "ran"], &["exec", "process"]),
            (&["delete", "--force"], &[], &["delete"]),
        ],
        sweeps: &["create", "bridge", "init"],
    },
    Life {
        name: "run",
        bundle: short,
        steps: &[(&["run", "--bundle"], &[], &["run", "init"])],
        sweeps: &["run", "init"],
    },
];

/// The cases of this part. With `FAULT_TABLE` naming a file, each makes all faults it knows and adds a
/// line to the file for each; without, a sample of them.
pub fn cases() -> Vec<Case> {
    let limit = if table().is_some() { 7200 } else { 90 };
    let mut all = Vec::new();
    for life in &LIVES {
        let name = format!("fault_sweep_of_{}", life.name);
        all.push(
            Case::new(&name, |lab| sweep(lab, life))
                .limit(limit)
                .needs(&[Need::Userns]),
        );
    }
    let [plain, mapped, _] = &LIVES;
    let open = |seen: &Seen, strike| {
        // What init opens, the sweeps sample.
        let is_command = !matches!(seen.site.role, "init" | "process" | "helper");
        is_command && seen.site.call.starts_with("open") && strike == Strike::Fail(Errno::EMFILE)
    };
    let lock = |seen: &Seen, strike| seen.site.call == "flock" && matches!(strike, Strike::Fail(_));
    let picked: [(&str, &'static Life, Pick); 4] = [
        ("fault_a_kill_at_each_message", plain, is_message),
        (
            "fault_a_kill_at_each_message_with_a_bridge",
            mapped,
            is_message,
        ),
        ("fault_no_descriptor_at_any_open", plain, open),
        ("fault_at_each_lock", plain, lock),
    ];
    for (name, life, pick) in picked {
        all.push(
            Case::new(name, move |lab| strike_where(lab, life, pick))
                .limit(90)
                .needs(&[Need::Userns]),
        );
    }
    all
}

/// Which faults a case makes.
type Pick = fn(&Seen, Strike) -> bool;

/// A kill where the stages talk to each other.
fn is_message(seen: &Seen, strike: Strike) -> bool {
    let is_stage = ["create", "bridge", "init"].contains(&seen.site.role);
    let is_talk =
        seen.on_socket && matches!(seen.site.call, "read" | "write" | "sendmsg" | "recvmsg");
    is_stage && is_talk && !matches!(strike, Strike::Fail(_))
}

fn table() -> Option<std::ffi::OsString> {
    std::env::var_os("FAULT_TABLE")
}

fn plain(lab: &Lab) -> Result<Bundle> {
    let mut bundle = lab.idle()?;
    bundle
        .set(
            "/linux/maskedPaths",
            json!(["/proc/timer_list", "/sys/firmware"]),
        )?
        .set("/linux/readonlyPaths", json!(["/proc/sys"]))?
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))?
        .set("/linux/resources/pids", json!({"limit": 50}))?
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}]),
        )?
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]}),
        )?;
    bundle.namespace("cgroup", None)?;
    bundle.mount(
        "cgroup",
        "cgroup",
        "/sys/fs/cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    )?;
    Ok(bundle)
}

fn mapped(lab: &Lab) -> Result<Bundle> {
    let mut bundle = lab.idle()?;
    bundle.mapped()?;
    bundle.mount("bind", "/usr", "/mnt", &["rbind", "ro"])?;
    Ok(bundle)
}

fn short(lab: &Lab) -> Result<Bundle> {
    let mut bundle = lab.bundle()?;
    bundle.args(&["/bin/echo", "ran"])?;
    for kind in ["createRuntime", "createContainer", "poststop"] {
        bundle.set(&format!("/hooks/{kind}"), json!([{"path": "/bin/true"}]))?;
    }
    Ok(bundle)
}

/// What a life did without a fault: it must go well in a tracer's hands, too.
fn seen(lab: &Lab, life: &Life, bundle: &Bundle) -> Result<Vec<Seen>> {
    let mut tracer = Tracer::new(lab, None)?;
    let verdict = live(lab, life, bundle, &mut tracer, None)?;
    check!(verdict == Verdict::Harmless, "without a fault: {verdict:?}");
    Ok(tracer.seen)
}

/// One life, to its end or to the first command that fails, and what is left after `delete --force`.
fn live(
    lab: &Lab,
    life: &Life,
    bundle: &Bundle,
    tracer: &mut Tracer<'_>,
    aim: Option<(&Site, Strike)>,
) -> Result<Verdict> {
    let id = lab.id();
    let dir = bundle.dir.to_string_lossy();
    let mut verdict = Verdict::Harmless;
    for (before, after, roles) in life.steps {
        let mut args = before.to_vec();
        if before.ends_with(&["--bundle"]) {
            args.push(&dir);
        }
        args.push(&id);
        args.extend(*after);
        let verb = before.first().copied().unwrap_or_default();
        let Some(output) = tracer.call(&args, roles)? else {
            verdict = Verdict::Bad(format!("{verb} hangs"));
            break;
        };
        let is_struck = aim.is_some_and(|(site, _)| roles.first() == Some(&site.role));
        match (output.code, aim) {
            (0, _)
                if output.out
                    == if verb == "exec" || verb == "run" {
                        "ran\n"
                    } else {
                        ""
                    } => {}
            (0, Some((_, Strike::Kill | Strike::KillParent))) if !is_struck => {}
            (0, _) => verdict = Verdict::Bad(format!("{verb} succeeds and did nothing")),
            // As of a program that was killed.
            (137, Some((_, Strike::Kill))) if !is_struck && output.err.is_empty() => {
                verdict = Verdict::Killed
            }
            (_, Some((site, strike))) => {
                verdict = judge(site, strike, is_struck, &output);
                // An init that waits for `start` can tell its end only by being dead.
                let waited = site.role == "init" && !roles.contains(&"init");
                if waited && matches!(verdict, Verdict::Bad(_)) {
                    verdict = judge(site, Strike::Kill, false, &output);
                }
            }
            (_, None) => verdict = Verdict::Bad(output.err),
        }
        if verdict != Verdict::Harmless {
            let by_itself =
                matches!(verdict, Verdict::Refused(_)) && matches!(verb, "create" | "run");
            if by_itself && let Some(left) = left(lab, &id) {
                verdict = Verdict::Bad(format!("{verb} leaves {left}"));
            }
            break;
        }
    }
    let mut bad = |why: String| {
        if !matches!(verdict, Verdict::Bad(_)) {
            verdict = Verdict::Bad(why);
        }
    };
    match tracer.call(&["delete", "--force", &id], &[])? {
        None => bad("delete --force hangs".into()),
        Some(output) if output.code != 0 => bad(format!("delete --force: {}", output.err.trim())),
        Some(_) => {}
    }
    let alive = tracer.finish()?;
    if let Some(pid) = alive.first() {
        bad(format!(
            "process {pid} is left: {}",
            kernel::command_line(pid)
        ));
    }
    if let Some(left) = left(lab, &id) {
        bad(format!("after delete --force: {left}"));
    }
    if aim.is_some() && !tracer.hit && verdict == Verdict::Harmless {
        return Ok(Verdict::NotReached);
    }
    Ok(verdict)
}

/// What there is of that container on the machine, but for processes.
fn left(lab: &Lab, id: &str) -> Option<String> {
    if lab.states().iter().any(|state| state == id) {
        return Some("its state".into());
    }
    if let Some(cgroup) = kernel::directories_named(Path::new("/sys/fs/cgroup"), id).first() {
        return Some(format!("cgroup {}", cgroup.display()));
    }
    let mounts = kernel::mounts_below(&lab.dir);
    mounts
        .first()
        .map(|mount| format!("mount {}", mount.display()))
}

/// All that can be done to a call.
fn strikes(seen: &Seen, life: &Life) -> Vec<(Site, Strike)> {
    let mut strikes = Vec::new();
    if shows(seen) {
        strikes.push(Strike::Kill);
        let is_command = life
            .steps
            .iter()
            .any(|(_, _, roles)| roles.first() == Some(&seen.site.role));
        if !is_command {
            strikes.push(Strike::KillParent);
        }
    }
    strikes.extend(faults(seen.site.call).iter().copied().map(Strike::Fail));
    strikes
        .into_iter()
        .map(|strike| (seen.site.clone(), strike))
        .collect()
}

/// How many faults of a life the suite makes.
const SAMPLE: usize = 40;

fn sweep(lab: &Lab, life: &Life) -> Result {
    let bundle = (life.bundle)(lab)?;
    bundle.save()?;
    let seen = seen(lab, life, &bundle)?;
    let known = |seen: &&Seen| life.sweeps.contains(&seen.site.role);
    let all: Vec<_> = seen
        .iter()
        .filter(known)
        .flat_map(|seen| strikes(seen, life))
        .collect();
    match table() {
        Some(path) => {
            let mut table = File::options().append(true).create(true).open(path)?;
            strike_all(lab, life, &bundle, &all, Some(&mut table))
        }
        None => {
            // Steps of a large prime meet each process and each kind of fault.
            let steps = (0..SAMPLE.min(all.len())).map(|step| step * 7919 % all.len());
            let sample: Vec<_> = steps.filter_map(|at| all.get(at).cloned()).collect();
            strike_all(lab, life, &bundle, &sample, None)
        }
    }
}

fn strike_where(lab: &Lab, life: &Life, pick: Pick) -> Result {
    let bundle = (life.bundle)(lab)?;
    bundle.save()?;
    let mut chosen = Vec::new();
    for seen in seen(lab, life, &bundle)? {
        let all = strikes(&seen, life).into_iter();
        chosen.extend(all.filter(|(_, strike)| pick(&seen, *strike)));
    }
    if chosen.is_empty() {
        return Err(Failure::skip("it makes no such call"));
    }
    strike_all(lab, life, &bundle, &chosen, None)
}

/// Makes the faults, one after another; fails with the bad ones.
fn strike_all(
    lab: &Lab,
    life: &Life,
    bundle: &Bundle,
    all: &[(Site, Strike)],
    mut table: Option<&mut File>,
) -> Result {
    let (mut count, mut bad) = (0, Vec::new());
    for (site, strike) in all {
        let mut tracer = Tracer::new(lab, Some((site.clone(), *strike)))?;
        let verdict = live(lab, life, bundle, &mut tracer, Some((site, *strike)))?;
        count += 1;
        let Site { role, call, nth } = site;
        let fault = match strike {
            Strike::Fail(errno) => format!("{errno:?}"),
            Strike::Kill => "SIGKILL".into(),
            Strike::KillParent => "SIGKILL to the command".into(),
        };
        let (word, said) = match &verdict {
            Verdict::Harmless => ("goes on", ""),
            Verdict::Refused(step) => ("refused", step.as_str()),
            Verdict::Killed => ("killed", ""),
            Verdict::NotReached => ("not reached", ""),
            Verdict::Bad(why) => ("BAD", why.as_str()),
        };
        let said = said.replace(['\n', '\t'], " ");
        if let Verdict::Bad(why) = &verdict {
            bad.push(format!("{role}: {call} #{nth}: {fault}: {why}"));
        }
        if let Some(table) = &mut table {
            let life = life.name;
            // In one write: other lives add to it, too.
            let line = format!("{life}\t{role}\t{call}\t{nth}\t{fault}\t{word}\t{said}\n");
            table.write_all(line.as_bytes())?;
        }
    }
    check!(
        bad.is_empty(),
        "{} of {count} faults end badly: {}",
        bad.len(),
        bad.join("; ")
    );
    Ok(())
}
