//! What is said besides the output: `--log`, `--log-format` and `--debug`, as engines expect them.
//!
//! Lines have logrus's shape, because runc's callers parse it: containerd takes the `msg` of the
//! last JSON line whose level is `error`. Only the process outside the container logs; the others
//! send their errors home.
#![forbid(unsafe_code)]

pub mod time;

use crate::error::{Act, Doing, Error, Explain, Result};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::Location;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

static LOG: OnceLock<Log> = OnceLock::new();

/// Where lines go and how they look.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

/// The look of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// How grave a line is, in logrus's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    const fn text(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// What a terminal shows: a colour and four letters.
    const fn coloured(self) -> &'static str {
        match self {
            Self::Debug => "\x1b[37mDEBU\x1b[0m[0000]",
            Self::Warning => "\x1b[33mWARN\x1b[0m[0000]",
            Self::Error => "\x1b[31mERRO\x1b[0m[0000]",
        }
    }
}

impl Format {
    /// Reads `--log-format`.
    ///
    /// # Errors
    /// Anything but `text`, `json` and nothing at all.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::rule(
                Doing::Log,
                format!("invalid log-format: {other}"),
            )),
        }
    }
}

/// Sets the log up; before this, lines go to stderr as text.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let file = path
        .map(|path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .doing(Doing::Log)
                .on(path.display())
        })
        .transpose()?;
    // A second call would be a second command in one process: the first one's log stays.
    LOG.set(Log {
        file,
        format,
        debug,
    })
    .unwrap_or_default();
    Ok(())
}

/// A failure: to the log, and to stderr as plain text if the log is somewhere else.
#[track_caller]
pub fn error(message: &dyn Display) {
    say(Level::Error, message, Location::caller());
    if LOG.get().is_some_and(|log| log.file.is_some()) {
        print(&mut stderr(), &format!("{message}\n"));
    }
}

/// Something to know that stops nothing.
#[track_caller]
pub fn warning(message: &dyn Display) {
    say(Level::Warning, message, Location::caller());
}

/// What is being done; said only with `--debug`.
#[track_caller]
pub fn debug(message: &dyn Display) {
    if LOG.get().is_some_and(|log| log.debug) {
        say(Level::Debug, message, Location::caller());
    }
}

fn say(level: Level, message: &dyn Display, from: &Location<'_>) {
    let early = Log {
        file: None,
        format: Format::Text,
        debug: false,
    };
    let log = LOG.get().unwrap_or(&early);
    let from = log.debug.then_some(from);
    let message = message.to_string();
    match &log.file {
        Some(file) => {
            print(
                &mut &*file,
                &line(log.format, level, &message, from, SystemTime::now()),
            );
        }
        None if log.format == Format::Text && stderr().is_terminal() => {
            print(
                &mut stderr(),
                &format!("{} {message:<44} \n", level.coloured()),
            );
        }
        None => {
            print(
                &mut stderr(),
                &line(log.format, level, &message, from, SystemTime::now()),
            );
        }
    }
}

/// Writes a whole line at once; there is nowhere left to report that the log itself fails.
fn print(to: &mut dyn Write, line: &str) {
    to.write_all(line.as_bytes()).unwrap_or_default();
}

fn line(
    format: Format,
    level: Level,
    message: &str,
    from: Option<&Location<'_>>,
    moment: SystemTime,
) -> String {
    let time = time::rfc3339(moment);
    let level = level.text();
    let caller = from.map(|from| {
        let module = from
            .file()
            .trim_start_matches("src/")
            .trim_end_matches(".rs");
        (
            format!(
                "creel::{}",
                module.trim_end_matches("/mod").replace('/', "::")
            ),
            format!("{}:{}", from.file(), from.line()),
        )
    });
    match format {
        Format::Text => {
            let mut line = format!("time=\"{time}\" level={level}");
            if !message.is_empty() {
                line += " msg=";
                line += &text_value(message);
            }
            if let Some((func, file)) = caller {
                line += &format!(" func={} file={}", text_value(&func), text_value(&file));
            }
            line + "\n"
        }
        Format::Json => {
            let caller = caller.map_or_else(String::new, |(func, file)| {
                format!(
                    "\"file\":{},\"func\":{},",
                    json_string(&file),
                    json_string(&func)
                )
            });
            let message = json_string(message);
            format!("{{{caller}\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
    }
}

/// A value of a text line: bare if it is a plain word, else quoted as Go's `%q` does.
fn text_value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        quote(text)
    }
}

/// Go's `%q`: printable text as it is, everything else escaped.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                out += &format!("\\x{:02x}", u32::from(c));
            }
            // C1 controls, and the separators that Go calls unprintable.
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{feff}' => {
                out += &format!("\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn json_string(text: &str) -> String {
    as_go_writes(serde_json::Value::from(text).to_string())
}

/// JSON with the characters escaped that Go escapes for the sake of HTML and JavaScript.
///
/// They can stand in strings only, so the text needs no parsing.
#[must_use]
pub fn as_go_writes(json: String) -> String {
    if !json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return json;
    }
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at_epoch(format: Format, message: &str) -> String {
        line(format, Level::Error, message, None, UNIX_EPOCH)
    }

    #[test]
    fn a_text_line_has_logrus_shape() {
        assert_eq!(
            at_epoch(Format::Text, "unknown signal \"X\"\n"),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"unknown signal \\\"X\\\"\\n\"\n"
        );
        assert_eq!(
            at_epoch(Format::Text, "word"),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=word\n"
        );
    }

    #[test]
    fn a_json_line_has_sorted_keys_and_go_escapes() {
        assert_eq!(
            at_epoch(Format::Json, "a <b> & \"c\""),
            "{\"level\":\"error\",\"msg\":\"a \\u003cb\\u003e \\u0026 \\\"c\\\"\",\
             \"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }

    #[test]
    fn debug_adds_the_caller() {
        let from = Location::caller();
        let text = line(Format::Json, Level::Debug, "m", Some(from), UNIX_EPOCH);
        assert!(text.starts_with("{\"file\":\"src/log.rs:"), "{text}");
        assert!(
            text.contains("\"func\":\"creel::log\",\"level\":\"debug\""),
            "{text}"
        );
    }

    #[test]
    fn go_quoting_escapes_what_is_not_printable() {
        assert_eq!(
            quote("é\t\u{1b}\u{7f}\u{85}\\"),
            "\"é\\t\\x1b\\x7f\\u0085\\\\\""
        );
    }

    #[test]
    fn an_unknown_format_is_named() {
        let error = Format::parse("xml").expect_err("must fail").to_string();
        assert!(error.ends_with("invalid log-format: xml"), "{error}");
    }
}
