//! The command line: runc's commands and flags, one file each, on top of the library.
#![forbid(unsafe_code)]

mod checkpoint;
mod create;
mod delete;
mod duration;
mod events;
mod exec;
mod features;
mod flags;
mod globals;
mod help;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod resume;
mod run;
mod size;
mod spec;
#[cfg(any(test, fuzzing))]
pub(crate) use spec::specs;
mod start;
mod state;
mod update;

use crate::error::{Act, Doing, Error, Result};
use crate::log;
use crate::stages::seal;
use crate::sys::signal;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use globals::{GlobalArgs, Globals};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A command: how it is called, and what it does.
struct Entry {
    name: &'static str,
    about: &'static str,
    /// What follows the flags.
    usage: &'static str,
    /// Its flags: asked for only when the command is the one called.
    augment: fn(Command) -> Command,
    act: fn(&ArgMatches, &Globals) -> Result<u8>,
    /// The exit code of a failure that is not one of usage.
    failure: u8,
}

impl Entry {
    const fn new<A: Args>(
        name: &'static str,
        about: &'static str,
        usage: &'static str,
        act: fn(&ArgMatches, &Globals) -> Result<u8>,
    ) -> Self {
        Self {
            name,
            about,
            usage,
            augment: A::augment_args,
            act,
            failure: 1,
        }
    }

    /// What it is for; runc's words say its name.
    fn about_as(&self, program: &str) -> String {
        self.about.replace("runc", program)
    }
}

/// Commands that touch a container. Looked for before anything else, wherever they stand: what the
/// line says is read by the sealed copy.
const SEALED: [&str; 3] = ["create", "run", "exec"];

const COMMANDS: [Entry; 17] = [
    checkpoint::COMMAND,
    create::COMMAND,
    delete::COMMAND,
    events::COMMAND,
    exec::COMMAND,
    kill::COMMAND,
    list::COMMAND,
    pause::COMMAND,
    ps::COMMAND,
    restore::COMMAND,
    resume::COMMAND,
    run::COMMAND,
    spec::COMMAND,
    start::COMMAND,
    state::COMMAND,
    update::COMMAND,
    features::COMMAND,
];

/// Runs the command of an argument vector; prints its error, if any: the only place that does.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.collect();
    let program = globals::program(args.first());
    if args.iter().any(|arg| SEALED.iter().any(|name| arg == name))
        && let Err(error) = seal::ensure()
    {
        log::error(&error);
        return ExitCode::FAILURE;
    }
    let mut command = command(&program);
    let parsed = flags::spell(&args).and_then(|args| {
        command
            .try_get_matches_from_mut(args)
            .map_err(|error| (misuse(&error), Some(error)))
    });
    let (error, code) = match parsed {
        Ok(matches) => match dispatch(&program, &mut command, &matches) {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => failure,
        },
        Err((_, Some(error))) if error.kind() == ErrorKind::DisplayHelp => {
            match print(&error.render().to_string()) {
                Ok(()) => return ExitCode::SUCCESS,
                Err(error) => (error, 1),
            }
        }
        // As Go's command line library has it.
        Err((error, Some(kind))) if kind.kind() == ErrorKind::InvalidSubcommand => (error, 3),
        Err((error, _)) => {
            incorrect(&mut command, flags::at_fault(&args), &error);
            (error, 1)
        }
    };
    log::error(&error);
    ExitCode::from(code)
}

/// What runc prints besides the error for flags that it cannot read.
fn incorrect(command: &mut Command, called: Option<&Entry>, error: &Error) {
    eprintln!("Incorrect Usage: {}\n", error.why());
    let help = called.and_then(|entry| help::render(command, entry.name));
    let help = help.unwrap_or_else(|| command.render_help().to_string());
    // The error itself follows; that help cannot be printed adds nothing to it.
    print(&help).unwrap_or_default();
}

