//! Where each field of config.json is decided and applied: the JSON pointer and its file in `src/`.
//!
//! A pointer stands for everything below it that has no line of its own. What is refused or
//! ignored on purpose says so instead of a file.
#![forbid(unsafe_code)]

/// Who answers for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The file in `src/`.
    File(&'static str),
    /// Asked for, it is an error that says so.
    Refused(&'static str),
    /// Read over, for this reason.
    Ignored(&'static str),
}
use Owner::{File, Ignored};

/// Every field of config.md and config-linux.md (runtime-spec 1.3).
#[rustfmt::skip]
pub const FIELDS: &[(&str, Owner)] = &[
    ("/ociVersion", File("plan/mod.rs")),
    ("/root/path", File("rootfs/mod.rs")),
    ("/root/readonly", File("rootfs/pivot.rs")),
    ("/mounts", File("rootfs/mounts.rs")),
    ("/mounts/*/options", File("rootfs/options.rs")),
    ("/mounts/*/uidMappings", File("rootfs/idmap.rs")),
    ("/mounts/*/gidMappings", File("rootfs/idmap.rs")),
    ("/process/terminal", File("run/console.rs")),
    ("/process/consoleSize", File("run/console.rs")),
    ("/process/cwd", File("run/program.rs")),
    ("/process/env", File("run/env.rs")),
    ("/process/args", File("run/program.rs")),
    ("/process/commandLine", Ignored("Windows only")),
    ("/process/rlimits", File("limit/rlimits.rs")),
    ("/process/apparmorProfile", File("confine/labels.rs")),
    ("/process/selinuxLabel", File("confine/labels.rs")),
    ("/process/capabilities", File("confine/caps.rs")),
    ("/process/noNewPrivileges", File("stages/last_mile.rs")),
    ("/process/oomScoreAdj", File("limit/oom.rs")),
    ("/process/scheduler", File("tune/scheduler.rs")),
    ("/process/ioPriority", File("tune/ioprio.rs")),
    ("/process/execCPUAffinity", File("tune/affinity.rs")),
    ("/process/user/uid", File("confine/user.rs")),
    ("/process/user/gid", File("confine/user.rs")),
    ("/process/user/umask", File("confine/user.rs")),
    ("/process/user/additionalGids", File("confine/user.rs")),
    ("/process/user/username", Ignored("Windows only")),
    ("/hostname", File("isolate/names.rs")),
    ("/domainname", File("isolate/names.rs")),
    ("/hooks", File("run/hooks.rs")),
    ("/annotations", File("container/state.rs")),
    ("/linux/namespaces", File("isolate/namespaces.rs")),
    ("/linux/uidMappings", File("isolate/ids.rs")),
    ("/linux/gidMappings", File("isolate/ids.rs")),
    ("/linux/timeOffsets", File("isolate/time.rs")),
    ("/linux/devices", File("rootfs/devices.rs")),
    ("/linux/netDevices", File("isolate/netdevices.rs")),
    ("/linux/cgroupsPath", File("limit/cgroup/path.rs")),
    ("/linux/resources", File("limit/cgroup/resources.rs")),
    ("/linux/resources/devices", File("limit/cgroup/devices.rs")),
    ("/linux/resources/memory/kernel", Ignored("the kernel has dropped it")),
    ("/linux/resources/memory/kernelTCP", Ignored("the kernel has dropped it")),
    ("/linux/intelRdt", File("limit/rdt.rs")),
    ("/linux/memoryPolicy", File("tune/mempolicy.rs")),
    ("/linux/sysctl", File("isolate/sysctl.rs")),
    ("/linux/seccomp", File("confine/seccomp/mod.rs")),
    ("/linux/rootfsPropagation", File("rootfs/pivot.rs")),
    ("/linux/maskedPaths", File("rootfs/hide.rs")),
    ("/linux/readonlyPaths", File("rootfs/hide.rs")),
    ("/linux/mountLabel", File("rootfs/mounts.rs")),
    ("/linux/personality", File("tune/personality.rs")),
    ("/solaris", Ignored("another platform")),
    ("/windows", Ignored("another platform")),
    ("/freebsd", Ignored("another platform")),
    ("/zos", Ignored("another platform")),
    ("/vm", Ignored("for runtimes that start virtual machines")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::config::Config;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::path::Path;

    /// Pointer and type of every field that the schema has.
    fn schema() -> BTreeMap<&'static str, &'static str> {
        let lines = include_str!("pointers.txt").lines();
        let lines = lines.filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split_once(' ').unwrap()).collect()
    }

    /// The line with the longest pointer that stands for this one.
    fn owner(pointer: &str) -> Option<Owner> {
        let stands_for = |(line, _): &&(&str, Owner)| {
            let rest = pointer.strip_prefix(line);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let lines = FIELDS.iter().filter(stands_for);
        lines.max_by_key(|(line, _)| line.len()).map(|line| line.1)
    }

    #[test]
    fn every_owner_is_a_file_and_no_field_is_listed_twice() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for (index, (pointer, owner)) in FIELDS.iter().enumerate() {
            if let File(file) = owner {
                assert!(src.join(file).is_file(), "{pointer}: {file}");
            }
            assert!(
                FIELDS[..index].iter().all(|(other, _)| other != pointer),
                "{pointer}"
            );
        }
    }

    #[test]
    fn every_field_of_the_schema_has_an_owner_and_every_line_is_of_the_schema() {
        let schema = schema();
        assert_eq!(schema.len(), 400);
        for pointer in schema.keys() {
            // What only holds others is theirs: `/linux`, `/process/user`.
            let below = format!("{pointer}/");
            let holds = FIELDS.iter().any(|(line, _)| line.starts_with(&below));
            assert!(owner(pointer).is_some() || holds, "{pointer}: no owner");
        }
        for (line, _) in FIELDS {
            assert!(schema.contains_key(line), "{line}: not in the schema");
        }
    }

    /// A config whose only field is that one, with a value of a wrong type.
    fn wrong(pointer: &str, schema: &BTreeMap<&str, &str>) -> Value {
        let mut value = match schema[pointer] {
            "string" => json!(5),
            _ => json!("@"),
        };
        let mut at = pointer;
        while let Some((above, key)) = at.rsplit_once('/') {
            value = match schema.get(above) {
                Some(types) if types.contains("array") => json!([value]),
                _ => json!({key: value}),
            };
            at = above;
        }
        value
    }

    #[test]
    fn every_owned_field_is_read_and_every_ignored_one_is_not() {
        let schema = schema();
        for (pointer, types) in &schema {
            let config = wrong(pointer, &schema);
            let read = serde_json::from_value::<Config>(config.clone());
            match (owner(pointer), read) {
                (Some(Ignored(_)), read) if *types != "object" => {
                    // The kernel memory limits are read to be warned of.
                    let warned = pointer.starts_with("/linux/resources/memory/kernel");
                    assert!(read.is_ok() || warned, "{pointer} is read");
                }
                (Some(Ignored(_)), _) => {}
                (_, Ok(_)) => panic!("{pointer} is not read: {config}"),
                (_, Err(error)) => {
                    let error = error.to_string();
                    assert!(!error.contains("missing field"), "{pointer}: {error}");
                }
            }
        }
    }
}
