//! Copy-up: a tmpfs with `tmpcopyup` begins with what the image has at its mount point.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::resolved;
use crate::report::Report;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Judges `tmpcopyup` among the options of a mount; needs `--image` to compare with.
pub fn check(config: &Config, report: &mut Report) {
    let Some(image) = &config.asked.image else {
        return;
    };
    let mounts = config.mounts.iter();
    for mount in mounts.filter(|m| m.options.iter().any(|option| option == "tmpcopyup")) {
        let at = resolved(&mount.destination);
        let claim = format!("mounts: {at} holds what the image has there");
        let want = tree(&image.join(at.trim_start_matches('/')));
        let got = tree(Path::new(&at));
        match (want, got) {
            (Ok(want), Ok(got)) => report.equal(claim, want, got),
            (want, got) => report.holds(claim, format!("{want:?}"), format!("{got:?}"), false),
        }
    }
}

/// Every file below, with its mode, owner and content (a link's is its target), sorted by name.
fn tree(top: &Path) -> std::io::Result<Vec<String>> {
    let mut all = Vec::new();
    let mut ahead = vec![top.to_owned()];
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let data = fs::symlink_metadata(&path)?;
            let content = match data.file_type() {
                kind if kind.is_file() => String::from_utf8_lossy(&fs::read(&path)?).into_owned(),
                kind if kind.is_symlink() => fs::read_link(&path)?.to_string_lossy().into_owned(),
                _ => String::new(),
            };
            let name = path.strip_prefix(top).unwrap_or(&path).display();
            let (mode, uid, gid) = (data.mode(), data.uid(), data.gid());
            all.push(format!("{name} {mode:o} {uid}:{gid} {content}"));
            if data.is_dir() {
                ahead.push(path);
            }
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::tree;

    #[test]
    fn a_tree_is_like_itself_and_not_empty() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let all = tree(&here).unwrap();
        assert!(all.iter().any(|line| line.starts_with("copyup.rs 1006")));
        assert_eq!(all, tree(&here).unwrap());
    }
}
