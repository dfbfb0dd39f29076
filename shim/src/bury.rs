//! `delete`: the shim is dead, by whatever hand; what it has left is cleaned up without it.
#![forbid(unsafe_code)]

use crate::bootstrap::{self, Words};
use crate::events::timestamp;
use crate::mounts;
use crate::options::Options;
use crate::status::{Doing, Result};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use creel::container::Store;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a process is said to have ended with when nobody could see it: killed.
const KILLED: u32 = 128 + 9;

/// See the module.
pub fn bury(words: &Words) -> Result<()> {
    let bundle = bundle(words)?;
    let options = Options::kept(&bundle);
    let store = Store::standard(options.root(&words.namespace));
    // Each step on its own: what cannot be done must not keep the others from being done.
    if let Err(error) = creel::container::delete(&store, &words.id, true) {
        creel::log::warning(&error);
    }
    mounts::unmount_all(&bundle.join(mounts::LOWER));
    mounts::unmount_all(&bundle.join("rootfs"));
    remove_socket(words, &bundle);
    let mut said = DeleteResponse::new();
    said.exit_status = KILLED;
    said.exited_at = Some(timestamp(SystemTime::now())).into();
    said.pid = std::fs::read_to_string(bundle.join("init.pid"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let mut out = std::io::stdout().lock();
    out.write_all(&said.write_to_bytes()?)?;
    Ok(out.flush()?)
}

/// The one that was named, or the directory of that id beside the current one.
fn bundle(words: &Words) -> Result<PathBuf> {
    if !words.bundle.is_empty() {
        return Ok(PathBuf::from(&words.bundle));
    }
    let here = std::env::current_dir().doing("current directory")?;
    let beside = here.parent().map(|above| above.join(&words.id));
    Ok(beside.filter(|dir| dir.is_dir()).unwrap_or(here))
}

/// The socket that nobody listens at any more: the one that `start` wrote down, or would have.
fn remove_socket(words: &Words, bundle: &Path) {
    let address = std::fs::read_to_string(bundle.join("address")).unwrap_or_default();
    let written = address.trim().strip_prefix("unix://").map(PathBuf::from);
    if let Some(path) = written.or_else(|| bootstrap::usual_socket(words, bundle))
        && UnixStream::connect(&path).is_err()
    {
        std::fs::remove_file(path).unwrap_or(());
    }
}
