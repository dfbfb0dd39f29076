//! Moments as Go prints them: RFC 3339, in UTC, for log lines and for a container's `created`.
//!
//! UTC because the local offset needs the time zone database, which a static program would read
//! from wherever `TZ` points.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-23T21:42:56Z`, as logrus stamps its lines.
#[must_use]
pub fn rfc3339(moment: SystemTime) -> String {
    let (seconds, _) = since_epoch(moment);
    format!("{}Z", date_and_time(seconds))
}

/// `2026-11-23T21:42:56.5Z`: up to nine digits, trailing zeros cut, as Go's RFC3339Nano.
#[must_use]
pub fn rfc3339_nano(moment: SystemTime) -> String {
    let (seconds, nanos) = since_epoch(moment);
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{}{fraction}Z", date_and_time(seconds))
}

fn since_epoch(moment: SystemTime) -> (u64, u32) {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

fn date_and_time(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day since 1970, in years that begin in March: the leap day is then the
/// last of its year, and every month starts at (153 m + 2) / 5.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097; // days in 400 years
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn known_moments_read_as_date_prints_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_470_176, "2026-11-23T21:42:56Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, 5)), text);
        }
    }

    #[test]
    fn the_fraction_loses_its_trailing_zeros() {
        assert_eq!(rfc3339_nano(at(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano(at(0, 500_000_000)), "1970-01-01T00:00:00.5Z");
        assert_eq!(rfc3339_nano(at(0, 1)), "1970-01-01T00:00:00.000000001Z");
    }
}
