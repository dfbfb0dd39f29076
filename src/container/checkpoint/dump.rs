//! CHECKPOINT: processes become files.
#![forbid(unsafe_code)]

use super::rpc::{Features, Kind, feature_check, opt};
use super::swrk::{self, Criu};
use super::{DESCRIPTORS, EXTERNAL, Options, Request, converse, joined, mounts, too_old};
use crate::bundle::config::Config;
use crate::bundle::parse;
use crate::container::{Container, Status};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Record;
use crate::log;
use crate::run::notify;
use crate::sys::fd::adopt;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::write;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

impl Container {
    /// Whether a container of that status has something to checkpoint; in runc's words.
    ///
    /// # Errors
    /// It has no program that runs.
    pub fn check_checkpointable(&self, status: Status) -> Result<()> {
        if matches!(status, Status::Running | Status::Paused) {
            return Ok(());
        }
        let why = format!("Container cannot be checkpointed in {status} state");
        Err(Error::rule(Doing::Checkpoint, why).on(self.id()))
    }

    /// Writes its processes to `options.images`, and unless told otherwise ends and deletes it.
    ///
    /// # Errors
    /// It does not run, criu is missing or too old, or criu failed: the container then goes on.
    pub fn checkpoint(&self, options: &Options) -> Result<()> {
        let lock = self.dir().lock()?;
        self.check_checkpointable(self.current_status()?)?;
        // Whoever asks for the pages may take hours.
        let lock = (!options.lazy_pages).then_some(lock);
        self.dump(options).within(Doing::Checkpoint).on(self.id())?;
        drop(lock);
        if !options.leave_running
            && !options.pre_dump
            && let Err(error) = self.delete(true)
        {
            // The images are good.
            log::warning(&error);
        }
        Ok(())
    }

    fn dump(&self, options: &Options) -> Result<()> {
        let version = swrk::version()?;
        let bytes = self.dir().config()?.unwrap_or_default();
        let config: Config = parse(&bytes, "config.json")?;
        let state = self.state();
        let mut status_fd = options.status_fd.map(writable).transpose()?;
        self.check_features(options)?;

        let mut request = Request::new(options, &config, "dump.log")?;
        let opts = &mut request.opts;
        let root = state.rootfs.to_string_lossy();
        opts.put(opt::ROOT, &*root)
            .number(opt::PID, state.pid)
            .number(opt::LEAVE_RUNNING, options.leave_running)
            .number(opt::TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight)
            .number(opt::LINK_REMAP, options.link_remap);
        for (kind, file, name) in EXTERNAL {
            if joined(&config, kind).is_some() {
                if version < 31_500 {
                    return Err(too_old("namespaces from outside", version));
                }
                let path = format!("/proc/{}/ns/{file}", state.pid);
                let inode = std::fs::metadata(&path)
                    .doing(Doing::ReadProc)
                    .on(&path)?
                    .ino();
                opts.put(opt::EXTERNAL, format!("{file}[{inode}]:{name}"));
            }
        }
        // Stopping all at once by the freezer is surer than process by process.
        if let Some(path) = freezer(&state.creel.cgroup, version >= 31_400) {
            opts.put(opt::FREEZE_CGROUP, path);
        }
        if let Some((address, port)) = &options.page_server {
            let mut server = super::Message::default();
            server.put(1, address).number(2, *port);
            opts.message(opt::PAGE_SERVER, &server);
        }
        if let Some(parent) = &options.parent {
            opts.put(opt::PARENT_IMG, parent)
                .number(opt::TRACK_MEM, true);
        }
        let notifies = version >= 31_500;
        if let (Some(number), false) = (options.status_fd, notifies) {
            opts.number(opt::STATUS_FD, number);
        }
        let kind = if options.pre_dump {
            Kind::PreDump
        } else {
            for (name, _) in mounts::external(&config, state, &state.creel.cgroup) {
                request.external(&name, &name);
            }
            // `create` adds it to a config that it does not keep.
            if self.dir().path().join(notify::DIR).is_dir() {
                let name = mounts::resolve(&state.rootfs, notify::INSIDE);
                request.external(&name, &name);
            }
            self.mask_paths(&config, &mut request);
            self.note_descriptors(options)?;
            Kind::Dump
        };
        let criu = Criu::start(false, &[])?;
        let talk = converse(criu, kind, &request.opts, &mut |script, _, _| {
            if script == "status-ready"
                && let Some(fd) = status_fd.take()
                && let Err(errno) = write(&fd, &[0])
            {
                log::warning(&format_args!("can't write \\0 to status fd: {errno}"));
            }
            Ok(())
        });
        talk.map_err(|error| request.explain(error))
    }

    fn check_features(&self, options: &Options) -> Result<()> {
        let wanted = Features {
            mem_track: options.pre_dump,
            lazy_pages: options.lazy_pages,
        };
        if wanted == Features::default() {
            return Ok(());
        }
        let found = swrk::ask(Kind::FeatureCheck, &feature_check(wanted))?.features;
        for (wanted, found, name) in [
            (wanted.mem_track, found.mem_track, "MemTrack"),
            (wanted.lazy_pages, found.lazy_pages, "LazyPages"),
        ] {
            if wanted && !found {
                let why = format!("criu is missing features: [{name}]");
                let hint = "the kernel may lack them, too: see criu check --feature";
                return Err(Error::rule(Doing::CallCriu, why).hint(hint));
            }
        }
        Ok(())
    }

    /// Masked files are covered by the host's /dev/null; masked directories are ordinary mounts.
    fn mask_paths(&self, config: &Config, request: &mut Request) {
        for path in &config.linux.masked_paths {
            let inside = format!("/proc/{}/root{path}", self.state().pid);
            if std::fs::metadata(inside).is_ok_and(|found| !found.is_dir()) {
                request.external(path, "/dev/null");
            }
        }
    }

    /// Writes down what stdio is, so that pipes can be told from each other when they are gone.
    fn note_descriptors(&self, options: &Options) -> Result<()> {
        let link = |number| {
            let path = format!("/proc/{}/fd/{number}", self.state().pid);
            let target = std::fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().into_owned()
        };
        let path = options.images.join(DESCRIPTORS);
        let json = serde_json::to_vec(&[link(0), link(1), link(2)]).unwrap_or_default();
        let mut file = OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        file.open(&path)
            .and_then(|mut file| file.write_all(&json))
            .doing(Doing::Checkpoint)
            .on(path.display())
    }
}

/// The caller's `--status-fd`, ours from now on.
fn writable(number: i32) -> Result<OwnedFd> {
    let wrong = |why| {
        let why = format!("invalid --status-fd argument {number}: {why}");
        Error::rule(Doing::Checkpoint, why)
    };
    let fd = adopt(number).map_err(|errno| wrong(errno.desc()))?;
    let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(|errno| wrong(errno.desc()))?;
    if OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        return Err(wrong("not writable"));
    }
    Ok(fd)
}

/// The directory whose freezer stops the container; of v2 only if criu knows that one.
fn freezer(record: &Record, knows_v2: bool) -> Option<&str> {
    let mut paths = record.paths();
    let v1 = |(names, _): &(&str, &str)| names.split(',').any(|name| name == "freezer");
    match record.paths().find(v1) {
        Some((_, path)) => Some(path),
        // A hybrid host's tree has no freezer that anybody uses.
        None => match (paths.next(), paths.next()) {
            (Some(("", path)), None) if knows_v2 => Some(path),
            _ => None,
        },
    }
}
