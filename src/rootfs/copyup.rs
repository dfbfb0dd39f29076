//! `tmpcopyup`: a tmpfs that starts with what the image has at its mount point.
#![forbid(unsafe_code)]

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Copies everything below `from` (a directory, O_PATH will do) to the detached tmpfs `to`.
///
/// Both sides are walked by file descriptors and without following symlinks: the image is hostile.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let from = openat(
        from,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let to = openat(
        to,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    copy_dir(from, &to)
}

fn copy_dir(from: OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let like = fstat(&from)?;
    let mut dir = Dir::from_fd(from.try_clone()?)?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fstatat(&from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        let nofollow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU)?;
                let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | nofollow;
                let below = openat(to, name, directory, Mode::empty())?;
                copy_dir(openat(&from, name, directory, Mode::empty())?, &below)?;
            }
            SFlag::S_IFREG => {
                let reading = OFlag::O_RDONLY | OFlag::O_NONBLOCK | nofollow;
                let source = openat(&from, name, reading, Mode::empty())?;
                let making = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | nofollow;
                let target = openat(to, name, making, Mode::S_IRUSR | Mode::S_IWUSR)?;
                let mut target = std::fs::File::from(target);
                io::copy(&mut std::fs::File::from(source), &mut target)?;
                own(target.as_fd(), &stat)?;
            }
            SFlag::S_IFLNK => {
                let text = readlinkat(&from, name)?;
                symlinkat(text.as_os_str(), to, name)?;
                let (uid, gid) = owner(&stat);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            kind => {
                mknodat(to, name, kind, mode, stat.st_rdev)?;
                let (uid, gid) = owner(&stat);
                fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
        }
    }
    own(to.as_fd(), &like)?;
    Ok(())
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn own(fd: BorrowedFd<'_>, like: &FileStat) -> nix::Result<()> {
    let (uid, gid) = owner(like);
    fchown(fd, uid, gid)?;
    // After the owner: a change of owner clears the set-id bits.
    fchmod(fd, Mode::from_bits_truncate(like.st_mode & 0o7777))
}
