//! What a path says by its words alone, before any symlink has a say.
#![forbid(unsafe_code)]

/// The components that remain when `.`, `..` and empty ones are resolved, as if the path began at a
/// root: `/a//b/./../c/` as `a/c`.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_above_the_root() {
        assert_eq!(clean("a//b/./../c/"), "a/c");
        assert_eq!(clean("/../.."), "");
        assert_eq!(clean("/../a/.."), "");
    }
}
