//! `ps`: who is in a container.
#![forbid(unsafe_code)]

use super::Container;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::limit::cgroup::Cgroup;
use std::fmt::Write;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

impl Container {
    /// Every process in it, by its id in this process's pid namespace; none if it has stopped.
    ///
    /// # Errors
    /// It has no cgroup, or that cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.cgroup()? {
            Cgroup::Unmanaged => Err(Error::rule(
                Doing::ListProcesses,
                "the container has no cgroup to look for them in",
            )
            .hint("a rootless container has one where a cgroup is delegated to its user")),
            cgroup => cgroup.pids(),
        }
        .on(self.id())
    }
}

/// `--format json`: an array on one line, `null` without processes (it is a nil slice in Go).
#[must_use]
pub fn json(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "null\n".into();
    }
    let mut text = String::from("[");
    for (index, pid) in pids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String does not fail.
        write!(text, "{comma}{pid}").unwrap_or_default();
    }
    text + "]\n"
}

/// What ps(1) prints with these options, of these processes only.
///
/// # Errors
/// There is no ps, it failed, or its output has no column of process ids.
pub fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef");
    }
    let output = match ps.args(options).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = "exec: \"ps\": executable file not found in $PATH";
            return Err(Error::rule(Doing::ListProcesses, why));
        }
        other => other.doing(Doing::ListProcesses)?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // "exit status: 1", without the colon in Go.
        let status = output.status.to_string().replacen(':', "", 1);
        return Err(Error::rule(
            Doing::ListProcesses,
            format!("{status}: {}", said.trim_end()),
        ));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The title and the lines of these processes.
fn select(text: &str, pids: &[i32]) -> Result<String> {
    let wrong = |why| Error::rule(Doing::ListProcesses, why);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| wrong("couldn't find PID field in ps output"))?;
    let mut found = format!("{title}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let pid = line.split_whitespace().nth(column);
        let pid: i32 = pid
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| wrong("unable to parse pid"))?;
        if pids.contains(&pid) {
            found += line;
            found.push('\n');
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_selected_by_the_column_called_pid() {
        let text = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 12 x\n";
        assert_eq!(
            select(text, &[12]).unwrap(),
            "UID   PID  PPID CMD\nroot   12     1 12 x\n"
        );
        assert!(select("UID CMD\n", &[]).is_err());
        assert!(select("PID\nx\n", &[]).is_err());
    }

    #[test]
    fn json_is_one_line_and_null_without_processes() {
        assert_eq!(json(&[1, 22]), "[1,22]\n");
        assert_eq!(json(&[]), "null\n");
    }
}
