//! Each mount option, as the flag that mountinfo shows.
#![forbid(unsafe_code)]

use crate::case::{Case, Need, Result};
use crate::check;
use crate::kernel::mount_at;
use crate::lab::Lab;
use crate::scene::own_mounts;
use nix::mount::{MsFlags, mount};

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

/// Words that change no flag that mountinfo shows, or only take one back; all must be taken.
const QUIET: [&str; 14] = [
    "rnorelatime",
    "norelatime",
    "nostrictatime",
    "async",
    "nolazytime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "symfollow",
    "nosymfollow,symfollow",
    "noatime,relatime",
];

/// (recursive option, the flag, whether it is set; the source has the opposite)
const RECURSIVE: [(&str, &str, bool); 17] = [
    ("rro", "ro", true),
    ("rrw", "ro", false),
    ("rnosuid", "nosuid", true),
    ("rsuid", "nosuid", false),
    ("rnodev", "nodev", true),
    ("rdev", "nodev", false),
    ("rnoexec", "noexec", true),
    ("rexec", "noexec", false),
    ("rnodiratime", "nodiratime", true),
    ("rdiratime", "nodiratime", false),
    ("rnoatime", "noatime", true),
    ("ratime", "noatime", false),
    ("rrelatime", "relatime", true),
    ("rstrictatime", "relatime", false),
    ("rnostrictatime", "relatime", true),
    ("rnosymfollow", "nosymfollow", true),
    ("rsymfollow", "nosymfollow", false),
];

/// Options of a file system, as its super block shows them.
const SUPER: [(&str, &str); 3] = [
    ("sync", "sync"),
    ("dirsync", "dirsync"),
    ("lazytime", "lazytime"),
];

/// Options that newer runtimes know, on a bind.
const NEWER: [(&str, &str, (u32, u32)); 1] = [("nosymfollow", "nosymfollow", (5, 10))];

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
    for options in QUIET {
        let name = format!("mount_option_{}", options.replace(',', "_then_"));
        cases.push(Case::new(&name, move |lab| {
            bind(lab, options, "relatime", "nosymfollow")
        }));
    }
    for (option, flag, set) in RECURSIVE {
        let name = format!("mount_option_{option}");
        let case = Case::new(&name, move |lab| recursive(lab, option, flag, set));
        cases.push(case.needs(&[Need::Kernel(5, 14)]));
    }
    cases
}

/// The mount and one below it.
fn recursive(lab: &Lab, option: &str, flag: &str, set: bool) -> Result {
    own_mounts(MsFlags::MS_PRIVATE)?;
    let source = lab.directory("source")?;
    let below = source.join("below");
    let plain = MsFlags::empty();
    let mut opposite = match flag {
        "ro" => MsFlags::MS_RDONLY,
        "nosuid" => MsFlags::MS_NOSUID,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "noatime" => MsFlags::MS_NOATIME,
        "relatime" => MsFlags::MS_RELATIME,
        // MS_NOSYMFOLLOW
        _ => MsFlags::from_bits_retain(256),
    };
    if set {
        opposite = match flag {
            "relatime" => MsFlags::MS_STRICTATIME,
            _ => plain,
        };
    }
    mount(Some("tmpfs"), &source, Some("tmpfs"), plain, None::<&str>)?;
    std::fs::create_dir(&below)?;
    mount(Some("tmpfs"), &below, Some("tmpfs"), plain, None::<&str>)?;
    for at in [&below, &source] {
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | opposite;
        mount(None::<&str>, at, None::<&str>, again, None::<&str>)?;
    }
    let mut bundle = lab.idle()?;
    bundle.mount("bind", &source, "/mnt", &["rbind", option])?;
    let container = lab.started(&bundle)?;
    let pid = container.executes("sleep")?;
    for at in ["/mnt", "/mnt/below"] {
        let flags = mount_at(pid, at)?.mount_options;
        let has = flags.contains_key(flag);
        check!(has == set, "{at}: {flag} is {has} among {flags:?}");
    }
    Ok(())
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
