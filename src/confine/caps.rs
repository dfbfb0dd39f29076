//! `process.capabilities`: the five sets (config.md, capabilities(7)).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::cap;
use nix::errno::Errno;
use std::str::FromStr;

/// The five sets as bit masks by capability number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    bounding: u64,
    effective: u64,
    inheritable: u64,
    permitted: u64,
    ambient: u64,
}

impl Capabilities {
    /// Unknown names become warnings: config.md forbids failing on them. Without
    /// `process.capabilities` the process has none.
    pub(crate) fn plan(process: &Process, warnings: &mut Vec<String>) -> Result<Self> {
        let Some(asked) = &process.capabilities else {
            return Ok(Self::default());
        };
        let mut unknown: Vec<String> = Vec::new();
        let mut mask = |names: &'_ [String]| {
            let mut bits = 0;
            for name in names {
                match caps::Capability::from_str(name) {
                    Ok(known) => bits |= known.bitmask(),
                    Err(_) => unknown.push(name.clone()),
                }
            }
            bits
        };
        let mut out = Self {
            bounding: mask(&asked.bounding),
            effective: mask(&asked.effective),
            inheritable: mask(&asked.inheritable),
            permitted: mask(&asked.permitted),
            ambient: mask(&asked.ambient),
        };
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            warnings.push(format!(
                "ignoring unknown or unavailable capabilities: {unknown:?}"
            ));
        }
        let raisable = out.permitted & out.inheritable;
        for known in in_order() {
            let bit = known.bitmask();
            if out.ambient & bit != 0 && raisable & bit == 0 {
                warnings.push(format!(
                    "can't raise ambient capability {known}: operation not permitted"
                ));
            }
        }
        out.ambient &= raisable;
        if out.effective & !out.permitted != 0 {
            let wrong = |c: &caps::Capability| out.effective & !out.permitted & c.bitmask() != 0;
            let first = in_order().into_iter().find(wrong);
            let name = first.map(|c| c.to_string()).unwrap_or_default();
            // capabilities(7): permitted is the limiting superset of effective.
            let why = "an effective capability must be permitted, too";
            return Err(Error::rule(Doing::CheckConfig, why)
                .on(name)
                .field("process.capabilities.effective"));
        }
        Ok(out)
    }

    /// Drops from the bounding set all that is not in the config's; needs CAP_SETPCAP, so it comes
    /// first.
    pub(crate) fn drop_bounding(&self) -> Result<()> {
        for number in 0..64 {
            if self.bounding & 1 << number != 0 {
                continue;
            }
            match cap::drop_bounding(number) {
                // One past the newest capability of this kernel.
                Err(Errno::EINVAL) => break,
                result => explain(result, "bounding")?,
            }
        }
        Ok(())
    }

    /// Takes on the sets, after the user is set; what cannot be granted is left out, as config.md
    /// asks ("Runtimes SHOULD NOT fail").
    pub(crate) fn adopt(&self) -> Result<()> {
        let granted = cap::permitted()
            .doing(Doing::SetCapabilities)
            .on("permitted")?;
        let permitted = self.permitted & granted;
        // Inheritable may grow only within the bounding set (capabilities(7)).
        let inheritable = self.inheritable & granted & self.bounding;
        explain(
            cap::set(self.effective & permitted, permitted, inheritable),
            "effective",
        )?;
        match cap::clear_ambient() {
            // Linux < 4.3 has none.
            Err(Errno::EINVAL) => return Ok(()),
            result => explain(result, "ambient")?,
        }
        let ambient = self.ambient & permitted & inheritable;
        for number in (0..64).filter(|number| ambient & 1 << number != 0) {
            explain(cap::raise_ambient(number), "ambient")?;
        }
        Ok(())
    }
}

/// All capabilities by their number: what is said of them is the same each time.
fn in_order() -> Vec<caps::Capability> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_unstable_by_key(caps::Capability::index);
    all
}

fn explain(result: nix::Result<()>, set: &str) -> Result<()> {
    result
        .doing(Doing::SetCapabilities)
        .on(set)
        .field(format_args!("process.capabilities.{set}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> (Capabilities, Vec<String>) {
        let mut warnings = Vec::new();
        let process = serde_json::from_str(json).unwrap();
        (
            Capabilities::plan(&process, &mut warnings).unwrap(),
            warnings,
        )
    }

    #[test]
    fn an_unknown_capability_is_a_warning_not_an_error() {
        let (plan, warnings) =
            plan(r#"{"capabilities":{"bounding":["CAP_KILL","CAP_FLY"],"permitted":["CAP_FLY"]}}"#);
        assert_eq!(plan.bounding, 1 << 5);
        assert_eq!(
            warnings,
            [r#"ignoring unknown or unavailable capabilities: ["CAP_FLY"]"#]
        );
    }

    #[test]
    fn of_several_faults_the_same_is_named_each_time() {
        let names = r#"["CAP_KILL","CAP_CHOWN","CAP_SYSLOG","CAP_BPF","CAP_SETUID"]"#;
        let json = format!(r#"{{"capabilities":{{"effective":{names}}}}}"#);
        let process = serde_json::from_str(&json).unwrap();
        let error = Capabilities::plan(&process, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("CAP_CHOWN"), "{error}");
        let (_, warnings) = plan(&format!(r#"{{"capabilities":{{"ambient":{names}}}}}"#));
        let order = ["CHOWN", "KILL", "SETUID", "SYSLOG", "BPF"];
        assert!(
            warnings
                .iter()
                .zip(order)
                .all(|(text, name)| text.contains(name))
        );
    }

    #[test]
    fn ambient_needs_permitted_and_inheritable() {
        let (plan, warnings) = plan(r#"{"capabilities":{"ambient":["CAP_CHOWN"]}}"#);
        assert_eq!(plan.ambient, 0);
        assert!(warnings[0].starts_with("can't raise ambient capability CAP_CHOWN: "));
    }
}
