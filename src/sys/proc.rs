//! What procfs says of a process: proc_pid_stat(5).
//!
//! Nothing unsafe: it is here for the difference that `procfs` does not make, between a process that
//! is gone and one that cannot be looked at.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use procfs::FromRead;
use procfs::process::Stat;

/// Its stat; `None` if there is no such process.
pub(crate) fn stat(pid: i32) -> nix::Result<Option<Stat>> {
    let errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    match std::fs::read(format!("/proc/{pid}/stat")).map_err(errno) {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(errno),
        Ok(text) => Stat::from_read(&*text).map(Some).or(Err(Errno::EBADMSG)),
    }
}

/// Whether the process has ended or is about to: one that is killed closes its descriptors some time
/// before it can be waited for.
pub(crate) fn is_ending(pid: i32) -> nix::Result<bool> {
    /// From include/linux/sched.h, shown in proc_pid_stat(5); set before descriptors are closed.
    const PF_EXITING: u32 = 4;
    Ok(stat(pid)?.is_none_or(|stat| stat.flags & PF_EXITING != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_there_is_told_from_one_that_is_not() {
        let own = std::process::id().cast_signed();
        assert_eq!(stat(own).expect("read").map(|stat| stat.pid), Some(own));
        assert!(stat(i32::MAX).expect("asked").is_none());
    }
}
