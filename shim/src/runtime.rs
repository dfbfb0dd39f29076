//! The creel program: started for what clones (ADR 11), called as a library for the rest.
#![forbid(unsafe_code)]

use crate::options::Options;
use crate::status::{Doing, Result, Status};
use containerd_shim_protos::ttrpc::Code;
use creel::container::{Container, Store};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How one container's runtime is called.
#[derive(Debug, Clone)]
pub struct Runtime {
    binary: PathBuf,
    root: PathBuf,
    systemd_cgroup: bool,
    bundle: PathBuf,
}

/// The container's stdin, stdout and stderr.
pub type Streams = [Stdio; 3];

/// Nothing to read, and writes that go nowhere.
pub fn silence() -> Streams {
    [Stdio::null(), Stdio::null(), Stdio::null()]
}

impl Runtime {
    /// For a container in that bundle.
    pub fn new(options: &Options, namespace: &str, bundle: &Path) -> Self {
        Self {
            binary: options.binary(),
            root: options.root(namespace),
            systemd_cgroup: options.systemd_cgroup,
            bundle: bundle.into(),
        }
    }

    /// The state store.
    pub fn store(&self) -> Store {
        Store::standard(self.root.clone())
    }

    /// The container, for what is done in process.
    pub fn container(&self, id: &str) -> Result<Container> {
        self.store().find(id).map_err(Status::not_found)
    }

    /// Starts creel and waits for it. `name` keeps the logs of calls at the same time apart.
    pub fn call<S: AsRef<OsStr>>(&self, name: &str, args: &[S], streams: Streams) -> Result<()> {
        self.call_with(name, args, streams, None)
    }

    /// The same with something on stdin.
    pub fn call_with<S: AsRef<OsStr>>(
        &self,
        name: &str,
        args: &[S],
        streams: Streams,
        input: Option<&[u8]>,
    ) -> Result<()> {
        let log = self.bundle.join(format!("{name}.log.json"));
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root);
        command.arg("--log").arg(&log);
        command.args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        let [stdin, stdout, stderr] = streams;
        let stdin = input.map_or(stdin, |_| Stdio::piped());
        // The arena setting is for the shim; what containers inherit is not the shim's business.
        command
            .args(args)
            .env_remove(crate::bootstrap::ARENAS)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let mut child = command
            .spawn()
            .doing(format_args!("start {}", self.binary.display()))?;
        // Ours are copies now: only the container's keep its pipes open.
        drop(command);
        if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
            // It says itself why it did not read.
            pipe.write_all(input).unwrap_or(());
        }
        let status = child.wait().doing("wait for creel")?;
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        std::fs::remove_file(&log).unwrap_or(());
        if status.success() {
            return Ok(());
        }
        let why = last_error(&told).unwrap_or_else(|| format!("creel: {status}"));
        Err(Status::new(Code::UNKNOWN, why))
    }
}

/// The message of the last line whose level is `error`.
fn last_error(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let level = line.get("level")?.as_str()?;
        (level == "error").then(|| Some(line.get("msg")?.as_str()?.trim().to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_what_failed() {
        let log = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\\n\"}\n\
                   {\"level\":\"warning\",\"msg\":\"no\"}\ngarbage\n";
        assert_eq!(last_error(log).as_deref(), Some("last"));
        assert_eq!(last_error(""), None);
    }
}
