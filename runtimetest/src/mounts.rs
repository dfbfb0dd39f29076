//! Mounts: every one of config.json is there, in its order, with its options, and no other.
#![forbid(unsafe_code)]

use crate::config::{Config, Mount};
use crate::kernel::{is_below, resolved};
use crate::mountinfo::{Entry, Tree};
use crate::option::{self, Shown};
use crate::report::Report;

/// What the runtime may mount on top of config.json's list.
const RUNTIME_OWN: &[&str] = &[
    "/",
    "/dev/console",
    "/dev/ptmx",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// A mount of config.json and the one the kernel shows for it.
struct Pair<'a> {
    mount: &'a Mount,
    at: String,
    entry: Option<&'a Entry>,
}

/// Judges `mounts`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "the mount table can be read";
    let Some(tree) = report.seen(claim, "/proc/self/mountinfo", Tree::read()) else {
        return;
    };
    let pairs = paired(config, &tree);
    for (index, pair) in pairs.iter().enumerate() {
        let claim = format!("mounts: {} is a mount point", pair.at);
        report.holds(
            claim,
            "mounted",
            pair.entry.map_or("nothing", |_| "mounted"),
            pair.entry.is_some(),
        );
        if let Some(entry) = pair.entry {
            order(&pairs, index, entry, &tree, report);
            kind(pair, entry, &tree, report);
            words(pair, entry, &tree, report);
            data(config, pair, entry, report);
            subtree(&pairs, pair, entry, &tree, report);
        }
    }
    others(config, &pairs, &tree, report);
}

/// Finds each listed mount; of several at one path the last listed is the visible one.
fn paired<'a>(config: &'a Config, tree: &'a Tree) -> Vec<Pair<'a>> {
    let paths: Vec<String> = config
        .mounts
        .iter()
        .map(|m| resolved(&m.destination))
        .collect();
    let covers = [&config.linux.masked_paths, &config.linux.readonly_paths];
    let pair = |(index, mount): (usize, &'a Mount)| {
        let at = paths.get(index).cloned().unwrap_or_default();
        let stack = tree.at(&at);
        let later = paths
            .iter()
            .skip(index + 1)
            .filter(|path| **path == at)
            .count();
        let covered = covers
            .iter()
            .flat_map(|list| list.iter())
            .filter(|path| **path == at)
            .count();
        let entry = stack
            .len()
            .checked_sub(1 + later + covered)
            .and_then(|i| stack.get(i).copied());
        Pair { mount, at, entry }
    };
    config.mounts.iter().enumerate().map(pair).collect()
}

/// Mount ids say when a mount was made, not where it went: only the tree shows the order.
fn order(pairs: &[Pair], index: usize, entry: &Entry, tree: &Tree, report: &mut Report) {
    let below = tree.ancestors(entry);
    let mut earlier = pairs
        .iter()
        .take(index)
        .filter(|other| other.entry.is_some());
    let base = earlier
        .rfind(|other| is_below(&entry.at, &other.at))
        .and_then(|pair| pair.entry);
    if let Some(base) = base {
        let claim = format!(
            "mounts: {} is listed after {} and sits on it",
            entry.at, base.at
        );
        let ok = below.contains(&base.id);
        report.holds(claim, "on it", if ok { "on it" } else { "elsewhere" }, ok);
    }
    let later = pairs.iter().skip(index + 1).filter_map(|other| other.entry);
    for cover in later.filter(|cover| is_below(&entry.at, &cover.at)) {
        let claim = format!(
            "mounts: {} is listed before {}, which hides it",
            entry.at, cover.at
        );
        let ok = !below.contains(&cover.id);
        report.holds(claim, "below it", if ok { "below it" } else { "on it" }, ok);
    }
}

