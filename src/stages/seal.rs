//! Before any contact with a container: run from a copy of ourselves that nobody can write.
//!
//! A container whose program is `/proc/self/exe`, or that opens `/proc/PID/exe` of the runtime,
//! gets a handle of the runtime's binary (CVE-2019-5736). Through a read-only filesystem that is
//! mounted nowhere, such a handle cannot be opened for writing, by root either.
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::mount::{ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, Context};
use crate::sys::program::{Strings, execveat};
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, SealFlag, fcntl, open, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const EXE: &str = "/proc/self/exe";

/// Makes sure that this process runs from a sealed copy: starts over from one if not.
///
/// Returns only when the copy runs already. Must be called before anything is read or opened that
/// would be lost or done twice.
///
/// # Errors
/// No copy can be made or started: without one, no container may be touched.
pub fn ensure() -> Result<()> {
    if is_sealed().doing(Doing::Seal).on(EXE)? {
        return Ok(());
    }
    let path = std::fs::read_link(EXE).doing(Doing::Seal).on(EXE)?;
    let args = strings(std::env::args_os().map(OsStringExt::into_vec))?;
    let env = strings(
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()),
    )?;
    // An overlay shares the original's pages; where the kernel or our privileges have no overlay,
    // a sealed copy in memory does as well at the price of the copying.
    if let Ok(copy) = overlay(&path) {
        let errno = execveat(copy.as_fd(), &args, &env);
        crate::log::debug(&format_args!("no start from an overlay: {errno}"));
    }
    let copy = in_memory().doing(Doing::Seal).on(path.display())?;
    let errno = execveat(copy.as_fd(), &args, &env);
    Err(Error::os(Doing::Seal, errno).on(path.display()))
}

/// Whether our binary is out of reach for writers: on a read-only mount, or sealed in memory.
fn is_sealed() -> nix::Result<bool> {
    let exe = open(EXE, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstatvfs(&exe)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    let exe = open(EXE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // EINVAL: a file that cannot have seals.
    let seals =
        fcntl(&exe, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_truncate);
    Ok(seals.contains(SealFlag::F_SEAL_WRITE))
}

/// Our binary, seen through a detached read-only overlay of its directory.
fn overlay(path: &Path) -> nix::Result<OwnedFd> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(nix::errno::Errno::ENOENT);
    };
    let context = Context::open(c"overlay")?;
    // An overlay without an upper layer needs two lower ones; any directory elsewhere will do.
    let other: &OsStr = OsStr::new(if dir.starts_with("/run") {
        "/usr"
    } else {
        "/run"
    });
    let layers = [dir.as_os_str().as_bytes(), b":", other.as_bytes()].concat();
    if dir
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| matches!(byte, b':' | b',' | b'\\'))
    {
        return Err(nix::errno::Errno::EINVAL);
    }
    context.set(
        c"lowerdir",
        &CString::new(layers).map_err(|_| nix::errno::Errno::EINVAL)?,
    )?;
    // Inode numbers need not be unique across the layers; saves a check and a warning.
    context.set(c"xino", c"off")?;
    let mount = context.mount(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)?;
    openat(
        &mount,
        name,
        OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
        Mode::empty(),
    )
}

fn in_memory() -> std::io::Result<OwnedFd> {
    // MFD_EXEC: on hosts where vm.memfd_noexec wants to be told. Older kernels do not know it.
    let exec = MFdFlags::from_bits_retain(0x10);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create("creel", flags | exec).or_else(|_| memfd_create("creel", flags))?;
    let mut file = std::fs::File::from(copy);
    std::io::copy(&mut std::fs::File::open(EXE)?, &mut file)?;
    let all = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all))?;
    // A descriptor open for writing would make execve fail with ETXTBSY.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let readonly = openat(
        AT_FDCWD,
        path.as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    Ok(readonly)
}

fn strings(words: impl Iterator<Item = Vec<u8>>) -> Result<Strings> {
    let words = words
        .map(CString::new)
        .collect::<std::result::Result<_, _>>();
    words
        .map(Strings::new)
        .map_err(|_| Error::rule(Doing::Seal, "an argument contains NUL"))
}
