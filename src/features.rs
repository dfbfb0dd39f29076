//! What this runtime can do: the document that `creel features` prints for engines.
//!
//! Features are of the runtime, not of the host: the spec (features.md) calls them "irrelevant to"
//! what the host supports. Keys and order are the spec's, the 4-space indent runc's.
#![forbid(unsafe_code)]

use crate::confine::seccomp::features;
use crate::error::{Doing, Error, Result};
use crate::isolate::namespaces::KINDS;
use crate::rootfs::options;
use crate::run::hooks::Kind;
use crate::tune::mempolicy;
use caps::Capability;
use oci_spec::runtime::LinuxSeccompAction;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use std::collections::BTreeMap;

/// The newest version of the runtime-spec that is implemented.
pub const SPEC_VERSION: &str = "1.3.0";

/// The runc whose behaviour is matched.
pub const RUNC_VERSION: &str = "1.5.0";

/// Whether cgroups can be made through systemd.
const SYSTEMD: bool = true;

/// Whether `checkpoint` and `restore` are there.
const CHECKPOINT: bool = true;

/// Annotations whose values reach further than the container: the spec wants engines warned.
const UNSAFE_ANNOTATIONS: &[&str] = &["bundle", "org.systemd.property.", "org.criu.config"];

type List = Vec<String>;

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
    actions: Vec<LinuxSeccompAction>,
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

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> List {
    names.into_iter().map(str::to_owned).collect()
}

/// Each from the part that honours it.
fn seccomp() -> Seccomp {
    Seccomp {
        enabled: true,
        actions: features::actions(),
        operators: list(features::operators().iter().copied()),
        archs: list(features::archs().iter().copied()),
        known_flags: list(features::known_flags().iter().copied()),
        supported_flags: list(features::supported_flags()),
    }
}

/// The names known, in the kernel's order, whether this kernel has them or not.
fn capabilities() -> Vec<String> {
    let mut known: Vec<Capability> = caps::all().into_iter().collect();
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
        hooks: list(Kind::ALL.iter().map(|kind| kind.name())),
        mount_options: options::known(),
        linux: Linux {
            namespaces: list(KINDS.iter().map(|kind| kind.2)),
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
                modes: list(mempolicy::MODES.iter().map(|(name, _)| *name)),
                flags: list(mempolicy::FLAGS.iter().map(|(name, _)| *name)),
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
        potentially_unsafe_config_annotations: list(UNSAFE_ANNOTATIONS.iter().copied()),
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
            options::known(),
            list(KINDS.iter().map(|kind| kind.2)),
            list(mempolicy::MODES.iter().map(|(name, _)| *name)),
            list(mempolicy::FLAGS.iter().map(|(name, _)| *name)),
            seccomp.operators,
            seccomp.archs,
        ] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
    }
}
