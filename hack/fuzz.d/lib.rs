//! Fuzzing: what all targets share, and containerd's shim, which is a program and no library: its
//! modules are taken in here.
#![forbid(unsafe_code)]
#![allow(dead_code)] // nothing calls the shim's main

#[path = "../../shim/src"]
mod parts {
    pub mod bootstrap;
    pub mod bury;
    pub mod change;
    pub mod console;
    pub mod create;
    pub mod delete;
    pub mod digest;
    pub mod events;
    pub mod exec;
    pub mod fuzz;
    pub mod info;
    pub mod io;
    pub mod jail;
    pub mod logger;
    pub mod metrics;
    pub mod mounts;
    pub mod oom;
    pub mod options;
    pub mod process;
    pub mod pump;
    pub mod reap;
    pub mod runtime;
    pub mod serve;
    pub mod shim;
    pub mod start;
    pub mod status;
    pub mod task;
    pub mod watch;
    pub mod wire;
    pub mod work;
}

/// What the shim is held to.
pub use parts::fuzz as shim_doors;
use parts::*;

use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// As in the shim.
const NAME: &str = "io.containerd.creel.v2";

/// Before the first input: with SEEDS=DIR in the environment, writes what the fuzzer of `door` is to
/// begin with, DIR/DOOR/* and DIR/DOOR.dict, and ends.
pub fn begin(door: &str) {
    let Some(dir) = std::env::var_os("SEEDS") else {
        return;
    };
    if let Err(error) = write(Path::new(&dir), door) {
        eprintln!("{}: {error}", dir.display());
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// What one input may cost, in seconds of the processor: on a busy machine the wall's mean nothing.
const SECONDS: i64 = 10;

/// Knocks at a door.
pub fn knock(door: fn(&[u8]), bytes: &[u8]) {
    let spent = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| time.tv_sec());
    let before = spent();
    door(bytes);
    assert!(spent() - before < SECONDS, "too slow");
}

fn write(dir: &Path, door: &str) -> std::io::Result<()> {
    let ours = shim_doors::DOORS.iter().find(|(name, ..)| *name == door);
    let mut seeds = creel::fuzz::seeds::seeds(door);
    seeds.extend(ours.into_iter().flat_map(|(_, _, seeds)| seeds()));
    std::fs::create_dir_all(dir.join(door))?;
    for (index, seed) in seeds.iter().enumerate() {
        std::fs::write(dir.join(door).join(format!("{index:03}")), seed)?;
    }
    let words = creel::fuzz::seeds::words(&seeds);
    std::fs::write(dir.join(format!("{door}.dict")), dictionary(&words))
}

/// The form that libFuzzer reads words in.
fn dictionary(words: &BTreeSet<String>) -> String {
    let mut out = String::new();
    for word in words {
        out.push('"');
        for byte in word.bytes() {
            match byte {
                b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
                b' '..=b'~' => out.push(char::from(byte)),
                other => drop(write!(out, "\\x{other:02x}")),
            }
        }
        out.push_str("\"\n");
    }
    out
}
