//! Drives an OCI runtime by its command line only, and asserts what the kernel shows.
//!
//! `cargo test -p integration -- [FILTER...] [--list] [--expect FILE]`; see `README.md`.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    reason = "it means serde_json's values, too, which answer Null for what is not there"
)]

mod attack;
mod bundle;
mod case;
mod cases;
mod cgroup;
mod container;
mod cri;
mod docker;
mod engine;
mod expect;
mod golden;
mod golden_table;
mod kernel;
mod lab;
mod proto;
mod pty;
mod report;
mod scene;
mod supervise;
mod task;
mod tracer;

use case::{Case, Result};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        // The two inner layers: see `supervise`.
        ["--supervise", name] => supervise::supervise(name),
        ["--body", name] => supervise::body(name),
        // This program again, inside a container.
        ["--notify", text] => cases::sd_notify::say(text),
        _ => report::suite(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("integration: {}", failure.why);
            ExitCode::FAILURE
        }
    }
}

/// The case of that name.
fn find(name: &str) -> Result<Case> {
    let case = cases::all()?.into_iter().find(|case| case.name == name);
    Ok(case.ok_or(format!("no case is called {name}"))?)
}