/// A program's status, as the shell counts: 128 and more for signals, never above 255.
fn exit_code(status: i32) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(u8::MAX)
}

/// All that the command line is, for what is made from it: man pages and completions.
#[must_use]
pub fn definition(program: &str) -> Command {
    command(program)
}

/// What follows the flags of that command.
#[must_use]
pub fn usage_of(name: &str) -> &'static str {
    let entry = COMMANDS.iter().find(|entry| entry.name == name);
    entry.map_or("", |entry| entry.usage)
}

fn command(program: &str) -> Command {
    let commands = COMMANDS.iter().map(|entry| {
        Command::new(entry.name)
            .about(entry.about_as(program))
            .help_template(help::of_command(program, entry))
            .args_override_self(true)
            .defer(entry.augment)
    });
    GlobalArgs::augment_args(Command::new("creel"))
        .bin_name(program)
        .help_template(help::of_program(program))
        .disable_help_subcommand(true)
        .args_override_self(true)
        .subcommands(commands)
        .subcommand(
            Command::new("help")
                .alias("h")
                .about(help::ABOUT)
                .defer(help::augment),
        )
}

fn dispatch(
    program: &str,
    command: &mut Command,
    matches: &ArgMatches,
) -> std::result::Result<u8, (Error, u8)> {
    let usage = |error| (error, 1);
    let globals = args::<GlobalArgs>(matches).map_err(usage)?;
    if globals.version {
        return print(&help::version(program)).map(|()| 0).map_err(usage);
    }
    let Some((name, matches)) = matches.subcommand() else {
        return print(&command.render_help().to_string())
            .map(|()| 0)
            .map_err(usage);
    };
    let Some(entry) = COMMANDS.iter().find(|entry| entry.name == name) else {
        return help::act(command, matches).map(|()| 0).map_err(usage);
    };
    let globals = globals.settle(program).map_err(usage)?;
    log::debug(&format_args!(
        "{program} {name}: state root {}",
        globals.store.path().display()
    ));
    (entry.act)(matches, &globals).map_err(|error| {
        if error.doing() == Doing::Command {
            let help = help::render(command, name).unwrap_or_default();
            // The error itself follows; that help cannot be printed adds nothing to it.
            print(&format!("Incorrect Usage.\n\n{help}")).unwrap_or_default();
            return (error, 1);
        }
        (error, entry.failure)
    })
}

/// What the parser found wrong, in runc's words where callers know them.
fn misuse(error: &clap::Error) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let why = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            format!(
                "No help topic for '{}'",
                context(ContextKind::InvalidSubcommand).unwrap_or("")
            )
        }
        ErrorKind::UnknownArgument => {
            let flag = context(ContextKind::InvalidArg).unwrap_or("");
            if flag.starts_with('-') {
                format!(
                    "flag provided but not defined: -{}",
                    flag.trim_start_matches('-')
                )
            } else {
                format!("unexpected argument: {flag}")
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let flag = context(ContextKind::InvalidArg).unwrap_or("");
            let flag = flag.split(' ').next().unwrap_or("");
            match context(ContextKind::InvalidValue) {
                None | Some("") => format!("flag needs an argument: {flag}"),
                Some(value) => {
                    let name = flag.trim_start_matches('-');
                    format!("invalid value {value:?} for flag -{name}: parse error")
                }
            }
        }
        _ => {
            let text = error.render().to_string();
            text.lines()
                .next()
                .unwrap_or("")
                .trim_start_matches("error: ")
                .to_owned()
        }
    };
    Error::rule(Doing::Command, why)
}

/// The parsed flags of a command.
fn args<A: FromArgMatches>(matches: &ArgMatches) -> Result<A> {
    A::from_arg_matches(matches).map_err(|error| misuse(&error))
}

