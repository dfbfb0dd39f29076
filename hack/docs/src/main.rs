//! Man pages and shell completions of `creel`, from the definitions that its parser uses.
//!
//! `creel-docs DIR` writes `DIR/man8/*.8`, `DIR/creel.bash`, `DIR/_creel` and `DIR/creel.fish`. They are
//! a program of their own so that the runtime's binary does not carry their generators.
#![forbid(unsafe_code)]

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let outcome = match (args.next(), args.next()) {
        (Some(dir), None) => write_all(&PathBuf::from(dir)),
        _ => Err(Error::other("usage: creel-docs DIR")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("creel-docs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &Path) -> Result<()> {
    let man = dir.join("man8");
    std::fs::create_dir_all(&man)?;
    let mut creel = creel::cli::definition("creel").about("Open Container Initiative runtime");
    creel.build();
    let commands: Vec<_> = creel
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .cloned()
        .collect();
    std::fs::write(man.join("creel.8"), overview(&creel, &commands)?)?;
    for command in &commands {
        // clap takes names that live as long as the program, which is short.
        let name: &'static str = format!("creel-{}", command.get_name()).leak();
        let page = page(command.clone().name(name))?;
        std::fs::write(man.join(format!("{name}.8")), page)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut creel, "creel", dir)?;
    }
    Ok(())
}

/// The page of the program: its global options, and its commands.
fn overview(creel: &Command, commands: &[Command]) -> Result<Vec<u8>> {
    let man = manual(creel.clone());
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(
        &mut out,
        "creel",
        "[global options] command [command options] [arguments...]",
    )?;
    man.render_options_section(&mut out)?;
    writeln!(out, ".SH COMMANDS")?;
    for command in commands {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        writeln!(
            out,
            ".TP\n\\fBcreel\\-{}\\fR(8)\n{}",
            command.get_name(),
            text(&about)
        )?;
    }
    writeln!(
        out,
        ".SH EXIT STATUS\n\
         A command that fails exits with 1, \\fBexec\\fR with 255. \\fBrun\\fR and \\fBexec\\fR in the foreground\n\
         exit with the status of the program, 128 and the signal if it was killed.\n\
         .SH FILES\n.TP\n/run/creel\n\
         The state of containers; \\fB$XDG_RUNTIME_DIR/creel\\fR for a user. A creel that is installed as\n\
         \\fBrunc\\fR uses runc's directory.\n\
         .SH SEE ALSO\n\\fBrunc\\fR(8), \\fBnamespaces\\fR(7), \\fBcgroups\\fR(7)"
    )?;
    Ok(out)
}

/// The page of one command.
fn page(command: Command) -> Result<Vec<u8>> {
    let usage = creel::cli::usage_of(command.get_name().trim_start_matches("creel-"));
    let name = command.get_name().replacen('-', " ", 1);
    let man = manual(command);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(&mut out, &name, &format!("[command options] {usage}"))?;
    man.render_options_section(&mut out)?;
    writeln!(out, ".SH SEE ALSO\n\\fBcreel\\fR(8)")?;
    Ok(out)
}

fn manual(command: Command) -> Man {
    let title = command.get_name().to_uppercase();
    let version = format!("creel {}", env!("CARGO_PKG_VERSION"));
    Man::new(command)
        .title(title)
        .section("8")
        .source(version)
        .manual("System administration")
}

fn synopsis(out: &mut Vec<u8>, name: &str, rest: &str) -> Result<()> {
    writeln!(out, ".SH SYNOPSIS\n\\fB{}\\fR {}", text(name), text(rest))
}

/// Plain words for roff.
fn text(words: &str) -> String {
    words.replace('\\', "\\e").replace('-', "\\-")
}
