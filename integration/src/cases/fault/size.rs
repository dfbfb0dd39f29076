//! Configs of hostile size: a container or one clear line, in bounded time and memory.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Case, Result};
use crate::check;
use crate::lab::Lab;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// So many bytes of config.json, where a shape takes any number: `FAULT_SIZE` has it in megabytes.
fn bytes() -> usize {
    let given = std::env::var("FAULT_SIZE").ok();
    given.and_then(|size| size.parse().ok()).unwrap_or(10_usize) * 1_000_000
}

/// What makes a config large.
type Shape = fn(&mut Bundle) -> Result;

const SHAPES: [(&str, Shape); 27] = [
    ("an_unknown_string", |bundle| {
        put(bundle, "/novel", "x".repeat(bytes()))
    }),
    ("an_unknown_array", |bundle| {
        put(bundle, "/novel", many(bytes() / 6, |i| json!(i % 1000)))
    }),
    ("one_annotation", |bundle| {
        put(bundle, "/annotations/big", "x".repeat(bytes()))
    }),
    ("many_annotations", |bundle| {
        let one = |i| (format!("key{i:09}"), json!("v"));
        put(
            bundle,
            "/annotations",
            Value::Object((0..bytes() / 20).map(one).collect()),
        )
    }),
    ("one_arg", |bundle| {
        put(
            bundle,
            "/process/args",
            json!(["/bin/true", "x".repeat(1_000_000)]),
        )
    }),
    ("a_program", |bundle| {
        put(bundle, "/process/args", json!(["/".repeat(bytes())]))
    }),
    ("many_args", |bundle| {
        put(
            bundle,
            "/process/args",
            many(bytes() / 12, |_| json!("/bin/true")),
        )
    }),
    ("one_variable", |bundle| {
        put(
            bundle,
            "/process/env/-",
            format!("A={}", "x".repeat(bytes())),
        )
    }),
    ("many_variables", |bundle| {
        put(
            bundle,
            "/process/env",
            many(bytes() / 16, |i| json!(format!("V{i:09}=x"))),
        )
    }),
    ("a_bad_variable", |bundle| {
        put(bundle, "/process/env/-", "x".repeat(bytes()))
    }),
    ("a_cwd", |bundle| {
        put(bundle, "/process/cwd", "/".repeat(bytes()))
    }),
    ("a_hostname", |bundle| {
        put(bundle, "/hostname", "x".repeat(bytes()))
    }),
    ("a_root", |bundle| {
        put(bundle, "/root/path", "x".repeat(bytes()))
    }),
    ("a_cgroups_path", |bundle| {
        put(
            bundle,
            "/linux/cgroupsPath",
            format!("/{}", "x".repeat(bytes())),
        )
    }),
    ("a_destination", |bundle| {
        let at = format!("/{}", "x/".repeat(bytes() / 2));
        put(
            bundle,
            "/mounts/-",
            json!({"destination": at, "type": "tmpfs", "source": "tmpfs"}),
        )
    }),
    ("a_mount_option", |bundle| {
        let option = format!("size={}", "9".repeat(bytes()));
        put(
            bundle,
            "/mounts/-",
            json!({"destination": "/mnt", "type": "tmpfs", "source": "x", "options": [option]}),
        )
    }),
    ("many_mounts", |bundle| {
        bundle.mount("tmpfs", "tmpfs", "/mnt", &[])?;
        let mounts = many(
            10_000,
            |i| json!({"destination": format!("/mnt/{i}"), "type": "bind", "source": "/usr", "options": ["bind"]}),
        );
        let list = bundle.config["mounts"].as_array_mut().ok_or("no mounts")?;
        list.extend(mounts.as_array().into_iter().flatten().cloned());
        Ok(())
    }),
    // The kernel climbs over all that are there already: more would take any runtime minutes.
    ("many_mounts_on_one_another", |bundle| {
        let mount =
            json!({"destination": "/mnt", "type": "bind", "source": "/usr", "options": ["bind"]});
        put(bundle, "/mounts", many(1000, |_| mount.clone()))
    }),
    ("many_devices", |bundle| {
        let device = |i| json!({"path": format!("/dev/d{i}"), "type": "c", "major": 1, "minor": 3});
        put(bundle, "/linux/devices", many(1000, device))
    }),
    ("many_device_rules", |bundle| {
        let rule =
            |i| json!({"allow": i % 2 == 0, "type": "c", "major": i, "minor": i, "access": "rw"});
        put(bundle, "/linux/resources/devices", many(2000, rule))
    }),
    ("many_hooks", |bundle| {
        put(
            bundle,
            "/hooks/poststart",
            many(10_000, |_| json!({"path": "/bin/false"})),
        )
    }),
    ("many_rlimits", |bundle| {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100});
        put(bundle, "/process/rlimits", many(10_000, |_| limit.clone()))
    }),
    ("many_sysctls", |bundle| {
        let one = |i| (format!("net.core.none{i}"), json!("1"));
        put(
            bundle,
            "/linux/sysctl",
            Value::Object((0..10_000).map(one).collect()),
        )
    }),
    ("many_groups", |bundle| {
        put(
            bundle,
            "/process/user/additionalGids",
            many(10_000, |i| json!(i + 1)),
        )
    }),
    ("many_mappings", |bundle| {
        bundle.mapped()?;
        let one = |i| json!({"containerID": i, "hostID": 100_000 + i, "size": 1});
        put(bundle, "/linux/uidMappings", many(65_536, one))
    }),
    ("many_masks", |bundle| {
        put(
            bundle,
            "/linux/maskedPaths",
            many(10_000, |i| json!(format!("/etc/none{i}"))),
        )
    }),
    ("a_large_filter", |bundle| {
        let rule = |i| {
            json!({"names": ["read", "write"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 2, "value": i, "op": "SCMP_CMP_EQ"}]})
        };
        put(
            bundle,
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": many(20_000, rule)}),
        )
    }),
];

