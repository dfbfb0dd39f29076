//! `process.rlimits`: resource limits of the process (config.md, setrlimit(2)).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::sched::set_rlimit;

/// The limits in the kernel's form.
#[derive(Debug, Default)]
pub(crate) struct Rlimits(Vec<Limit>);

#[derive(Debug)]
struct Limit {
    name: &'static str,
    resource: u32,
    soft: u64,
    hard: u64,
}

/// In the order of their numbers: `RLIMIT_CPU` is 0 (asm-generic/resource.h).
const NAMES: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

impl Rlimits {
    pub(crate) fn plan(process: &Process) -> Result<Self> {
        let mut out: Vec<Limit> = Vec::new();
        for (index, asked) in process.rlimits.iter().enumerate() {
            let wrong = |field: &str, why: String| {
                Err(Error::rule(Doing::CheckConfig, why)
                    .field(format!("process.rlimits[{index}].{field}")))
            };
            let Some(number) = NAMES.iter().position(|name| *name == asked.typ) else {
                // config.md: "The runtime MUST generate an error for any values which cannot be
                // mapped to a relevant kernel interface."
                return wrong("type", format!("wrong rlimit value: {}", asked.typ));
            };
            let (Some(name), Ok(resource)) = (NAMES.get(number), u32::try_from(number)) else {
                continue;
            };
            if out.iter().any(|limit| limit.resource == resource) {
                // config.md: "If rlimits contains duplicated entries with same type, the runtime
                // MUST generate an error."
                return wrong("type", format!("{name} is listed twice"));
            }
            if asked.soft > asked.hard {
                return wrong(
                    "soft",
                    format!(
                        "{name}: soft limit {} is above hard limit {}",
                        asked.soft, asked.hard
                    ),
                );
            }
            out.push(Limit {
                name,
                resource,
                soft: asked.soft,
                hard: asked.hard,
            });
        }
        Ok(Self(out))
    }

    /// Sets them for process `pid` from outside, for inside a user namespace nobody may raise one.
    pub(crate) fn set(&self, pid: i32) -> Result<()> {
        for (index, limit) in self.0.iter().enumerate() {
            set_rlimit(pid, limit.resource, limit.soft, limit.hard)
                .doing(Doing::SetRlimit)
                .on(format_args!(
                    "{} to {}:{}",
                    limit.name, limit.soft, limit.hard
                ))
                .field(format_args!("process.rlimits[{index}]"))
                .hint("raising a hard limit needs CAP_SYS_RESOURCE")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Rlimits> {
        let process = serde_json::from_str(&format!(r#"{{"rlimits":{json}}}"#)).unwrap();
        Rlimits::plan(&process)
    }

    #[test]
    fn names_become_the_kernels_numbers() {
        let plan = plan(r#"[{"type":"RLIMIT_NOFILE","soft":1,"hard":2}]"#).unwrap();
        assert_eq!(u64::from(plan.0[0].resource), u64::from(libc_nofile()));
    }

    fn libc_nofile() -> u32 {
        nix::sys::resource::Resource::RLIMIT_NOFILE as u32
    }

    #[test]
    fn unknown_doubled_and_inverted_limits_are_errors() {
        for json in [
            r#"[{"type":"RLIMIT_NONE","soft":1,"hard":2}]"#,
            r#"[{"type":"RLIMIT_CPU","soft":1,"hard":2},{"type":"RLIMIT_CPU","soft":1,"hard":2}]"#,
            r#"[{"type":"RLIMIT_CPU","soft":3,"hard":2}]"#,
        ] {
            assert!(
                plan(json)
                    .unwrap_err()
                    .to_string()
                    .contains("process.rlimits[")
            );
        }
    }
}
