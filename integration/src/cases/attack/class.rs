//! What follows from the classes of break-outs and has no number yet.
#![forbid(unsafe_code)]

use crate::attack::{Host, plant};
use crate::case::{Failure, Result};
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::pty::Receiver;
use crate::{cases, check, same};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::Path;

cases! {
    attack_hooks_are_the_hosts,
    attack_passwd_that_never_ends,
    attack_sub_cgroups_that_climb,
    attack_unsafe_annotations_are_announced: [Creel],
    attack_nothing_of_the_host_inside,
    attack_seccomp_listener_stays_outside: [Kernel(5, 6)],
    attack_seccomp_agent_that_hangs_up: [Kernel(5, 6)],
    attack_seccomp_agent_that_hangs: [Creel, Kernel(5, 6)],
    attack_seccomp_agent_that_never_answers: [Creel, Kernel(5, 6)],
    attack_1708_output_without_end,
    attack_kill_after_the_pid_was_taken: [Creel],
}

/// The image has another program at the path of the hook.
fn attack_hooks_are_the_hosts(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let log = host.lab.path("log");
    let hook = host.lab.path("hook");
    let write = |path: &Path, word: &str| -> Result {
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::write(
            path,
            format!(
                "#!/bin/sh\ncat > /dev/null\necho {word} $1 >> {}\n",
                log.display()
            ),
        )?;
        Ok(std::fs::set_permissions(
            path,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?)
    };
    write(&hook, "host")?;
    let mut bundle = host.lab.bundle()?;
    write(&bundle.inside(&hook.to_string_lossy()), "image")?;
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    for kind in kinds {
        let entry = json!({"path": hook.to_string_lossy(), "args": ["hook", kind]});
        bundle.set(&format!("/hooks/{kind}"), json!([entry]))?;
    }
    let container = host.lab.create(&bundle)?;
    container.start()?.ok()?;
    container.stopped()?;
    container.delete(&[])?.ok()?;
    let told = crate::lab::text(&log)?;
    check!(
        !told.contains("image"),
        "the image's file ran on the host: {told}"
    );
    same!("hooks that ran", told.lines().count(), kinds.len());
    host.unharmed()
}

/// The image's /etc/passwd and /etc/group: a fifo, a device without end, a huge file, the host's.
fn attack_passwd_that_never_ends(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for trick in ["fifo", "zero", "huge", "host", "directory", "loop"] {
        let mut bundle = host.lab.script("echo $HOME; exec sleep 1000")?;
        for name in ["etc/passwd", "etc/group"] {
            let path = bundle.inside(name);
            std::fs::remove_file(&path)?;
            match trick {
                "fifo" => nix::unistd::mkfifo(&path, Mode::S_IRWXU)?,
                "zero" => plant(&bundle, name, "/dev/zero")?,
                "huge" => std::fs::File::create(&path)?.set_len(64 << 30)?,
                "host" => plant(&bundle, name, host.decoy.join("secret"))?,
                "directory" => std::fs::create_dir(&path)?,
                _ => plant(&bundle, name, "passwd")?,
            }
        }
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}))?;
        let container = host.lab.create(&bundle)?;
        container.start()?.ok()?;
        for flags in [&["--user", "1000"][..], &["--user", "0"]] {
            container.call("exec", flags, &["true"])?.ok()?;
        }
        container.delete(&["--force"])?.ok()?;
    }
    host.unharmed()
}

fn attack_sub_cgroups_that_climb(lab: &Lab) -> Result {
    let name = lab.id();
    let path = format!("/{name}/box");
    let mut bundle = lab.idle()?;
    bundle.set("/linux/cgroupsPath", path.as_str())?;
    let container = lab.started(&bundle)?;
    // A sibling whose name begins as ours does.
    let beside = format!("/{name}/box-evil");
    let mut other = lab.idle()?;
    other.set("/linux/cgroupsPath", beside.as_str())?;
    let sibling = lab.started(&other)?;
    for sub in [
        "..",
        "../..",
        "../box-evil",
        "/../box-evil",
        "a/../../box-evil",
        "./../../",
        "../box/../box-evil",
    ] {
        let output = container.call("exec", &["--cgroup", sub], &["cat", "/proc/self/cgroup"])?;
        let climbed = output
            .out
            .lines()
            .any(|line| !line.contains(&path) || line.contains(&beside));
        let placed = output.code == 0 && output.out.lines().any(|line| line.contains(&name));
        check!(
            !(placed && climbed && output.out.contains("box-evil")),
            "{sub}: {}",
            output.out
        );
        check!(
            output.code != 0,
            "--cgroup {sub} was accepted: {}",
            output.out
        );
    }
    for of in [container, sibling] {
        of.delete(&["--force"])?.ok()?;
    }
    // The directory above is the config's, not the container's.
    for cgroup in kernel::directories_named(Path::new("/sys/fs/cgroup"), &name) {
        std::fs::remove_dir(cgroup)?;
    }
    Ok(())
}

