//! config.json, read leniently: what a strict reader refuses is exactly what must be looked at.
//!
//! Names the kernel may not know (capabilities, rlimits, flags) stay text, and the corners with
//! many shapes (`resources`) stay JSON. `null` means absent, as Go's encoder may write it.
#![forbid(unsafe_code)]

use crate::asked::Asked;
use oci_spec::runtime::{LinuxIdMapping, LinuxTimeOffset};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn lax<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Declares a struct of config.json in which every field may be missing or `null`.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($(#[$more:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        #[allow(missing_docs)] // the spec documents its fields
        pub struct $name {
            $(#[serde(deserialize_with = "lax")] $(#[$more])* pub $field: $type,)*
        }
    };
}

object! {
    /// The whole document, and what the caller said about it.
    Config {
        process: Process,
        root: Root,
        hostname: String,
        domainname: String,
        mounts: Vec<Mount>,
        linux: Linux,
        #[serde(skip)]
        asked: Asked,
    }
}
object! {
    /// `root`
    Root { readonly: bool, }
}
object! {
    /// `process`, or an exec's process.json
    Process {
        terminal: bool,
        console_size: Option<ConsoleSize>,
        user: User,
        args: Vec<String>,
        env: Vec<String>,
        cwd: String,
        capabilities: Capabilities,
        rlimits: Vec<Rlimit>,
        no_new_privileges: bool,
        apparmor_profile: String,
        oom_score_adj: Option<i32>,
        selinux_label: String,
        io_priority: Option<IoPriority>,
        scheduler: Option<Scheduler>,
        #[serde(rename = "execCPUAffinity")] exec_cpu_affinity: ExecAffinity,
    }
}
object! {
    /// `process.execCPUAffinity`
    ExecAffinity { #[serde(rename = "final")] last: String, }
}
object! {
    /// `process.consoleSize`
    ConsoleSize { height: u32, width: u32, }
}
object! {
    /// `process.user`
    User { uid: u32, gid: u32, umask: Option<u32>, additional_gids: Vec<u32>, }
}
object! {
    /// `process.capabilities`
    Capabilities {
        bounding: Vec<String>,
        effective: Vec<String>,
        inheritable: Vec<String>,
        permitted: Vec<String>,
        ambient: Vec<String>,
    }
}
object! {
    /// One of `process.rlimits`
    Rlimit { #[serde(rename = "type")] kind: String, soft: u64, hard: u64, }
}
object! {
    /// `process.ioPriority`
    IoPriority { class: String, priority: i64, }
}
object! {
    /// `process.scheduler`
    Scheduler {
        policy: String,
        nice: i64,
        priority: u32,
        flags: Vec<String>,
    }
}
object! {
    /// One of `mounts`
    Mount {
        destination: String,
        #[serde(rename = "type")]
        kind: String,
        source: String,
        options: Vec<String>,
        uid_mappings: Vec<Value>,
    }
}
object! {
    /// `linux`
    Linux {
        uid_mappings: Vec<LinuxIdMapping>,
        gid_mappings: Vec<LinuxIdMapping>,
        sysctl: BTreeMap<String, String>,
        resources: Value,
        cgroups_path: String,
        namespaces: Vec<Namespace>,
        devices: Vec<Device>,
        seccomp: Option<Seccomp>,
        rootfs_propagation: String,
        masked_paths: Vec<String>,
        readonly_paths: Vec<String>,
        mount_label: String,
        personality: Option<Personality>,
        time_offsets: BTreeMap<String, LinuxTimeOffset>,
        memory_policy: Option<MemoryPolicy>,
        intel_rdt: Option<IntelRdt>,
        net_devices: BTreeMap<String, NetDevice>,
    }
}
object! {
    /// One of `linux.namespaces`
    Namespace { #[serde(rename = "type")] kind: String, path: String, }
}
object! {
    /// One of `linux.devices`
    Device {
        path: String,
        #[serde(rename = "type")]
        kind: String,
        major: u64,
        minor: u64,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }
}
object! {
    /// `linux.seccomp`
    Seccomp {
        default_action: String,
        default_errno_ret: Option<i32>,
        syscalls: Vec<Rule>,
    }
}
object! {
    /// One of `linux.seccomp.syscalls`
    Rule { names: Vec<String>, action: String, errno_ret: Option<i32>, args: Vec<Value>, }
}
object! {
    /// `linux.personality`
    Personality { domain: String, }
}
object! {
    /// `linux.intelRdt`
    IntelRdt { #[serde(rename = "closID")] clos_id: String, enable_monitoring: bool, }
}
object! {
    /// `linux.memoryPolicy`
    MemoryPolicy { mode: String, nodes: String, flags: Vec<String>, }
}
object! {
    /// One of `linux.netDevices`
    NetDevice { name: String, }
}

impl Config {
    /// Reads what the caller pointed at.
    pub fn read(asked: Asked) -> Result<Config, String> {
        let mut config: Config = json(&asked.config)?;
        if let Some(path) = &asked.process {
            config.process = json(path)?;
        }
        config.asked = asked;
        Ok(config)
    }

    /// Whether this process came in later, beside the container's own.
    pub fn is_exec(&self) -> bool {
        self.asked.process.is_some()
    }

    /// Whether the container got a new namespace of this kind, and not one given by path.
    pub fn creates(&self, kind: &str) -> bool {
        self.linux
            .namespaces
            .iter()
            .any(|ns| ns.kind == kind && ns.path.is_empty())
    }

    /// Whether the container is in a user namespace other than the runtime's.
    pub fn has_users(&self) -> bool {
        self.linux.namespaces.iter().any(|ns| ns.kind == "user")
    }

    /// Whether the image's or the host's `/dev` is shown as it is, which the runtime leaves alone.
    pub fn binds_dev(&self) -> bool {
        self.mounts
            .iter()
            .any(|m| m.destination.trim_end_matches('/') == "/dev" && m.is_bind())
    }
}

impl Mount {
    /// Whether it shows existing files instead of a file system of its own.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|o| o == "bind" || o == "rbind")
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strict_readers_refuse_is_read() {
        let text = r#"{"ociVersion": "1.3.0", "process": {"cwd": "/", "rlimits": null,
            "capabilities": {"bounding": ["CAP_OF_TOMORROW"], "ambient": null},
            "scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_DL_OVERRUN"]}},
            "linux": {"resources": {"pids": {"limit": null}, "devices": [{"type": ""}]}}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.process.capabilities.bounding, ["CAP_OF_TOMORROW"]);
        assert!(
            config
                .linux
                .resources
                .pointer("/pids/limit")
                .unwrap()
                .is_null()
        );
    }

    #[test]
    fn a_namespace_given_by_path_is_not_a_new_one() {
        let text =
            r#"{"linux": {"namespaces": [{"type": "pid"}, {"type": "user", "path": "/x"}]}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert!(config.creates("pid") && !config.creates("user") && config.has_users());
    }
}
