//! bpf(2), as far as a cgroup's device filter needs it: load, attach, replace, list, detach.
//!
//! <https://man7.org/linux/man-pages/man2/bpf.2.html>; the layouts are those of
//! `include/uapi/linux/bpf.h`, cut after the last field that a command reads: the kernel takes
//! any size and treats what is missing as zero.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

// enum bpf_cmd
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE`
const CGROUP_DEVICE_PROGRAM: u32 = 15;
/// `BPF_CGROUP_DEVICE`
const CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: children may add filters of their own; all of them must agree.
const ALLOW_MULTI: u32 = 1 << 1;
/// `BPF_F_REPLACE` (Linux 5.6)
const REPLACE: u32 = 1 << 2;

/// One instruction: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    /// Operation.
    pub(crate) code: u8,
    /// Destination register in the low, source register in the high half.
    pub(crate) registers: u8,
    /// Jump distance, or offset of a load.
    pub(crate) offset: i16,
    /// Immediate operand.
    pub(crate) immediate: i32,
}

#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[derive(Default)]
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// An open descriptor as the kernel's structures hold it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

/// # Safety
/// `T` must be the `union bpf_attr` of `command`, and every address in it must be valid for what
/// the command reads or writes there.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> nix::Result<libc::c_long> {
    let attributes: *mut T = attributes;
    // SAFETY: the pointer is valid for the size passed; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    Errno::result(result)
}

/// The descriptor that a command returned, owned from here on.
fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(result).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Checks and loads a device filter; the descriptor is close-on-exec.
///
/// # Errors
/// EPERM without CAP_BPF or CAP_SYS_ADMIN in the first user namespace, and on kernels before 5.11
/// when RLIMIT_MEMLOCK is used up; EINVAL or EACCES when the verifier refuses the program.
pub(crate) fn load_device_filter(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let license = c"Apache";
    let mut load = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..Load::default()
    };
    // SAFETY: `Load` is the head of PROG_LOAD's attributes; both addresses point at live memory of
    // the stated kind and length, which the kernel only reads, and only during the call.
    owned(unsafe { bpf(PROG_LOAD, &mut load) }?)
}

/// Adds a filter to a cgroup, or puts it in the place of `replaced` in one step.
///
/// # Errors
/// EINVAL before Linux 5.6 with `replaced`; ENOENT if that one is not attached.
pub(crate) fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let mut attach = Attach {
        target: number(cgroup),
        program: number(program),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI | replaced.map_or(0, |_| REPLACE),
        replaced: replaced.map_or(0, number),
    };
    // SAFETY: `Attach` is the head of PROG_ATTACH's attributes; it holds no addresses.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.map(drop)
}

/// Takes a filter off a cgroup.
///
/// # Errors
/// ENOENT if it is not attached.
pub(crate) fn detach_device_filter(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> nix::Result<()> {
    let mut detach = Attach {
        target: number(cgroup),
        program: number(program),
        kind: CGROUP_DEVICE,
        ..Attach::default()
    };
    // SAFETY: `Attach` is the head of PROG_DETACH's attributes; it holds no addresses.
    unsafe { bpf(PROG_DETACH, &mut detach) }.map(drop)
}

/// The ids of the filters that are attached to this very cgroup.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN.
pub(crate) fn device_filters(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<u32>> {
    // BPF_CGROUP_MAX_PROGS: no cgroup has more.
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target: number(cgroup),
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: 64,
        ..Query::default()
    };
    // SAFETY: `Query` is the head of PROG_QUERY's attributes; `ids` is live and writable for
    // `count` numbers.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let count = usize::try_from(query.count).unwrap_or(0);
    Ok(ids.iter().copied().take(count).collect())
}

/// A loaded program by its id.
///
/// # Errors
/// ENOENT if it is gone, EPERM if a security module hides it.
pub(crate) fn program(id: u32) -> nix::Result<OwnedFd> {
    let mut attributes = [id, 0, 0];
    // SAFETY: PROG_GET_FD_BY_ID reads the id, a zero and flags: three u32; no addresses.
    owned(unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }?)
}
