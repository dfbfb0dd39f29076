//! What this runtime can do: the document that `creel features` prints for engines.
//!
//! Features are of the runtime, not of the host: the spec (features.md) calls them "irrelevant to"
//! what the host supports. Keys and order are the spec's, the 4-space indent runc's.
#![forbid(unsafe_code)]

use crate::error::{Doing, Error, Result};
use caps::Capability;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::collections::BTreeMap;

/// The newest version of the runtime-spec that is implemented.
pub const SPEC_VERSION: &str = "1.3.0";

/// The runc whose behaviour is matched.
pub const RUNC_VERSION: &str = "1.5.0";

/// Whether cgroups can be made through systemd.
const SYSTEMD: bool = false;

/// Whether `checkpoint` and `restore` are there.
const CHECKPOINT: bool = false;

const HOOKS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

#[rustfmt::skip]
const MOUNT_OPTIONS: &[&str] = &[
    "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion",
    "lazytime", "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion",
    "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private",
    "ratime", "rbind", "rdev", "rdiratime", "relatime", "remount", "rexec", "rnoatime", "rnodev",
    "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro",
    "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid",
    "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid",
    "symfollow", "sync", "tmpcopyup", "unbindable",
];

const NAMESPACES: &[&str] = &[
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

const MEMORY_POLICY_MODES: &[&str] = &[
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_POLICY_FLAGS: &[&str] = &[
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

/// Annotations whose values reach further than the container: the spec wants engines warned.
const UNSAFE_ANNOTATIONS: &[&str] = &["bundle", "org.systemd.property.", "org.criu.config"];

type List = &'static [&'static str];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: List,
    mount_options: List,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: List,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: List,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: List,
    operators: List,
    archs: List,
    known_flags: List,
    supported_flags: List,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: List,
    flags: List,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

const YES: Enabled = Enabled { enabled: true };

/// Seam: these lists belong beside the compiler that honours them, `confine::seccomp`.
fn seccomp() -> Seccomp {
    Seccomp {
        enabled: true,
        actions: &[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ],
        operators: &[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        archs: &[
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X86_64",
        ],
        known_flags: SECCOMP_FLAGS,
        supported_flags: SECCOMP_FLAGS,
    }
}

const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The names known, in the kernel's order; without those that this kernel has not.
fn capabilities() -> Vec<String> {
    let known = caps::runtime::procfs_all_supported(None).unwrap_or_else(|_| caps::all());
    let mut known: Vec<Capability> = known.into_iter().collect();
    known.sort_by_key(Capability::index);
    known.iter().map(Capability::to_string).collect()
}

/// The document, as text.
///
/// # Errors
/// None known.
pub fn document() -> Result<String> {
    let document = Document {
        oci_version_min: "1.0.0",
        oci_version_max: SPEC_VERSION,
        hooks: HOOKS,
        mount_options: MOUNT_OPTIONS,
        linux: Linux {
            namespaces: NAMESPACES,
            capabilities: capabilities(),
            cgroup: Cgroup {
                v1: true,
                v2: true,
                systemd: SYSTEMD,
                systemd_user: SYSTEMD,
                rdma: true,
            },
            seccomp: seccomp(),
            apparmor: YES,
            selinux: YES,
            intel_rdt: IntelRdt {
                enabled: true,
                schemata: true,
                monitoring: true,
            },
            memory_policy: MemoryPolicy {
                modes: MEMORY_POLICY_MODES,
                flags: MEMORY_POLICY_FLAGS,
            },
            mount_extensions: MountExtensions { idmap: YES },
            net_devices: YES,
        },
        annotations: BTreeMap::from([
            (
                "org.opencontainers.runc.checkpoint.enabled",
                CHECKPOINT.to_string(),
            ),
            ("org.opencontainers.runc.version", RUNC_VERSION.to_owned()),
        ]),
        potentially_unsafe_config_annotations: UNSAFE_ANNOTATIONS,
    };
    let mut out = Vec::new();
    document
        .serialize(&mut Serializer::with_formatter(
            &mut out,
            PrettyFormatter::with_indent(b"    "),
        ))
        .map_err(|error| Error::rule(Doing::Command, error.to_string()))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(|error| Error::rule(Doing::Command, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_a_features_structure_of_the_spec() {
        let text = document().expect("document");
        assert!(
            text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n"),
            "{text}"
        );
        assert!(text.ends_with("\n}\n"));
        let features: oci_spec::runtime::Features = serde_json::from_str(&text).expect("features");
        assert_eq!(features.oci_version_max(), SPEC_VERSION);
        let capabilities = capabilities();
        assert_eq!(capabilities.first().map(String::as_str), Some("CAP_CHOWN"));
        assert!(capabilities.iter().all(|name| name.starts_with("CAP_")));
    }

    #[test]
    fn the_lists_are_sorted_and_have_no_name_twice() {
        let seccomp = seccomp();
        for list in [
            MOUNT_OPTIONS,
            NAMESPACES,
            MEMORY_POLICY_MODES,
            MEMORY_POLICY_FLAGS,
            seccomp.actions,
            seccomp.operators,
            seccomp.archs,
        ] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }
}
