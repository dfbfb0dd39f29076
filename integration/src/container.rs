//! One container, driven by the runtime's commands, and gone when the value is.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::{self, Lab, Output};
use serde_json::Value;
use std::fs::File;
use std::path::PathBuf;

/// See the module.
pub struct Container<'lab> {
    /// Its id.
    pub id: String,
    lab: &'lab Lab,
    bundle: PathBuf,
}

impl<'lab> Container<'lab> {
    /// A container that is not yet.
    pub fn new(lab: &'lab Lab, id: String, bundle: PathBuf) -> Self {
        Self { id, lab, bundle }
    }

    /// Creates it; its output goes to files of its own.
    pub fn create(&mut self, flags: &[&str]) -> Result {
        let bundle = self.bundle.to_string_lossy();
        let mut args = vec!["create", "--bundle", &bundle];
        args.extend(flags);
        args.push(&self.id);
        let mut command = self.lab.command(&args);
        command.stdin(self.lab.null()?);
        command
            .stdout(File::create(self.file("out"))?)
            .stderr(File::create(self.file("err"))?);
        let code = lab::code(command.status()?);
        if code != 0 {
            return Err(format!("create: exit {code}: {}", self.err()?.trim()).into());
        }
        Ok(())
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.lab.path(&format!("{}.{kind}", self.id))
    }

    /// What the container wrote to stdout so far.
    pub fn out(&self) -> Result<String> {
        lab::text(&self.file("out"))
    }

    /// What `create` and the container wrote to stderr so far.
    pub fn err(&self) -> Result<String> {
        lab::text(&self.file("err"))
    }

    /// Waits until the container has written this to stdout.
    pub fn says(&self, what: &str) -> Result {
        until(&format!("{what:?} on stdout"), || {
            self.out().ok().filter(|out| out.contains(what)).map(|_| ())
        })
    }

    /// A command on this container: `verb [flags] id [rest]`.
    pub fn call(&self, verb: &str, flags: &[&str], rest: &[&str]) -> Result<Output> {
        let mut args = vec![verb];
        args.extend(flags);
        args.push(&self.id);
        args.extend(rest);
        self.lab.call(&args)
    }

    /// `start`.
    pub fn start(&self) -> Result<Output> {
        self.call("start", &[], &[])
    }

    /// `kill` with a signal.
    pub fn kill(&self, signal: &str) -> Result<Output> {
        self.call("kill", &[], &[signal])
    }

    /// `delete` with flags.
    pub fn delete(&self, flags: &[&str]) -> Result<Output> {
        self.call("delete", flags, &[])
    }

    /// `exec` of a program, without flags.
    pub fn exec(&self, args: &[&str]) -> Result<Output> {
        self.call("exec", &[], args)
    }

    /// `exec` of a shell script.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.exec(&["/bin/sh", "-c", script])
    }

    /// What `state` prints.
    pub fn state(&self) -> Result<Value> {
        let output = self.call("state", &[], &[])?.ok()?;
        Ok(serde_json::from_str(&output.out).map_err(|e| format!("state: {e}: {}", output.out))?)
    }

    /// The status in it.
    pub fn status(&self) -> Result<String> {
        Ok(self.state()?["status"]
            .as_str()
            .unwrap_or("no status")
            .to_owned())
    }

    /// The pid of init on the host; 0 if it is stopped.
    pub fn pid(&self) -> Result<i32> {
        let pid = self.state()?["pid"].as_i64().unwrap_or(0);
        Ok(i32::try_from(pid)?)
    }

    /// Waits until `state` says stopped.
    pub fn stopped(&self) -> Result {
        until("status stopped", || {
            self.status().ok().filter(|status| status == "stopped")
        })?;
        Ok(())
    }

    /// Waits until init runs the container's program rather than the runtime.
    pub fn executes(&self, program: &str) -> Result<i32> {
        let pid = self.pid()?;
        until(&format!("{program} in pid {pid}"), || {
            // Its first word: a shell that is to execute it has the name in its script, too.
            let line = kernel::command_line(pid);
            let first = line.split(['\0', ' ']).next().unwrap_or_default();
            first
                .rsplit('/')
                .next()
                .is_some_and(|name| name == program)
                .then_some(())
        })?;
        Ok(pid)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Gone already, in most cases; what cannot be deleted is found by the supervisor.
        self.delete(&["--force"]).ok();
    }
}