/// Texts that are no tree of values of ours, for they are too deep.
const DEEP: [(&str, &str, &str, &str); 4] = [
    ("deep_arrays", "\"novel\": ", "[", "]"),
    ("deep_objects", "\"novel\": ", "{\"a\":", "}"),
    ("deep_annotations", "\"annotations\": ", "{\"a\":", "}"),
    ("deep_arrays_without_end", "\"novel\": ", "[", ""),
];

/// A case for each shape.
pub fn cases() -> Vec<Case> {
    let shapes = SHAPES.iter().map(|(name, shape)| {
        Case::new(&format!("fault_size_of_{name}"), move |lab| {
            let mut bundle = lab.bundle()?;
            bundle.args(&["/bin/true"])?;
            shape(&mut bundle)?;
            bundle.save()?;
            digest(lab, &bundle)
        })
    });
    let deep = DEEP.iter().map(|(name, key, open, close)| {
        Case::new(&format!("fault_size_of_{name}"), move |lab| {
            const LEVELS: usize = 100_000;
            let bundle = lab.bundle()?;
            bundle.save()?;
            let file = bundle.dir.join("config.json");
            let mut text = std::fs::read_to_string(&file)?;
            let inner = if close.is_empty() { "" } else { "1" };
            let tree = format!(
                "{key}{}{inner}{}",
                open.repeat(LEVELS),
                close.repeat(LEVELS)
            );
            text.insert_str(1, &format!("{tree},"));
            std::fs::write(&file, text)?;
            digest(lab, &bundle)
        })
    });
    // A slow machine needs some seconds for each ten megabytes.
    let limit = 60 + u64::try_from(bytes() / 1_000_000).unwrap_or(0) * 6;
    shapes.chain(deep).map(|case| case.limit(limit)).collect()
}

fn put(bundle: &mut Bundle, pointer: &str, value: impl Into<Value>) -> Result {
    bundle.set(pointer, value).map(|_| ())
}

fn many(count: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..count).map(one).collect()
}

/// Has the runtime make, start and delete that container, or refuse it.
fn digest(lab: &Lab, bundle: &Bundle) -> Result {
    let size = std::fs::metadata(bundle.dir.join("config.json"))?.len();
    let container = lab.adopt(&lab.id(), bundle);
    let dir = bundle.dir.to_string_lossy();
    let mut story = String::new();
    for (verb, flags) in [
        ("create", &["--bundle", &dir][..]),
        ("start", &[]),
        ("state", &[]),
        ("delete", &["--force"]),
    ] {
        let begun = std::time::Instant::now();
        let output = container.call(verb, flags, &[])?;
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
        let word = if output.code == 0 {
            "done"
        } else {
            output.err.trim()
        };
        writeln!(
            story,
            "{verb}: {word} ({} ms, {peak} kB)",
            begun.elapsed().as_millis()
        )?;
        check!(
            output.code < 256,
            "{verb} died of signal {}: {}",
            output.code - 256,
            word
        );
        let lines = word.lines().filter(|line| !line.contains("level=warning"));
        check!(lines.count() == 1, "{verb}: not one line: {word}");
        check!(
            word.len() < 10_000,
            "{verb}: an error of {} bytes",
            word.len()
        );
        let room = 100_000 + i64::try_from(size / 1000)? * 25;
        check!(
            peak < room,
            "{verb} took {peak} kB for a config of {} kB",
            size / 1000
        );
        if output.code != 0 && verb != "start" {
            break;
        }
    }
    if let Some(log) = std::env::var_os("FAULT_STORY") {
        let name = lab
            .dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(log)?;
        std::io::Write::write_all(
            &mut file,
            format!("## {name}: {} kB\n{story}", size / 1000).as_bytes(),
        )?;
    }
    Ok(())
}
