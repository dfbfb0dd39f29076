//! CHECKPOINT, explained: what went wrong, in the words of criu's log.
#![forbid(unsafe_code)]

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How much of the end is looked at: a log may have many megabytes.
const TAIL: u64 = 256 * 1024;

/// How many errors are quoted: the first ones are the cause, the last ones the consequence.
const QUOTED: usize = 3;

/// The last errors, in one line; `None` if there are none, or no log.
pub(super) fn errors(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    pick(&String::from_utf8_lossy(&bytes))
}

fn pick(text: &str) -> Option<String> {
    let errors: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.get(line.find("Error")?..)?.trim_end()))
        .collect();
    let from = errors.len().saturating_sub(QUOTED);
    let last = errors.get(from..)?.join("; ");
    (!last.is_empty()).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_are_quoted_without_their_times() {
        let text = "(00.01) Warn  (criu/a.c:1): w\n(00.02) Error (criu/b.c:2): one\n\
            (00.02) Error (criu/b.c:2): two\n(00.02) ok\n(00.03) 1: Error (c): three\n\
            (00.04) Error (d): Dumping FAILED.\n";
        let want = "Error (criu/b.c:2): two; Error (c): three; Error (d): Dumping FAILED.";
        assert_eq!(pick(text).as_deref(), Some(want));
        assert_eq!(pick("(00.01) fine\n"), None);
        assert_eq!(errors(Path::new("/no/such")), None);
    }
}
