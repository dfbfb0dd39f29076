//! `checkpoint`: a container's processes become files.
#![forbid(unsafe_code)]

use super::{Entry, absolute, args, only_id};
use crate::container::checkpoint::{Cgroups, Options};
use crate::error::{Act, Doing, Error, Explain, Result};
use clap::Args;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

pub(super) const COMMAND: Entry = Entry::new::<CheckpointArgs>(
    "checkpoint",
    "checkpoint a running container",
    "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container to \
     be\ncheckpointed.",
    |matches, globals| {
        let said: CheckpointArgs = args(matches)?;
        let id = only_id(&said.common.ids, "checkpoint", globals)?;
        let container = globals.store.find(id)?;
        // Before the directory of the images is made.
        container.check_checkpointable(container.status()?)?;
        let mut namespaces = container.state().creel.namespaces.all();
        let foreign = namespaces.any(|kind| kind == "user");
        let options = said.options(foreign).on(id)?;
        container.checkpoint(&options).map(|()| 0)
    },
);

/// The flags that `checkpoint` and `restore` share.
#[derive(Args)]
pub(super) struct ImageArgs {
    /// directory of the images (default: ./checkpoint)
    #[arg(long, value_name = "value")]
    image_path: Option<OsString>,
    /// directory of criu's log and other work
    #[arg(long, value_name = "value")]
    work_path: Option<OsString>,
    /// allow open tcp connections
    #[arg(long)]
    tcp_established: bool,
    /// allow external unix sockets
    #[arg(long)]
    ext_unix_sk: bool,
    /// allow shell jobs
    #[arg(long)]
    shell_job: bool,
    /// use userfaultfd to lazily restore memory pages
    #[arg(long)]
    lazy_pages: bool,
    /// handle file locks, for safety
    #[arg(long)]
    file_locks: bool,
    /// cgroups mode: soft|full|strict|ignore (default: soft)
    #[arg(long, value_name = "value")]
    manage_cgroups_mode: Option<String>,
    /// create a namespace, but don't restore its properties: network, which is always so
    #[arg(long, value_name = "value")]
    empty_ns: Vec<String>,
    /// enable auto deduplication of memory images
    #[arg(long)]
    auto_dedup: bool,
    #[arg(hide = true)]
    pub(super) ids: Vec<String>,
}

#[derive(Args)]
struct CheckpointArgs {
    #[command(flatten)]
    common: ImageArgs,
    /// earlier criu images of a pre-dump, relative to --image-path
    #[arg(long, value_name = "value")]
    parent_path: Option<String>,
    /// leave the process running after checkpointing
    #[arg(long)]
    leave_running: bool,
    /// skip in-flight tcp connections
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// allow one to link unlinked files back when possible
    #[arg(long)]
    link_remap: bool,
    /// write \0 to this FD once lazy-pages is ready
    #[arg(
        long,
        value_name = "value",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    status_fd: i32,
    /// ADDRESS:PORT of the page server
    #[arg(long, value_name = "value")]
    page_server: Option<String>,
    /// dump container's memory information only, leave the container running after this
    #[arg(long)]
    pre_dump: bool,
}

fn refuse<T>(why: impl Into<Box<str>>) -> Result<T> {
    Err(Error::rule(Doing::Checkpoint, why))
}

impl ImageArgs {
    pub(super) fn options(&self) -> Result<Options> {
        if let Some(other) = self.empty_ns.iter().find(|kind| *kind != "network") {
            return refuse(format!("namespace {other:?} is not supported"));
        }
        let images = absolute(self.image_path.as_ref())?;
        let images = images.unwrap_or_else(|| "checkpoint".into());
        let images = std::path::absolute(images).doing(Doing::Command)?;
        Ok(Options {
            images,
            work: absolute(self.work_path.as_ref())?,
            tcp_established: self.tcp_established,
            ext_unix_sk: self.ext_unix_sk,
            shell_job: self.shell_job,
            lazy_pages: self.lazy_pages,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            cgroups: Cgroups::parse(self.manage_cgroups_mode.as_deref().unwrap_or_default())?,
            ..Options::default()
        })
    }
}

impl CheckpointArgs {
    fn options(&self, foreign: bool) -> Result<Options> {
        let options = self.common.options()?;
        // Whoever reads the images reads the container's memory. But criu restores a user namespace
        // as somebody else, who has to get at them.
        let mode = if foreign { 0o711 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&options.images)
            .doing(Doing::CallCriu)
            .on(options.images.display())?;
        Ok(Options {
            parent: self.parent(&options.images)?,
            leave_running: self.leave_running,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            link_remap: self.link_remap,
            pre_dump: self.pre_dump,
            status_fd: Some(self.status_fd).filter(|fd| *fd != -1),
            page_server: self.page_server.as_deref().map(server).transpose()?,
            ..options
        })
    }

    fn parent(&self, images: &Path) -> Result<Option<String>> {
        let Some(parent) = self.parent_path.as_ref().filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        if parent.starts_with('/') {
            return refuse("--parent-path must be relative");
        }
        let path = images.join(parent);
        let why = match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Ok(Some(parent.clone())),
            Ok(_) => "not a directory",
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "no such file or directory"
            }
            Err(_) => "cannot be read",
        };
        refuse(format!(
            "invalid --parent-path: stat {}: {why}",
            path.display()
        ))
    }
}

/// `ADDRESS:PORT`; an address with colons in it is in brackets.
fn server(text: &str) -> Result<(String, u16)> {
    let (address, port) = match text.rsplit_once(':') {
        Some((address, port)) if !address.is_empty() && !port.is_empty() => (address, port),
        _ => return refuse("Use --page-server ADDRESS:PORT to specify page server"),
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'));
    match port.parse() {
        Ok(port) => Ok((bare.unwrap_or(address).to_owned(), port)),
        Err(_) => refuse("Invalid port number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        assert_eq!(server("1.2.3.4:27").unwrap(), ("1.2.3.4".into(), 27));
        assert_eq!(server("[::1]:27").unwrap(), ("::1".into(), 27));
        for text in ["", "x", ":1", "x:", "x:y", "x:99999"] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
