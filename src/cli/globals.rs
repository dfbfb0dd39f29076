//! The flags before the command, settled: the log is open and the state root known after this.
#![forbid(unsafe_code)]

use super::absolute;
use crate::container::Store;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::in_user_namespace;
use crate::log;
use crate::plan::wishes::Wishes;
use clap::Args;
use nix::unistd::geteuid;
use std::env::var_os;
use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions, set_permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// The flags as said.
#[derive(Args)]
pub(super) struct GlobalArgs {
    /// say what is done, in the log
    #[arg(long)]
    debug: bool,
    /// file that log lines are appended to (default: stderr)
    #[arg(long, value_name = "value")]
    log: Option<OsString>,
    /// format of log lines, 'text' or 'json'
    #[arg(long, value_name = "value", default_value = "text")]
    log_format: String,
    /// directory for the state of containers, best on a tmpfs
    #[arg(long, value_name = "value")]
    root: Option<OsString>,
    /// make cgroups through systemd; cgroupsPath is then "slice:prefix:name"
    #[arg(long)]
    systemd_cgroup: bool,
    /// do without cgroups that may not be written: 'true', 'false' or 'auto'
    #[arg(long, value_name = "value", default_value = "auto")]
    rootless: String,
    /// print the version
    #[arg(long, short = 'v')]
    pub(super) version: bool,
}

/// The flags in force.
pub(super) struct Globals {
    pub(super) program: String,
    pub(super) store: Store,
    pub(super) systemd_cgroup: bool,
    pub(super) rootless: Option<bool>,
    pub(super) debug: bool,
}

impl GlobalArgs {
    pub(super) fn settle(&self, program: &str) -> Result<Globals> {
        let format = log::Format::parse(&self.log_format)?;
        log::open(absolute(self.log.as_ref())?.as_deref(), format, self.debug)?;
        Ok(Globals {
            program: program.to_owned(),
            store: match &self.root {
                Some(root) => Store::given(sane_root(root)?),
                None => Store::standard(standard_root(program)?),
            },
            systemd_cgroup: self.systemd_cgroup,
            rootless: parse_bool_or_auto(&self.rootless)?,
            debug: self.debug,
        })
    }
}

impl Globals {
    /// What the global flags ask of the plan.
    pub(super) fn wishes(&self) -> Wishes {
        Wishes {
            systemd_cgroup: self.systemd_cgroup,
            rootless: self.rootless,
            debug: self.debug,
            ..Wishes::default()
        }
    }
}

/// The name called by, under which help and version speak.
pub(super) fn program(argv0: Option<&OsString>) -> String {
    argv0
        .and_then(|path| Path::new(path).file_name())
        .map_or_else(
            || "creel".into(),
            |name| name.to_string_lossy().into_owned(),
        )
}

/// A `--root` in full. The root of everything is refused: its directories are no containers.
fn sane_root(root: &OsString) -> Result<PathBuf> {
    let here = std::env::current_dir().doing(Doing::OpenStore)?;
    let root = clean(&here.join(root));
    if root == Path::new("/") {
        let why = "Option --root argument should not be set to /";
        return Err(Error::rule(Doing::OpenStore, why));
    }
    Ok(root)
}

/// An absolute path without `.` and `..`, by its words alone, as Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut out, part| {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        out
    })
}

/// `/run/creel`, or a user's own directory. A drop-in called `runc` finds runc's place.
fn standard_root(program: &str) -> Result<PathBuf> {
    let name = if program == "runc" { "runc" } else { "creel" };
    let user = var_os("USER");
    let honour =
        geteuid().as_raw() != 0 || (user.is_none_or(|user| user != "root") && in_user_namespace());
    match var_os("XDG_RUNTIME_DIR").filter(|dir| honour && !dir.is_empty()) {
        None => Ok(Path::new("/run").join(name)),
        Some(runtime_dir) => {
            let root = Path::new(&runtime_dir).join(name);
            // The XDG specification: the sticky bit keeps it from being pruned.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&root)
                .and_then(|()| set_permissions(&root, Permissions::from_mode(0o1700)))
                .doing(Doing::OpenStore)
                .on(root.display())
                .hint("$XDG_RUNTIME_DIR must be writable by the user")?;
            Ok(root)
        }
    }
}

/// Go's `strconv.ParseBool`, or `auto`.
fn parse_bool_or_auto(text: &str) -> Result<Option<bool>> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        auto if auto.is_empty() || auto.eq_ignore_ascii_case("auto") => Ok(None),
        other => Err(
            Error::rule(Doing::Command, format!("--rootless {other}: not a boolean"))
                .hint("say 'true', 'false' or 'auto'"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_everything_is_refused_in_every_spelling() {
        for root in ["/", "/..", "/a/..", "//", "/./"] {
            assert!(sane_root(&root.into()).is_err(), "{root}");
        }
        assert_eq!(sane_root(&"/a/../b/./c".into()).ok(), Some("/b/c".into()));
        assert!(sane_root(&"rel".into()).is_ok_and(|root| root.is_absolute()));
    }

    #[test]
    fn rootless_is_a_go_boolean_or_auto() {
        assert_eq!(parse_bool_or_auto("T"), Ok(Some(true)));
        assert_eq!(parse_bool_or_auto("0"), Ok(Some(false)));
        assert_eq!(parse_bool_or_auto("AUTO"), Ok(None));
        assert_eq!(parse_bool_or_auto(""), Ok(None));
        assert!(parse_bool_or_auto("yes").is_err());
    }

    #[test]
    fn the_name_is_that_of_the_file_called() {
        assert_eq!(program(Some(&"/usr/bin/runc".into())), "runc");
        assert_eq!(program(None), "creel");
    }
}
