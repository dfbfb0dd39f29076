//! The outer layer: picks the cases, runs each in a supervisor of its own, and counts.
#![forbid(unsafe_code)]

use crate::bundle;
use crate::case::{Case, Failure, Result};
use crate::cases;
use crate::expect::Known;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What became of a case, as its supervisor's exit code says.
pub const FAILED: u8 = 1;
/// See [`FAILED`].
pub const SKIPPED: u8 = 77;

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    known: usize,
    unexpected: usize,
}

/// Runs the cases that the arguments choose.
pub fn suite(args: &[String]) -> Result<ExitCode> {
    let mut filters: Vec<String> = Vec::new();
    let mut known = Known::default();
    let mut list = false;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--list" => list = true,
            "--expect" => {
                known.read(rest.next().ok_or("--expect needs a file")?)?;
            }
            // What `cargo test` and its callers may pass on.
            "--nocapture" | "--quiet" | "-q" => {}
            flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}").into()),
            filter => filters.push(filter.to_owned()),
        }
    }
    let all = cases::all()?;
    let names: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    if let Some(name) = sorted.windows(2).find_map(|two| match two {
        [a, b] if a == b => Some(*a),
        _ => None,
    }) {
        return Err(format!("two cases are called {name}").into());
    }
    if let [name, ..] = known.strangers(&names).as_slice() {
        return Err(format!("known difference of a case that is not: {name}").into());
    }
    let chosen: Vec<&Case> = all
        .iter()
        .filter(|case| picks(&filters, &case.name))
        .collect();
    if list {
        for case in &chosen {
            println!("{}", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    run(&chosen, &known)
}

fn picks(filters: &[String], name: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}

fn run(chosen: &[&Case], known: &Known) -> Result<ExitCode> {
    let runtime = runtime()?;
    let stage = Stage::new()?;
    bundle::make_image(&stage.0.join("image"))?;
    let jobs = std::env::var("JOBS")
        .ok()
        .and_then(|jobs| jobs.parse().ok())
        .unwrap_or(2);
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::cmp::max(jobs, 1) {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(case, &runtime, &stage.0, known, &tally);
                }
            });
        }
    });
    let tally = tally.into_inner().map_err(|_| "a worker died")?;
    if tally.known + tally.unexpected > 0 {
        println!(
            "{} known differences, {} unexpectedly pass",
            tally.known, tally.unexpected
        );
    }
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    let clean = tally.failed == 0 && tally.unexpected == 0 && !chosen.is_empty();
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn one(case: &Case, runtime: &Path, stage: &Path, known: &Known, tally: &Mutex<Tally>) {
    let begun = Instant::now();
    let lack = case.needs.iter().find_map(|need| need.lack(runtime));
    let verdict = match lack {
        Some(lack) => Err(Failure::skip(lack)),
        None => supervised(case, runtime, stage),
    };
    let took = begun.elapsed().as_millis();
    let name = &case.name;
    let Ok(mut tally) = tally.lock() else { return };
    let line = match (verdict, known.reason(name)) {
        (Ok(()), Some(_)) if known.always(name) => {
            tally.passed += 1;
            tally.unexpected += 1;
            format!("ok {name} ({took} ms): unexpectedly passes")
        }
        (Ok(()), _) => {
            tally.passed += 1;
            format!("ok {name} ({took} ms)")
        }
        (Err(failure), _) if failure.skip => {
            tally.skipped += 1;
            format!("SKIP {name}: {}", failure.why)
        }
        (Err(_), Some(reason)) => {
            tally.known += 1;
            format!("known {name}: {reason}")
        }
        (Err(failure), None) => {
            tally.failed += 1;
            format!("FAIL {name}: {}", failure.why.trim().replace('\n', " | "))
        }
    };
    println!("{line}");
}

fn supervised(case: &Case, runtime: &Path, stage: &Path) -> Result {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["--supervise", &case.name])
        .env("RUNTIME", runtime)
        .env("INTEGRATION_STAGE", stage)
        .env("INTEGRATION_LIMIT", case.limit.to_string())
        .output()?;
    let why = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(SKIPPED) => Err(Failure::skip(why.trim())),
        _ => Err(format!("{why}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The runtime under test: `$RUNTIME`, else the creel that was built beside this program.
fn runtime() -> Result<PathBuf> {
    let given = match std::env::var_os("RUNTIME") {
        Some(given) => PathBuf::from(given),
        None => {
            // target/<triple>/debug/deps/integration-<hash>
            let program = std::env::current_exe()?;
            let built = program
                .parent()
                .and_then(Path::parent)
                .ok_or("where is target/?")?;
            built.join("creel")
        }
    };
    if given.components().count() == 1 {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = path.split(':').map(|dir| Path::new(dir).join(&given));
        let found = found.into_iter().find(|file| file.is_file());
        return Ok(found.ok_or(format!("RUNTIME={}: not in PATH", given.display()))?);
    }
    let found = given.canonicalize();
    Ok(found.map_err(|e| format!("the runtime under test: {}: {e}", given.display()))?)
}

/// The directory of this run of the suite, gone when it ends.
struct Stage(PathBuf);

impl Stage {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("integration-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        // A mapped root must be able to reach the rootfs below.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&dir, open)?;
        Ok(Self(dir))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("integration: {}: {error}", self.0.display());
        }
    }
}
