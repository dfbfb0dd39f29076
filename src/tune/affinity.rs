//! Cpus: `process.execCPUAffinity`, and giving back what the runtime's own caller pinned.
#![forbid(unsafe_code)]

use super::list;
use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::sched::set_affinity;

/// `execCPUAffinity`: cpus before and after the exec'd process is in its cgroup.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    initial: Option<Vec<u64>>,
    last: Option<Vec<u64>>,
}

impl Affinity {
    pub(crate) fn plan(process: &Process) -> Result<Self> {
        let Some(asked) = &process.exec_cpu_affinity else {
            return Ok(Self::default());
        };
        let parse = |text: &str, field: &str| match text {
            "" => Ok(None),
            text => parse(text).map(Some).ok_or_else(|| {
                Error::rule(Doing::CheckConfig, format!("{text:?} is no list of cpus"))
                    .hint("such as 0-3,7")
                    .field(format!("process.execCPUAffinity.{field}"))
            }),
        };
        Ok(Self {
            initial: parse(&asked.initial, "initial")?,
            last: parse(&asked.last, "final")?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.initial.is_none() && self.last.is_none()
    }

    pub(crate) fn set_initial(&self) -> Result<()> {
        set(self.initial.as_deref(), "initial")
    }

    pub(crate) fn set_final(&self) -> Result<()> {
        set(self.last.as_deref(), "final")
    }
}

fn set(cpus: Option<&[u64]>, field: &str) -> Result<()> {
    let Some(cpus) = cpus else { return Ok(()) };
    set_affinity(0, cpus)
        .doing(Doing::SetAffinity)
        .field(format_args!("process.execCPUAffinity.{field}"))
}

/// Lets this process run on every cpu that its cpuset allows, whatever its ancestors were bound to:
/// a container's cpus are the cgroup's business (the kernel cuts the mask to the cpuset).
pub(crate) fn reset() {
    // Room for 8192 cpus, the most that x86-64 kernels are built for. A refusal leaves the mask of
    // the caller, which is what runc leaves then, too.
    set_affinity(0, &[u64::MAX; 128]).ok();
}

/// `0-3,7` as a bit mask in words.
fn parse(text: &str) -> Option<Vec<u64>> {
    list::parse(text.split(','), 8192)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lists_of_cpus_become_masks() {
        assert_eq!(parse("0-1, 3").unwrap()[0], 0b1011);
        assert_eq!(parse("64").unwrap()[..2], [0, 1]);
        assert_eq!(
            (parse("3-1"), parse("x"), parse("99999")),
            (None, None, None)
        );
    }
}
