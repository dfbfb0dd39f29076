//! The mount table as the container sees it, read as the tree it is.
#![forbid(unsafe_code)]

use crate::kernel::{is_below, text};
use std::collections::BTreeMap;

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// This mount.
    pub id: u64,
    /// The mount it sits on.
    pub parent: u64,
    /// What of its file system it shows.
    pub root: String,
    /// Where.
    pub at: String,
    /// Per-mount options.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `unbindable`.
    pub tags: Vec<String>,
    /// File system type.
    pub kind: String,
    /// File system source.
    pub source: String,
    /// Options of the file system itself.
    pub superblock: Vec<String>,
}

impl Entry {
    /// Whether the option is set on the mount.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Whether the option is set on the file system.
    pub fn superblock_has(&self, option: &str) -> bool {
        self.superblock.iter().any(|o| o == option)
    }

    /// The value of a file system option, `size=64k` style.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.superblock
            .iter()
            .filter_map(|o| o.split_once('='))
            .find(|o| o.0 == key)
            .map(|o| o.1)
    }
}

/// All mounts of the namespace that the process can reach.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<u64, Entry>,
}

impl Tree {
    /// Reads the process's own table.
    pub fn read() -> Result<Tree, String> {
        Tree::parse(&text("/proc/self/mountinfo")?)
    }

    fn parse(table: &str) -> Result<Tree, String> {
        let entries = table
            .lines()
            .map(|line| entry(line).ok_or_else(|| format!("not a line of mountinfo: {line:?}")))
            .map(|entry| entry.map(|entry| (entry.id, entry)));
        Ok(Tree {
            entries: entries.collect::<Result<_, _>>()?,
        })
    }

    /// Every mount.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The mounts at exactly this path, the visible one last.
    pub fn at(&self, path: &str) -> Vec<&Entry> {
        let mut stack: Vec<&Entry> = self.all().filter(|entry| entry.at == path).collect();
        stack.sort_by_key(|entry| self.ancestors(entry).len());
        stack
    }

    /// The mount that serves this path.
    pub fn serving(&self, path: &str) -> Option<&Entry> {
        let at = &self
            .all()
            .filter(|e| is_below(path, &e.at))
            .max_by_key(|e| e.at.len())?
            .at;
        self.at(at).last().copied()
    }

    /// What the mount sits on, and so on down to the root.
    pub fn ancestors(&self, entry: &Entry) -> Vec<u64> {
        let mut line = Vec::new();
        let mut next = self.entries.get(&entry.parent);
        // The bound is for a table that changes while it is read and closes a loop.
        while let Some(below) = next.filter(|_| line.len() <= self.entries.len()) {
            line.push(below.id);
            next = self
                .entries
                .get(&below.parent)
                .filter(|parent| parent.id != below.id);
        }
        line
    }

    /// The mounts that sit on this one, at any depth.
    pub fn above(&self, entry: &Entry) -> Vec<&Entry> {
        self.all()
            .filter(|e| e.id != entry.id && self.ancestors(e).contains(&entry.id))
            .collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (mount, system) = line.split_once(" - ")?;
    let list = |text: &str| text.split(',').map(unescaped).collect();
    let mut fields = mount.split(' ');
    let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (_device, root, at) = (fields.next()?, fields.next()?, fields.next()?);
    let options = list(fields.next()?);
    let tags = fields.map(str::to_owned).collect();
    let mut system = system.split(' ');
    Some(Entry {
        id,
        parent,
        root: unescaped(root),
        at: unescaped(at),
        options,
        tags,
        kind: unescaped(system.next()?),
        source: unescaped(system.next()?),
        superblock: list(system.next()?),
    })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, char) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(code, char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
20 1 0:30 / / ro,relatime shared:3 master:1 - ext4 /dev/vda rw
21 20 0:31 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
22 20 0:32 /a\\040b /with\\040blank rw unbindable - ext4 /dev/vda rw
23 21 0:33 / /dev rw,noexec - tmpfs second rw";

    #[test]
    fn a_line_is_taken_apart() {
        let tree = Tree::parse(TABLE).unwrap();
        let root = tree.at("/");
        assert_eq!(root[0].tags, ["shared:3", "master:1"]);
        assert_eq!(
            (root[0].kind.as_str(), root[0].source.as_str()),
            ("ext4", "/dev/vda")
        );
        assert!(root[0].has("ro") && !root[0].superblock_has("ro"));
        let blank = tree.at("/with blank");
        assert_eq!(blank[0].root, "/a b");
        assert_eq!(blank[0].tags, ["unbindable"]);
    }

    #[test]
    fn the_visible_mount_is_the_last_of_its_stack() {
        let tree = Tree::parse(TABLE).unwrap();
        let stack = tree.at("/dev");
        assert_eq!(stack.iter().map(|e| e.id).collect::<Vec<_>>(), [21, 23]);
        assert_eq!(stack[0].value("size"), Some("65536k"));
        assert_eq!(tree.serving("/dev/null").unwrap().id, 23);
        assert_eq!(tree.serving("/device").unwrap().id, 20);
        assert_eq!(tree.ancestors(stack[1]), [21, 20]);
        assert_eq!(tree.above(stack[0]).len(), 1);
    }

    #[test]
    fn a_broken_table_is_an_error() {
        assert!(Tree::parse("20 1 0:30 /").is_err());
    }
}
