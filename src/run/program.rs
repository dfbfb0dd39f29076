//! `process.args` and `process.cwd`: the program, where it is, where it starts (config.md).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::rootfs::c_string;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, chdir, faccessat, getcwd};
use std::ffi::CString;

/// The program and its place.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) args: Vec<CString>,
    name: String,
    cwd: String,
}

impl Program {
    pub(crate) fn plan(process: &Process) -> Result<Self> {
        let Some(name) = process.args.first() else {
            // config.md: args is REQUIRED when start is called, with at least one entry.
            return Err(Error::rule(Doing::CheckConfig, "args must not be empty")
                .field("process.args")
                .hint("name the program to run"));
        };
        if name.is_empty() {
            return Err(
                Error::rule(Doing::CheckConfig, "the program's name is empty")
                    .field("process.args[0]"),
            );
        }
        if !process.cwd.starts_with('/') {
            // config.md: "This value MUST be an absolute path."
            return Err(
                Error::rule(Doing::CheckConfig, "Cwd must be an absolute path")
                    .on(format_args!("{:?}", process.cwd))
                    .field("process.cwd"),
            );
        }
        let args = process.args.iter().enumerate();
        let args = args.map(|(index, arg)| c_string(arg, &format!("process.args[{index}]")));
        Ok(Self {
            args: args.collect::<Result<_>>()?,
            name: name.clone(),
            cwd: process.cwd.clone(),
        })
    }

    /// The working directory, as asked.
    pub(crate) fn cwd(&self) -> &str {
        &self.cwd
    }

    /// Goes there. `false`: this user may not, perhaps the other one may.
    pub(crate) fn enter_cwd(&self, last_try: bool) -> Result<bool> {
        match chdir(self.cwd.as_str()) {
            Err(Errno::EACCES | Errno::EPERM) if !last_try => return Ok(false),
            result => result
                .doing(Doing::ChangeDirectory)
                .on(&self.cwd)
                .field("process.cwd")?,
        }
        // CVE-2024-21626: a cwd reached through a leaked fd is outside of the root, and getcwd(2)
        // says so with ENOENT or "(unreachable)".
        match getcwd() {
            Ok(path) if path.is_absolute() => return Ok(true),
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(errno)
                    .doing(Doing::ChangeDirectory)
                    .on(&self.cwd)
                    .field("process.cwd")
                    .hint("getcwd(2) must be able to tell that it is inside of the root");
            }
        }
        Err(Error::rule(
            Doing::ChangeDirectory,
            "current working directory is outside of container mount namespace root -- possible \
             container breakout detected",
        )
        .on(&self.cwd)
        .field("process.cwd"))
    }

    /// Finds the program as this user in this root: by itself if it has a slash, else in PATH.
    ///
    /// The error texts are those of Go's exec.LookPath, which engines tell 126 from 127 by.
    pub(crate) fn find(&self, path: Option<&str>) -> Result<CString> {
        if self.name.contains('/') {
            return match check(&self.name) {
                Ok(()) => self.args.first().cloned().ok_or_else(|| self.missing()),
                Err(Errno::ENOENT) => Err(self.wrong(format!(
                    "exec: {:?}: stat {}: no such file or directory",
                    self.name, self.name
                ))),
                Err(errno) => Err(self.wrong(format!("exec: {:?}: {}", self.name, words(errno)))),
            };
        }
        let mut refused = false;
        for dir in path.unwrap_or_default().split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            let full = format!("{dir}/{}", self.name);
            match check(&full) {
                Ok(()) => return c_string(&full, "process.env"),
                Err(Errno::EACCES) => refused = true,
                Err(_) => {}
            }
        }
        if refused {
            return Err(self.wrong(format!("exec: {:?}: permission denied", self.name)));
        }
        Err(self.missing())
    }

    fn missing(&self) -> Error {
        self.wrong(format!(
            "exec: {:?}: executable file not found in $PATH",
            self.name
        ))
    }

    fn wrong(&self, why: String) -> Error {
        Error::rule(Doing::FindProgram, why).field("process.args[0]")
    }
}

/// Whether execve would take it, as far as permissions go.
fn check(path: &str) -> nix::Result<()> {
    let kind = SFlag::from_bits_truncate(stat(path)?.st_mode & SFlag::S_IFMT.bits());
    if kind == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    // By the effective ids, which faccessat2(2) asks the kernel for where it can; libc's fallback
    // compares mode bits.
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        result => result,
    }
}

fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Program> {
        Program::plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_program_without_slash_is_sought_in_path() {
        let found = plan(r#"{"args":["sh"],"cwd":"/"}"#)
            .unwrap()
            .find(Some("/nowhere:/bin"));
        assert_eq!(found.unwrap().as_c_str(), c"/bin/sh");
    }

    #[test]
    fn what_is_missing_is_told_in_gos_words() {
        let error = plan(r#"{"args":["nosuch"],"cwd":"/"}"#)
            .unwrap()
            .find(Some("/bin"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains(r#"exec: "nosuch": executable file not found in $PATH"#)
        );
        let error = plan(r#"{"args":["/no/such"],"cwd":"/"}"#)
            .unwrap()
            .find(None)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("stat /no/such: no such file or directory")
        );
        let error = plan(r#"{"args":["/etc/passwd"],"cwd":"/"}"#)
            .unwrap()
            .find(None)
            .unwrap_err();
        assert!(error.to_string().contains("permission denied"));
    }

    #[test]
    fn args_and_cwd_are_required() {
        assert!(
            plan(r#"{"cwd":"/"}"#)
                .unwrap_err()
                .to_string()
                .contains("process.args")
        );
        let error = plan(r#"{"args":["a"],"cwd":"tmp"}"#).unwrap_err();
        assert!(error.to_string().contains("process.cwd"));
    }
}
