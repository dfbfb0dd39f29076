//! Which names a container may have.
#![forbid(unsafe_code)]

use crate::error::{Doing, Error, Result};

/// An id becomes a file name, part of a cgroup path and of a unit name.
///
/// # Errors
/// It has other characters than `A-Za-z0-9_+-.`, is `.` or `..`, or is empty or too long.
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let why = if id.is_empty() {
        "container id cannot be empty"
    } else if id == "." || id == ".." || !id.chars().all(allowed) {
        "invalid container ID format"
    } else if id.len() > 1024 {
        "invalid container ID format: longer than 1024 bytes"
    } else {
        return Ok(());
    };
    Err(Error::rule(Doing::CheckId, why).on(format_args!("{id:?}")))
}
