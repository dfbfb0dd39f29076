//! What `features` says of this part: what we know of seccomp, and what this kernel does.
#![forbid(unsafe_code)]

use crate::sys::seccomp::{action_available, flags_known};
use oci_spec::runtime::LinuxSeccompAction as Action;

/// Actions we know and the kernel has, sorted by name.
pub(crate) fn actions() -> Vec<Action> {
    let known = [
        Action::ScmpActAllow,
        Action::ScmpActErrno,
        Action::ScmpActKill,
        Action::ScmpActKillProcess,
        Action::ScmpActKillThread,
        Action::ScmpActLog,
        Action::ScmpActNotify,
        Action::ScmpActTrace,
        Action::ScmpActTrap,
    ];
    let kernel = |action: &Action| action_available(action.as_u32(Some(0)));
    known.into_iter().filter(kernel).collect()
}

/// Operators of conditions, sorted.
pub(crate) fn operators() -> &'static [&'static str] {
    &[
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_LE",
        "SCMP_CMP_LT",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE",
    ]
}

/// Architectures we have syscall tables for, sorted.
pub(crate) fn archs() -> &'static [&'static str] {
    &[
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X86_64",
    ]
}

/// Filter flags that a config may list, in runc's order.
pub(crate) fn known_flags() -> &'static [&'static str] {
    &[
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]
}

/// Those of [`known_flags`] that this kernel takes.
pub(crate) fn supported_flags() -> Vec<&'static str> {
    let bits = [
        libc::SECCOMP_FILTER_FLAG_TSYNC,
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        libc::SECCOMP_FILTER_FLAG_LOG,
        // Only ever valid together.
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ];
    let known = known_flags().iter().zip(bits);
    known
        .filter(|(_, bits)| flags_known(*bits))
        .map(|(name, _)| *name)
        .collect()
}
