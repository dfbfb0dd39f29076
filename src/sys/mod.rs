//! The system calls that `nix` lacks, one file each, and all unsafe code.

pub(crate) mod pidfd;
