//! Seccomp: a filter is there, and it is felt.
//!
//! Harmless calls are made, and what they get is compared with what the profile says of them; those
//! that a filter would end are made by a child, which is this program again.
#![forbid(unsafe_code)]

use crate::config::{Config, Rule, Seccomp};
use crate::kernel::text;
use crate::report::Report;
use crate::syscalls::{ARGUED, Call, HARMLESS, Known};
use nix::errno::Errno;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

/// Judges `linux.seccomp`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "linux.seccomp: the state of the filter can be seen";
    let Some(status) = report.seen(claim, "status", text("/proc/self/status")) else {
        return;
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u32>().ok())
    };
    let Some(filter) = config
        .linux
        .seccomp
        .as_ref()
        .filter(|f| !f.default_action.is_empty())
    else {
        report.equal(
            "without linux.seccomp there is no filter",
            Some(0),
            field("Seccomp:"),
        );
        return;
    };
    report.equal("linux.seccomp is in force", Some(2), field("Seccomp:"));
    if let Some(count) = field("Seccomp_filters:") {
        report.holds(
            "linux.seccomp is at least one filter",
            "1 or more",
            count,
            count > 0,
        );
    }
    for (index, (name, args, call, own)) in all().enumerate() {
        if let Some(verdict) = verdict(filter, name, args, config.asked.agent_errno) {
            let claim = match args {
                [] => name.to_owned(),
                args => format!("{name} with {args:?}"),
            };
            judge(filter, &verdict, index, &claim, (call, own), report);
        }
    }
}

fn all() -> impl Iterator<Item = Known> {
    let plain = HARMLESS.iter().map(|(name, call, own)| {
        let none: &'static [(u64, u64)] = &[];
        (*name, none, *call, *own)
    });
    plain.chain(ARGUED.iter().copied())
}

fn judge(
    filter: &Seccomp,
    verdict: &Verdict,
    index: usize,
    name: &str,
    (call, own): (Call, &[Errno]),
    report: &mut Report,
) {
    match verdict {
        Verdict::Pass => {
            let got = call();
            let ok = got.is_ok() || got.is_err_and(|errno| own.contains(&errno));
            let got = got.map_err(|errno| errno.to_string());
            let claim = format!("linux.seccomp lets {name} pass");
            report.holds(claim, "the kernel's answer", got, ok);
        }
        // An errno that the kernel would give anyway proves nothing.
        Verdict::Refuse(errno) if own.contains(errno) => {}
        Verdict::Refuse(errno) => {
            let got = call().map_err(|errno| errno.to_string());
            let claim = format!("linux.seccomp refuses {name} with the errno listed");
            report.equal(claim, Err(errno.to_string()), got);
        }
        Verdict::End => {
            // A filter that lets no child be made cannot be tried so.
            let births = ["clone", "clone3", "vfork", "execve", "wait4", "waitid"];
            let passes = |call| self::verdict(filter, call, &[], None) == Some(Verdict::Pass);
            if births.into_iter().all(passes) {
                let claim = format!("linux.seccomp ends who calls {name}");
                let child = Command::new("/proc/self/exe")
                    .args(["--try", &index.to_string()])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                let child = child.map(|status| status.signal());
                let child = child.map_err(|error| error.to_string());
                report.equal(claim, Ok(Some(nix::libc::SIGSYS)), child);
            }
        }
    }
}

/// Makes one call, in a child that may not survive it.
pub fn attempt(index: &str) -> ExitCode {
    let known = index.parse().ok().and_then(|index| all().nth(index));
    match known {
        Some((_, _, call, _)) => match call() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        None => ExitCode::from(2),
    }
}

#[derive(Debug, PartialEq, Clone)]
enum Verdict {
    Pass,
    Refuse(Errno),
    /// SIGSYS, by whichever of the actions that send it.
    End,
}

