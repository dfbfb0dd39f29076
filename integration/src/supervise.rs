//! The two inner layers. A supervisor, the subreaper of everything a case starts, runs the case's
//! body in a process group of its own under a time limit, and then compares the machine with what
//! it was before: whatever is left is a failure. Neither layer has a thread, so a body may unshare.
#![forbid(unsafe_code)]

use crate::case::{Failure, Result};
use crate::kernel;
use crate::lab::Lab;
use crate::report::{FAILED, SKIPPED};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs one case and checks what it leaves behind.
pub fn supervise(name: &str) -> Result<ExitCode> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let stage = PathBuf::from(std::env::var_os("INTEGRATION_STAGE").ok_or("no stage")?);
    let dir = stage.join(name);
    std::fs::create_dir_all(&dir)?;
    let mark = format!("it{}x", std::process::id());
    let before = traces(&dir, &mark)?;
    let mut verdict = watched(name, &dir, &mark);
    let left = leftovers(&dir, &mark, &before)?;
    if verdict.is_ok() && !left.is_empty() {
        verdict = Err(format!("left behind: {}", left.join(", ")).into());
    }
    sweep(&dir, &mark);
    Ok(answer(verdict))
}

/// Prints why, and turns the verdict into an exit code.
fn answer(verdict: Result) -> ExitCode {
    match verdict {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{}", failure.why);
            ExitCode::from(if failure.skip { SKIPPED } else { FAILED })
        }
    }
}

/// The case itself, in a process of its own.
pub fn body(name: &str) -> Result<ExitCode> {
    let case = crate::find(name)?;
    let lab = Lab::from_env()?;
    let verdict = (case.run)(&lab);
    Ok(answer(verdict))
}

fn watched(name: &str, dir: &Path, mark: &str) -> Result {
    let verdict = dir.join("verdict");
    let trouble = dir.join("trouble");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--body", name])
        .env("INTEGRATION_DIR", dir)
        .env("INTEGRATION_MARK", mark)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&verdict)?)
        .stderr(std::fs::File::create(&trouble)?)
        .process_group(0)
        .spawn()?;
    let limit = std::env::var("INTEGRATION_LIMIT")
        .ok()
        .and_then(|limit| limit.parse().ok());
    let limit = Duration::from_secs(limit.unwrap_or(60)) * kernel::slow();
    let why = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
    match wait(&mut child, limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) if status.code() == Some(i32::from(SKIPPED)) => {
            Err(Failure::skip(why(&verdict)))
        }
        Some(status) if status.code() == Some(i32::from(FAILED)) => {
            Err(format!("{}{}", why(&verdict), why(&trouble)).into())
        }
        Some(status) => Err(format!("the case died: {status}; {}", why(&trouble)).into()),
        None => {
            let waiting: Vec<String> = kernel::descendants(std::process::id())
                .into_iter()
                .map(|pid| format!("{pid} {}", kernel::command_line(pid)))
                .collect();
            let group = Pid::from_raw(i32::try_from(child.id())?);
            nix::sys::signal::killpg(group, Signal::SIGKILL)?;
            child.wait()?;
            let seconds = limit.as_secs();
            Err(format!(
                "hung: no end after {seconds} s; alive: {}",
                waiting.join("; ")
            )
            .into())
        }
    }
}

/// Waits for the child, reaping orphans on the way as a subreaper must.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        reap(Some(child.id()));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Collects the dead that were handed to us; not `spare`, whose status its owner wants.
///
/// The kernel is asked for them: looking through all of /proc each time would slow down what runs.
fn reap(spare: Option<u32>) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look)
        && let Some(pid) = status.pid()
        && Some(pid.as_raw().cast_unsigned()) != spare
    {
        waitpid(pid, Some(WaitPidFlag::WNOHANG)).ok();
    }
}

/// Mounts, cgroups and state of this case, as the machine has them now.
fn traces(dir: &Path, mark: &str) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for mount in procfs::process::Process::myself()?.mountinfo()? {
        if mount.mount_point.starts_with(dir) {
            traces.push(format!("mount {}", mount.mount_point.display()));
        }
    }
    for cgroup in kernel::directories_named(Path::new("/sys/fs/cgroup"), mark) {
        traces.push(format!("cgroup {}", cgroup.display()));
    }
    for root in ["root", "root2"] {
        let state = dir.join(root);
        for entry in std::fs::read_dir(&state).into_iter().flatten().flatten() {
            traces.push(format!(
                "state {root}/{}",
                entry.file_name().to_string_lossy()
            ));
        }
    }
    Ok(traces)
}

/// What is here now and was not before. The dying get a moment: exits are not instant.
fn leftovers(dir: &Path, mark: &str, before: &[String]) -> Result<Vec<String>> {
    let deadline = Instant::now() + Duration::from_secs(2) * kernel::slow();
    loop {
        reap(None);
        let mut left = traces(dir, mark)?;
        left.retain(|trace| !before.contains(trace));
        for pid in kernel::descendants(std::process::id()) {
            left.push(format!("process {pid} {}", kernel::command_line(pid)));
        }
        if left.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends and removes what a failed case left, so that the next one starts clean.
fn sweep(dir: &Path, mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let alive = kernel::descendants(std::process::id());
        for pid in &alive {
            if let Ok(raw) = i32::try_from(*pid) {
                // It may have gone in between.
                kill(Pid::from_raw(raw), Signal::SIGKILL).ok();
            }
        }
        reap(None);
        let mut cgroups = kernel::directories_named(Path::new("/sys/fs/cgroup"), mark);
        cgroups.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for cgroup in &cgroups {
            kernel::thaw(cgroup);
            std::fs::remove_dir(cgroup).ok();
        }
        if (alive.is_empty() && cgroups.is_empty()) || Instant::now() > deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for mount in kernel::mounts_below(dir).into_iter().rev() {
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).ok();
    }
    if kernel::mounts_below(dir).is_empty() {
        std::fs::remove_dir_all(dir).ok();
    }
}
