//! Mount options: what each one promises, and how the kernel shows that the promise was kept.
#![forbid(unsafe_code)]

use crate::mountinfo::Entry;

/// Where an option shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// The mount has this option.
    With(&'static str),
    /// The mount lacks this option.
    Without(&'static str),
    /// The file system has this option.
    System(&'static str),
    /// The mount updates access times always: neither noatime nor relatime.
    Strict,
}

/// How the options that are plain words show; `r` before one makes it hold for submounts too.
const WORDS: &[(&str, Shown)] = &[
    ("ro", Shown::With("ro")),
    ("rw", Shown::Without("ro")),
    ("nosuid", Shown::With("nosuid")),
    ("suid", Shown::Without("nosuid")),
    ("nodev", Shown::With("nodev")),
    ("dev", Shown::Without("nodev")),
    ("noexec", Shown::With("noexec")),
    ("exec", Shown::Without("noexec")),
    ("noatime", Shown::With("noatime")),
    ("atime", Shown::Without("noatime")),
    ("nodiratime", Shown::With("nodiratime")),
    ("diratime", Shown::Without("nodiratime")),
    ("relatime", Shown::With("relatime")),
    ("strictatime", Shown::Strict),
    ("nosymfollow", Shown::With("nosymfollow")),
    ("symfollow", Shown::Without("nosymfollow")),
    ("sync", Shown::System("sync")),
    ("dirsync", Shown::System("dirsync")),
    ("lazytime", Shown::System("lazytime")),
];

/// The options of which only one can be true.
const GROUPS: &[&[&str]] = &[
    &["ro", "rw"],
    &["nosuid", "suid"],
    &["nodev", "dev"],
    &["noexec", "exec"],
    &["noatime", "relatime", "strictatime", "atime"],
    &["nodiratime", "diratime"],
    &["nosymfollow", "symfollow"],
    &["sync", "async"],
];

/// How a word shows, if it is one of those that do.
pub fn word(option: &str) -> Option<Shown> {
    WORDS
        .iter()
        .find(|(name, _)| *name == option)
        .map(|(_, shown)| *shown)
}

/// The non-recursive word of a recursive option: `rro` is `ro` for the whole subtree.
pub fn recursive(option: &str) -> Option<Shown> {
    // "ro" and "rw" start with an r of their own.
    option
        .strip_prefix('r')
        .filter(|_| word(option).is_none())
        .and_then(word)
}

/// Whether a later option takes this one back.
pub fn is_overruled(option: &str, later: &[String]) -> bool {
    let plain = option.strip_prefix('r').filter(|_| word(option).is_none());
    let group = GROUPS
        .iter()
        .find(|group| group.contains(&plain.unwrap_or(option)));
    group.is_some_and(|group| {
        later.iter().any(|other| {
            let other = if plain.is_some() {
                other.strip_prefix('r')
            } else {
                Some(&**other)
            };
            other.is_some_and(|other| group.contains(&other))
        })
    })
}

/// Whether the mount keeps the promise.
pub fn shows(entry: &Entry, shown: Shown, is_bind: bool) -> bool {
    match shown {
        // A file system of its own may be read-only as a whole; a bind must not change its source.
        Shown::With("ro") => entry.has("ro") || (!is_bind && entry.superblock_has("ro")),
        Shown::With(option) => entry.has(option),
        Shown::Without(option) => !entry.has(option),
        Shown::System(option) => entry.superblock_has(option),
        Shown::Strict => !entry.has("noatime") && !entry.has("relatime"),
    }
}

/// The propagation an option asks for, and whether for the subtree.
pub fn propagation(option: &str) -> Option<(&'static str, bool)> {
    ["shared", "slave", "private", "unbindable"]
        .iter()
        .find_map(|kind| {
            let rest = option.strip_suffix(kind)?;
            matches!(rest, "" | "r").then_some((*kind, rest == "r"))
        })
}

/// Whether a mount propagates that way. A slave whose master nobody shares is a private mount.
pub fn propagates(entry: &Entry, kind: &str) -> bool {
    let tag = |name: &str| entry.tags.iter().any(|tag| tag.starts_with(name));
    match kind {
        "shared" => tag("shared:"),
        "slave" => !tag("shared:") && !tag("unbindable"),
        "private" => !tag("shared:") && !tag("master:") && !tag("unbindable"),
        _ => tag("unbindable") && !tag("shared:"),
    }
}

/// Bytes of a tmpfs size, rounded up to pages as the kernel does; none for a share of the memory.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let number = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    number.checked_next_multiple_of(4096)
}

/// A count with the kernel's suffixes, not rounded (`nr_inodes=10k`).
pub fn count(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(options: &[&str], tags: &[&str]) -> Entry {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Entry {
            options: owned(options),
            tags: owned(tags),
            ..Entry::default()
        }
    }

    #[test]
    fn words_show_on_the_mount() {
        let mount = entry(&["ro", "nosuid", "relatime"], &[]);
        assert!(shows(&mount, word("ro").unwrap(), true));
        assert!(!shows(&mount, word("rw").unwrap(), true));
        assert!(shows(&mount, word("exec").unwrap(), true));
        assert!(!shows(&mount, word("strictatime").unwrap(), true));
        assert_eq!(word("newinstance"), None);
    }

    #[test]
    fn recursive_words_are_told_from_plain_ones() {
        assert_eq!(recursive("rro"), Some(Shown::With("ro")));
        assert_eq!(recursive("rrelatime"), Some(Shown::With("relatime")));
        assert_eq!(recursive("ro"), None);
        assert_eq!(recursive("relatime"), None);
        assert_eq!(recursive("rbind"), None);
    }

    #[test]
    fn the_last_word_of_a_group_counts() {
        assert!(is_overruled("ro", &["rw".to_owned()]));
        assert!(!is_overruled("ro", &["nosuid".to_owned()]));
        assert!(is_overruled("rro", &["rrw".to_owned()]));
        assert!(!is_overruled("rro", &["rw".to_owned()]));
    }

    #[test]
    fn propagation_is_read_and_seen() {
        assert_eq!(propagation("rslave"), Some(("slave", true)));
        assert_eq!(propagation("shared"), Some(("shared", false)));
        assert_eq!(propagation("xshared"), None);
        assert!(propagates(&entry(&[], &["master:1"]), "slave"));
        assert!(!propagates(&entry(&[], &["master:1"]), "private"));
        assert!(propagates(&entry(&[], &["shared:1"]), "shared"));
    }

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size("65536k"), Some(64 << 20));
        assert_eq!(size("64M"), Some(64 << 20));
        assert_eq!(size("1"), Some(4096));
        assert_eq!(size("50%"), None);
        assert_eq!(size("x"), None);
        assert_eq!(count("10k"), Some(10240));
    }
}
