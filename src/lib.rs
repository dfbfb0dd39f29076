//! creel: the life of a container, in the order of its modules.
//!
//! A **bundle** is read into a faithful `Config`; the **plan** decides, touching nothing; the
//! **stages** act: they **isolate** a process, give it a **rootfs**, **limit** it, **tune** it,
//! **confine** it and **run** its program. What lives afterwards is a **container**. `sys` holds
//! the system calls that `nix` lacks and all unsafe code.
//!
//! The binary `creel` is [`cli`] on top of this library.

pub mod error;
pub mod features;
pub mod host;
pub(crate) mod lexical;
pub mod log;

pub mod bundle;
pub mod plan;
pub mod stages;

pub(crate) mod confine;
pub(crate) mod isolate;
pub mod limit;
pub(crate) mod rootfs;
pub(crate) mod run;
pub(crate) mod tune;

pub mod cli;
pub mod container;
pub mod supervise;

pub(crate) mod sys;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

pub use error::{Error, Result};
pub use rootfs::idmap::attach_mapped;
