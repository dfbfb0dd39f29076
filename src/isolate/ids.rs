//! `linux.uidMappings` and `linux.gidMappings`: who the container's users are outside.
#![forbid(unsafe_code)]

use super::namespaces::{Namespaces, USER};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::unistd::{Gid, Uid, geteuid};
use oci_spec::runtime::LinuxIdMapping;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The id maps of a new user namespace (user_namespaces(7)).
#[derive(Debug)]
pub(crate) struct IdMaps {
    uids: Vec<[u32; 3]>,
    gids: Vec<[u32; 3]>,
}

impl IdMaps {
    /// `None` when no user namespace is made.
    pub(crate) fn plan(config: &Config, namespaces: &Namespaces) -> Result<Option<Self>> {
        let linux = &config.linux;
        let uids = triples(&linux.uid_mappings, "linux.uidMappings")?;
        let gids = triples(&linux.gid_mappings, "linux.gidMappings")?;
        let mapped = !uids.is_empty() || !gids.is_empty();
        let wrong = |why: &'static str| {
            Err(Error::rule(Doing::CheckConfig, why).field("linux.uidMappings"))
        };
        if !namespaces.has(USER) {
            return if mapped {
                wrong("id mappings are given, but linux.namespaces has no user namespace")
            } else {
                Ok(None)
            };
        }
        if namespaces.joined & USER != 0 {
            return if mapped {
                wrong("id mappings are given for a user namespace that is joined by path")
            } else {
                Ok(None)
            };
        }
        if uids.is_empty() || gids.is_empty() {
            return wrong(
                "a new user namespace needs mappings in linux.uidMappings and linux.gidMappings",
            );
        }
        Ok(Some(Self { uids, gids }))
    }

    /// Whether user `uid` exists inside.
    pub(crate) fn has_uid(&self, uid: u32) -> bool {
        covers(&self.uids, uid)
    }

    /// Whether group `gid` exists inside.
    pub(crate) fn has_gid(&self, gid: u32) -> bool {
        covers(&self.gids, gid)
    }

    /// Whether the kernel will refuse setgroups(2) in there: we map ourselves, unprivileged.
    pub(crate) fn deny_setgroups(&self) -> bool {
        !geteuid().is_root() && self.only_own()
    }

    /// Writes the maps of process `pid`, which waits in its new user namespace.
    ///
    /// An unprivileged caller may map itself; more takes newuidmap(1) and newgidmap(1), which
    /// check /etc/subuid and /etc/subgid.
    pub(crate) fn write(&self, pid: i32) -> Result<()> {
        if geteuid().is_root() || self.only_own() {
            if self.deny_setgroups() {
                put(pid, "setgroups", "deny")?;
            }
            put(pid, "uid_map", &text(&self.uids))?;
            return put(pid, "gid_map", &text(&self.gids));
        }
        run("newuidmap", pid, &self.uids)?;
        run("newgidmap", pid, &self.gids)
    }

    fn only_own(&self) -> bool {
        let own = |map: &[[u32; 3]], id: u32| matches!(map, [[_, outside, 1]] if *outside == id);
        own(&self.uids, Uid::effective().as_raw()) && own(&self.gids, Gid::effective().as_raw())
    }
}

fn covers(map: &[[u32; 3]], id: u32) -> bool {
    map.iter()
        .any(|[inside, _, size]| id.checked_sub(*inside).is_some_and(|n| n < *size))
}

fn triples(mappings: &[LinuxIdMapping], field: &str) -> Result<Vec<[u32; 3]>> {
    mappings
        .iter()
        .enumerate()
        .map(|(index, map)| {
            if map.size() == 0 {
                return Err(
                    Error::rule(Doing::CheckConfig, "a mapping of size 0 maps nothing")
                        .field(format!("{field}[{index}].size")),
                );
            }
            Ok([map.container_id(), map.host_id(), map.size()])
        })
        .collect()
}

fn text(map: &[[u32; 3]]) -> String {
    map.iter()
        .fold(String::new(), |mut out, [inside, outside, size]| {
            // Writing to a String cannot fail.
            writeln!(out, "{inside} {outside} {size}").ok();
            out
        })
}

fn put(pid: i32, file: &str, text: &str) -> Result<()> {
    let field = if file == "gid_map" {
        "linux.gidMappings"
    } else {
        "linux.uidMappings"
    };
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text)
        .doing(Doing::MapIds)
        .on(file)
        .field(field)
}

fn run(program: &str, pid: i32, map: &[[u32; 3]]) -> Result<()> {
    let fail = |why: String| {
        Err(Error::rule(Doing::MapIds, why)
            .on(program)
            .field("linux.uidMappings")
            .hint("more than one's own id takes newuidmap, newgidmap (package uidmap) and entries in /etc/subuid and /etc/subgid"))
    };
    let path = ["/usr/bin", "/usr/local/bin", "/bin", "/sbin", "/usr/sbin"]
        .map(|dir| Path::new(dir).join(program));
    let Some(path) = path.iter().find(|path| path.exists()) else {
        return fail("not installed".to_owned());
    };
    let output = Command::new(path)
        .arg(pid.to_string())
        .args(map.iter().flatten().map(u32::to_string))
        .stdin(Stdio::null())
        .output()
        .doing(Doing::MapIds)
        .on(program)?;
    if output.status.success() {
        return Ok(());
    }
    fail(
        String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', "; "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Option<IdMaps>> {
        let config: Config = serde_json::from_str(json).unwrap();
        IdMaps::plan(&config, &Namespaces::plan(&config)?)
    }

    const MAPS: &str = r#""uidMappings":[{"containerID":0,"hostID":1000,"size":10}],
                          "gidMappings":[{"containerID":0,"hostID":1000,"size":10}]"#;

    #[test]
    fn maps_are_written_in_the_kernels_order() {
        let maps = plan(&format!(
            r#"{{"linux":{{"namespaces":[{{"type":"user"}}],{MAPS}}}}}"#
        ))
        .unwrap();
        let maps = maps.unwrap();
        assert_eq!(text(&maps.uids), "0 1000 10\n");
        assert!(maps.has_uid(9) && !maps.has_uid(10) && maps.has_gid(0));
    }

    #[test]
    fn maps_and_user_namespace_go_together() {
        for json in [
            format!(r#"{{"linux":{{{MAPS}}}}}"#),
            r#"{"linux":{"namespaces":[{"type":"user"}]}}"#.to_owned(),
            format!(
                r#"{{"linux":{{"namespaces":[{{"type":"user","path":"/proc/1/ns/user"}}],{MAPS}}}}}"#
            ),
        ] {
            assert!(
                plan(&json)
                    .unwrap_err()
                    .to_string()
                    .contains("linux.uidMappings")
            );
        }
    }
}
