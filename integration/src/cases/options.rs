//! Each mount option, as the flag that mountinfo shows.
#![forbid(unsafe_code)]

use crate::case::{Case, Need, Result};
use crate::check;
use crate::kernel::mount_at;
use crate::lab::Lab;

/// (options, what must be among the mount's flags, what must not)
const BIND: [(&str, &str, &str); 19] = [
    ("ro", "ro", "rw"),
    ("rw", "rw", "ro"),
    ("nosuid", "nosuid", ""),
    ("suid", "", "nosuid"),
    ("nodev", "nodev", ""),
    ("dev", "", "nodev"),
    ("noexec", "noexec", ""),
    ("exec", "", "noexec"),
    ("noatime", "noatime", "relatime"),
    ("atime", "relatime", "noatime"),
    ("nodiratime", "nodiratime", ""),
    ("diratime", "", "nodiratime"),
    ("relatime", "relatime", "noatime"),
    ("strictatime", "", "relatime"),
    ("nosuid,suid", "", "nosuid"),
    ("suid,nosuid", "nosuid", ""),
    ("ro,rw", "rw", "ro"),
    ("ro,nosuid,nodev,noexec,noatime", "noexec", "rw"),
    ("defaults", "rw", "ro"),
];

/// Options of a file system, as its super block shows them.
const SUPER: [(&str, &str); 3] = [
    ("sync", "sync"),
    ("dirsync", "dirsync"),
    ("lazytime", "lazytime"),
];

/// Options that newer runtimes know, on a bind.
const NEWER: [(&str, &str, (u32, u32)); 5] = [
    ("nosymfollow", "nosymfollow", (5, 10)),
    ("rnosuid", "nosuid", (5, 12)),
    ("rnodev", "nodev", (5, 12)),
    ("rnoexec", "noexec", (5, 12)),
    ("rnoatime", "noatime", (5, 12)),
];

/// One case for each option.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (options, want, without) in BIND {
        let name = format!("mount_option_{}", options.replace(',', "_then_"));
        cases.push(Case::new(&name, move |lab| {
            bind(lab, options, want, without)
        }));
    }
    for (option, want) in SUPER {
        let name = format!("mount_option_{option}");
        cases.push(Case::new(&name, move |lab| on_super(lab, option, want)));
    }
    for (option, want, (major, minor)) in NEWER {
        let name = format!("mount_option_{option}");
        let case = Case::new(&name, move |lab| bind(lab, option, want, ""));
        cases.push(case.needs(&[Need::Kernel(major, minor)]));
    }
    cases
}

fn bind(lab: &Lab, options: &str, want: &str, without: &str) -> Result {
    let source = lab.directory("source")?;
    let mut bundle = lab.idle()?;
    let list: Vec<&str> = ["bind"].into_iter().chain(options.split(',')).collect();
    bundle.mount("bind", &source, "/mnt", &list)?;
    let container = lab.started(&bundle)?;
    let flags = mount_at(container.executes("sleep")?, "/mnt")?.mount_options;
    check!(
        want.is_empty() || flags.contains_key(want),
        "no {want} among {flags:?}"
    );
    check!(!flags.contains_key(without), "{without} among {flags:?}");
    Ok(())
}

fn on_super(lab: &Lab, option: &str, want: &str) -> Result {
    let mut bundle = lab.idle()?;
    bundle.mount("tmpfs", "tmpfs", "/mnt", &[option])?;
    let container = lab.started(&bundle)?;
    let mount = mount_at(container.executes("sleep")?, "/mnt")?;
    let flags = mount.super_options;
    check!(flags.contains_key(want), "no {want} among {flags:?}");
    Ok(())
}
