//! Root: writable or not, and propagating as asked.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::mountinfo::Tree;
use crate::option;
use crate::probe::write_errno;
use crate::report::Report;
use nix::errno::Errno;
use std::path::Path;

/// Judges `root.readonly` and `linux.rootfsPropagation`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "root: the mount at / can be seen";
    let tree = Tree::read();
    let Some(tree) = report.seen(claim, "/proc/self/mountinfo", tree) else {
        return;
    };
    let found = tree.serving("/").ok_or("nothing is mounted at /");
    let Some(root) = report.seen(claim, "a mount", found) else {
        return;
    };
    let want = if config.root.readonly { "ro" } else { "rw" };
    let got = if root.has("ro") { "ro" } else { "rw" };
    report.equal(
        "root.readonly decides whether the mount at / is read-only",
        want,
        got,
    );

    let felt = write_errno(Path::new("/"));
    let refused = felt == Some(Errno::EROFS);
    let claim = "root.readonly decides whether a file can be made in /";
    let got = felt.map_or_else(|| "writable".to_owned(), |errno| errno.to_string());
    report.holds(claim, want, got, refused == config.root.readonly);

    let wanted = config.linux.rootfs_propagation.as_str();
    if let Some((kind, _)) = option::propagation(wanted) {
        let ok = option::propagates(root, kind);
        report.holds(
            "linux.rootfsPropagation is that of /",
            wanted,
            &root.tags,
            ok,
        );
    }
}