/// The container id of a command that takes nothing else.
fn only_id<'a>(ids: &'a [String], command: &str, globals: &Globals) -> Result<&'a str> {
    match ids {
        [id] => Ok(id),
        _ => Err(wrong_count(command, "exactly 1", globals)),
    }
}

fn wrong_count(command: &str, count: &str, globals: &Globals) -> Error {
    let program = &globals.program;
    let why = format!("{program}: {command:?} requires {count} argument(s)");
    Error::rule(Doing::Command, why)
}

/// A path that was given, absolute, so that it outlives a change of directory. Go's flags know no
/// "absent", so callers say the empty string.
fn absolute(path: Option<&OsString>) -> Result<Option<PathBuf>> {
    path.filter(|path| !path.is_empty())
        .map(|path| std::path::absolute(Path::new(path)).doing(Doing::Command))
        .transpose()
}

/// The output of a command.
///
/// Nobody reading it any more ends us as it ends other programs, by the signal and without a word.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if matches!(&written, Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
        && signal::restore_default(libc::SIGPIPE).is_ok()
    {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGPIPE).doing(Doing::Command)?;
    }
    written.doing(Doing::Command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> std::result::Result<ArgMatches, clap::Error> {
        command("runc").try_get_matches_from(args)
    }

    fn why(args: &[&str]) -> String {
        misuse(&parse(args).expect_err("must fail")).to_string()
    }

    #[test]
    fn the_definition_of_every_command_is_sound() {
        command("runc").debug_assert();
        for entry in COMMANDS {
            (entry.augment)(Command::new(entry.name)).debug_assert();
        }
    }

    #[test]
    fn help_speaks_under_the_name_called_by() {
        for entry in COMMANDS {
            for flag in ["-h", "--help"] {
                let help = parse(&["runc", entry.name, flag])
                    .expect_err("help")
                    .render();
                let about = entry.about_as("runc");
                let second = format!("   runc {} - {about}", entry.name);
                assert_eq!(help.to_string().lines().nth(1), Some(second.as_str()));
            }
        }
        let help = parse(&["runc", "-h"])
            .expect_err("help")
            .render()
            .to_string();
        let mut lines = help.lines();
        assert_eq!(lines.next(), Some("NAME:"));
        assert_eq!(
            lines.next(),
            Some("   runc - Open Container Initiative runtime")
        );
    }

    #[test]
    fn misuse_is_told_in_runcs_words() {
        assert!(why(&["runc", "foo", "-h"]).ends_with("No help topic for 'foo'"));
        assert!(why(&["runc", "--bad"]).ends_with("flag provided but not defined: -bad"));
        assert!(why(&["runc", "list", "--bad"]).ends_with("not defined: -bad"));
        assert!(why(&["runc", "exec", "--bad", "id"]).ends_with("not defined: -bad"));
    }

    #[test]
    fn exec_and_kill_stop_at_the_first_word_that_is_no_flag() {
        let matches = parse(&["runc", "exec", "-t", "id", "ls", "-t", "--", "-x"]).expect("parsed");
        let (_, matches) = matches.subcommand().expect("exec");
        let rest: Vec<_> = matches
            .get_many::<String>("words")
            .expect("words")
            .collect();
        assert_eq!(rest, ["id", "ls", "-t", "--", "-x"]);
        let matches = parse(&["runc", "kill", "-a", "id", "-9"]).expect("parsed");
        let (_, matches) = matches.subcommand().expect("kill");
        let rest: Vec<_> = matches
            .get_many::<String>("words")
            .expect("words")
            .collect();
        assert_eq!(rest, ["id", "-9"]);
    }

    #[test]
    fn a_flag_said_twice_counts_once_and_may_follow_the_id() {
        let matches = parse(&["runc", "create", "id", "-b", "a", "--bundle", "b"]).expect("parsed");
        let (_, matches) = matches.subcommand().expect("create");
        assert_eq!(
            matches.get_one::<OsString>("bundle"),
            Some(&OsString::from("b"))
        );
    }
}
