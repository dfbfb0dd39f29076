//! Times container runtimes against each other, alternately, in one run.
//!
//! Every round takes each runtime once, in another order than the round before, so a machine that
//! slows down slows everybody. A step that exits with anything but success ends the benchmark: a
//! runtime that fails looks fast. Called by `hack/bench`, which documents the options.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio, exit};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const SCENARIOS: [&str; 3] = ["run", "create+start+delete", "exec"];
const STEPS: [&str; 4] = ["create", "start", "exit", "delete"];
/// The exit status the first container of every runtime is asked for.
const PROOF: i32 = 42;

#[repr(C)]
#[derive(Default)]
struct Rusage {
    user: [i64; 2],
    system: [i64; 2],
    maxrss: i64,
    rest: [i64; 13],
}

unsafe extern "C" {
    fn wait4(pid: i32, status: *mut i32, options: i32, usage: *mut Rusage) -> i32;
    fn prctl(option: i32, argument: u64, ...) -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
}

fn die(why: &str) -> ! {
    eprintln!("bench: {why}");
    exit(1)
}

#[derive(Clone)]
struct Runtime {
    name: String,
    path: PathBuf,
    floor: bool,
    state: PathBuf,
    /// The id of the container that `exec` goes into.
    target: String,
}

struct Options {
    runtimes: Vec<Runtime>,
    runs: usize,
    gap: Duration,
    scenarios: Vec<String>,
    dir: PathBuf,
    work: PathBuf,
    json: Option<PathBuf>,
    peak: PathBuf,
    strace: bool,
    base: String,
    /// What the ids of this run's containers start with.
    prefix: String,
}

impl Options {
    fn read() -> Options {
        let mut options = Options {
            runtimes: Vec::new(),
            runs: 200,
            gap: Duration::from_millis(10),
            scenarios: Vec::new(),
            dir: PathBuf::new(),
            work: PathBuf::new(),
            json: None,
            peak: PathBuf::new(),
            strace: false,
            base: "crun".into(),
            prefix: "bench".into(),
        };
        let mut args = env::args().skip(1);
        while let Some(flag) = args.next() {
            if flag == "--strace" {
                options.strace = true;
                continue;
            }
            let Some(value) = args.next() else { die(&format!("{flag} needs a value")) };
            let number = || value.parse::<usize>().unwrap_or_else(|_| die(&format!("{flag} {value}: not a number")));
            match flag.as_str() {
                "--runs" => options.runs = number().max(1),
                "--gap" => options.gap = Duration::from_millis(number() as u64),
                "--only" if SCENARIOS.contains(&value.as_str()) => options.scenarios.push(value),
                "--only" => die(&format!("--only {value}: choose from {}", SCENARIOS.join(", "))),
                "--dir" => options.dir = value.into(),
                "--work" => options.work = value.into(),
                "--json" => options.json = Some(value.into()),
                "--peak" => options.peak = value.into(),
                "--prefix" => options.prefix = value,
                "--base" => options.base = value,
                "--runtime" => match value.split_once('=') {
                    Some((name, path)) => options.runtimes.push(Runtime {
                        name: name.into(),
                        path: path.into(),
                        floor: name.starts_with("floor"),
                        state: PathBuf::new(),
                        target: String::new(),
                    }),
                    None => die("--runtime takes NAME=PATH"),
                },
                _ => die(&format!("unknown option {flag}")),
            }
        }
        if options.scenarios.is_empty() {
            options.scenarios = SCENARIOS.map(String::from).to_vec();
        }
        for runtime in &mut options.runtimes {
            runtime.target = format!("{}-{}-target", options.prefix, runtime.name);
            runtime.state = options.work.join(&runtime.name);
            fs::create_dir_all(&runtime.state).unwrap_or_else(|e| die(&format!("{:?}: {e}", runtime.state)));
        }
        options
    }
}

/// What one step took: wall clock, and the processor time of the processes it waited for.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