fn attack_unsafe_annotations_are_announced(lab: &Lab) -> Result {
    let output = lab.call(&["features"])?.ok()?;
    let told: Value = serde_json::from_str(&output.out)?;
    let list = told["potentiallyUnsafeConfigAnnotations"].as_array();
    let list = list.ok_or("potentiallyUnsafeConfigAnnotations is missing")?;
    // Whatever else: nothing in an annotation makes a container escape today.
    for name in ["bundle", "org.systemd.property."] {
        let known = list.iter().any(|entry| entry == name);
        let mut bundle = lab.bundle()?;
        bundle.set(&format!("/annotations/{name}"), "/nowhere")?;
        check!(
            known || lab.run(&bundle)?.code == 0,
            "{name} does something and is not announced"
        );
    }
    Ok(())
}

/// Descriptors, mounts, ids, environment and cgroup of a plain container, as the kernel shows them.
fn attack_nothing_of_the_host_inside(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let container = host.lab.started(&host.lab.idle()?)?;
    let pid = container.executes("sleep")?;
    let status = |name| kernel::status_line(pid, name);
    same!("Groups", status("Groups")?, "");
    same!("CapInh", status("CapInh")?, "0000000000000000");
    same!("CapAmb", status("CapAmb")?, "0000000000000000");
    same!("CapEff", status("CapEff")?, status("CapBnd")?);
    for (fd, entry) in std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .enumerate()
    {
        let to = std::fs::read_link(entry.path())?;
        check!(
            fd < 3 && !to.is_dir(),
            "descriptor {:?} is {}",
            entry.file_name(),
            to.display()
        );
    }
    let environ = std::fs::read_to_string(format!("/proc/{pid}/environ"))?;
    same!(
        "environment",
        environ.split('\0').filter(|word| !word.is_empty()).count(),
        3
    );
    let root = std::fs::read_link(format!("/proc/{pid}/cwd"))?;
    same!("cwd", root, Path::new("/"));
    for mount in kernel::process(pid)?.mountinfo()? {
        check!(!mount.mount_point.starts_with(&host.lab.dir), "{mount:?}");
        let shared = mount
            .opt_fields
            .iter()
            .any(|field| format!("{field:?}").contains("Shared"));
        check!(
            !shared,
            "{} is shared with somebody",
            mount.mount_point.display()
        );
    }
    container.delete(&["--force"])?.ok()?;
    host.unharmed()
}

fn notifying(lab: &Lab, names: &[&str], path: &Path) -> Result<crate::bundle::Bundle> {
    let mut bundle = lab.script("mkdir /tmp/made; exec sleep 1000")?;
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path.to_string_lossy(),
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]}),
    )?;
    Ok(bundle)
}

fn attack_seccomp_listener_stays_outside(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    for privileges in [true, false] {
        let agent = Receiver::new(&host.lab.path(&format!("agent{privileges}")))?;
        let mut bundle = notifying(&host.lab, &["mkdir", "mkdirat"], &agent.path)?;
        bundle.set("/process/noNewPrivileges", privileges)?;
        let container = host.lab.create(&bundle)?;
        container.start()?.ok()?;
        let (_, listener) = agent.receive()?;
        let pid = container.pid()?;
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let to = std::fs::read_link(entry.path()).unwrap_or_default();
            check!(
                !to.to_string_lossy().starts_with("anon_inode:seccomp"),
                "the container holds its listener"
            );
        }
        drop(listener);
        container.delete(&["--force"])?.ok()?;
    }
    host.unharmed()
}

/// Create ends with an error, or well; never does it hang or leave anything.
fn attack_seccomp_agent_that_hangs_up(lab: &Lab) -> Result {
    for privileges in [true, false] {
        let path = lab.path(&format!("agent{privileges}"));
        let listener = UnixListener::bind(&path)?;
        let agent = std::thread::spawn(move || listener.accept().map(drop));
        let mut bundle = notifying(lab, &["mkdir", "mkdirat"], &path)?;
        bundle.set("/process/noNewPrivileges", privileges)?;
        let id = lab.id();
        let container = lab.adopt(&id, &bundle);
        lab.launch("create", &bundle, &id, &[])?;
        agent.join().map_err(|_| "the agent panicked")??;
        container.delete(&["--force"])?.ok()?;
    }
    Ok(())
}

