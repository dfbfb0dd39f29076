//! `linux.timeOffsets`: the clocks of a new time namespace (time_namespaces(7)).
#![forbid(unsafe_code)]

use super::namespaces::{Namespaces, TIME, USER};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::clone::unshare;

/// The clocks to set.
#[derive(Debug, Default)]
pub(crate) struct TimeOffsets {
    /// For /proc/PID/timens_offsets; empty when the clocks are the host's.
    lines: String,
    /// In a user namespace that file is closed to a process that nobody may look into, which the
    /// bridge is. The host's root may write it.
    from_outside: bool,
}

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
        Ok(Self {
            lines,
            from_outside: namespaces.has(USER) && nix::unistd::geteuid().is_root(),
        })
    }

    /// Whether the parent has to [`write`](Self::write) them.
    pub(crate) fn are_from_outside(&self) -> bool {
        self.from_outside && !self.lines.is_empty()
    }

    /// Makes a time namespace for this process's children.
    pub(crate) fn unshare() -> Result<()> {
        unshare(TIME)
            .doing(Doing::CreateNamespaces)
            .on("time")
            .field("linux.namespaces")
    }

    /// Sets the clocks of the namespace that the children of `process` (a name in /proc) will be
    /// in, which must be done before the first of them is born.
    pub(crate) fn write(&self, process: impl std::fmt::Display) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        std::fs::write(format!("/proc/{process}/timens_offsets"), &self.lines)
            .doing(Doing::SetTimeOffset)
            .on(self.lines.trim().replace('\n', ", "))
            .field("linux.timeOffsets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_told_in_the_same_order_each_time() {
        let json = r#"{"linux": {"namespaces": [{"type": "time"}], "timeOffsets": {
            "monotonic": {"secs": 5, "nanosecs": 6}, "boottime": {"secs": -5, "nanosecs": 0}}}}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        let namespaces = Namespaces::plan(&config).unwrap();
        let offsets = TimeOffsets::plan(&config, &namespaces).unwrap();
        assert_eq!(offsets.lines, "boottime -5 0\nmonotonic 5 6\n");
    }
}
