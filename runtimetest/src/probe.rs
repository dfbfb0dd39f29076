//! Harmless attempts: what a container may not do is best known by trying.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::unlink;
use std::path::Path;

/// Why `path` cannot be written to, or nothing when it can. Changes neither files nor directories.
pub fn write_errno(path: &Path) -> Option<Errno> {
    if path.is_dir() {
        let file = path.join(".runtimetest-was-here");
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        return match open(&file, flags, Mode::S_IRUSR) {
            Ok(_) => unlink(&file).err(),
            Err(errno) => Some(errno),
        };
    }
    // Nothing is written: some of these files would restart the machine.
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_directory_stays_as_it_was() {
        let dir = std::env::temp_dir();
        assert_eq!(write_errno(&dir), None);
        assert!(!dir.join(".runtimetest-was-here").exists());
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        assert_eq!(write_errno(Path::new("/no/such/file")), Some(Errno::ENOENT));
    }
}
