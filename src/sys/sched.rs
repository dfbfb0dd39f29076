//! sched_setattr(2), ioprio_set(2), set_mempolicy(2), personality(2), sched_setaffinity(2) with
//! masks of any width, and prlimit(2) of this process.

use super::check;

/// struct sched_attr, as of Linux 5.3.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) util_min: u32,
    pub(crate) util_max: u32,
}

/// Sets this process's scheduling policy and parameters.
pub(crate) fn set_scheduler(attr: &SchedAttr) -> nix::Result<()> {
    // SAFETY: `attr` is a whole sched_attr with its size in it, read only.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attr), 0) })
        .map(drop)
}

/// Sets this process's I/O priority: class << 13 | level.
pub(crate) fn set_io_priority(value: i32) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// Sets this process's default memory policy; `nodes` is a bit mask in words.
pub(crate) fn set_memory_policy(mode: i32, nodes: &[u64]) -> nix::Result<()> {
    let pointer = if nodes.is_empty() {
        std::ptr::null()
    } else {
        nodes.as_ptr()
    };
    // One more than the number of bits: the kernel decrements it (get_nodes() in mm/mempolicy.c).
    let bits = if nodes.is_empty() {
        0
    } else {
        nodes.len() * 64 + 1
    };
    // SAFETY: the kernel reads at most `bits - 1` bits, all of which `nodes` holds.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) }).map(drop)
}

/// Sets this process's execution domain.
pub(crate) fn set_personality(persona: u64) -> nix::Result<()> {
    // SAFETY: an integer only.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// Lets process `pid` (0: this one) run on the cpus of the bit mask `cpus` only.
pub(crate) fn set_affinity(pid: i32, cpus: &[u64]) -> nix::Result<()> {
    // SAFETY: the kernel reads that many bytes at most.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            size_of_val(cpus),
            cpus.as_ptr(),
        )
    })
    .map(drop)
}

/// Sets resource limit `resource` (`RLIMIT_*`) of process `pid` (0: this one).
pub(crate) fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the new limit is read only; no old one is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            std::ptr::from_ref(&limit),
            std::ptr::null::<libc::rlimit64>(),
        )
    })
    .map(drop)
}