fn reap(pid: i32) -> (i32, Duration) {
    let mut status = 0;
    let mut usage = Rusage::default();
    // SAFETY: both pointers are to live locals of the layout the call fills in.
    if unsafe { wait4(pid, &mut status, 0, &mut usage) } != pid {
        die(&format!("cannot wait for {pid}: {}", std::io::Error::last_os_error()));
    }
    let code = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
    let micros = (usage.user[0] + usage.system[0]) * 1_000_000 + usage.user[1] + usage.system[1];
    (code, Duration::from_micros(micros as u64))
}

fn measure(mut command: Command, want: i32) -> Cost {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let child = command.spawn().unwrap_or_else(|e| die(&format!("{command:?}: {e}")));
    let (code, cpu) = reap(child.id() as i32);
    let wall = begin.elapsed();
    if code != want {
        eprintln!("bench: {command:?} exited with {code}, not {want}. Once more, aloud:");
        let _ = command.stderr(Stdio::inherit()).status();
        exit(1);
    }
    Cost { wall, cpu }
}

impl Runtime {
    fn command(&self, dir: &Path, act: &str, bundle: &str, id: &str) -> Command {
        let mut command = Command::new(&self.path);
        if self.floor {
            command.arg(act).arg(&self.state).arg(dir.join("rootfs")).arg(id);
            match (act, bundle) {
                ("run", "proof") => command.args(["/bin/sh", "-c", "exit 42"]),
                ("create", "sleep") => command.args(["/bin/sleep", "1000000"]),
                ("exec", _) => command.arg("/bin/true"),
                _ => &mut command,
            };
            return command;
        }
        command.arg("--root").arg(&self.state).arg(act);
        match act {
            "run" => command.arg("--bundle").arg(dir.join(bundle)).arg(id),
            "create" => command
                .arg("--bundle")
                .arg(dir.join(bundle))
                .arg("--pid-file")
                .arg(self.state.join(format!("{id}.pid")))
                .arg(id),
            "exec" => command.args([id, "/bin/true"]),
            _ => command.arg(id),
        };
        command
    }

    fn pid(&self, id: &str) -> i32 {
        let file = if self.floor { self.state.join(id).join("pid") } else { self.state.join(format!("{id}.pid")) };
        let text = fs::read_to_string(&file).unwrap_or_else(|e| die(&format!("{file:?}: {e}")));
        text.trim().parse().unwrap_or_else(|_| die(&format!("{file:?} holds {text:?}, not a pid")))
    }

    /// One sample of a scenario: the total, and its steps where it has any.
    fn sample(&self, dir: &Path, scenario: &str, id: &str, gap: Duration) -> (Cost, Vec<Cost>) {
        let pause = || if !gap.is_zero() { thread::sleep(gap) };
        pause();
        match scenario {
            "run" => (measure(self.command(dir, "run", "true", id), 0), Vec::new()),
            "exec" => (measure(self.command(dir, "exec", "", &self.target), 0), Vec::new()),
            _ => {
                let create = measure(self.command(dir, "create", "true", id), 0);
                // We are the subreaper: the container's first process is now our child.
                let pid = self.pid(id);
                pause();
                let start = measure(self.command(dir, "start", "", id), 0);
                let begin = Instant::now();
                let (code, _) = reap(pid);
                let exit = Cost { wall: begin.elapsed(), cpu: Duration::ZERO };
                if code != 0 {
                    die(&format!("{}: /bin/true in the container exited with {code}", self.name));
                }
                pause();
                let delete = measure(self.command(dir, "delete", "", id), 0);
                let steps = vec![create, start, exit, delete];
                let mut total = Cost::default();
                steps.iter().for_each(|step| total += *step);
                (total, steps)
            }
        }
    }

    fn raise_target(&self, dir: &Path) -> i32 {
        measure(self.command(dir, "create", "sleep", &self.target), 0);
        measure(self.command(dir, "start", "", &self.target), 0);
        self.pid(&self.target)
    }

