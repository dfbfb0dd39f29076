//! `spec`: a config.json to begin with.
#![forbid(unsafe_code)]

use super::{Entry, absolute, args, wrong_count};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::features::SPEC_VERSION;
use clap::Args;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// The file in runc's order and indent. Lines that begin with `@root ` or `@rootless ` are for
/// one kind only.
const TEMPLATE: &str = include_str!("spec.template");

pub(super) const COMMAND: Entry = Entry::new::<SpecArgs>(
    "spec",
    "create a new specification file",
    "",
    |matches, globals| {
        let said: SpecArgs = args(matches)?;
        if !said.words.is_empty() {
            return Err(wrong_count("spec", "exactly 0", globals));
        }
        let unified = statfs("/sys/fs/cgroup")
            .is_ok_and(|statfs| statfs.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let ids = (geteuid().as_raw(), getegid().as_raw());
        let text = spec(&globals.program, said.rootless.then_some(ids), unified);
        let bundle = absolute(said.bundle.as_ref())?.unwrap_or_default();
        write_new(bundle.join("config.json"), &text).map(|()| 0)
    },
);

#[derive(Args)]
struct SpecArgs {
    /// directory of the bundle (default: the current one)
    #[arg(long, short, value_name = "value")]
    bundle: Option<OsString>,
    /// for a container of a user who is not root
    #[arg(long)]
    rootless: bool,
    #[arg(hide = true)]
    words: Vec<String>,
}

/// `ids`: the user and group that are root in a rootless container.
fn spec(name: &str, ids: Option<(u32, u32)>, unified: bool) -> String {
    let (uid, gid) = ids.unwrap_or_default();
    let (wanted, other) = match ids {
        None => ("@root ", "@rootless "),
        Some(_) => ("@rootless ", "@root "),
    };
    let lines: Vec<_> = TEMPLATE
        .lines()
        .filter(|line| !line.starts_with(other))
        .map(|line| line.strip_prefix(wanted).unwrap_or(line))
        .collect();
    // On v1 a cgroup namespace is left out, as in runc: tools there expect the host's paths.
    let more: String = [("cgroup", unified), ("user", ids.is_some())]
        .iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(kind, _)| format!(",\n\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}"))
        .collect();
    // A program's name can hold anything but `/`; a host name should not.
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-.".contains(*c);
    let name: String = name.chars().filter(plain).collect();
    lines
        .join("\n")
        .replace("@SPEC@", SPEC_VERSION)
        .replace("@NAME@", &name)
        .replace("@UID@", &uid.to_string())
        .replace("@GID@", &gid.to_string())
        .replace("@MORE@", &more)
}

/// For fuzzers: what `spec` writes, and `spec --rootless`.
#[cfg(any(test, fuzzing))]
pub(crate) fn specs() -> [String; 2] {
    [
        spec("creel", None, true),
        spec("creel", Some((1000, 100)), true),
    ]
}

fn write_new(path: PathBuf, text: &str) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::rule(
            Doing::WriteSpec,
            "File config.json exists. Remove it first",
        )),
        other => other
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .doing(Doing::WriteSpec),
    }
    .on(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::config::{Config, Namespace};

    fn parse(text: &str) -> Config {
        serde_json::from_str(text).expect("a config.json")
    }

    fn kinds(config: &Config) -> Vec<serde_json::Value> {
        let word = |namespace: &Namespace| serde_json::to_value(namespace.typ).expect("a word");
        config.linux.namespaces.iter().map(word).collect()
    }

    #[test]
    fn the_usual_one_has_runcs_values() {
        let text = spec("runc", None, false);
        assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n"));
        assert!(text.ends_with("\n\t}\n}") && !text.contains('@'), "{text}");
        let config = parse(&text);
        let process = config.process.expect("process");
        assert_eq!(process.args, ["sh"]);
        assert!(process.terminal && process.no_new_privileges);
        let caps = process.capabilities.expect("capabilities");
        assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
        assert!(config.root.expect("root").readonly);
        assert_eq!(config.hostname, "runc");
        assert_eq!(config.linux.namespaces.len(), 5);
        assert!(config.linux.resources.is_some());
    }

    #[test]
    fn on_cgroup_v2_there_is_a_cgroup_namespace() {
        let kinds = kinds(&parse(&spec("creel", None, true)));
        assert_eq!(kinds, ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    }

    #[test]
    fn the_rootless_one_maps_the_user_and_asks_for_nothing_of_root() {
        let config = parse(&spec("creel", Some((1000, 100)), true));
        let kinds = kinds(&config);
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!(
            config.linux.uid_mappings.first().map(|map| map.host_id()),
            Some(1000)
        );
        assert_eq!(
            config.linux.gid_mappings.first().map(|map| map.host_id()),
            Some(100)
        );
        assert!(config.linux.resources.is_none());
        let sys = config
            .mounts
            .iter()
            .find(|mount| mount.destination == "/sys")
            .expect("/sys");
        assert_eq!(sys.options.first().map(String::as_str), Some("rbind"));
        let options = config.mounts.iter().flat_map(|mount| &mount.options);
        assert!(
            options
                .into_iter()
                .all(|option| !option.starts_with("gid="))
        );
    }

    #[test]
    fn an_odd_program_name_makes_no_odd_file() {
        parse(&spec("a\"\\b", None, true));
    }
}
