//! CHECKPOINT, mounts: those from outside the container, which criu only names, and is given anew.
#![forbid(unsafe_code)]

use crate::bundle::config::{Config, Mount};
use crate::container::State;
use crate::isolate::namespaces::word;
use crate::limit::cgroup::Record;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Device nodes that every container has; in a user namespace they are mounts of the host's.
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/urandom",
    "/dev/random",
];

/// Whether it shows something of the host's.
pub(super) fn is_bind(mount: &Mount) -> bool {
    mount.typ == "bind"
        || mount
            .options
            .iter()
            .any(|one| one == "bind" || one == "rbind")
}

/// The external mounts: their names in the images, which are the mount points below the root with
/// links resolved, and their sources on the host.
pub(super) fn external(config: &Config, state: &State, cgroup: &Record) -> Vec<(String, String)> {
    let own_view = config
        .linux
        .namespaces
        .iter()
        .any(|namespace| word(namespace.typ) == "cgroup");
    let mut all = Vec::new();
    for mount in &config.mounts {
        let at = |destination: &str| resolve(&state.rootfs, destination);
        if is_bind(mount) {
            let source = state.bundle.join(&mount.source);
            all.push((
                at(&mount.destination),
                source.to_string_lossy().into_owned(),
            ));
        } else if mount.typ == "cgroup" && !own_view {
            // Binds of the cgroup's directories: on v1 one for each hierarchy, on v2 the mount itself.
            // A hybrid host's v2 tree is not shown.
            let is_v2 = cgroup.paths().count() == 1;
            for (controllers, path) in cgroup.paths() {
                let destination = &mount.destination;
                match controllers.strip_prefix("name=").unwrap_or(controllers) {
                    "" if is_v2 => all.push((at(destination), path.to_owned())),
                    "" => {}
                    name => all.push((at(&format!("{destination}/{name}")), path.to_owned())),
                }
            }
        }
    }
    let devices = config
        .linux
        .devices
        .iter()
        .map(|device| device.path.as_str());
    for path in devices.chain(DEVICES) {
        all.push((path.to_owned(), path.to_owned()));
    }
    all
}

/// Where `path` leads below `root`, as an absolute path there. What is missing is taken as it is;
/// nothing leads out.
pub(super) fn resolve(root: &Path, path: &str) -> String {
    const MAX_LINKS: usize = 40;
    let mut ahead: VecDeque<String> = path.split('/').map(str::to_owned).collect();
    let mut found = PathBuf::new();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                found.pop();
                continue;
            }
            _ => found.push(&name),
        }
        let link = match std::fs::read_link(root.join(&found)) {
            Ok(link) if links < MAX_LINKS => link,
            _ => continue,
        };
        links += 1;
        found.pop();
        if link.is_absolute() {
            found.clear();
        }
        for part in link.to_string_lossy().split('/').rev() {
            ahead.push_front(part.to_owned());
        }
    }
    format!("/{}", found.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_nowhere_but_below_the_root() {
        let root = std::env::temp_dir().join(format!("creel-resolve-{}", std::process::id()));
        std::fs::create_dir_all(root.join("run/x")).unwrap();
        std::fs::create_dir_all(root.join("var")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink("../../../..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, want) in [
            ("/var/run/x", "/run/x"),
            ("/var/run/not/there", "/run/not/there"),
            ("up/up/etc", "/etc"),
            ("/a/../../b", "/b"),
            ("/", "/"),
        ] {
            assert_eq!(resolve(&root, path), want, "{path}");
        }
        resolve(&root, "/loop/x");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn binds_and_the_hierarchies_of_v1_are_external() {
        let config: Config = serde_json::from_str(
            r#"{"mounts": [{"destination": "/proc", "type": "proc"},
                {"destination": "/data", "source": "data", "options": ["rbind"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup"}]}"#,
        )
        .unwrap();
        let record: Record = serde_json::from_str(
            r#"{"paths": {"": "/u/c", "cpu,cpuacct": "/cpu/c", "name=systemd": "/s/c"}}"#,
        )
        .unwrap();
        let all = external(&config, &crate::container::state::tests::sample(), &record);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            all[..3],
            [
                pair("/data", "/b/data"),
                pair("/sys/fs/cgroup/cpu,cpuacct", "/cpu/c"),
                pair("/sys/fs/cgroup/systemd", "/s/c"),
            ]
        );
        assert!(all.contains(&pair("/dev/null", "/dev/null")));
        let v2: Record = serde_json::from_str(r#"{"paths": {"": "/u/c"}}"#).unwrap();
        let all = external(&config, &crate::container::state::tests::sample(), &v2);
        assert_eq!(all[1], pair("/sys/fs/cgroup", "/u/c"));
    }
}
