//! `linux.uidMappings` and `linux.gidMappings`: who the container's users are outside.
#![forbid(unsafe_code)]

use super::namespaces::{Namespaces, USER};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::signal::reset_in;
use nix::unistd::{Gid, Uid, geteuid};
use oci_spec::runtime::LinuxIdMapping;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The id maps of a new user namespace (user_namespaces(7)).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IdMaps {
    uids: Vec<[u32; 3]>,
    gids: Vec<[u32; 3]>,
}

impl IdMaps {
    /// Maps of something else than the container, at these fields.
    pub(crate) fn of(
        uids: &[LinuxIdMapping],
        gids: &[LinuxIdMapping],
        fields: [&str; 2],
    ) -> Result<Self> {
        let [uid_field, gid_field] = fields;
        Ok(Self {
            uids: triples(uids, uid_field)?,
            gids: triples(gids, gid_field)?,
        })
    }

    /// Whether the user namespace that this process is in has these maps.
    pub(crate) fn verify_own(&self) -> Result<()> {
        let same = |file: &str, map: &[[u32; 3]]| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let words = text
                .split_ascii_whitespace()
                .filter_map(|word| word.parse::<u32>().ok());
            words.eq(map.iter().flatten().copied())
        };
        if same("/proc/self/uid_map", &self.uids) && same("/proc/self/gid_map", &self.gids) {
            return Ok(());
        }
        Err(Error::rule(
            Doing::CheckConfig,
            "user namespaces enabled, but both namespace path and non-matching mapping specified \
             -- you may only provide one",
        )
        .field("linux.uidMappings"))
    }

    /// The maps, if there are any: of the user namespace that is made, or what the one that is
    /// joined must have (engines give a path and its maps).
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
        if namespaces.joined & USER != 0 && !mapped {
            return Ok(None);
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

    /// Who user `uid` is outside.
    pub(crate) fn uid_outside(&self, uid: u32) -> Option<u32> {
        let mut maps = self.uids.iter();
        maps.find_map(|[inside, outside, size]| {
            let nth = uid.checked_sub(*inside).filter(|nth| nth < size)?;
            outside.checked_add(nth)
        })
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
    let mut command = Command::new(path);
    command
        .arg(pid.to_string())
        .args(map.iter().flatten().map(u32::to_string))
        .stdin(Stdio::null());
    let output = reset_in(&mut command)
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
    fn an_id_has_one_outside() {
        let maps = IdMaps {
            uids: vec![[0, 1000, 1], [1, 100_000, 10]],
            gids: Vec::new(),
        };
        let outside = [0, 1, 10, 11].map(|uid| maps.uid_outside(uid));
        assert_eq!(outside, [Some(1000), Some(100_000), Some(100_009), None]);
    }

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
