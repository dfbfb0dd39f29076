//! `process.env`, and the HOME that every login would have set (config.md).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Doing, Error, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::collections::HashMap;
use std::ffi::CString;
use std::io::Read;

/// The environment, each name once.
#[derive(Debug)]
pub(crate) struct Env {
    words: Vec<CString>,
    home: bool,
    path: Option<String>,
}

impl Env {
    /// A name given twice counts as given last, as in runc.
    pub(crate) fn plan(process: &Process) -> Result<Self> {
        let mut words: Vec<(&str, &str)> = Vec::with_capacity(process.env.len());
        // By name: a config may list millions.
        let mut known: HashMap<&str, usize> = HashMap::with_capacity(process.env.len());
        for (index, word) in process.env.iter().enumerate() {
            let wrong = |why: &'static str| {
                Err(Error::rule(Doing::CheckConfig, why)
                    .on(format_args!("{word:?}"))
                    .field(format!("process.env[{index}]")))
            };
            let Some((name, value)) = word.split_once('=') else {
                return wrong("invalid environment variable: missing '='");
            };
            if name.is_empty() {
                return wrong("invalid environment variable: name cannot be empty");
            }
            if word.contains('\0') {
                return wrong("invalid environment variable: contains nul byte (\\x00)");
            }
            let place = *known.entry(name).or_insert(words.len());
            match words.get_mut(place) {
                Some(word) => word.1 = value,
                None => words.push((name, value)),
            }
        }
        let value = |name| {
            let found = words.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        };
        let (home, path) = (value("HOME").is_some(), value("PATH").map(str::to_owned));
        words.retain(|(name, _)| home || *name != "HOME");
        let words = words
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::rule(Doing::CheckConfig, "contains NUL").field("process.env"))?;
        Ok(Self { words, home, path })
    }

    /// PATH, which a program without a slash is looked up in.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The words to exec with, in the container's root: HOME, if it was not given, is the user's
    /// there.
    pub(crate) fn settle(&self, uid: u32, extra: Vec<CString>) -> Vec<CString> {
        let mut words = self.words.clone();
        if !self.home
            && let Ok(home) = CString::new(format!("HOME={}", home(uid).unwrap_or("/".to_owned())))
        {
            words.push(home);
        }
        words.extend(extra);
        words
    }
}

/// The home directory of `uid` by the container's /etc/passwd.
///
/// The file is the image's: it may be anything, so it is opened without waiting and read only if
/// it is a file, and not for ever.
fn home(uid: u32) -> Option<String> {
    const ENOUGH: u64 = 4 << 20;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open("/etc/passwd", flags, Mode::empty()).ok()?;
    let kind = SFlag::from_bits_truncate(fstat(&file).ok()?.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(file)
        .take(ENOUGH)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let mut words = line.split(':');
        let found = words.nth(2)?.parse() == Ok(uid);
        found.then(|| words.nth(2)).flatten().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Env> {
        Env::plan(&serde_json::from_str(&format!(r#"{{"env":{json}}}"#)).unwrap())
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let env = plan(r#"["A=1","PATH=/bin","A=2","HOME=/h"]"#).unwrap();
        let words: Vec<_> = env.settle(0, Vec::new());
        assert_eq!(
            words,
            [
                c"A=2".to_owned(),
                c"PATH=/bin".to_owned(),
                c"HOME=/h".to_owned()
            ]
        );
        assert_eq!(env.path(), Some("/bin"));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for json in [r#"["A"]"#, r#"["=x"]"#] {
            assert!(
                plan(json)
                    .unwrap_err()
                    .to_string()
                    .contains("process.env[0]")
            );
        }
    }
}
