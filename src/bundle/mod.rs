//! READ: what was asked. A bundle directory and the config.json in it.
#![forbid(unsafe_code)]

pub mod config;
pub mod fields;
mod locate;

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

/// Reads JSON; on failure, names the field that was wrong.
///
/// # Errors
/// It is no JSON, or a value has the wrong type.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], name: impl std::fmt::Display) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = |why: String| Error::rule(Doing::ParseConfig, why).on(&name);
        if error.classify() != Category::Data {
            return why(format!("not valid JSON: {error}"));
        }
        let path = locate::path(bytes, error.line(), error.column());
        let error = why(error.to_string());
        if path.is_empty() {
            error
        } else {
            error.field(path)
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
