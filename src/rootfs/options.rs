//! Mount options: the words of `mounts[].options` and what they mean to the kernel
//! (config-linux.md, "Linux mount options").
#![forbid(unsafe_code)]

use crate::sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID,
    ATTR_NOSYMFOLLOW, ATTR_RDONLY, ATTR_STRICTATIME, MountAttr,
};
use nix::mount::MsFlags;
use std::ffi::{CStr, CString, NulError};

/// The options of one mount, sorted by how they are applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `bind` (false) or `rbind` (true).
    pub(crate) bind: Option<bool>,
    pub(crate) remount: bool,
    /// `tmpcopyup`: fill the new tmpfs with what was at its mount point.
    pub(crate) copy_up: bool,
    /// Attributes of the mount itself.
    pub(crate) attr: MountAttr,
    /// Attributes of the mount and all below it (`rro`, ...).
    pub(crate) recursive: MountAttr,
    /// Propagation changes, in order; the flag says recursive.
    pub(crate) propagation: Vec<(u64, bool)>,
    /// Flags of the superblock (`sync`, ...), for a filesystem of our own making only.
    pub(crate) superblock: Vec<&'static CStr>,
    /// All else: the filesystem's own parameters.
    pub(crate) data: Vec<(CString, Option<CString>)>,
}

/// What an option does to a mount's attributes.
enum Effect {
    Set(u64),
    Clear(u64),
    /// One of the three atime modes, which replace one another; 0 is relatime.
    Atime(u64),
}
use Effect::{Atime, Clear, Set};

const ATTRIBUTES: [(&str, Effect); 19] = [
    ("ro", Set(ATTR_RDONLY)),
    ("rw", Clear(ATTR_RDONLY)),
    ("nosuid", Set(ATTR_NOSUID)),
    ("suid", Clear(ATTR_NOSUID)),
    ("nodev", Set(ATTR_NODEV)),
    ("dev", Clear(ATTR_NODEV)),
    ("noexec", Set(ATTR_NOEXEC)),
    ("exec", Clear(ATTR_NOEXEC)),
    ("nodiratime", Set(ATTR_NODIRATIME)),
    ("diratime", Clear(ATTR_NODIRATIME)),
    ("nosymfollow", Set(ATTR_NOSYMFOLLOW)),
    ("symfollow", Clear(ATTR_NOSYMFOLLOW)),
    ("relatime", Atime(0)),
    // The default is relatime all the same (mount(2)); for a bind, what its source has.
    ("norelatime", Set(0)),
    ("noatime", Atime(ATTR_NOATIME)),
    ("atime", Atime(0)),
    ("strictatime", Atime(ATTR_STRICTATIME)),
    ("nostrictatime", Atime(0)),
    ("defaults", Set(0)),
];

const PROPAGATION: [(&str, MsFlags); 4] = [
    ("private", MsFlags::MS_PRIVATE),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Superblock flags by fsconfig(2)'s name; the words without one are the defaults.
const SUPERBLOCK: [(&str, Option<&CStr>); 11] = [
    ("sync", Some(c"sync")),
    ("async", None),
    ("dirsync", Some(c"dirsync")),
    ("lazytime", Some(c"lazytime")),
    ("nolazytime", None),
    ("mand", Some(c"mand")),
    ("nomand", None),
    ("silent", None),
    ("loud", None),
    ("iversion", None),
    ("noiversion", None),
];

const OTHERS: [&str; 6] = ["bind", "idmap", "rbind", "remount", "ridmap", "tmpcopyup"];

/// A recursive form's plain form: `rro` is `ro` on the whole tree. `rw` is no such thing.
fn recursive_of(word: &str) -> Option<&str> {
    let plain = word.strip_prefix('r')?;
    let known = ATTRIBUTES
        .iter()
        .any(|(name, _)| *name == plain && plain != "defaults");
    known.then_some(plain)
}

/// The propagation that `word` names, and whether of the whole tree.
pub(crate) fn propagation(word: &str) -> Option<(u64, bool)> {
    let find = |word: &str| PROPAGATION.iter().find(|(name, _)| *name == word);
    match (find(word), word.strip_prefix('r').and_then(find)) {
        (Some((_, flag)), _) => Some((super::libc_flag(*flag), false)),
        (None, Some((_, flag))) => Some((super::libc_flag(*flag), true)),
        (None, None) => None,
    }
}

/// Every option that is ours to interpret, sorted: `mountOptions` of `creel features`.
pub(crate) fn known() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, _)| *name);
    let plain = attributes.clone().filter(|name| *name != "defaults");
    let mut out: Vec<String> = attributes
        .chain(SUPERBLOCK.iter().map(|(name, _)| *name))
        .chain(OTHERS)
        .map(str::to_owned)
        .chain(plain.map(|name| format!("r{name}")))
        .chain(
            PROPAGATION
                .iter()
                .flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]),
        )
        .collect();
    out.sort();
    out
}

