//! A size in bytes as people write it: `50M`, `1.5g`, `512KiB`.
#![forbid(unsafe_code)]

/// What Docker's `RAMInBytes` makes of it; -1 is "unlimited" and stays so.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("invalid size: '{text}'");
    let last = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(invalid)?;
    let (number, suffix) = text.split_at_checked(last + 1).ok_or_else(invalid)?;
    let lower = suffix.to_ascii_lowercase();
    let unit = lower.strip_suffix("ib").or(lower.strip_suffix('b'));
    let shift = match (unit.unwrap_or(&lower), lower.as_str()) {
        ("", "" | "b") => 0,
        ("k", _) => 10,
        ("m", _) => 20,
        ("g", _) => 30,
        ("t", _) => 40,
        ("p", _) => 50,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    // One space may stand before the unit.
    let number = number.strip_suffix(' ').unwrap_or(number);
    decimal(number, 1 << shift).ok_or_else(invalid)
}

/// A decimal number of units, rounded down; `None` if it is none, or too large.
pub(super) fn decimal(text: &str, unit: u64) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return None;
    }
    let unit = u128::from(unit);
    let number = |text: &str| match text {
        "" => Some(0_u128),
        text => text.parse::<u64>().ok().map(u128::from),
    };
    // More digits than these make no byte and no nanosecond.
    let part = part.get(..18).unwrap_or(part);
    let below = number(part)? * unit / 10_u128.pow(u32::try_from(part.len()).ok()?);
    i64::try_from(number(whole)?.checked_mul(unit)?.checked_add(below)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32kib", 32 << 10),
            ("32Mb", 32 << 20),
            ("50M", 50 << 20),
            ("1.5g", 3 << 29),
            ("1t", 1 << 40),
            ("1p", 1 << 50),
            ("32 k", 32 << 10),
            ("32.5kB", 33280),
            (".5k", 512),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "k",
            "-2",
            "-32k",
            "32kk",
            "32bb",
            "32 kibb",
            "1x",
            "1.2.3",
            "1e3",
            "99999999999p",
            "  32",
            "32  k",
            "ib",
            "5ib",
            " ",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
