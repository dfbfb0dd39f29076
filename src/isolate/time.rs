//! `linux.timeOffsets`: the clocks of a new time namespace (time_namespaces(7)).
#![forbid(unsafe_code)]

use super::namespaces::{Namespaces, TIME};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::clone::unshare;

/// Lines for /proc/PID/timens_offsets; empty when the clocks are the host's.
#[derive(Debug, Default)]
pub(crate) struct TimeOffsets(String);

impl TimeOffsets {
    pub(crate) fn plan(config: &Config, namespaces: &Namespaces) -> Result<Self> {
        let offsets = &config.linux.time_offsets;
        if offsets.is_empty() {
            return Ok(Self::default());
        }
        if namespaces.new & TIME == 0 {
            return Err(Error::rule(
                Doing::CheckConfig,
                "offsets are given, but linux.namespaces makes no new time namespace",
            )
            .field("linux.timeOffsets"));
        }
        let mut lines = String::new();
        for (clock, offset) in offsets {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return Err(Error::rule(
                    Doing::CheckConfig,
                    "only the clocks monotonic and boottime have offsets",
                )
                .field(format!("linux.timeOffsets.{clock}")));
            }
            let secs = offset.secs().unwrap_or(0);
            let nanosecs = offset.nanosecs().unwrap_or(0);
            lines.push_str(&format!("{clock} {secs} {nanosecs}\n"));
        }
        Ok(Self(lines))
    }

    /// Makes a time namespace for this process's children and sets its clocks, which must be
    /// done before the first of them is born.
    pub(crate) fn unshare(&self) -> Result<()> {
        unshare(TIME)
            .doing(Doing::CreateNamespaces)
            .on("time")
            .field("linux.namespaces")?;
        if self.0.is_empty() {
            return Ok(());
        }
        std::fs::write("/proc/self/timens_offsets", &self.0)
            .doing(Doing::SetTimeOffset)
            .on(self.0.trim().replace('\n', ", "))
            .field("linux.timeOffsets")
    }
}
