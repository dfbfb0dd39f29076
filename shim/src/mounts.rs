//! The root filesystem as containerd hands it over: a list of mounts.
#![forbid(unsafe_code)]

use crate::status::{Doing, Result, Status};
use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The word that makes us mount one thing and end.
pub const ROLE: &str = "-mount";
/// Beside the root: where the layers of an overlay are shown with their ids mapped while it is mounted.
pub const LOWER: &str = "lower";
/// What mount(2) takes of options: a page, with its end.
const PAGE: usize = 4095;

/// Mounts the list onto a directory, in order; on failure, nothing stays mounted.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(target).doing(target.display())?;
    for one in mounts {
        let done = mount_one(one, target).doing(format_args!(
            "mount {} at {}",
            one.type_,
            target.display()
        ));
        if done.is_err() {
            unmount_all(target);
            return done;
        }
    }
    Ok(())
}

fn mount_one(one: &Mount, target: &Path) -> Result<()> {
    let at = if one.target.is_empty() {
        target.to_owned()
    } else {
        inside(target, &one.target)?
    };
    let (options, maps) = without_maps(&one.options)?;
    let (flags, data) = parse(&options);
    match maps {
        // It takes mapped layers, and is never mapped itself.
        Some(maps) if one.type_ == "overlay" => {
            let lower = target.with_file_name(LOWER);
            std::fs::create_dir_all(&lower)?;
            let done = mount_mapped(one, &at, flags, &data, (&lower, &maps));
            unmount_all(&lower);
            std::fs::remove_dir(&lower).or(done)
        }
        Some([uids, gids]) => {
            mount_with(&one.source, &at, &one.type_, flags, &data)?;
            Ok(creel::attach_mapped(&at, &at, [&uids, &gids], false)?)
        }
        None if data.len() > PAGE => mount_shortened(one, &at, flags, &data),
        None => mount_with(&one.source, &at, &one.type_, flags, &data),
    }
}

/// Whose users the files' owners shall be, of uids and of gids.
type Maps = [Vec<LinuxIdMapping>; 2];

/// An overlay whose layers are shown at `lower` for as long as it takes.
fn mount_mapped(
    one: &Mount,
    at: &Path,
    flags: MsFlags,
    data: &str,
    (lower, [uids, gids]): (&Path, &Maps),
) -> Result<()> {
    let (dir, short) = shorten(data)
        .filter(|(dir, _)| dir != "/")
        .ok_or_else(|| Status::invalid("the layers to map are in no directory of their own"))?;
    creel::attach_mapped(Path::new(&dir), lower, [uids, gids], true)?;
    mount_from(lower, one, at, flags, &short)
}

/// The options without `uidmap=0:1000:65536,...` and `gidmap=`, and what those say.
fn without_maps(options: &[String]) -> Result<(Vec<String>, Option<Maps>)> {
    let (mut rest, mut uids, mut gids) = (Vec::new(), Vec::new(), Vec::new());
    for option in options {
        if let Some(map) = option.strip_prefix("uidmap=") {
            uids = ranges(map)?;
        } else if let Some(map) = option.strip_prefix("gidmap=") {
            gids = ranges(map)?;
        } else {
            rest.push(option.clone());
        }
    }
    match (uids.is_empty(), gids.is_empty()) {
        (true, true) => Ok((rest, None)),
        (false, false) => Ok((rest, Some([uids, gids]))),
        _ => Err(Status::invalid("uidmap and gidmap go together")),
    }
}

