//! What is said about the program itself: help in runc's shape, and the version.
#![forbid(unsafe_code)]

use super::{COMMANDS, Entry, print};
use crate::error::{Doing, Error, Result};
use crate::features::{RUNC_VERSION, SPEC_VERSION};
use clap::{Arg, ArgMatches, Command};

pub(super) const ABOUT: &str = "show the commands, or the help of one";

pub(super) fn of_program(program: &str) -> String {
    format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         {program} makes containers from bundles: directories with a root filesystem and a\n\
         config.json that says how to run a program in it. Engines call it for each step of a\n\
         container's life; by hand, `{program} spec` writes a config.json to begin with and\n\
         `{program} run -b BUNDLE ID` runs it.\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         COMMANDS:\n{{subcommands}}\n\nGLOBAL OPTIONS:\n{{options}}\n"
    )
}

pub(super) fn of_command(program: &str, entry: &Entry) -> String {
    let Entry { name, usage, .. } = entry;
    let about = entry.about_as(program);
    format!(
        "NAME:\n   {program} {name} - {about}\n\n\
         USAGE:\n   {program} {name} [command options] {usage}\n\nOPTIONS:\n{{options}}\n"
    )
}

/// The flags of `help` itself.
pub(super) fn augment(command: Command) -> Command {
    command.arg(Arg::new("command"))
}

/// Prints the help of the command that is asked about.
pub(super) fn act(command: &mut Command, matches: &ArgMatches) -> Result<()> {
    match matches.get_one::<String>("command") {
        None => print(&command.render_help().to_string()),
        Some(name) => {
            let help = render(command, name).ok_or_else(|| {
                Error::rule(Doing::Command, format!("No help topic for '{name}'"))
            })?;
            print(&help)
        }
    }
}

/// The help of one command.
pub(super) fn render(command: &mut Command, name: &str) -> Option<String> {
    COMMANDS.iter().find(|entry| entry.name == name)?;
    command.build();
    Some(command.find_subcommand_mut(name)?.render_help().to_string())
}

/// `--version`. Callers of a drop-in parse runc's lines, so our own version comes after them.
pub(super) fn version(program: &str) -> String {
    let creel = env!("CARGO_PKG_VERSION");
    let commit = option_env!("CREEL_COMMIT").unwrap_or("unknown");
    if program == "runc" {
        format!(
            "runc version {RUNC_VERSION}\ncommit: {commit}\nspec: {SPEC_VERSION}\ncreel: {creel}\n"
        )
    } else {
        format!("{program} version {creel}\ncommit: {commit}\nspec: {SPEC_VERSION}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_says_the_runc_version_it_matches_and_its_own_last() {
        let text = version("runc");
        let starts = ["runc version 1.", "commit: ", "spec: 1.3.0", "creel: 0."];
        for (line, start) in text.lines().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert_eq!(text.lines().count(), starts.len());
        assert!(version("creel").starts_with("creel version 0."));
    }
}
