//! What the machine runs out of, for real: descriptors, room for state, memory, namespaces, processes.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::{Lab, Output, path};
use crate::scene::own_mounts;
use crate::{cases, check, same};
use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

cases! {
    fault_too_few_descriptors,
    fault_too_little_address_space,
    fault_a_state_root_without_inodes,
    fault_a_state_root_without_pages,
    fault_a_state_root_that_becomes_readonly,
    fault_a_memory_limit_that_is_too_low_to_start,
    fault_no_process_left_in_the_cgroup: [CgroupV1],
    fault_no_namespace_left: [Userns],
}

/// The runtime's command line behind a shell script that makes things scarce; the script goes on with
/// `exec "$@"`.
fn behind(lab: &Lab, script: &str, args: &[&str]) -> Result<Output> {
    let runtime = lab.command(args);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, "sh"])
        .arg(runtime.get_program())
        .args(runtime.get_args());
    lab.finish(command.env_clear().env("PATH", path()).stdin(lab.null()?))
}

/// The runtime has said in one line that it ran out of something, in any of these words.
fn told(what: &str, output: &Output, words: &[&str]) -> Result {
    let text = output.err.trim();
    check!(text.lines().count() == 1, "{what}: not one line: {text:?}");
    let lower = text.to_lowercase();
    check!(
        words.iter().any(|word| lower.contains(word)),
        "{what}: does not tell why: {text}"
    );
    Ok(())
}

/// Creates a container with ever more of something until there is enough; each time before, it must
/// be refused and leave nothing.
fn until_enough(
    lab: &Lab,
    bundle: &Bundle,
    amounts: impl Iterator<Item = u64>,
    script: impl Fn(u64) -> String,
    judge: impl Fn(u64, &Output) -> Result,
) -> Result {
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    for (refused, amount) in amounts.enumerate() {
        let container = lab.adopt(&lab.id(), bundle);
        let output = behind(
            lab,
            &script(amount),
            &["create", "--bundle", &dir, &container.id],
        )?;
        if output.code == 0 {
            container.start()?.ok()?;
            container.delete(&["--force"])?.ok()?;
            check!(refused > 0, "there was enough from the start");
            return Ok(());
        }
        judge(amount, &output)?;
        check!(
            lab.states().is_empty(),
            "with {amount}: state is left: {:?}",
            lab.states()
        );
        container.delete(&["--force"])?.ok()?;
    }
    Err("there was never enough".into())
}

fn fault_too_few_descriptors(lab: &Lab) -> Result {
    let script = |count| format!("ulimit -n {count}; exec \"$@\"");
    until_enough(lab, &lab.idle()?, 3..100, script, |count, output| {
        told(
            &format!("{count} descriptors"),
            output,
            &["too many open files"],
        )
    })
}

fn fault_too_little_address_space(lab: &Lab) -> Result {
    let script = |kb| format!("ulimit -v {kb}; exec \"$@\"");
    // The kernel itself kills what it cannot load, before it can say a word.
    let amounts = (9..24).flat_map(|power| [1 << power, 3 << (power - 1)]);
    until_enough(
        lab,
        &lab.idle()?,
        amounts,
        script,
        |kb, output| match output.code {
            // SIGSEGV, SIGKILL: of execve.
            265 | 267 if output.err.is_empty() => Ok(()),
            _ => {
                let words = ["memory", "resource temporarily unavailable"];
                check!(
                    words
                        .iter()
                        .any(|word| output.err.to_lowercase().contains(word)),
                    "{kb} kB: {}",
                    output.err
                );
                Ok(())
            }
        },
    )
}

/// A state root of its own size in a mount namespace of the case's.
fn small_root(lab: &Lab, options: &str) -> Result<PathBuf> {
    let root = lab.directory("root")?;
    if nix::mount::umount(&root).is_err() {
        own_mounts(MsFlags::MS_PRIVATE)?;
    }
    mount(
        Some("tmpfs"),
        &root,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )?;
    Ok(root)
}

fn small_roots(lab: &Lab, options: impl Fn(u64) -> String) -> Result {
    let bundle = lab.idle()?;
    bundle.save()?;
    for amount in 1..40 {
        small_root(lab, &options(amount))?;
        let container = lab.adopt(&lab.id(), &bundle);
        let output = container.call("create", &["--bundle", &bundle.dir.to_string_lossy()], &[])?;
        if output.code == 0 {
            container.start()?.ok()?;
            container.delete(&["--force"])?.ok()?;
            check!(amount > 1, "there was room from the start");
            return Ok(());
        }
        told(&format!("room for {amount}"), &output, &["no space left"])?;
        container.delete(&["--force"])?.ok()?;
        check!(
            lab.states().is_empty(),
            "room for {amount}: left: {:?}",
            lab.states()
        );
    }
    Err("there was never enough".into())
}

