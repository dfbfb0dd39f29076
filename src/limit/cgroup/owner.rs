//! LIMIT: whose the container's cgroup is (config-linux.md, "Cgroup ownership").
//!
//! Who sees nothing but the cgroup, and may write to it, may part it further: systemd in a container
//! does. The limits stay the host's.
#![forbid(unsafe_code)]

use super::dir::Dir;
use crate::bundle::config::{Config, Mount};
use crate::error::{Act, Doing, Explain, Result};
use crate::isolate::ids::IdMaps;
use crate::isolate::namespaces::{CGROUP, Namespaces};
use crate::lexical;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};

/// What delegates a cgroup where the kernel does not tell: cgroups(7).
const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads";

/// The host's id of the user who is to own the cgroup, if it is to have an owner.
pub(super) fn plan(config: &Config, namespaces: &Namespaces, maps: Option<&IdMaps>) -> Option<u32> {
    if namespaces.new & CGROUP == 0 || !config.mounts.iter().any(is_writable) {
        return None;
    }
    let uid = config.process.as_ref()?.user.uid;
    match maps {
        Some(maps) => maps.uid_outside(uid),
        // The runtime's own ids: root owns it already.
        None => (uid != 0).then_some(uid),
    }
}

/// Whether this mount shows the cgroup and lets it be written.
fn is_writable(mount: &Mount) -> bool {
    let mut options = mount.options.iter().rev();
    let last = options.find(|option| matches!(option.as_str(), "ro" | "rw"));
    mount.source == "cgroup"
        && lexical::clean(&mount.destination) == "sys/fs/cgroup"
        && last.is_none_or(|option| option != "ro")
}

/// Gives the directory, and the files that delegate it, to that user.
pub(super) fn give(dir: &Dir, uid: u32) -> Result<()> {
    let give = |name: &str, flags| {
        fchownat(dir.fd(), name, Some(Uid::from_raw(uid)), None, flags)
            .or_else(|errno| match errno {
                // Which there are depends on the controllers.
                Errno::ENOENT => Ok(()),
                errno => Err(errno),
            })
            .doing(Doing::GiveCgroup)
            .on(format_args!("{}/{name}", dir.path()))
            .hint("the config asks for a writable cgroup in a cgroup namespace of its own")
    };
    give("", AtFlags::AT_EMPTY_PATH)?;
    let told = std::fs::read_to_string("/sys/kernel/cgroup/delegate");
    let files = told.as_deref().unwrap_or(FILES);
    files
        .lines()
        .filter(|name| !name.contains('/'))
        .try_for_each(|name| give(name, AtFlags::AT_SYMLINK_NOFOLLOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: u32, mount: &str, namespaces: &str) -> Option<u32> {
        let text = format!(
            r#"{{"process": {{"user": {{"uid": {uid}, "gid": 0}}}},
                "mounts": [{{"type": "cgroup", "source": "cgroup", {mount}}}],
                "linux": {{"namespaces": [{{"type": "user"}}, {{"type": "mount"}}{namespaces}],
                    "uidMappings": [{{"containerID": 0, "hostID": 1000, "size": 1}},
                        {{"containerID": 1, "hostID": 100000, "size": 10}}],
                    "gidMappings": [{{"containerID": 0, "hostID": 1000, "size": 1}}]}}}}"#
        );
        let config: Config = serde_json::from_str(&text).unwrap();
        let namespaces = Namespaces::plan(&config).unwrap();
        let maps = IdMaps::plan(&config, &namespaces).unwrap();
        plan(&config, &namespaces, maps.as_ref())
    }

    #[test]
    fn the_containers_user_owns_a_writable_cgroup_in_a_new_cgroup_namespace() {
        let place = r#""destination": "/sys/fs/cgroup""#;
        let own = r#", {"type": "cgroup"}"#;
        assert_eq!(owner(0, place, own), Some(1000));
        assert_eq!(owner(3, place, own), Some(100_002));
        assert_eq!(owner(99, place, own), None);
        assert_eq!(owner(0, place, ""), None);
        let ro = r#""destination": "/sys/fs/cgroup/", "options": ["rw", "ro"]"#;
        assert_eq!(owner(0, ro, own), None);
        let rw = r#""destination": "/sys/fs//cgroup", "options": ["ro", "rw"]"#;
        assert_eq!(owner(0, rw, own), Some(1000));
        assert_eq!(owner(0, r#""destination": "/elsewhere""#, own), None);
    }
}
