//! What the kernel shows of processes, mounts, namespaces and cgroups.
#![forbid(unsafe_code)]

use crate::case::Result;
use procfs::process::{MountInfo, Process};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an event may take before a case says that it does not come.
pub fn patience() -> Duration {
    Duration::from_secs(10) * slow()
}

/// How many times slower than usual this machine is: `$SLOW`, 1 if it says nothing.
pub fn slow() -> u32 {
    let given = std::env::var("SLOW").ok();
    given.and_then(|slow| slow.parse().ok()).unwrap_or(1).max(1)
}

/// Polls until the probe answers, ever less often so as not to slow down what it waits for; `what` is
/// what the failure says did not happen.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + patience();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("never happened: {what}").into());
        }
        std::thread::sleep(pause);
        pause = std::cmp::min(pause * 2, Duration::from_millis(16));
    }
}

/// Direct children of a process, dead ones included.
pub fn children(parent: u32) -> Vec<u32> {
    pairs()
        .into_iter()
        .filter(|(_, of)| *of == parent)
        .map(|(pid, _)| pid)
        .collect()
}

/// (pid, parent) of every process.
fn pairs() -> Vec<(u32, u32)> {
    let all = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten();
    all.filter_map(|process| process.stat().ok())
        .filter_map(|stat| {
            Some((
                u32::try_from(stat.pid).ok()?,
                u32::try_from(stat.ppid).ok()?,
            ))
        })
        .collect()
}

/// Everything alive or dead below a process, itself excluded.
pub fn descendants(parent: u32) -> Vec<u32> {
    let pairs = pairs();
    let mut found = vec![parent];
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        found.extend(
            pairs
                .iter()
                .filter(|(_, ppid)| *ppid == of)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

/// What a process calls itself, in one line.
pub fn command_line(pid: impl std::fmt::Display) -> String {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .replace('\0', " ")
        .trim()
        .to_owned()
}

/// Directories below `top` whose name contains `mark`, parents before children.
pub fn directories_named(top: &Path, mark: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut unseen = vec![(top.to_owned(), false)];
    while let Some((dir, inside)) = unseen.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let ours = inside || entry.file_name().to_string_lossy().contains(mark);
            if ours {
                found.push(entry.path());
            }
            unseen.push((entry.path(), ours));
        }
    }
    found
}

/// Unfreezes a cgroup so that its processes can die.
pub fn thaw(cgroup: &Path) {
    for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if cgroup.join(file).exists() {
            std::fs::write(cgroup.join(file), value).ok();
        }
    }
}

/// Mount points below a directory, as this process sees them.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mounts = Process::myself().and_then(|me| me.mountinfo());
    let points = mounts.into_iter().flatten().map(|mount| mount.mount_point);
    points.filter(|point| point.starts_with(dir)).collect()
}

/// A process as procfs shows it.
pub fn process(pid: i32) -> Result<Process> {
    Ok(Process::new(pid).map_err(|e| format!("process {pid}: {e}"))?)
}

/// The namespace a process is in: `net:[4026531840]`.
pub fn namespace(pid: i32, kind: &str) -> Result<PathBuf> {
    let link = format!("/proc/{pid}/ns/{kind}");
    Ok(std::fs::read_link(&link).map_err(|e| format!("{link}: {e}"))?)
}

/// Our own namespace of that kind.
pub fn own_namespace(kind: &str) -> Result<PathBuf> {
    Ok(std::fs::read_link(Path::new("/proc/self/ns").join(kind))?)
}

/// The topmost mount at a path inside a container.
pub fn mount_at(pid: i32, path: &str) -> Result<MountInfo> {
    let mounts = process(pid)?.mountinfo()?;
    let last = mounts
        .into_iter()
        .rfind(|mount| mount.mount_point == Path::new(path));
    Ok(last.ok_or(format!("nothing is mounted at {path}"))?)
}

/// Whether the process is there and not a zombie.
pub fn alive(pid: i32) -> bool {
    let stat = Process::new(pid).and_then(|process| process.stat());
    stat.is_ok_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// One line of a process's status file, without the name.
pub fn status_line(pid: i32, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&text, name).ok_or(format!("no {name} in the status of {pid}"))?)
}

/// One field of a `Name:\tvalue` text, blanks between words made single.
pub fn field(text: &str, name: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The paths of a process's cgroups, by controller list (`""` is v2).
pub fn cgroups(pid: i32) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let entries = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.to_owned()))
    });
    Ok(entries.collect())
}
