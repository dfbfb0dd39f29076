//! A span of time as Go writes it: `5s`, `1h30m`, `1.5s`, `250ms`.
#![forbid(unsafe_code)]

use super::size::decimal;
use crate::error::{Doing, Error, Result};
use std::time::Duration;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A time to wait.
pub(super) fn duration(flag: &str, text: &str) -> Result<Duration> {
    let parsed = parse(text).ok_or_else(|| {
        let why = format!("invalid value {text:?} for flag -{flag}: parse error");
        Error::rule(Doing::Command, why)
    })?;
    match u64::try_from(parsed) {
        Ok(nanoseconds @ 1..) => Ok(Duration::from_nanos(nanoseconds)),
        _ => {
            let why = format!("duration {flag} must be greater than 0");
            Err(Error::rule(Doing::Stats, why))
        }
    }
}

/// A sign, and numbers with units; zero needs none. In nanoseconds.
fn parse(text: &str) -> Option<i64> {
    let number = text.trim_start_matches(['+', '-']);
    let sum = if number == "0" { 0 } else { sum(number)? };
    let signs = text.len() - number.len();
    (signs <= 1).then_some(if text.starts_with('-') { -sum } else { sum })
}

fn sum(mut text: &str) -> Option<i64> {
    let mut sum = 0_i64;
    while !text.is_empty() || sum == 0 {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at_checked(digits)?;
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (unit, rest) = rest.split_at_checked(unit)?;
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(decimal(number, *nanoseconds)?)?;
        if rest.is_empty() {
            break;
        }
        text = rest;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("100ms", 100_000_000),
            ("1µs2ns", 1_002),
            ("+3us", 3_000),
            ("-1s", -1_000_000_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5x",
            "--5s",
            "5s3",
            ".s",
            "1.2.3s",
            "99999999999h",
            "-",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_what_is_above_zero_can_be_waited() {
        assert!(duration("interval", "1ns").is_ok());
        assert!(duration("interval", "0").is_err());
        assert!(duration("interval", "-1s").is_err());
        let error = duration("interval", "x").unwrap_err().to_string();
        let want = "invalid value \"x\" for flag -interval: parse error";
        assert!(error.contains(want), "{error}");
    }
}