impl Options {
    /// Sorts `words`. An unknown word is the filesystem's; only it can say whether it is wrong.
    pub(crate) fn parse(words: &[String]) -> Result<Self, NulError> {
        let mut out = Self::default();
        for word in words.iter().flat_map(|word| split(word)) {
            if let Some((_, effect)) = ATTRIBUTES.iter().find(|(name, _)| *name == word) {
                apply(&mut out.attr, effect);
            } else if let Some(change) = propagation(word) {
                out.propagation.push(change);
            } else if let Some((_, flag)) = SUPERBLOCK.iter().find(|(name, _)| *name == word) {
                out.superblock.extend(*flag);
            } else if word == "bind" || word == "rbind" {
                out.bind = Some(out.bind == Some(true) || word == "rbind");
            } else if word == "remount" {
                out.remount = true;
            } else if word == "tmpcopyup" {
                out.copy_up = true;
            } else if word == "idmap" || word == "ridmap" {
                // See `IdMapping`.
            } else if let Some(plain) = recursive_of(word) {
                let found = ATTRIBUTES.iter().find(|(name, _)| *name == plain);
                if let Some((_, effect)) = found {
                    apply(&mut out.recursive, effect);
                }
            } else if !word.is_empty() {
                out.data.push(match word.split_once('=') {
                    Some((key, value)) => (CString::new(key)?, Some(CString::new(value)?)),
                    None => (CString::new(word)?, None),
                });
            }
        }
        Ok(out)
    }
}

fn apply(attr: &mut MountAttr, effect: &Effect) {
    // The last word wins, as with mount(8).
    match *effect {
        Set(bits) => {
            attr.set |= bits;
            attr.clear &= !bits;
        }
        Clear(bits) => {
            attr.set &= !bits;
            attr.clear |= bits;
        }
        Atime(mode) => {
            attr.set = attr.set & !ATTR_ATIME | mode;
            // mount_setattr(2): the whole field must be cleared to change the mode.
            attr.clear |= ATTR_ATIME;
        }
    }
}

/// `mode=755,size=1m` in one string is two options; a comma inside quotes separates nothing
/// (`context="system_u:object_r:x:s0:c1,c2"`).
fn split(word: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    word.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap()
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        assert_eq!(
            parse(&["ro", "rw"]).attr,
            MountAttr {
                clear: ATTR_RDONLY,
                ..Default::default()
            }
        );
        assert_eq!(
            parse(&["rw", "ro"]).attr,
            MountAttr {
                set: ATTR_RDONLY,
                ..Default::default()
            }
        );
    }

    #[test]
    fn atime_modes_replace_one_another() {
        let attr = parse(&["noatime", "strictatime"]).attr;
        assert_eq!((attr.set, attr.clear), (ATTR_STRICTATIME, ATTR_ATIME));
    }

    #[test]
    fn recursive_options_are_kept_apart() {
        let options = parse(&["rbind", "rro", "nosuid"]);
        assert_eq!(
            (options.recursive.set, options.attr.set),
            (ATTR_RDONLY, ATTR_NOSUID)
        );
        assert_eq!(options.bind, Some(true));
    }

    #[test]
    fn propagation_words_are_not_data() {
        let options = parse(&["rslave", "private"]);
        assert_eq!(options.propagation, [(1 << 19, true), (1 << 18, false)]);
        assert!(options.data.is_empty());
    }

    #[test]
    fn what_is_unknown_is_the_filesystems() {
        let options = parse(&["mode=755,size=64k", "newinstance", "context=\"a:c1,c2\""]);
        let keys: Vec<_> = options
            .data
            .iter()
            .map(|(key, _)| key.to_str().unwrap())
            .collect();
        assert_eq!(keys, ["mode", "size", "newinstance", "context"]);
    }

    #[test]
    fn the_features_list_is_runcs() {
        let known = known();
        for word in [
            "rrw",
            "rnostrictatime",
            "runbindable",
            "tmpcopyup",
            "nosymfollow",
            "loud",
        ] {
            assert!(known.iter().any(|name| name == word), "{word}");
        }
        assert_eq!(known.len(), 19 + 11 + 6 + 18 + 8);
    }
}
