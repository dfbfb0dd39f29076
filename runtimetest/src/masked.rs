//! Masked paths: nothing of what is behind them can be read.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::resolved;
use crate::mountinfo::Tree;
use crate::report::Report;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};

/// Judges `linux.maskedPaths`.
pub fn check(config: &Config, report: &mut Report) {
    let tree = Tree::read().unwrap_or_default();
    for path in &config.linux.masked_paths {
        let got = readable(path);
        // The kernel keeps some files from weak readers with or without a mask; then only the
        // mount table tells.
        let covered = !tree.at(&resolved(path)).is_empty();
        let ok = match got.as_str() {
            "missing" | "an empty file" | "an empty directory" => true,
            "refused" => covered,
            _ => false,
        };
        report.holds(
            format!("linux.maskedPaths: {path} cannot be read"),
            "nothing",
            got,
            ok,
        );
    }
}

/// What reading the path brings.
fn readable(path: &str) -> String {
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "missing".to_owned(),
        ErrorKind::PermissionDenied => "refused".to_owned(),
        _ => error.to_string(),
    };
    match fs::metadata(path) {
        Err(error) => refused(error),
        Ok(data) if data.is_dir() => match fs::read_dir(path) {
            Err(error) => refused(error),
            Ok(entries) => match entries.count() {
                0 => "an empty directory".to_owned(),
                count => format!("a directory of {count}"),
            },
        },
        Ok(_) => {
            // One byte tells: /proc/kcore has the whole memory behind it.
            let read = File::open(path).and_then(|mut file| file.read(&mut [0; 1]));
            match read {
                Err(error) => refused(error),
                Ok(0) => "an empty file".to_owned(),
                Ok(_) => "a file with contents".to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_told_apart() {
        assert_eq!(readable("/no/such/path"), "missing");
        assert_eq!(readable("/dev/null"), "an empty file");
        assert_eq!(readable("/proc/self/status"), "a file with contents");
        assert!(readable("/proc/self").starts_with("a directory of"));
    }
}