fn kind(pair: &Pair, entry: &Entry, tree: &Tree, report: &mut Report) {
    let Pair { mount, at, .. } = pair;
    if mount.is_bind() {
        // The host's path is out of sight, but not the name it ends in. A file system's own root
        // is shown as "/", whatever it is called on the host.
        let name = |path: &str| {
            path.trim_end_matches('/')
                .rsplit('/')
                .next()
                .map(str::to_owned)
        };
        let shown = entry.root.trim_end_matches("//deleted");
        let ok = entry.root == "/" || name(shown) == name(&mount.source);
        report.holds(
            format!("mounts: {at} shows its source"),
            &mount.source,
            shown,
            ok,
        );
        return;
    }
    if mount.kind == "cgroup" {
        // On cgroup v1 the runtime makes a tmpfs with one mount per hierarchy.
        let inner = tree.above(entry).iter().any(|sub| sub.kind == "cgroup");
        let ok =
            entry.kind == "cgroup2" || (entry.kind == "tmpfs" && inner) || entry.kind == "cgroup";
        report.holds(
            format!("mounts: {at} shows the control groups"),
            "cgroup",
            &entry.kind,
            ok,
        );
        return;
    }
    report.equal(
        format!("mounts: {at} has the type listed"),
        &mount.kind,
        &entry.kind,
    );
    if !mount.source.is_empty() {
        report.equal(
            format!("mounts: {at} has the source listed"),
            &mount.source,
            &entry.source,
        );
    }
}

fn words(pair: &Pair, entry: &Entry, tree: &Tree, report: &mut Report) {
    let is_bind = pair.mount.is_bind();
    // The tmpfs around cgroup v1's hierarchies is the runtime's affair; the options are theirs.
    let mut judged = vec![entry];
    if pair.mount.kind == "cgroup" && entry.kind == "tmpfs" {
        judged = tree
            .above(entry)
            .into_iter()
            .filter(|sub| sub.kind == "cgroup")
            .collect();
    }
    for (index, option) in pair.mount.options.iter().enumerate() {
        let later = pair.mount.options.get(index + 1..).unwrap_or_default();
        let shown = option::word(option).filter(|_| !option::is_overruled(option, later));
        // A bind cannot change how its file system writes.
        if let Some(shown) = shown.filter(|s| !(is_bind && matches!(s, Shown::System(_)))) {
            let wrong = judged
                .iter()
                .find(|mount| !option::shows(mount, shown, is_bind));
            let got = options(wrong.unwrap_or(&entry));
            let claim = format!("mounts: {} is {option}", pair.at);
            report.holds(claim, option, got, wrong.is_none() && !judged.is_empty());
        }
        if let Some((kind, _)) = option::propagation(option) {
            let ok = option::propagates(entry, kind);
            report.holds(
                format!("mounts: {} is {option}", pair.at),
                option,
                &entry.tags,
                ok,
            );
        }
    }
    let mapped = pair
        .mount
        .options
        .iter()
        .any(|o| o == "idmap" || o == "ridmap");
    if mapped || !pair.mount.uid_mappings.is_empty() {
        let ok = entry.has("idmapped");
        report.holds(
            format!("mounts: {} maps ids", pair.at),
            "idmapped",
            options(entry),
            ok,
        );
    }
}

/// Options that are the file system's business, compared in the kernel's own notation.
fn data(config: &Config, pair: &Pair, entry: &Entry, report: &mut Report) {
    if pair.mount.is_bind() || pair.mount.kind == "cgroup" {
        return;
    }
    let label = &config.linux.mount_label;
    if !label.is_empty() && entry.kind == "tmpfs" {
        let got = entry.value("context").map(|got| got.trim_matches('"'));
        let claim = format!("linux.mountLabel: {} has it as its context", pair.at);
        report.equal(claim, Some(label.as_str()), got);
    }
    let pairs: Vec<(&str, &str)> = pair
        .mount
        .options
        .iter()
        .filter_map(|option| option.split_once('='))
        .collect();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if pairs.iter().skip(index + 1).any(|(later, _)| later == key) {
            continue;
        }
        let got = entry.value(key);
        let octal = |text: &str| u32::from_str_radix(text, 8).ok();
        let ok = match *key {
            // tmpfs names its size and mode only where they are not the default.
            "size" => match option::size(value) {
                Some(bytes) => got.is_none() || got.and_then(option::size) == Some(bytes),
                None => true,
            },
            "mode" if entry.kind == "tmpfs" => octal(got.unwrap_or("1777")) == octal(value),
            "mode" | "ptmxmode" => got.and_then(octal) == octal(value),
            "nr_inodes" => got.and_then(option::count) == option::count(value),
            // Shown as the initial user namespace numbers them.
            "uid" => owner(got, value, &config.linux.uid_mappings),
            "gid" => owner(got, value, &config.linux.gid_mappings),
            "lowerdir" | "upperdir" | "workdir" => got == Some(*value),
            "hidepid" => {
                let names = ["off", "noaccess", "invisible", "", "ptraceable"];
                let named = value
                    .parse()
                    .ok()
                    .and_then(|n: usize| names.get(n).copied());
                got.unwrap_or("off") == named.unwrap_or(value) || got == Some(*value)
            }
            _ => continue,
        };
        let claim = format!("mounts: {} has {key}={value}", pair.at);
        report.holds(claim, format!("{key}={value}"), &entry.superblock, ok);
    }
}

