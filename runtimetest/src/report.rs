//! The verdict: one line of JSON per check, and a summary nobody can mistake for silence.
#![forbid(unsafe_code)]

use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;
use std::io::Write;

/// One check, with the fields in the order a reader wants them.
#[derive(Serialize)]
struct Line<'a> {
    part: &'a str,
    claim: &'a str,
    want: Value,
    got: Value,
    ok: bool,
}

#[derive(Serialize)]
struct Summary {
    checks: usize,
    failed: usize,
}

/// Collects the checks of a run.
#[derive(Default)]
pub struct Report {
    part: &'static str,
    checks: usize,
    failed: usize,
    before: usize,
    mute: bool,
}

impl Report {
    /// The checks that follow belong to this part.
    pub fn begin(&mut self, part: &'static str) {
        self.part = part;
        self.before = self.checks;
    }

    /// A part asked for by name must have said something.
    pub fn end(&mut self, named: bool) {
        if named && self.before == self.checks {
            self.holds(
                "config.json asks something of the part named",
                "a check",
                "none",
                false,
            );
        }
    }

    /// What config.json wants is what the kernel shows.
    pub fn equal<T: Serialize + PartialEq>(&mut self, claim: impl AsRef<str>, want: T, got: T) {
        let ok = want == got;
        self.holds(claim, want, got, ok);
    }

    /// Equality is not the question; the caller judged.
    pub fn holds(
        &mut self,
        claim: impl AsRef<str>,
        want: impl Serialize,
        got: impl Serialize,
        ok: bool,
    ) {
        let value = |value: Result<Value, serde_json::Error>| {
            value.unwrap_or_else(|error| Value::String(error.to_string()))
        };
        self.checks += 1;
        self.failed += usize::from(!ok);
        self.say(&Line {
            part: self.part,
            claim: claim.as_ref(),
            want: value(serde_json::to_value(want)),
            got: value(serde_json::to_value(got)),
            ok,
        });
    }

    /// What could not be looked at is a failure, not an omission.
    pub fn seen<T, E: Display>(
        &mut self,
        claim: impl AsRef<str>,
        want: impl Serialize,
        got: Result<T, E>,
    ) -> Option<T> {
        match got {
            Ok(got) => Some(got),
            Err(error) => {
                self.holds(claim, want, error.to_string(), false);
                None
            }
        }
    }

    /// Prints the summary; true when there were checks and all of them hold.
    pub fn finish(mut self) -> bool {
        self.say(&Summary {
            checks: self.checks,
            failed: self.failed,
        });
        self.checks > 0 && self.failed == 0 && !self.mute
    }

    /// A verdict that did not reach the caller must not count as a good one.
    fn say(&mut self, line: &impl Serialize) {
        let said = serde_json::to_string(line)
            .map_err(Into::into)
            .and_then(|text| print(&text));
        self.mute |= said.is_err();
    }
}

/// `println!` would panic when nobody reads.
pub fn print(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_failure() {
        assert!(!Report::default().finish());
        let mut report = Report::default();
        report.begin("caps");
        report.end(true);
        assert_eq!((report.checks, report.failed), (1, 1));
    }

    #[test]
    fn one_failure_fails_the_run() {
        let mut report = Report::default();
        report.equal("one is one", 1, 1);
        assert_eq!(report.failed, 0);
        report.equal("one is two", 1, 2);
        assert!(!report.finish());
    }
}
