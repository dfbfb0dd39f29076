//! Known differences: `case-name: reason` lines, each of which must still be one; with a `?` behind the
//! name, it depends on who wins a race, and both outcomes are known.
#![forbid(unsafe_code)]

use crate::case::Result;
use std::collections::BTreeMap;

/// The cases that a runtime is known to fail, with reasons.
#[derive(Default)]
pub struct Known(BTreeMap<String, String>);

impl Known {
    /// Adds what the file says; a line without a reason is an error.
    pub fn read(&mut self, path: &str) -> Result {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(": ") {
                Some((name, reason)) if !reason.trim().is_empty() => {
                    let (name, reason) = (name.to_owned(), reason.trim().to_owned());
                    if self.0.insert(name, reason).is_some() {
                        return Err(format!("{path}: twice: {line}").into());
                    }
                }
                _ => return Err(format!("{path}: no reason given: {line}").into()),
            }
        }
        Ok(())
    }

    /// Why that case is known to fail.
    pub fn reason(&self, name: &str) -> Option<&str> {
        let reason = self.0.get(name).or_else(|| self.0.get(&format!("{name}?")));
        reason.map(String::as_str)
    }

    /// Whether that case is known to fail each time.
    pub fn always(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names that no case bears.
    pub fn strangers<'a>(&'a self, names: &[&str]) -> Vec<&'a str> {
        let all = self.0.keys().map(|name| name.trim_end_matches('?'));
        all.filter(|name| !names.contains(name)).collect()
    }
}
