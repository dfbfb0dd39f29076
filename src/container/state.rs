//! What is remembered of a container between commands: `state.json`.
//!
//! It is the OCI state, a little that `state` and `list` print, and a private object. So a hook's
//! stdin is this without the rest, and `cat` answers most questions.
#![forbid(unsafe_code)]

use super::status::Status;
use crate::error::{Doing, Error, Result};
use crate::limit::cgroup::Record;
use crate::log::as_go_writes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The format of the private object; a newer one is refused, not misread.
pub const FORMAT: u32 = 1;

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the spec that config.json says.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// As of the last write: only [`Status::Creating`] is ever believed.
    pub status: Status,
    /// Init, in the pid namespace of the runtime; 0 before the clone.
    pub pid: i32,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// config.json's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When, in RFC 3339 with nanoseconds, UTC.
    pub created: String,
    /// The user id of who created it.
    pub owner: u32,
    /// The root filesystem, absolute.
    pub rootfs: PathBuf,
    /// What only creel reads.
    pub creel: Private,
}

/// The private part of `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Private {
    /// See [`FORMAT`].
    #[serde(deserialize_with = "known_format")]
    pub format: u32,
    /// When init started, in clock ticks since boot: with the pid, its identity.
    pub start_time: u64,
    /// How to find the cgroup again.
    #[serde(default)]
    pub cgroup: Record,
    /// How to find its resource group again, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<crate::limit::rdt::Record>,
    /// The namespaces that init lives in and the runtime does not.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// `--systemd-cgroup` as it was at `create`, for what comes later.
    #[serde(default)]
    pub systemd_cgroup: bool,
    /// `create` was given `--no-new-keyring`.
    #[serde(default)]
    pub no_new_keyring: bool,
}

/// Namespace types, in the spec's words: `pid`, `network`, `mount`, ... (not those that
/// `LinuxNamespaceType` prints: it says `net` and `mnt`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Made for this container.
    #[serde(default)]
    pub own: Vec<String>,
    /// Entered by path: other processes live in them too.
    #[serde(default)]
    pub joined: Vec<String>,
}

impl Namespaces {
    /// Whether one of that type was made for this container.
    #[must_use]
    pub fn owns(&self, kind: &str) -> bool {
        self.own.iter().any(|own| own == kind)
    }

    /// All that an exec'd process must enter.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.own.iter().chain(&self.joined).map(String::as_str)
    }
}

fn known_format<'de, D: serde::Deserializer<'de>>(de: D) -> std::result::Result<u32, D::Error> {
    let format = u32::deserialize(de)?;
    if format > FORMAT {
        let why = format!("format {format} was written by a newer creel; this one knows {FORMAT}");
        return Err(serde::de::Error::custom(why));
    }
    Ok(format)
}

/// What the spec calls the state of a container: a hook's stdin.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl State {
    /// The OCI state, as hooks and the seccomp agent read it, with the status it has at the time.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn for_hooks(&self, status: Status) -> Result<Vec<u8>> {
        let state = OciState {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        serde_json::to_vec(&state)
            .map_err(|error| Error::rule(Doing::WriteState, error.to_string()).on(&self.id))
    }

    /// What `state` and `list` print of it.
    #[must_use]
    pub fn report(&self, status: Status, owner: String) -> Report<'_> {
        Report {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner,
        }
    }
}

/// A container as `state` and `list` print it: runc's keys, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// 0 when stopped.
    pub pid: i32,
    /// Derived, see [`super::status`].
    pub status: Status,
    /// The bundle.
    pub bundle: &'a PathBuf,
    rootfs: &'a PathBuf,
    /// When.
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// A user's name, or `#uid`, or nothing.
    pub owner: String,
}

impl Report<'_> {
    /// Two-space indent, no newline at the end.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(as_go_writes)
            .map_err(|error| Error::rule(Doing::ReadState, error.to_string()).on(self.id))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn sample() -> State {
        State {
            oci_version: "1.3.0".into(),
            id: "web1".into(),
            status: Status::Created,
            pid: 42,
            bundle: "/b".into(),
            annotations: BTreeMap::from([("k".into(), "<v>".into())]),
            created: "2026-11-23T21:42:56.5Z".into(),
            owner: 0,
            rootfs: "/b/rootfs".into(),
            creel: Private {
                format: FORMAT,
                start_time: 7,
                ..Private::default()
            },
        }
    }

    #[test]
    fn state_prints_runcs_keys_in_runcs_order() {
        let json = sample()
            .report(Status::Running, String::new())
            .to_json()
            .expect("json");
        assert_eq!(
            json,
            "{\n  \"ociVersion\": \"1.3.0\",\n  \"id\": \"web1\",\n  \"pid\": 42,\n  \
             \"status\": \"running\",\n  \"bundle\": \"/b\",\n  \"rootfs\": \"/b/rootfs\",\n  \
             \"created\": \"2026-11-23T21:42:56.5Z\",\n  \"annotations\": {\n    \
             \"k\": \"\\u003cv\\u003e\"\n  },\n  \"owner\": \"\"\n}"
        );
    }

    #[test]
    fn a_stopped_container_has_no_pid_and_empty_annotations_are_left_out() {
        let mut state = sample();
        state.annotations.clear();
        let report = state.report(Status::Stopped, String::new());
        assert_eq!(report.pid, 0);
        assert!(!report.to_json().expect("json").contains("annotations"));
        let hooks = String::from_utf8(state.for_hooks(Status::Stopped).expect("json"));
        assert_eq!(
            hooks.as_deref(),
            Ok(
                "{\"ociVersion\":\"1.3.0\",\"id\":\"web1\",\"status\":\"stopped\",\"bundle\":\"/b\"}"
            )
        );
    }

    #[test]
    fn state_json_reads_back_and_a_newer_format_is_refused() {
        let json = serde_json::to_string(&sample()).expect("json");
        assert_eq!(
            serde_json::from_str::<State>(&json).expect("state"),
            sample()
        );
        let newer = json.replace("\"format\":1", "\"format\":2");
        let error = serde_json::from_str::<State>(&newer).expect_err("must be refused");
        assert!(error.to_string().contains("newer creel"), "{error}");
    }
}