    fn fell_target(&self, dir: &Path, pid: i32) {
        // SAFETY: a signal to our own child, which nobody else can have reaped.
        unsafe { kill(pid, 9) };
        reap(pid);
        measure(self.command(dir, "delete", "", &self.target), 0);
    }
}

#[derive(Default)]
struct Samples {
    total: Vec<Cost>,
    steps: Vec<Vec<Cost>>,
}

fn millis(costs: &[Cost], quantile: f64, of: fn(&Cost) -> Duration) -> f64 {
    let mut all: Vec<Duration> = costs.iter().map(of).collect();
    all.sort_unstable();
    let at = ((all.len() - 1) as f64 * quantile).round() as usize;
    all.get(at).map_or(0.0, |d| d.as_secs_f64() * 1e3)
}

fn wall(cost: &Cost) -> Duration {
    cost.wall
}

fn cpu(cost: &Cost) -> Duration {
    cost.cpu
}

/// Round by round, everybody once, from another starter and every second lap backwards.
fn race(options: &Options, scenario: &str, gap: Duration) -> Vec<Samples> {
    let count = options.runtimes.len();
    let mut samples: Vec<Samples> = options.runtimes.iter().map(|_| Samples::default()).collect();
    let warm = (options.runs / 10).clamp(1, 10);
    for round in 0..warm + options.runs {
        for place in 0..count {
            let forward = (place + round) % count;
            let who = if (round / count) % 2 == 0 { forward } else { count - 1 - forward };
            let (Some(runtime), Some(kept)) = (options.runtimes.get(who), samples.get_mut(who)) else { continue };
            let id = format!("{}-{}-{round}", options.prefix, runtime.name);
            let (total, steps) = runtime.sample(&options.dir, scenario, &id, gap);
            if round >= warm {
                kept.total.push(total);
                kept.steps.push(steps);
            }
        }
    }
    samples
}

fn peak_kb(options: &Options, command: &Command) -> Option<u64> {
    let mut peak = Command::new(&options.peak);
    peak.arg(command.get_program()).args(command.get_args());
    let out = peak.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(out.stdout).ok()?.lines().last()?.trim().parse().ok()
}

fn syscalls(options: &Options, command: &Command) -> Option<u64> {
    let file = options.work.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&file).arg(command.get_program()).args(command.get_args());
    measure(strace, 0);
    // "100.00    0.012345          11      1064       112 total"
    let text = fs::read_to_string(&file).ok()?;
    text.lines().find(|line| line.ends_with(" total"))?.split_whitespace().nth(3)?.parse().ok()
}

fn cell(value: Option<u64>) -> String {
    value.map_or("-".into(), |v| v.to_string())
}

