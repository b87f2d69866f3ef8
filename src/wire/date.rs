//! Dates as Jupyter writes them: ISO 8601 in UTC with six fraction digits, never more, because
//! Python's clients leave longer ones unread. The one place of `wire` that reads the clock.
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_SECONDS: i64 = 86_400;

/// The current time, for example `2026-11-22T19:39:05.123456Z`.
pub fn now_iso() -> String {
    iso(SystemTime::now())
}

pub fn iso(time: SystemTime) -> String {
    let mut text = Vec::with_capacity(27);
    write_iso(time, &mut text);
    String::from_utf8(text).expect("digits and punctuation")
}

pub(super) fn write_iso(time: SystemTime, out: &mut Vec<u8>) {
    let (seconds, micros) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_micros()),
        // Before 1970: whole seconds are enough, no clock of ours is there.
        Err(error) => (-i64::try_from(error.duration().as_secs()).unwrap_or(0), 0),
    };
    let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
        .expect("writing to memory does not fail");
}

/// Reads `2026-11-22T19:39:05[.fraction][Z|+01:00|+0100]`; without a zone it is UTC.
pub fn parse_iso(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let zone_start = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_start);
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (parts.next()?.parse::<i64>().ok()?, parts.next()?.parse::<i64>().ok()?);
    let (second, fraction) = match parts.next()?.split_once('.') {
        Some((second, fraction)) => (second.parse::<i64>().ok()?, nanos(fraction)?),
        None => (rest.get(6..8)?.parse::<i64>().ok()?, 0),
    };
    let in_range = (0..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    let seconds = seconds - offset_seconds(zone)?;
    let time = match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    time?.checked_add(Duration::from_nanos(fraction))
}

fn nanos(fraction: &str) -> Option<u64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = &fraction[..fraction.len().min(9)];
    let scale = 10u64.pow(9 - u32::try_from(digits.len()).ok()?);
    Some(digits.parse::<u64>().ok()? * scale)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None | Some('Z' | 'z') => return Some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let hours = digits.get(..2)?.parse::<i64>().ok()?;
    let minutes = if digits.len() >= 4 { digits[2..4].parse::<i64>().ok()? } else { 0 };
    Some(sign * (hours * 3600 + minutes * 60))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (Hinnant's algorithm).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date that lies `days` after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: u64, micros: u32, expect: &str) {
        let time = UNIX_EPOCH + Duration::new(seconds, micros * 1000);
        assert_eq!(iso(time), expect);
        assert_eq!(parse_iso(expect), Some(time));
    }

    #[test]
    fn dates_are_written_and_read_back() {
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400, 1, "2000-02-29T00:00:00.000001Z");
        check(1_795_376_345, 123_456, "2026-11-22T19:39:05.123456Z");
        check(4_102_444_799, 999_999, "2099-12-31T23:59:59.999999Z");
    }

    #[test]
    fn zones_and_missing_fractions_are_read() {
        let noon = parse_iso("2026-11-22T12:00:00Z");
        assert!(noon.is_some());
        assert_eq!(parse_iso("2026-11-22T12:00:00"), noon);
        assert_eq!(parse_iso("2026-11-22 12:00:00.000000+00:00"), noon);
        assert_eq!(parse_iso("2026-11-22T13:30:00.0+01:30"), noon);
        assert_eq!(parse_iso("2026-11-22T07:00:00-0500"), noon);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in ["", "T", "now", "2026-11-22", "2026-13-01T00:00:00Z", "2026-11-22T25:00:00Z"] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
        for text in ["2026-11-22T12:00:00.xZ", "2026-11-22T12:00", "é-1-1T1:1:1", "1-1-1Té:é:é"]
        {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }
}
