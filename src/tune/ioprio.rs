//! `process.ioPriority` (config.md, ioprio_set(2)).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};

/// An I/O priority in the kernel's form.
#[derive(Debug)]
pub(crate) struct IoPriority(i32);

impl IoPriority {
    pub(crate) fn plan(process: &Process) -> Result<Option<Self>> {
        let Some(asked) = &process.io_priority else {
            return Ok(None);
        };
        let class = match asked.class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => {
                let why = format!("invalid ioPriority.class: {other:?}");
                return Err(Error::rule(Doing::CheckConfig, why).field("process.ioPriority.class"));
            }
        };
        match i32::try_from(asked.priority) {
            Ok(level @ 0..=7) => Ok(Some(Self(class << 13 | level))),
            _ => {
                let why = format!(
                    "invalid ioPriority.priority: {}: not in 0..=7",
                    asked.priority
                );
                Err(Error::rule(Doing::CheckConfig, why).field("process.ioPriority.priority"))
            }
        }
    }

    pub(crate) fn adopt(&self) -> Result<()> {
        crate::sys::sched::set_io_priority(self.0)
            .doing(Doing::SetIoPriority)
            .on(format_args!("class {} level {}", self.0 >> 13, self.0 & 7))
            .field("process.ioPriority")
    }
}
