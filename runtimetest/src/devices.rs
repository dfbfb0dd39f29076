//! Devices: the default ones that every container has, and the ones config.json adds.
#![forbid(unsafe_code)]

use crate::config::{Config, Device};
use crate::report::Report;
use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Default devices (config-linux.md): path, major, minor.
const DEFAULT: &[(&str, u64, u64)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Judges `linux.devices` and the default devices.
pub fn check(config: &Config, report: &mut Report) {
    for (path, major, minor) in DEFAULT {
        let listed = config
            .linux
            .devices
            .iter()
            .any(|device| device.path == *path);
        if !listed {
            let kind = "c".to_owned();
            let (major, minor) = (*major, *minor);
            let file_mode = Some(0o666);
            let path = (*path).to_owned();
            let device = Device {
                path,
                kind,
                major,
                minor,
                file_mode,
                uid: None,
                gid: None,
            };
            node("default devices", config, &device, report);
        }
    }
    for device in &config.linux.devices {
        node("linux.devices", config, device, report);
    }
    works(config, report);
    if config.process.terminal && !config.is_exec() {
        let claim = "process.terminal: /dev/console is the container's terminal";
        let ids = |path: &str| fs::metadata(path).map(|data| (data.dev(), data.ino(), data.rdev()));
        let stdin = ids("/proc/self/fd/0").map_err(|error| error.to_string());
        let console = ids("/dev/console").map_err(|error| error.to_string());
        report.holds(claim, &stdin, &console, stdin.is_ok() && stdin == console);
    }
}

fn node(rule: &str, config: &Config, device: &Device, report: &mut Report) {
    let path = &device.path;
    let claim = format!("{rule}: {path} is there");
    let Some(data) = report.seen(&claim, path, fs::symlink_metadata(path)) else {
        return;
    };
    let number = format!("{}:{}", device.major, device.minor);
    // Spec: u is c, and a fifo has no number.
    let want = match device.kind.as_str() {
        "p" => "p".to_owned(),
        "u" => format!("c {number}"),
        kind => format!("{kind} {number}"),
    };
    report.equal(
        format!("{rule}: {path} has the type and number listed"),
        want,
        shown(&data),
    );

    // In a user namespace nobody may make nodes: the host's are shown, with the host's owners.
    if config.has_users() || config.binds_dev() {
        return;
    }
    if let Some(mode) = device.file_mode {
        let octal = |mode: u32| format!("{:04o}", mode & 0o7777);
        let claim = format!("{rule}: {path} has the mode listed, whatever the umask");
        report.equal(claim, octal(mode), octal(data.mode()));
    }
    if let Some(uid) = device.uid {
        report.equal(
            format!("{rule}: {path} belongs to the uid listed"),
            uid,
            data.uid(),
        );
    }
    if let Some(gid) = device.gid {
        report.equal(
            format!("{rule}: {path} belongs to the gid listed"),
            gid,
            data.gid(),
        );
    }
}

fn shown(data: &Metadata) -> String {
    let number = format!("{}:{}", major(data.rdev()), minor(data.rdev()));
    let kind = data.file_type();
    if kind.is_char_device() {
        format!("c {number}")
    } else if kind.is_block_device() {
        format!("b {number}")
    } else if kind.is_fifo() {
        "p".to_owned()
    } else {
        "no device".to_owned()
    }
}

/// The cgroup's device rules could still forbid what the nodes promise.
fn works(config: &Config, report: &mut Report) {
    // What config.json redefines may have a mode that keeps this user out.
    let ours = |path: &str| {
        config
            .linux
            .devices
            .iter()
            .all(|device| device.path != path)
    };
    let mut byte = [1; 1];
    let mut read = |path: &str| File::open(path).and_then(|mut file| file.read(&mut byte));
    for (path, want) in [("/dev/null", 0), ("/dev/zero", 1), ("/dev/urandom", 1)] {
        if ours(path) {
            let got = read(path).map_err(|error| error.to_string());
            report.equal(
                format!("default devices: {path} can be read"),
                Ok(want),
                got,
            );
        }
    }
    if ours("/dev/full") {
        let full = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .and_then(|mut f| f.write(b"x"));
        let got = full.map_err(|error| error.raw_os_error().map(Errno::from_raw));
        let ok = got == Err(Some(Errno::ENOSPC));
        let got = format!("{got:?}");
        report.holds(
            "default devices: /dev/full is always full",
            "ENOSPC",
            got,
            ok,
        );
    }
}
