//! The binary: argv to a command, the command to an exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    creel::cli::main(std::env::args_os())
}
