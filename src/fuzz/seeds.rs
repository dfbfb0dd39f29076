//! What fuzzing begins from: made of what is in the repository, so that it knows what creel knows.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file or folder of the source tree.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a folder by name, if it is there.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).expect("a file to read")))
        .collect();
    found.sort();
    found
}

/// What a door was once not proof against.
#[must_use]
pub fn found(door: &str) -> Vec<(PathBuf, Vec<u8>)> {
    files(&source("hack/fuzz.d/found").join(door))
}

/// What the fuzzer of a door begins with.
#[must_use]
pub fn seeds(door: &str) -> Vec<Vec<u8>> {
    let of = |pointer: &str| -> Vec<Vec<u8>> {
        let parts = configs().into_iter().filter_map(|config| {
            let part = config.pointer(pointer).filter(|part| part.is_object())?;
            Some(serde_json::to_vec(part).expect("JSON"))
        });
        parts.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let texts = |all: &[&str]| all.iter().map(|text| text.as_bytes().to_vec()).collect();
    let mut seeds = match door {
        "config" => {
            let whole = configs().into_iter();
            let mut all: Vec<_> = whole
                .map(|config| serde_json::to_vec(&config).expect("JSON"))
                .collect();
            all.extend(
                files(&source("integration/bad"))
                    .into_iter()
                    .map(|(_, bytes)| bytes),
            );
            all
        }
        "process" => of("/process"),
        "seccomp" => of("/linux/seccomp"),
        "update" => of("/linux/resources"),
        "mount_options" => mount_options(),
        "cgroups_path" => texts(CGROUPS_PATHS),
        "annotations" => texts(ANNOTATIONS),
        "procfs" => texts(PROCFS),
        "dbus" => crate::limit::cgroup::systemd::fuzz::dbus_seeds(),
        "stage_socket" => crate::stages::wire::fuzz::seeds(),
        "netlink" => crate::sys::netlink::fuzz::seeds(),
        "criu" => crate::container::fuzz::criu_seeds(),
        _ => Vec::new(),
    };
    let kept = files(&source("hack/fuzz.d/seeds").join(door)).into_iter();
    seeds.extend(kept.chain(found(door)).map(|(_, bytes)| bytes));
    seeds
}

/// The words of seeds, for libFuzzer to put together.
#[must_use]
pub fn words(seeds: &[Vec<u8>]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for seed in seeds {
        match serde_json::from_slice::<Value>(seed) {
            Ok(json) => collect(&json, &mut words),
            Err(_) => {
                let text = String::from_utf8_lossy(seed);
                let parts = text.split(|c: char| c.is_control() || " ,;\"".contains(c));
                words.extend(parts.filter(|part| part.is_ascii()).map(str::to_owned));
            }
        }
    }
    words.retain(|word| (2..40).contains(&word.len()) && !word.contains(['\0', '\u{fffd}']));
    words
}

fn collect(json: &Value, words: &mut BTreeSet<String>) {
    match json {
        Value::Object(members) => {
            for (key, value) in members {
                words.insert(format!("\"{key}\":"));
                collect(value, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        Value::String(text) => drop(words.insert(format!("\"{text}\""))),
        _ => {}
    }
}

/// Docker's config.json, creel's own, one with every field, and each with every fault that the
/// integration tests know.
fn configs() -> Vec<Value> {
    let read = |path: &str| std::fs::read(source(path)).expect("a config.json");
    let base: Value =
        serde_json::from_slice(&read("integration/data/docker-default.json")).unwrap();
    let full: Value = serde_json::from_slice(&read("hack/fuzz.d/seeds/config/full.json")).unwrap();
    let mut all = vec![base.clone(), full.clone()];
    all.extend(
        crate::cli::specs()
            .iter()
            .map(|text| serde_json::from_str(text).unwrap()),
    );
    let mut plain = all[2].clone();
    plain["linux"]["seccomp"] = Value::Null;
    for (_, bytes) in files(&source("integration/bad")) {
        let Ok(patch) = serde_json::from_slice::<Value>(&bytes) else {
            continue;
        };
        let mut config = plain.clone();
        merge(&mut config, patch);
        all.push(config);
    }
    all
}

/// RFC 7396, as `integration/bad` is to be read.
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

fn mount_options() -> Vec<Vec<u8>> {
    let known = crate::rootfs::options::known();
    let mut all = vec![
        known.join("\n"),
        known.join(","),
        "mode=755,size=64k\nnewinstance".into(),
    ];
    all.push("context=\"system_u:object_r:x:s0:c1,c2\"\nro".into());
    for config in configs() {
        for mount in config["mounts"].as_array().into_iter().flatten() {
            let options = mount["options"].as_array().into_iter().flatten();
            let options: Vec<_> = options.filter_map(Value::as_str).collect();
            all.push(options.join("\n"));
        }
    }
    all.sort();
    all.dedup();
    all.into_iter().map(String::into_bytes).collect()
}

const CGROUPS_PATHS: &[&str] = &[
    "",
    "/docker/abc",
    "a/b\n/docker/x\n4:cpu,cpuacct:/docker/x/sub\n0::/user/session",
    "/../../etc",
    "a/../../b/./c\n/\n4:cpu,cpuacct:/own\n0::/",
    "system.slice:docker:12",
    ":p:n",
    "-.slice:p:n",
    "kubepods-besteffort-podX.slice:cri:0a1b",
    "user.slice:podman:x\n/\n0::/../..",
];

const ANNOTATIONS: &[&str] = &[
    "CollectMode\n'inactive-or-failed'",
    "TimeoutStopSec\nuint64 5",
    "TimeoutStopUSec\n@t 5000000",
    "TimeoutStopSec\n1.5e3",
    "CPUWeight\nuint64 0x64",
    "After\n['a.service', \"b\\u00e9\\n\"]",
    "Before\n@as []",
    "Delegate\nboolean true",
    "MemoryMax\nint64 -9223372036854775808",
    "Some\n[[uint16 010], [1, 2]]",
];

const PROCFS: &[&str] = &[
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
     32 31 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct rw,ro master:3 - cgroup cgroup rw,cpu,cpuacct\n\
     34 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
     35 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
     4:cpu,cpuacct:/docker/x/sub\n9:name=systemd:/s\n0::/u\n",
    "some avg10=0.12 avg60=1.00 avg300=99.99 total=18446744073709551615\nfull avg10=0.00 avg300=1.5\n",
    "8:0 Read 123\n8:16 456\nTotal 579\n",
    "mlx5_0 hca_handle=2 hca_object=max\n",
    "anon 1\nfile 2\nmax -5\nusage_usec 77\n",
    "0-3,7,9-12\n",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_door_holds_for_what_its_fuzzer_begins_with_and_has_found() {
        for (name, door) in crate::fuzz::DOORS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} begins with nothing");
            for seed in seeds {
                println!("{name}: {}", String::from_utf8_lossy(&seed));
                door(&seed);
            }
        }
    }

    #[test]
    fn most_seeds_of_config_are_plans() {
        let planned =
            |seed: &Vec<u8>| serde_json::from_slice::<crate::bundle::config::Config>(seed).is_ok();
        let seeds = seeds("config");
        assert!(seeds.iter().filter(|seed| planned(seed)).count() > seeds.len() / 2);
    }
}
