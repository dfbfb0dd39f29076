//! What an attack must leave as it was, and attackers that work while the runtime does.
//!
//! Every target is a decoy: a copy of the runtime's binary, a directory of the case's, a mount
//! namespace of its own. So a runtime that fails harms nobody.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::check;
use crate::lab::Lab;
use crate::scene::own_mounts;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::MsFlags;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Parameters of the host that break-outs have aimed at.
const SYSCTLS: [&str; 8] = [
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/sysrq",
    "kernel/panic",
    "kernel/randomize_va_space",
    "fs/suid_dumpable",
];

/// The machine around an attack.
pub struct Host {
    /// A workplace whose runtime is a copy that may be written to.
    pub lab: Lab,
    /// A directory outside of every container: `secret`, `ptmx`, `sub/file`, `prog`.
    pub decoy: PathBuf,
    before: Snapshot,
}

#[derive(PartialEq)]
struct Snapshot {
    mounts: Vec<String>,
    decoy: Vec<String>,
    sysctls: Vec<(&'static str, Option<Vec<u8>>)>,
    runtime: String,
}

impl Host {
    /// Takes the case to a mount namespace of its own, whose mounts are shared: what a runtime
    /// mounts in a copy of it without cutting that off shows here. Then notes how all is.
    pub fn new(lab: &Lab) -> Result<Self> {
        own_mounts(MsFlags::MS_SHARED)?;
        let decoy = lab.directory("decoy")?;
        lab.directory("decoy/sub")?;
        for (name, text) in [
            ("decoy/secret", "secret"),
            ("decoy/ptmx", "mine"),
            ("decoy/sub/file", "file"),
            ("decoy/prog", "#!/bin/sh\necho escaped\n"),
        ] {
            let file = lab.file(name, text)?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        }
        let name = lab.runtime.file_name().ok_or("a runtime without a name")?;
        let copy = lab.directory("bin")?.join(name);
        std::fs::copy(&lab.runtime, &copy)?;
        let lab = lab.with_runtime(copy);
        let before = Snapshot::take(&lab, &decoy)?;
        Ok(Self { lab, decoy, before })
    }

    /// The decoy directory without its leading slash, as a path below some root.
    pub fn way(&self) -> String {
        let path = self.decoy.to_string_lossy();
        path.trim_start_matches('/').to_owned()
    }

    /// Fails if anything changed.
    pub fn unharmed(&self) -> Result {
        let after = Snapshot::take(&self.lab, &self.decoy)?;
        let what = [
            ("mounts", gone_and_new(&self.before.mounts, &after.mounts)),
            ("decoys", gone_and_new(&self.before.decoy, &after.decoy)),
        ];
        for (kind, change) in what {
            check!(change.is_empty(), "the host's {kind} changed: {change}");
        }
        check!(
            self.before.runtime == after.runtime,
            "the runtime's binary changed"
        );
        for (old, new) in self.before.sysctls.iter().zip(&after.sysctls) {
            check!(old == new, "the host's {} changed", old.0);
        }
        Ok(())
    }
}

impl Snapshot {
    fn take(lab: &Lab, decoy: &Path) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let of_others = |line: &&str| {
            // What other programs mount there goes away with its directory, in our namespace too.
            let point = line.split(' ').nth(4).unwrap_or_default();
            let busy = ["/tmp/", "/var/", "/run/"]
                .iter()
                .any(|top| point.starts_with(top));
            busy && !Path::new(point).starts_with(&lab.dir)
        };
        let mut tree = Vec::new();
        look(decoy, &mut tree)?;
        let read = |name| (name, std::fs::read(Path::new("/proc/sys").join(name)).ok());
        Ok(Self {
            mounts: mounts
                .lines()
                .filter(|line| !of_others(line))
                .map(str::to_owned)
                .collect(),
            decoy: tree,
            sysctls: SYSCTLS.into_iter().map(read).collect(),
            runtime: print(&lab.runtime)?,
        })
    }
}

fn gone_and_new(old: &[String], new: &[String]) -> String {
    let gone = old.iter().filter(|line| !new.contains(line));
    let more = new.iter().filter(|line| !old.contains(line));
    let lines = gone.map(|line| format!("- {line}"));
    let lines = lines.chain(more.map(|line| format!("+ {line}")));
    lines.collect::<Vec<_>>().join("; ")
}

/// A file in one line: all that a write to it or to its inode would change.
fn print(path: &Path) -> Result<String> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut hash = DefaultHasher::new();
    if meta.is_symlink() {
        std::fs::read_link(path)?
            .as_os_str()
            .as_bytes()
            .hash(&mut hash);
    } else if meta.is_file() && meta.len() < 1 << 20 {
        std::fs::read(path)?.hash(&mut hash);
    }
    Ok(format!(
        "{} {:o} {}:{} {} {} {:x} {}.{}",
        path.display(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev(),
        meta.ino(),
        hash.finish(),
        // Nobody can set it back.
        meta.ctime(),
        meta.ctime_nsec()
    ))
}

fn look(dir: &Path, into: &mut Vec<String>) -> Result {
    into.push(print(dir)?);
    let mut paths: Vec<_> = std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        match path.is_dir() && !path.is_symlink() {
            true => look(&path, into)?,
            false => into.push(print(&path)?),
        }
    }
    Ok(())
}

/// An attacker on another processor who exchanges two names, over and over, while it lives.
pub struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
    names: (PathBuf, PathBuf),
}

impl Swapper {
    /// Begins to exchange `one` and `other`.
    pub fn new(one: &Path, other: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let names = (one.to_owned(), other.to_owned());
        let (flag, pair) = (Arc::clone(&stop), names.clone());
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !flag.load(Ordering::Relaxed) {
                let flags = RenameFlags::RENAME_EXCHANGE;
                if renameat2(AT_FDCWD, &pair.0, AT_FDCWD, &pair.1, flags).is_ok() {
                    count += 1;
                }
            }
            count
        });
        Self {
            stop,
            thread: Some(thread),
            names,
        }
    }

    /// Ends it; it must have exchanged something.
    pub fn end(mut self) -> Result {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or("ended twice")?;
        let count = thread.join().map_err(|_| "the attacker panicked")?;
        check!(
            count > 0,
            "the attacker could not exchange {:?}",
            self.names
        );
        Ok(())
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Repeats an attack for a moment, at least a few times.
pub fn again_and_again(mut attack: impl FnMut() -> Result) -> Result {
    let end = Instant::now() + Duration::from_millis(1500);
    for round in 0..60 {
        if round >= 8 && Instant::now() > end {
            break;
        }
        attack()?;
    }
    Ok(())
}

/// Puts a symlink where the image has something else.
pub fn plant(bundle: &Bundle, at: &str, target: impl AsRef<Path>) -> Result {
    let path = bundle.inside(at);
    if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(&path)?;
    } else if path.is_symlink() || path.exists() {
        std::fs::remove_file(&path)?;
    }
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    Ok(symlink(target, path)?)
}

/// Takes the mounts at and below /dev out of the config: the image's own /dev shows.
pub fn without_dev(bundle: &mut Bundle) -> Result {
    let mounts = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
    mounts.retain(|mount| {
        !mount["destination"]
            .as_str()
            .is_some_and(|at| at.starts_with("/dev"))
    });
    Ok(())
}
