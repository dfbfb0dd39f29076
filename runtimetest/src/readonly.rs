//! Read-only paths: every write meets a read-only file system.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::resolved;
use crate::mountinfo::Tree;
use crate::probe::write_errno;
use crate::report::Report;
use nix::errno::Errno;
use std::path::Path;

/// Judges `linux.readonlyPaths`.
pub fn check(config: &Config, report: &mut Report) {
    let tree = Tree::read().unwrap_or_default();
    for path in &config.linux.readonly_paths {
        let at = resolved(path);
        let covered = tree.serving(&at).is_some_and(|mount| mount.has("ro"));
        let felt = write_errno(Path::new(path));
        let ok = match felt {
            Some(Errno::EROFS) => true,
            // The file's own mode refuses before the mount is asked, and procfs lets nobody make
            // files; then the mount table tells.
            Some(_) => covered || !Path::new(path).exists(),
            None => false,
        };
        let felt = felt.map_or_else(|| "writable".to_owned(), |errno| errno.to_string());
        let got = format!("{felt}; its mount is {}", if covered { "ro" } else { "rw" });
        report.holds(
            format!("linux.readonlyPaths: {path} cannot be written"),
            "EROFS",
            got,
            ok,
        );
    }
}
