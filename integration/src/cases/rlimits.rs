//! Resource limits of the process.
#![forbid(unsafe_code)]

use crate::case::{Case, Result};
use crate::lab::Lab;
use crate::{check, same};
use serde_json::json;

/// (name in config.json, line in /proc/PID/limits, a value below any default)
const ALL: [(&str, &str, u64); 16] = [
    ("AS", "Max address space", 1 << 40),
    ("CORE", "Max core file size", 0),
    ("CPU", "Max cpu time", 1000),
    ("DATA", "Max data size", 1 << 40),
    ("FSIZE", "Max file size", 1 << 40),
    ("LOCKS", "Max file locks", 100),
    ("MEMLOCK", "Max locked memory", 4096),
    ("MSGQUEUE", "Max msgqueue size", 4096),
    ("NICE", "Max nice priority", 0),
    ("NOFILE", "Max open files", 64),
    ("NPROC", "Max processes", 500),
    ("RSS", "Max resident set", 1 << 40),
    ("RTPRIO", "Max realtime priority", 0),
    ("RTTIME", "Max realtime timeout", 1_000_000),
    ("SIGPENDING", "Max pending signals", 100),
    ("STACK", "Max stack size", 1 << 20),
];

/// One case for each limit, and what holds for all.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, line, value) in ALL {
        let case = Case::new(
            &format!("rlimit_{}_is_set", name.to_lowercase()),
            move |lab| one(lab, name, line, value),
        );
        cases.push(case);
    }
    cases.extend(more());
    cases
}

crate::cases! {
    in more;
    rlimits_may_differ_soft_from_hard,
    rlimits_reach_exec,
    rlimits_above_the_callers_are_set: [Capability(24)],
    rlimits_not_listed_are_the_callers,
}

fn one(lab: &Lab, name: &str, line: &str, value: u64) -> Result {
    let mut bundle = lab.script("cat /proc/self/limits")?;
    let limit = json!({"type": format!("RLIMIT_{name}"), "soft": value, "hard": value});
    bundle.set("/process/rlimits", json!([limit]))?;
    holds(&lab.told(&bundle)?, line, value, value)
}

fn holds(told: &str, line: &str, soft: u64, hard: u64) -> Result {
    let row = told
        .lines()
        .find_map(|row| row.strip_prefix(line))
        .ok_or(format!("no {line}"))?;
    let words: Vec<&str> = row.split_whitespace().collect();
    let want = [soft.to_string(), hard.to_string()];
    check!(
        words.iter().zip(&want).all(|(got, want)| got == want),
        "{line}: {words:?}"
    );
    Ok(())
}

fn rlimits_may_differ_soft_from_hard(lab: &Lab) -> Result {
    let mut bundle = lab.script("ulimit -Sn; ulimit -Hn")?;
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 50, "hard": 100});
    bundle.set("/process/rlimits", json!([limit]))?;
    same!("ulimit", lab.told(&bundle)?, "50\n100\n");
    Ok(())
}

fn rlimits_reach_exec(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 50, "hard": 100});
    bundle.set("/process/rlimits", json!([limit]))?;
    let container = lab.started(&bundle)?;
    same!(
        "ulimit",
        container.sh("ulimit -Sn; ulimit -Hn")?.ok()?.out,
        "50\n100\n"
    );
    Ok(())
}

fn rlimits_above_the_callers_are_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("ulimit -Hn")?;
    let limit = json!({"type": "RLIMIT_NOFILE", "soft": 1_048_576, "hard": 1_048_576});
    bundle.set("/process/rlimits", json!([limit]))?;
    same!("ulimit", lab.told(&bundle)?, "1048576\n");
    Ok(())
}

fn rlimits_not_listed_are_the_callers(lab: &Lab) -> Result {
    let own = std::fs::read_to_string("/proc/self/limits")?;
    let told = lab.told(&lab.script("cat /proc/self/limits")?)?;
    for line in ["Max file size", "Max stack size", "Max open files"] {
        let row = |text: &str| {
            text.lines()
                .find(|row| row.starts_with(line))
                .map(str::to_owned)
        };
        same!(line, row(&told), row(&own));
    }
    Ok(())
}