/// `container:host:size,...`
fn ranges(map: &str) -> Result<Vec<LinuxIdMapping>> {
    let range = |text: &str| {
        let mut numbers = text.split(':').map(str::parse::<u32>);
        let (inside, outside, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let range = LinuxIdMappingBuilder::default()
            .container_id(inside.ok()?)
            .host_id(outside.ok()?)
            .size(size.ok()?)
            .build();
        range.ok().filter(|_| numbers.next().is_none())
    };
    let ranges: Option<Vec<_>> = map.split(',').map(range).collect();
    ranges.ok_or_else(|| Status::invalid(format_args!("id map {map}")))
}

/// A place below the root; a mount of the list may be for one.
fn inside(root: &Path, target: &str) -> Result<PathBuf> {
    let target = Path::new(target.trim_start_matches('/'));
    if target
        .components()
        .any(|part| !matches!(part, std::path::Component::Normal(_)))
    {
        return Err(Status::invalid(format_args!("target {}", target.display())));
    }
    Ok(root.join(target))
}

fn mount_with(source: &str, at: &Path, kind: &str, flags: MsFlags, data: &str) -> Result<()> {
    // A bind mount takes its flags only in a second step.
    let binds = flags.contains(MsFlags::MS_BIND);
    let propagation =
        MsFlags::MS_SHARED | MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE | MsFlags::MS_UNBINDABLE;
    let first = flags.difference(propagation);
    mount(Some(source), at, Some(kind), first, Some(data))?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    if binds && !first.difference(bind).is_empty() {
        let again = first.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        mount(None::<&str>, at, None::<&str>, again, None::<&str>)?;
    }
    let wanted = flags.intersection(propagation);
    if !wanted.is_empty() {
        mount(
            None::<&str>,
            at,
            None::<&str>,
            wanted | flags.intersection(MsFlags::MS_REC),
            None::<&str>,
        )?;
    }
    Ok(())
}

/// An overlay of very many layers: their names from a directory that they share.
fn mount_shortened(one: &Mount, at: &Path, flags: MsFlags, data: &str) -> Result<()> {
    let (dir, short) = shorten(data)
        .filter(|(_, short)| short.len() <= PAGE)
        .ok_or_else(|| Status::invalid("the mount's options are longer than a page"))?;
    mount_from(Path::new(&dir), one, at, flags, &short)
}

/// The layers' names are relative to `dir`. Another process does it, because a working directory is
/// all threads'.
fn mount_from(dir: &Path, one: &Mount, at: &Path, flags: MsFlags, data: &str) -> Result<()> {
    let status = Command::new("/proc/self/exe")
        .arg(ROLE)
        .args([&one.type_, &one.source])
        .arg(at)
        .args([&flags.bits().to_string(), data])
        .current_dir(dir)
        .output()?;
    if status.status.success() {
        Ok(())
    } else {
        Err(Status::precondition(
            String::from_utf8_lossy(&status.stderr).trim(),
        ))
    }
}

/// [`ROLE`]: type, source, target, flags, options.
pub fn mount_here(args: impl Iterator<Item = std::ffi::OsString>) -> Result<()> {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let [kind, source, target, flags, data] = args.as_slice() else {
        return Err(Status::invalid("mount: five arguments"));
    };
    let flags = flags.parse().map_err(|_| Status::invalid("mount: flags"))?;
    let flags = MsFlags::from_bits_truncate(flags);
    mount_with(source, Path::new(target), kind, flags, data)
}

/// The directory that all of `lowerdir` is in, and the options with names relative to it.
fn shorten(data: &str) -> Option<(String, String)> {
    let lower = data
        .split(',')
        .find_map(|option| option.strip_prefix("lowerdir="))?;
    let mut layers = lower.split(':');
    let mut dir = Path::new(layers.next()?).parent()?.to_owned();
    for layer in layers.clone() {
        while !Path::new(layer).starts_with(&dir) {
            if !dir.pop() {
                return None;
            }
        }
    }
    let prefix = format!("{}/", dir.to_str()?.trim_end_matches('/'));
    let names: Option<Vec<&str>> = lower
        .split(':')
        .map(|layer| layer.strip_prefix(&prefix))
        .collect();
    let short = data.replacen(lower, &names?.join(":"), 1);
    Some((prefix, short))
}

/// mount(8)'s words for flags; the rest is the filesystem's.
fn parse(options: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options {
        let (set, flag) = match option.as_str() {
            "ro" => (true, MsFlags::MS_RDONLY),
            "rw" => (false, MsFlags::MS_RDONLY),
            "nosuid" => (true, MsFlags::MS_NOSUID),
            "suid" => (false, MsFlags::MS_NOSUID),
            "nodev" => (true, MsFlags::MS_NODEV),
            "dev" => (false, MsFlags::MS_NODEV),
            "noexec" => (true, MsFlags::MS_NOEXEC),
            "exec" => (false, MsFlags::MS_NOEXEC),
            "sync" => (true, MsFlags::MS_SYNCHRONOUS),
            "async" => (false, MsFlags::MS_SYNCHRONOUS),
            "dirsync" => (true, MsFlags::MS_DIRSYNC),
            "mand" => (true, MsFlags::MS_MANDLOCK),
            "nomand" => (false, MsFlags::MS_MANDLOCK),
            "noatime" => (true, MsFlags::MS_NOATIME),
            "atime" => (false, MsFlags::MS_NOATIME),
            "nodiratime" => (true, MsFlags::MS_NODIRATIME),
            "diratime" => (false, MsFlags::MS_NODIRATIME),
            "relatime" => (true, MsFlags::MS_RELATIME),
            "norelatime" => (false, MsFlags::MS_RELATIME),
            "strictatime" => (true, MsFlags::MS_STRICTATIME),
            "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
            "bind" => (true, MsFlags::MS_BIND),
            "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
            "remount" => (true, MsFlags::MS_REMOUNT),
            "shared" => (true, MsFlags::MS_SHARED),
            "rshared" => (true, MsFlags::MS_SHARED | MsFlags::MS_REC),
            "private" => (true, MsFlags::MS_PRIVATE),
            "rprivate" => (true, MsFlags::MS_PRIVATE | MsFlags::MS_REC),
            "slave" => (true, MsFlags::MS_SLAVE),
            "rslave" => (true, MsFlags::MS_SLAVE | MsFlags::MS_REC),
            "defaults" => continue,
            other => {
                data.push(other);
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, data.join(","))
}

/// Takes everything off that is mounted at or below a directory; a busy mount, lazily.
pub fn unmount_all(target: &Path) {
    let Ok(table) = std::fs::read("/proc/self/mountinfo") else {
        return;
    };
    let target = target.canonicalize().unwrap_or_else(|_| target.into());
    let points = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4)?;
        let point = PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(point)));
        point.starts_with(&target).then_some(point)
    });
    let points: Vec<_> = points.collect();
    for point in points.iter().rev() {
        let done = match umount2(point.as_path(), MntFlags::UMOUNT_NOFOLLOW) {
            Err(Errno::EBUSY) => umount2(
                point.as_path(),
                MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
            ),
            other => other,
        };
        if let Err(errno) = done {
            creel::log::warning(&format_args!("unmount {}: {errno}", point.display()));
        }
    }
}