fn main() -> ExitCode {
    let options = Options::read();
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer and touches no memory of ours.
    unsafe { prctl(36, 1u64, 0u64, 0u64, 0u64) };

    let mut json = String::new();
    let mut page = String::new();
    // A container that answers 42 was really run; the rest of the numbers lean on that.
    for runtime in &options.runtimes {
        let id = format!("{}-{}-proof", options.prefix, runtime.name);
        measure(runtime.command(&options.dir, "run", "proof", &id), PROOF);
    }

    for scenario in &options.scenarios {
        let targets: Vec<i32> = match scenario.as_str() {
            "exec" => options.runtimes.iter().map(|r| r.raise_target(&options.dir)).collect(),
            _ => Vec::new(),
        };
        eprintln!("bench: {scenario}: {} rounds back to back, {0} with a gap", options.runs);
        let tight = race(&options, scenario, Duration::ZERO);
        let spaced = race(&options, scenario, options.gap);
        let mut footprint = BTreeMap::new();
        for runtime in &options.runtimes {
            let weighed = format!("{}-{}-weighed", options.prefix, runtime.name);
            let (act, bundle, id) = match scenario.as_str() {
                "run" => ("run", "true", weighed.as_str()),
                "exec" => ("exec", "", runtime.target.as_str()),
                _ => ("create", "true", weighed.as_str()),
            };
            let command = runtime.command(&options.dir, act, bundle, id);
            let peak = peak_kb(&options, &command);
            // strace would follow a created container for ever: it only counts what ends by itself.
            let calls = if options.strace && act != "create" { syscalls(&options, &command) } else { None };
            if act == "create" {
                let pid = runtime.pid(id);
                measure(runtime.command(&options.dir, "start", "", id), 0);
                reap(pid);
                measure(runtime.command(&options.dir, "delete", "", id), 0);
            }
            footprint.insert(runtime.name.clone(), (peak, calls));
        }
        for (runtime, pid) in options.runtimes.iter().zip(targets) {
            runtime.fell_target(&options.dir, pid);
        }

        let median = |samples: &Samples| millis(&samples.total, 0.5, wall);
        let base = options.runtimes.iter().position(|r| r.name == options.base);
        let ratio = |all: &[Samples], value: f64| match base.and_then(|i| all.get(i)).map(median) {
            Some(base) if base > 0.0 => format!("{:.2}", value / base),
            _ => "-".into(),
        };
        let _ = writeln!(
            page,
            "### {scenario} ({n} rounds back to back, {n} with a gap of {g} ms)\n\n| | median ms | p95 | vs {b} | gap: median ms | p95 | vs {b} | cpu ms | peak RSS KB | syscalls |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
            n = options.runs,
            g = options.gap.as_millis(),
            b = options.base,
        );
        for ((runtime, tight_one), spaced_one) in options.runtimes.iter().zip(&tight).zip(&spaced) {
            let (fast, slow) = (median(tight_one), median(spaced_one));
            let (peak, calls) = footprint.get(&runtime.name).copied().unwrap_or_default();
            let _ = writeln!(
                page,
                "| {} | {fast:.2} | {:.2} | {} | {slow:.2} | {:.2} | {} | {:.2} | {} | {} |",
                runtime.name,
                millis(&tight_one.total, 0.95, wall),
                ratio(&tight, fast),
                millis(&spaced_one.total, 0.95, wall),
                ratio(&spaced, slow),
                millis(&tight_one.total, 0.5, cpu),
                cell(peak),
                cell(calls),
            );
            for (mode, kept) in [("tight", tight_one), ("gap", spaced_one)] {
                let _ = writeln!(
                    json,
                    "{{\"scenario\":\"{scenario}\",\"mode\":\"{mode}\",\"runtime\":\"{}\",\"runs\":{},\"median_ms\":{:.4},\
                     \"p95_ms\":{:.4},\"min_ms\":{:.4},\"cpu_ms\":{:.4},\"peak_rss_kb\":{},\"syscalls\":{}}}",
                    runtime.name,
                    options.runs,
                    median(kept),
                    millis(&kept.total, 0.95, wall),
                    millis(&kept.total, 0.0, wall),
                    millis(&kept.total, 0.5, cpu),
                    peak.map_or("null".into(), |v| v.to_string()),
                    calls.map_or("null".into(), |v| v.to_string()),
                );
            }
        }
        page.push('\n');
        if scenario == "create+start+delete" {
            let _ = writeln!(page, "| back to back, median ms | {} |\n|---|--:|--:|--:|--:|", STEPS.join(" | "));
            for (runtime, kept) in options.runtimes.iter().zip(&tight) {
                let _ = write!(page, "| {} |", runtime.name);
                for step in 0..STEPS.len() {
                    let one: Vec<Cost> = kept.steps.iter().filter_map(|s| s.get(step).copied()).collect();
                    let _ = write!(page, " {:.2} |", millis(&one, 0.5, wall));
                }
                page.push('\n');
            }
            page.push('\n');
        }
    }
    print!("{page}");
    if let Some(file) = &options.json {
        fs::write(file, json).unwrap_or_else(|e| die(&format!("{file:?}: {e}")));
    }
    ExitCode::SUCCESS
}
