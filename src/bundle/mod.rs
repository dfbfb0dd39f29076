//! READ: what was asked. A bundle directory and the config.json in it.
#![forbid(unsafe_code)]

pub mod config;

use crate::error::{Act, Doing, Error, Explain, Result};
use config::Config;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::path::{Path, PathBuf};

/// A bundle (bundle.md), read.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute.
    pub dir: PathBuf,
    /// config.json, to the byte.
    pub bytes: Vec<u8>,
}

impl Bundle {
    /// Reads the bundle at `dir`, which becomes the current directory: paths in config.json may
    /// be relative to it.
    ///
    /// # Errors
    /// The directory or its config.json cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        nix::unistd::chdir(dir)
            .doing(Doing::OpenBundle)
            .on(dir.display())?;
        let dir = std::env::current_dir()
            .doing(Doing::OpenBundle)
            .on(dir.display())?;
        let path = dir.join("config.json");
        let bytes = std::fs::read("config.json")
            .doing(Doing::ReadConfig)
            .on(path.display())
            .hint("a bundle is a directory with a config.json in it; --bundle names one")?;
        Ok(Self { dir, bytes })
    }

    /// What config.json says.
    ///
    /// # Errors
    /// It is no JSON, or a value has the wrong type; the field is named.
    pub fn config(&self) -> Result<Config> {
        parse(&self.bytes, self.dir.join("config.json").display())
    }
}

/// Reads JSON, and on failure reads it again to find the field that was wrong: the bookkeeping
/// would slow every success down.
///
/// # Errors
/// It is no JSON, or a value has the wrong type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], name: impl std::fmt::Display) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|first| {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let why = |why: String| Error::rule(Doing::ParseConfig, why).on(&name);
        match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(error) if error.inner().classify() == Category::Data => {
                let field = error.path().to_string();
                why(error.into_inner().to_string()).field(field)
            }
            // What comes after the value, or all of it, is no JSON.
            _ => why(format!("not valid JSON: {first}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str) -> String {
        parse::<Config>(json.as_bytes(), "config.json")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_by_its_path() {
        assert!(wrong(r#"{"process":{"args":["a",5]}}"#).contains("(process.args[1])"));
        assert!(
            wrong(r#"{"linux":{"namespaces":[{"type":"odd"}]}}"#)
                .contains("(linux.namespaces[0].type)")
        );
    }

    #[test]
    fn what_is_no_json_is_said_to_be_none() {
        assert!(wrong("{").contains("not valid JSON"));
        assert!(wrong("{} x").contains("not valid JSON"));
    }

    #[test]
    fn null_is_absent_and_unknown_is_ignored() {
        let config: Config = parse(
            br#"{"mounts":null,"process":{"args":null,"novel":1},"linux":null,"novel":{}}"#,
            "x",
        )
        .unwrap();
        assert!(config.mounts.is_empty());
    }
}
