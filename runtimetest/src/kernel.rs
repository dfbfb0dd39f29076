//! What the kernel shows of this process, read the plain way.
#![forbid(unsafe_code)]

use procfs::process::{Process, Stat, Status};
use std::fs;
use std::path::Path;

/// The text of a kernel file without its last newline or NUL.
pub fn text(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches(['\n', '\0']).to_owned())
}

/// `/proc/self/status`
pub fn status() -> Result<Status, String> {
    own()?.status().map_err(|error| error.to_string())
}

/// `/proc/self/stat`
pub fn stat() -> Result<Stat, String> {
    own()?.stat().map_err(|error| error.to_string())
}

fn own() -> Result<Process, String> {
    Process::myself().map_err(|error| error.to_string())
}

/// Text with its white space made one blank: the kernel separates numbers with tabs.
pub fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `path` is `top` or lies below it, by whole components.
pub fn is_below(path: &str, top: &str) -> bool {
    Path::new(path).starts_with(top)
}

/// A destination as the container knows it: absolute, symlinks of the image followed.
pub fn resolved(path: &str) -> String {
    let absolute = Path::new("/").join(path);
    // Going by components drops a trailing slash.
    let real = fs::canonicalize(&absolute).unwrap_or_else(|_| absolute.components().collect());
    real.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_goes_by_components() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a"));
    }

    #[test]
    fn destinations_are_absolute() {
        assert_eq!(resolved("no/such/"), "/no/such");
        assert_eq!(squeezed("1\t 2\n"), "1 2");
    }
}
