//! Docker, as people learn it: each lesson does what is typed in it, asserts what comes of that, and says
//! what was seen. They are played on the runtime by its path in daemon.json, which is how any Docker
//! takes one, and with creel also on its own shim. `LESSONS` names a directory for what was seen
//! (`hack/lessons` makes a table of it).
#![forbid(unsafe_code)]

mod daemon;
mod inside;
mod life;
mod limits;
mod network;
mod security;
mod storage;

use crate::case::{Case, Result};
use crate::docker::Docker;
use crate::lab::Lab;
use std::fmt::Write as _;

/// What is typed, and who does it and says what was seen.
type Lesson = (&'static str, fn(&mut Docker<'_>) -> Result<String>);

const PARTS: [(&str, &[Lesson]); 7] = [
    ("life", life::LESSONS),
    ("inside", inside::LESSONS),
    ("limits", limits::LESSONS),
    ("storage", storage::LESSONS),
    ("security", security::LESSONS),
    ("network", network::LESSONS),
    ("daemon", daemon::LESSONS),
];

/// How Docker comes to the runtime.
#[derive(Clone, Copy)]
enum Way {
    Path,
    Shim,
}

/// The cases; each starts both daemons.
pub fn cases() -> Vec<Case> {
    use crate::case::Need::{Creel, Tool};
    let mut needs = vec![Tool("containerd"), Tool("dockerd"), Tool("docker")];
    needs.extend([Tool("nsenter"), Tool("iptables"), Tool("tar")]);
    let case = |way: Way, part: &str, lessons: &'static [Lesson]| {
        let (word, own) = match way {
            Way::Path => ("path", &[][..]),
            Way::Shim => ("shim", &[Creel][..]),
        };
        let name = format!("engine_docker_{word}_{part}");
        let file = name.clone();
        Case::new(&name, move |lab| play(lab, way, lessons, &file))
            .needs(&needs)
            .needs(own)
            .limit(300)
    };
    let of = |way| PARTS.map(|(part, lessons)| case(way, part, lessons));
    of(Way::Path).into_iter().chain(of(Way::Shim)).collect()
}

/// Plays all, whatever becomes of one, each without the containers of the one before.
fn play(lab: &Lab, way: Way, lessons: &[Lesson], file: &str) -> Result {
    let mut docker = match way {
        Way::Path => Docker::by_path(lab)?,
        Way::Shim => Docker::new(lab)?,
    };
    let (mut record, mut failures) = (String::new(), Vec::new());
    for (title, lesson) in lessons {
        let seen = match lesson(&mut docker) {
            Ok(seen) => seen,
            Err(failure) => {
                failures.push(format!("{title}: {}", failure.why));
                format!("FAILS: {}", failure.why)
            }
        };
        let words: Vec<&str> = seen.split_whitespace().collect();
        writeln!(record, "{title}\t{}", words.join(" "))?;
        docker.clear()?;
    }
    if let Some(dir) = std::env::var_os("LESSONS") {
        std::fs::write(std::path::Path::new(&dir).join(file), record)?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ").into()),
    }
}

/// Says that it is up, on both streams, and ends with 7 when it is asked to.
const ENDLESS: &str =
    "echo up; echo down >&2; trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done";

/// What the runtime said, without what the engine put around it.
fn reason(err: &str) -> String {
    let line = err
        .lines()
        .find(|line| line.contains("runtime"))
        .unwrap_or(err);
    let said = line.rsplit_once(" failed: ").map_or(line, |(_, said)| said);
    let said = said
        .trim()
        .trim_end_matches('.')
        .trim_end_matches(": unknown");
    let id = |word: &&str| word.len() >= 64 && word.starts_with(|c: char| c.is_ascii_hexdigit());
    let words = said.split(' ').map(|word| match Some(word).filter(id) {
        Some(_) => "ID:",
        None => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