/// What the filter says to a call of which these arguments are known; nothing where that is not
/// certain.
fn verdict(
    filter: &Seccomp,
    name: &str,
    args: &[(u64, u64)],
    agent: Option<i32>,
) -> Option<Verdict> {
    let mut said: Option<(&str, Option<i32>)> = None;
    for rule in &filter.syscalls {
        if rule.names.iter().any(|n| n == name) && applies(rule, args)? {
            let this = (rule.action.as_str(), rule.errno_ret);
            // Several that say different things need a judgement of their own.
            if said.is_some_and(|said| said != this) {
                return None;
            }
            said = Some(this);
        }
    }
    let (action, errno) =
        said.unwrap_or((filter.default_action.as_str(), filter.default_errno_ret));
    let errno = match action {
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => return Some(Verdict::Pass),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" | "SCMP_ACT_TRAP" => {
            return Some(Verdict::End);
        }
        "SCMP_ACT_ERRNO" => Errno::from_raw(errno.unwrap_or(nix::libc::EPERM)),
        // seccomp(2): what a call gets that nobody traces.
        "SCMP_ACT_TRACE" => Errno::ENOSYS,
        "SCMP_ACT_NOTIFY" => Errno::from_raw(agent?),
        _ => return None,
    };
    (errno != Errno::UnknownErrno).then_some(Verdict::Refuse(errno))
}

/// Whether all conditions of a rule hold; nothing if one is about an argument that is not known.
fn applies(rule: &Rule, args: &[(u64, u64)]) -> Option<bool> {
    let mut all = true;
    for condition in &rule.args {
        let number = |key: &str| condition.get(key).and_then(Value::as_u64);
        let index = number("index")?;
        let (_, got) = args.iter().find(|(known, _)| *known == index)?;
        let value = number("value")?;
        all &= match condition.get("op")?.as_str()? {
            "SCMP_CMP_EQ" => *got == value,
            "SCMP_CMP_NE" => *got != value,
            "SCMP_CMP_LT" => *got < value,
            "SCMP_CMP_LE" => *got <= value,
            "SCMP_CMP_GT" => *got > value,
            "SCMP_CMP_GE" => *got >= value,
            "SCMP_CMP_MASKED_EQ" => got & value == number("valueTwo")?,
            _ => return None,
        };
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(name: &str, action: &str, args: Value) -> Rule {
        Rule {
            names: vec![name.to_owned()],
            action: action.to_owned(),
            errno_ret: None,
            args: args.as_array().cloned().unwrap_or_default(),
        }
    }

    fn filter(rules: Vec<Rule>) -> Seccomp {
        Seccomp {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            default_errno_ret: Some(38),
            syscalls: rules,
        }
    }

    #[test]
    fn only_certain_verdicts_count() {
        let none = || json!([]);
        let filter = filter(vec![
            rule("getcwd", "SCMP_ACT_ALLOW", none()),
            rule("mount", "SCMP_ACT_ERRNO", none()),
            rule("chroot", "SCMP_ACT_ALLOW", json!([{"index": 0}])),
            rule("unshare", "SCMP_ACT_KILL", none()),
            rule("kill", "SCMP_ACT_NOTIFY", none()),
            rule("pipe2", "SCMP_ACT_ALLOW", none()),
            rule("pipe2", "SCMP_ACT_LOG", none()),
        ]);
        let verdict = |name| verdict(&filter, name, &[], None);
        assert_eq!(verdict("getcwd"), Some(Verdict::Pass));
        assert_eq!(verdict("mount"), Some(Verdict::Refuse(Errno::EPERM)));
        assert_eq!(verdict("setns"), Some(Verdict::Refuse(Errno::ENOSYS)));
        assert_eq!(verdict("unshare"), Some(Verdict::End));
        for uncertain in ["chroot", "kill", "pipe2"] {
            assert_eq!(verdict(uncertain), None, "{uncertain}");
        }
    }

    #[test]
    fn conditions_are_tried_on_the_arguments_known() {
        let one = |op: &str, value: u64| json!([{"index": 1, "value": value, "op": op}]);
        for (op, value, want) in [
            ("SCMP_CMP_EQ", 9, true),
            ("SCMP_CMP_NE", 9, false),
            ("SCMP_CMP_LT", 10, true),
            ("SCMP_CMP_GE", 10, false),
        ] {
            let rule = rule("kill", "SCMP_ACT_ALLOW", one(op, value));
            assert_eq!(applies(&rule, &[(1, 9)]), Some(want), "{op}");
            assert_eq!(applies(&rule, &[(0, 9)]), None);
        }
        let masked = json!([{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]);
        let filter = filter(vec![rule("kill", "SCMP_ACT_TRACE", masked)]);
        let of = |signal| verdict(&filter, "kill", &[(1, signal)], None);
        assert_eq!(of(9), Some(Verdict::Refuse(Errno::ENOSYS)));
        assert_eq!(of(1), Some(Verdict::Refuse(Errno::from_raw(38))));
    }
}
