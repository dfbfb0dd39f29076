//! `process.oomScoreAdj`: how soon the kernel picks it when memory runs out (proc(5)).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};

/// An oom_score_adj; `None` leaves the runtime's own, which the container inherits.
#[derive(Debug)]
pub(crate) struct OomScore(Option<i32>);

impl OomScore {
    pub(crate) fn plan(process: &Process) -> Result<Self> {
        match process.oom_score_adj {
            Some(score) if !(-1000..=1000).contains(&score) => {
                let why = format!("{score} is not in -1000..=1000");
                Err(Error::rule(Doing::CheckConfig, why).field("process.oomScoreAdj"))
            }
            score => Ok(Self(score)),
        }
    }

    /// Sets it for this process.
    pub(crate) fn set_own(&self) -> Result<()> {
        self.write("/proc/self/oom_score_adj")
    }

    /// Sets it for process `pid`, from outside: lowering it takes privileges over the host.
    pub(crate) fn set(&self, pid: i32) -> Result<()> {
        self.write(&format!("/proc/{pid}/oom_score_adj"))
    }

    fn write(&self, path: &str) -> Result<()> {
        let Some(score) = self.0 else { return Ok(()) };
        std::fs::write(path, score.to_string())
            .doing(Doing::SetOomScore)
            .on(score)
            .field("process.oomScoreAdj")
            .hint("a value below the runtime's own needs CAP_SYS_RESOURCE")
    }
}