fn fault_a_state_root_without_inodes(lab: &Lab) -> Result {
    small_roots(lab, |inodes| format!("nr_inodes={inodes}"))
}

fn fault_a_state_root_without_pages(lab: &Lab) -> Result {
    small_roots(lab, |pages| format!("size={}", pages * 4096))
}

fn fault_a_state_root_that_becomes_readonly(lab: &Lab) -> Result {
    let root = small_root(lab, "size=1m")?;
    let remount = |flags| {
        mount(
            None::<&str>,
            &root,
            None::<&str>,
            MsFlags::MS_REMOUNT | flags,
            None::<&str>,
        )
    };
    let bundle = lab.idle()?;
    let container = lab.create(&bundle)?;
    remount(MsFlags::MS_RDONLY)?;
    let words = ["read-only file system"];
    told(
        "create",
        &lab.launch("create", &bundle, &lab.id(), &[])?
            .refused("create")?,
        &words,
    )?;
    same!("status", container.status()?, "created");
    // What needs no writing may succeed.
    for (verb, flags) in [("start", &[][..]), ("kill", &[]), ("delete", &["--force"])] {
        let output = container.call(verb, flags, &[])?;
        if output.code != 0 {
            told(verb, &output, &words)?;
        }
    }
    remount(MsFlags::empty())?;
    container.delete(&["--force"])?.ok()?;
    check!(lab.states().is_empty(), "state is left: {:?}", lab.states());
    Ok(())
}

fn fault_a_memory_limit_that_is_too_low_to_start(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let mut refused = 0;
    for limit in [4096, 65_536, 262_144, 524_288] {
        bundle.set("/linux/resources/memory", json!({"limit": limit}))?;
        let container = lab.adopt(&lab.id(), &bundle);
        let output = lab.launch("create", &bundle, &container.id, &[])?;
        if output.code != 0 {
            refused += 1;
            let words = ["memory", "killed", "busy", "oom"];
            told(&format!("a limit of {limit}"), &output, &words)?;
            check!(lab.states().is_empty(), "state is left: {:?}", lab.states());
        }
        container.delete(&["--force"])?.ok()?;
    }
    check!(refused > 0, "a page was enough");
    Ok(())
}

fn fault_no_process_left_in_the_cgroup(lab: &Lab) -> Result {
    let group = Path::new("/sys/fs/cgroup/pids").join(format!("{}p", lab.mark()));
    std::fs::create_dir(&group)?;
    std::fs::write(group.join("pids.max"), "1")?;
    let bundle = lab.idle()?;
    bundle.save()?;
    let container = lab.adopt(&lab.id(), &bundle);
    let dir = bundle.dir.to_string_lossy();
    // The runtime is the one process; none may be born beside it.
    let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    let output =
        behind(lab, &script, &["create", "--bundle", &dir, &container.id])?.refused("create")?;
    let checked = told("no process", &output, &["resource temporarily unavailable"]);
    container.delete(&["--force"])?.ok()?;
    let empty = crate::kernel::until("an empty cgroup", || std::fs::remove_dir(&group).ok());
    checked.and(empty)
}

/// /proc/sys/user is of the user namespace that one is in: the host's limits stay.
fn fault_no_namespace_left(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.unset("/linux/resources")?;
    bundle.save()?;
    let dir = bundle.dir.to_string_lossy();
    let mut refused = Vec::new();
    for kind in ["none", "net", "ipc", "uts", "mnt", "pid"] {
        let container = lab.adopt(&lab.id(), &bundle);
        // What is not a kind of namespace leaves all as it is: the attempt that must succeed.
        let script = format!(
            "exec unshare --user --map-root-user --mount --propagation slave sh -c \
             'f=/proc/sys/user/max_{kind}_namespaces; [ ! -e $f ] || echo 0 > $f; exec \"$@\"' sh \"$@\""
        );
        let output = behind(lab, &script, &["create", "--bundle", &dir, &container.id])?;
        if output.code != 0 {
            refused.push(kind);
            told(&format!("no {kind} namespace"), &output, &["no space left"])?;
            check!(lab.states().is_empty(), "state is left: {:?}", lab.states());
        }
        container.delete(&["--force"])?.ok()?;
    }
    same!("refused", refused, ["net", "ipc", "uts", "mnt", "pid"]);
    Ok(())
}
