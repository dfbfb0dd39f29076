//! execve(2), and `_exit` for processes that must not run what their parent registered.

use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A NULL-terminated array of C strings, made before the clone so that nothing allocates late.
#[derive(Debug)]
pub(crate) struct Strings {
    // They point into the heap blocks of `_owned`, which do not move with the Vec.
    pointers: Vec<*const libc::c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    pub(crate) fn new(owned: Vec<CString>) -> Self {
        let pointers = owned
            .iter()
            .map(|text| text.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect();
        Self {
            pointers,
            _owned: owned,
        }
    }
}

/// Becomes the program at `path`; returns only on failure.
pub(crate) fn execve(path: &CStr, args: &Strings, env: &Strings) -> Errno {
    // SAFETY: `path` is a C string; both arrays are NULL-terminated arrays of C strings that
    // `Strings` keeps alive.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}

/// Becomes the program open at `fd` (execveat(2), AT_EMPTY_PATH); returns only on failure.
pub(crate) fn execveat(fd: BorrowedFd<'_>, args: &Strings, env: &Strings) -> Errno {
    // SAFETY: as in `execve`; the path is a static C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Ends this process at once: no destructors, no atexit handlers, which belong to the parent.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}