/// Starts a create that hangs, and deletes it by force.
fn hung(lab: &Lab, bundle: &crate::bundle::Bundle, reached: impl FnMut() -> Option<()>) -> Result {
    bundle.save()?;
    let (id, dir) = (lab.id(), bundle.dir.to_string_lossy().into_owned());
    let mut create = lab.command(&["create", "--bundle", &dir, &id]);
    let mut create = create.stdin(lab.null()?).spawn()?;
    let came = until("the moment", reached);
    let begin = std::time::Instant::now();
    let deleted = lab.call(&["delete", "--force", &id])?;
    let ended = until("the end of create", || create.try_wait().ok().flatten());
    if ended.is_err() {
        create.kill()?;
        create.wait()?;
        lab.call(&["delete", "--force", &id])?;
    }
    came?;
    deleted.ok()?;
    check!(!ended?.success(), "create succeeded");
    check!(
        begin.elapsed().as_secs() < 8,
        "delete took {:?}",
        begin.elapsed()
    );
    check!(lab.states().is_empty(), "state is left");
    Ok(())
}

/// The agent's queue is full: connecting to it blocks.
fn attack_seccomp_agent_that_hangs(lab: &Lab) -> Result {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
    };
    use std::os::fd::AsRawFd;
    let path = lab.path("agent");
    let agent = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    bind(agent.as_raw_fd(), &UnixAddr::new(&path)?)?;
    listen(&agent, Backlog::new(0)?)?;
    let fill = std::os::unix::net::UnixStream::connect(&path)?;
    let bundle = notifying(lab, &["mkdir", "mkdirat"], &path)?;
    let hangs = || {
        let wait = |pid: &u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            text.contains("unix_wait_for_peer")
        };
        kernel::descendants(std::process::id())
            .iter()
            .any(wait)
            .then_some(())
    };
    hung(lab, &bundle, hangs)?;
    drop(fill);
    Ok(())
}

/// The agent takes the listener and never answers: the very calls that init needs wait for it.
fn attack_seccomp_agent_that_never_answers(lab: &Lab) -> Result {
    let agent = Receiver::new(&lab.path("agent"))?;
    let bundle = notifying(
        lab,
        &["read", "execve", "close", "close_range"],
        &agent.path,
    )?;
    let mut listener = None;
    let result = hung(lab, &bundle, || {
        listener = agent.receive().ok();
        listener.as_ref().map(|_| ())
    });
    drop(listener);
    result
}

/// Output that nobody reads must not pile up in the runtime.
fn attack_1708_output_without_end(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let args = [
        "exec",
        &container.id,
        "sh",
        "-c",
        "dd if=/dev/zero bs=1M count=64",
    ];
    let mut exec = lab.command(&args);
    let mut exec = exec
        .stdin(lab.null()?)
        .stdout(std::process::Stdio::piped())
        .stderr(lab.null()?)
        .spawn()?;
    let pid = i32::try_from(exec.id())?;
    let blocked = until("a pipe that is full", || {
        let writers = kernel::descendants(exec.id());
        let full = |pid: &u32| {
            let wait = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            wait.contains("pipe")
        };
        writers.iter().any(full).then_some(())
    });
    let memory = kernel::status_line(pid, "VmHWM");
    exec.kill()?;
    exec.wait()?;
    blocked.map_err(|failure| Failure::skip(failure.why))?;
    let memory = memory?;
    let kilobytes = memory
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    check!(
        kilobytes.is_some_and(|kb: u64| kb < 48 << 10),
        "the runtime holds {memory}"
    );
    Ok(())
}

/// Init's pid belongs to somebody else by now: nobody may be signalled or joined for it.
fn attack_kill_after_the_pid_was_taken(lab: &Lab) -> Result {
    let bundle = lab.idle()?;
    let container = lab.started(&bundle)?;
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn()?;
    let file = lab.path("root").join(&container.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let init = container.pid()?;
    state["pid"] = json!(stranger.id());
    std::fs::write(&file, serde_json::to_vec(&state)?)?;
    let told = container.status();
    container.kill("KILL")?;
    let joined = container.exec(&["true"])?;
    let alive = stranger.try_wait()?.is_none();
    state["pid"] = json!(init);
    std::fs::write(&file, serde_json::to_vec(&state)?)?;
    stranger.kill()?;
    stranger.wait()?;
    check!(alive, "a stranger was killed");
    check!(joined.code != 0, "exec joined a stranger");
    same!("status", told?, "stopped");
    container.delete(&["--force"])?.ok()?;
    Ok(())
}
