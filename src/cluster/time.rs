//! Time as an argument: milliseconds since the Unix epoch, and the ISO 8601 texts of the protocol.

use std::ops::{Add, Sub};

/// Milliseconds since the Unix epoch, or a span of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Add for Millis {
    type Output = Self;
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Millis {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Returns a time as ISO 8601 in UTC, with six fraction digits and `Z`, as Jupyter messages have
/// it.
pub fn iso(time: Millis) -> String {
    let (days, rest) = (time.0 / 86_400_000, time.0 % 86_400_000);
    let (year, month, day) = civil(i64::try_from(days).expect("u64 / 86_400_000 fits"));
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}000Z")
}

/// Returns an ISO 8601 text as microseconds since the Unix epoch; without a zone it is read as UTC.
pub fn parse_iso(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let bytes = text.as_bytes();
    let marks = [(4, b"--"), (7, b"--"), (10, b"T "), (13, b"::"), (16, b"::")];
    if bytes.len() < 19 || marks.iter().any(|(at, any)| !any.contains(&bytes[*at])) {
        return None;
    }
    let (month, day) = (number(5, 7)?, number(8, 10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_of(number(0, 4)?, month, day);
    let seconds = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let mut rest = text.get(19..)?;
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let n_digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        for place in 0..6 {
            let digit = fraction.as_bytes().get(place).filter(|_| place < n_digits);
            micros = micros * 10 + digit.map_or(0, |digit| i64::from(digit - b'0'));
        }
        rest = fraction.get(n_digits..)?;
    }
    Some(((days * 86_400 + seconds) - zone_seconds(rest)?) * 1_000_000 + micros)
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone.strip_prefix(['+', '-'])?.replace(':', "");
    let hours: i64 = digits.get(0..2)?.parse().ok()?;
    let minutes: i64 = digits.get(2..4).unwrap_or("0").parse().ok()?;
    Some(sign * (hours * 3600 + minutes * 60))
}

/// Days since the epoch to a date of the Gregorian calendar, after Howard Hinnant's
/// `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read_back() {
        for millis in [0, 951_782_400_000, 1_795_377_130_123, 4_102_444_799_999] {
            let text = iso(Millis(millis));
            assert_eq!(parse_iso(&text), Some(i64::try_from(millis).unwrap() * 1000), "{text}");
        }
        assert_eq!(iso(Millis(951_827_696_789)), "2000-02-29T12:34:56.789000Z");
    }

    #[test]
    fn zones_and_short_fractions_are_understood() {
        let noon = parse_iso("2026-11-22T12:00:00Z").unwrap();
        assert_eq!(parse_iso("2026-11-22T13:00:00.5+01:00"), Some(noon + 500_000));
        assert_eq!(parse_iso("2026-11-22 12:00:00"), Some(noon));
        for bad in [
            "",
            "noon",
            "2026-13-01T00:00:00Z",
            "2026-11-22T12:00:00~",
            "\u{e9}".repeat(12).as_str(),
        ] {
            assert_eq!(parse_iso(bad), None, "{bad}");
        }
    }
}