/// mountinfo writes blanks as `\040`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Fuzzing: a mount that containerd asks for stays below the root, and says what was said.
#[cfg(any(test, fuzzing))]
pub fn fuzz(one: &Mount) {
    let root = Path::new("/root");
    if let Ok(at) = inside(root, &one.target) {
        let below = at.strip_prefix(root).ok();
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        assert!(
            below.is_some_and(|below| below.components().all(plain)),
            "{at:?}"
        );
    }
    let (_, data) = parse(&one.options);
    let said: usize = one.options.iter().map(|option| option.len() + 1).sum();
    assert!(data.len() <= said);
    if let Some((dir, short)) = shorten(&data) {
        assert!(dir.ends_with('/') && short.len() <= data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_filesystems() {
        let options = ["ro", "nosuid", "suid", "lowerdir=/a:/b", "rbind"].map(String::from);
        let (flags, data) = parse(&options);
        assert_eq!(
            flags,
            MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC
        );
        assert_eq!(data, "lowerdir=/a:/b");
    }

    #[test]
    fn many_layers_are_named_from_where_they_are() {
        let data = "index=off,lowerdir=/var/l/s/10/fs:/var/l/s/9/fs,upperdir=/var/l/s/11/fs";
        let (dir, short) = shorten(data).unwrap();
        assert_eq!(dir, "/var/l/s/");
        assert_eq!(
            short,
            "index=off,lowerdir=10/fs:9/fs,upperdir=/var/l/s/11/fs"
        );
        assert!(shorten("size=1").is_none());
    }

    #[test]
    fn maps_are_not_the_filesystems() {
        let options = [
            "uidmap=0:700000:65536,65536:5:1",
            "index=off",
            "gidmap=0:9:1",
        ];
        let (rest, maps) = without_maps(&options.map(String::from)).unwrap();
        assert_eq!(rest, ["index=off"]);
        let [uids, gids] = maps.unwrap();
        let of = |map: &LinuxIdMapping| (map.container_id(), map.host_id(), map.size());
        assert_eq!(
            uids.iter().map(of).collect::<Vec<_>>(),
            [(0, 700_000, 65536), (65536, 5, 1)]
        );
        assert_eq!(gids.iter().map(of).collect::<Vec<_>>(), [(0, 9, 1)]);
        for wrong in ["uidmap=0:1:2", "gidmap=0:1", "gidmap=0:1:-2", "gidmap="] {
            assert!(without_maps(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_target_stays_inside() {
        assert_eq!(
            inside(Path::new("/r"), "/a/b").unwrap(),
            Path::new("/r/a/b")
        );
        assert!(inside(Path::new("/r"), "/../b").is_err());
    }

    #[test]
    fn mount_points_lose_their_escapes() {
        assert_eq!(unescape(b"/a\\040b\\134"), b"/a b\\");
        assert_eq!(unescape(b"/a\\04"), b"/a\\04");
    }
}
