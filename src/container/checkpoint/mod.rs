//! CHECKPOINT: a container's processes become files, and processes again (criu(8)).
//!
//! criu does the work; what it is told follows runc, so that either runtime restores the other's
//! images. It is called as `criu swrk`: a child to which one request is said over a socket, and
//! which notifies us of each step.
#![forbid(unsafe_code)]

mod dump;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod log;
mod mounts;
mod protobuf;
mod restore;
mod rpc;
mod swrk;

pub use restore::restore;

use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use protobuf::Message;
use rpc::{Kind, Response, opt};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// In the image directory: what the first process's stdio was.
const DESCRIPTORS: &str = "descriptors.json";

/// The annotation that names a configuration of criu, and where it is without one.
const CONFIG: (&str, &str) = ("org.criu.config", "/etc/criu/runc.conf");

/// What criu does with cgroups, by the numbers of its `criu_cg_mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// Nothing.
    Ignore = 0,
    /// Restores the limits of those that it makes.
    Soft = 3,
    /// Restores the limits of all.
    Full = 4,
    /// Fails for those that exist.
    Strict = 5,
    /// As criu likes: `soft`.
    #[default]
    Default = 6,
}

impl Cgroups {
    /// `--manage-cgroups-mode`.
    ///
    /// # Errors
    /// There is no such mode.
    pub fn parse(mode: &str) -> Result<Self> {
        Ok(match mode {
            "" => Self::Default,
            "soft" => Self::Soft,
            "full" => Self::Full,
            "strict" => Self::Strict,
            "ignore" => Self::Ignore,
            _ => {
                let why = "Invalid manage-cgroups-mode value";
                return Err(Error::rule(Doing::CallCriu, why).on(mode));
            }
        })
    }
}

/// What is asked of criu; the names are those of the options.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, clippy::struct_excessive_bools)] // each is an option of its own
pub struct Options {
    /// Where the images are, absolute.
    pub images: PathBuf,
    /// Where criu writes its log, if not there.
    pub work: Option<PathBuf>,
    /// An earlier pre-dump, relative to the images.
    pub parent: Option<String>,
    pub leave_running: bool,
    pub tcp_established: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub lazy_pages: bool,
    pub file_locks: bool,
    pub pre_dump: bool,
    pub auto_dedup: bool,
    /// Gets a zero byte when the pages can be asked for.
    pub status_fd: Option<i32>,
    /// Address and port.
    pub page_server: Option<(String, u16)>,
    pub cgroups: Cgroups,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
        .doing(Doing::CallCriu)
        .on(path.display())
}

/// The request's options that dump and restore share, and the directories that they name by
/// number: criu opens those through our /proc/PID/fd.
struct Request {
    opts: Message,
    log: PathBuf,
    _directories: [Option<OwnedFd>; 2],
}

impl Request {
    fn new(options: &Options, config: &Config, log: &str) -> Result<Self> {
        let images = directory(&options.images)?;
        let work = options.work.as_deref();
        if let Some(work) = work {
            match DirBuilder::new().mode(0o700).create(work) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                other => other.doing(Doing::CallCriu).on(work.display())?,
            }
        }
        let work_fd = work.map(directory).transpose()?;
        let mut opts = Message::default();
        opts.number(opt::IMAGES_DIR_FD, images.as_raw_fd())
            .number(opt::LOG_LEVEL, 4)
            .put(opt::LOG_FILE, log)
            .number(opt::NOTIFY_SCRIPTS, true)
            .number(opt::MANAGE_CGROUPS, true)
            .number(opt::MANAGE_CGROUPS_MODE, options.cgroups as i32)
            .number(opt::ORPHAN_PTS_MASTER, true)
            // Interfaces and addresses are the business of whoever made the network namespace.
            .number(opt::EMPTY_NS, CloneFlags::CLONE_NEWNET.bits());
        if let Some(work) = &work_fd {
            opts.number(opt::WORK_DIR_FD, work.as_raw_fd());
        }
        for (field, asked) in [
            (opt::SHELL_JOB, options.shell_job),
            (opt::TCP_ESTABLISHED, options.tcp_established),
            (opt::EXT_UNIX_SK, options.ext_unix_sk),
            (opt::FILE_LOCKS, options.file_locks),
            (opt::AUTO_DEDUP, options.auto_dedup),
            (opt::LAZY_PAGES, options.lazy_pages),
        ] {
            opts.number(field, asked);
        }
        let (annotation, default) = CONFIG;
        let path = config.annotations.get(annotation);
        let path = path.map_or(default, String::as_str);
        if !path.is_empty() {
            opts.put(opt::CONFIG_FILE, path);
        }
        Ok(Self {
            opts,
            log: work.unwrap_or(&options.images).join(log),
            _directories: [Some(images), work_fd],
        })
    }

    /// An external mount, by its name in the images.
    fn external(&mut self, key: &str, value: &str) {
        let mut map = Message::default();
        map.put(1, key).put(2, value);
        self.opts.message(opt::EXT_MNT, &map);
    }

    /// Adds to an error what criu's log says.
    fn explain(&self, error: Error) -> Error {
        match log::errors(&self.log) {
            Some(errors) => error.hint(format_args!("{} says: {errors}", self.log.display())),
            None => error,
        }
    }
}

/// Acts on a notification: its script, the process that it is about, and the file that came along.
type Notified<'a> = dyn FnMut(&str, i32, Option<OwnedFd>) -> Result<()> + 'a;

/// Talks with criu until it has done what it was asked, answering its notifications.
fn converse(
    criu: swrk::Criu,
    kind: Kind,
    opts: &Message,
    notified: &mut Notified<'_>,
) -> Result<()> {
    criu.say(&rpc::request(kind, Some(opts)))?;
    loop {
        let (response, fd) = criu.hear()?;
        if !response.success {
            let kind = [Kind::Dump, Kind::Restore, Kind::PreDump, Kind::Notify]
                .into_iter()
                .find(|kind| response.is(*kind));
            return Err(swrk::failure(kind.unwrap_or(Kind::Notify), &response));
        }
        match response {
            Response {
                notify: Some((script, pid)),
                ..
            } => {
                crate::log::debug(&format_args!("criu notifies: {script}"));
                let answer = notified(&script, pid, fd);
                criu.say(&rpc::notified(answer.is_ok()))?;
                answer?;
            }
            response if response.is(kind) => break,
            _ => return Err(Error::rule(Doing::CallCriu, "it answers another question")),
        }
    }
    let status = criu.finish()?;
    // After a pre-dump it waits for the dump that would follow, and is let down.
    if !status.success() && kind != Kind::PreDump {
        return Err(Error::rule(
            Doing::CallCriu,
            format!("criu failed: {status}"),
        ));
    }
    Ok(())
}

/// Whether a namespace of that kind is entered by path.
fn joined<'a>(config: &'a Config, kind: &str) -> Option<&'a str> {
    let namespaces = config.linux.namespaces.iter();
    namespaces
        .filter(|one| !one.path.is_empty())
        .find(|one| crate::isolate::namespaces::word(one.typ) == kind)
        .map(|one| one.path.as_str())
}

/// Network and pid namespaces that were joined stay out of the images, under these names.
const EXTERNAL: [(&str, &str, &str); 2] = [
    ("network", "net", "extRootNetNS"),
    ("pid", "pid", "extRootPidNS"),
];

/// The error of a criu that is too old for something.
fn too_old(what: &str, version: u32) -> Error {
    let why = format!("criu {version} lacks support for {what}");
    Error::rule(Doing::CallCriu, why).hint(Errno::ENOTSUP.desc())
}
