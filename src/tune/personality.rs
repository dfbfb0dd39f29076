//! `linux.personality`: the execution domain (config-linux.md, personality(2)).
#![forbid(unsafe_code)]

use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};

/// An execution domain in the kernel's form.
#[derive(Debug)]
pub(crate) struct Personality(u64);

impl Personality {
    pub(crate) fn plan(config: &Config) -> Result<Option<Self>> {
        let Some(asked) = &config.linux.personality else {
            return Ok(None);
        };
        if !asked.flags.is_empty() {
            // config-linux.md: "Currently no flag values are supported."
            let why = "additional flags are not supported by the spec";
            return Err(Error::rule(Doing::CheckConfig, why).field("linux.personality.flags"));
        }
        match asked.domain.as_str() {
            "LINUX" => Ok(Some(Self(0))),
            "LINUX32" => Ok(Some(Self(8))),
            other => Err(
                Error::rule(Doing::CheckConfig, format!("unknown domain {other:?}"))
                    .field("linux.personality.domain")
                    .hint("LINUX or LINUX32"),
            ),
        }
    }

    pub(crate) fn adopt(&self) -> Result<()> {
        crate::sys::sched::set_personality(self.0)
            .doing(Doing::SetPersonality)
            .field("linux.personality")
    }
}