fn owner(got: Option<&str>, want: &str, maps: &[oci_spec::runtime::LinuxIdMapping]) -> bool {
    let got: u64 = got.unwrap_or("0").parse().unwrap_or(u64::MAX);
    let Ok(want) = want.parse::<u64>() else {
        return false;
    };
    let mapped = maps.iter().find_map(|map| {
        let inside = want.checked_sub(u64::from(map.container_id()))?;
        (inside < u64::from(map.size())).then(|| u64::from(map.host_id()) + inside)
    });
    got == want || Some(got) == mapped
}

/// `rro` and its kind hold for all that the mount brought along.
fn subtree(pairs: &[Pair], pair: &Pair, entry: &Entry, tree: &Tree, report: &mut Report) {
    let listed: Vec<u64> = pairs
        .iter()
        .filter_map(|pair| pair.entry)
        .map(|e| e.id)
        .collect();
    let above = tree.above(entry).into_iter().filter(|sub| {
        // What other entries of the list put there has its own options.
        !listed.contains(&sub.id)
            && !tree.ancestors(sub).iter().any(|id| {
                *id != entry.id && listed.contains(id) && {
                    tree.all()
                        .any(|e| e.id == *id && tree.ancestors(e).contains(&entry.id))
                }
            })
    });
    let mounts: Vec<&Entry> = std::iter::once(entry).chain(above).collect();
    for (index, option) in pair.mount.options.iter().enumerate() {
        let later = pair.mount.options.get(index + 1..).unwrap_or_default();
        let attribute = option::recursive(option).filter(|_| !option::is_overruled(option, later));
        let spread = option::propagation(option).filter(|(_, deep)| *deep);
        if attribute.is_none() && spread.is_none() {
            continue;
        }
        let wrong: Vec<&str> = mounts
            .iter()
            .filter(|m| {
                attribute.is_some_and(|shown| !option::shows(m, shown, true))
                    || spread.is_some_and(|(kind, _)| !option::propagates(m, kind))
            })
            .map(|m| m.at.as_str())
            .collect();
        let claim = format!("mounts: {} is {option}, and so are its submounts", pair.at);
        report.equal(claim, Vec::new(), wrong);
    }
}

/// A mount nobody listed is one of the host's that leaked.
fn others(config: &Config, pairs: &[Pair], tree: &Tree, report: &mut Report) {
    let is_tree = |mount: &Mount| {
        mount.kind == "cgroup" || mount.options.iter().any(|option| option == "rbind")
    };
    let listed = |at: &str| {
        pairs
            .iter()
            .any(|p| p.at == at || (is_tree(p.mount) && is_below(at, &p.at)))
            || RUNTIME_OWN.contains(&at)
            || config
                .linux
                .masked_paths
                .iter()
                .any(|path| resolved(path) == at)
            || config
                .linux
                .readonly_paths
                .iter()
                .any(|path| resolved(path) == at)
            || config.linux.devices.iter().any(|device| device.path == at)
    };
    let strangers: Vec<&str> = tree
        .all()
        .map(|entry| entry.at.as_str())
        .filter(|at| !listed(at))
        .collect();
    report.equal(
        "mounts: nothing is mounted that config.json does not list",
        Vec::new(),
        strangers,
    );
    report.equal(
        "root: the old root is gone, so one mount is at /",
        1,
        tree.at("/").len(),
    );
}

fn options(entry: &Entry) -> String {
    format!(
        "{} | {}",
        entry.options.join(","),
        entry.superblock.join(",")
    )
}
