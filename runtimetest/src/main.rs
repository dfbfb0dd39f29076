//! The container's own witness: compares what the kernel shows in here with config.json.
//!
//! `runtimetest [--config PATH] [--process PATH] [--host-ns LIST] [--host-caps HEX]
//! [--preserve-fds N] [--image PATH] [--agent-errno N] [--list] [PART...]`
//!
//! It shares no code with the runtime it judges, so that a mistake cannot agree with itself. One
//! line of JSON per check, a summary last; exit 0 when all hold, 1 when one fails (or none was
//! made: silence proves nothing), 2 when it was not asked properly.
#![forbid(unsafe_code)]

mod affinity;
mod apparmor;
mod applet;
mod args;
mod asked;
mod caps;
mod cgroup;
mod config;
mod copyup;
mod cwd;
mod devices;
mod env;
mod fds;
mod ids;
mod ioprio;
mod kernel;
mod limit;
mod limit_more;
mod links;
mod masked;
mod mempolicy;
mod mountinfo;
mod mounts;
mod names;
mod namespaces;
mod net;
mod oom;
mod option;
mod personality;
mod privileges;
mod probe;
mod processes;
mod rdt;
mod readonly;
mod report;
mod rlimits;
mod root;
mod scheduler;
mod seccomp;
mod selinux;
mod signals;
mod stdio;
mod syscalls;
mod sysctl;
mod terminal;
mod time;
mod user;

use asked::Asked;
use config::Config;
use report::Report;
use std::process::ExitCode;

/// A part of config.json and how to look for it.
struct Part {
    name: &'static str,
    check: fn(&Config, &mut Report),
}

const fn part(name: &'static str, check: fn(&Config, &mut Report)) -> Part {
    Part { name, check }
}

/// File descriptors and processes come first: later parts open files and start programs.
const PARTS: &[Part] = &[
    part("fds", fds::check),
    part("processes", processes::check),
    part("args", args::check),
    part("env", env::check),
    part("cwd", cwd::check),
    part("user", user::check),
    part("signals", signals::check),
    part("stdio", stdio::check),
    part("terminal", terminal::check),
    part("namespaces", namespaces::check),
    part("ids", ids::check),
    part("time", time::check),
    part("net", net::check),
    part("names", names::check),
    part("sysctl", sysctl::check),
    part("root", root::check),
    part("mounts", mounts::check),
    part("copyup", copyup::check),
    part("devices", devices::check),
    part("links", links::check),
    part("masked", masked::check),
    part("readonly", readonly::check),
    part("cgroup", cgroup::check),
    part("rdt", rdt::check),
    part("rlimits", rlimits::check),
    part("oom", oom::check),
    part("scheduler", scheduler::check),
    part("affinity", affinity::check),
    part("ioprio", ioprio::check),
    part("mempolicy", mempolicy::check),
    part("personality", personality::check),
    part("caps", caps::check),
    part("privileges", privileges::check),
    part("apparmor", apparmor::check),
    part("selinux", selinux::check),
    part("seccomp", seccomp::check),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if let (Some("--try"), Some(call)) = (args.next().as_deref(), args.next()) {
        // A child of the seccomp part, which may not live to tell.
        return seccomp::attempt(&call);
    }
    let asked = match Asked::parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => return refuse(&error),
    };
    if asked.list {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        return match report::print(&names.join("\n")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string()),
        };
    }
    if let Some(name) = asked
        .parts
        .iter()
        .find(|name| PARTS.iter().all(|p| p.name != **name))
    {
        return refuse(&format!("there is no part {name:?}; --list names them"));
    }
    let config = match Config::read(asked) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    let mut report = Report::default();
    for part in PARTS {
        let named = config.asked.parts.iter().any(|name| name == part.name);
        if named || config.asked.parts.is_empty() {
            report.begin(part.name);
            (part.check)(&config, &mut report);
            report.end(named);
        }
    }
    if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Nothing was judged: a code of its own, so that a typo never reads as a verdict.
fn refuse(why: &str) -> ExitCode {
    eprintln!("runtimetest: {why}");
    ExitCode::from(2)
}
