//! Dates and times as ISO 8601 text, read and written over bytes.
//!
//! Days and dates are converted by Howard Hinnant's `days_from_civil` and `civil_from_days` (chrono-compatible
//! low-level date algorithms), which use no table and hold for every year that is asked of them here.

use arrow::datatypes::TimeUnit;

/// How many units make a second.
pub(crate) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// A moment: seconds since 1970 in UTC, and nanoseconds since that second.
pub(crate) type Moment = (i64, u32);

/// Reads timestamps; remembers the last minute, which the next one mostly shares.
#[derive(Debug, Default)]
pub(crate) struct TimestampReader {
    /// `2026-11-24T10:00` as it was read last, or 0 if none was.
    minute: u128,
    /// Its seconds since 1970.
    seconds: i64,
}

impl TimestampReader {
    /// `2026-11-24T10:00:00.123Z`: a date, then (after `T` or a space) hours, minutes, perhaps seconds and a fraction,
    /// then perhaps `Z` or an offset (`+01:00`, `+0100`, `+01`). Without an offset it is UTC; a date alone is its
    /// midnight. Digits of the fraction beyond the ninth are cut off. `None` if the text is anything else.
    #[inline]
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<Moment> {
        let Some((minute, rest)) = text.split_first_chunk::<16>() else { return self.read_slowly(text) };
        let minute = u128::from_le_bytes(*minute);
        if minute != self.minute {
            return self.read_slowly(text);
        }
        let (seconds, nanos) = seconds_and_zone(rest)?;
        Some((self.seconds + seconds, nanos))
    }

    #[inline(never)]
    fn read_slowly(&mut self, text: &[u8]) -> Option<Moment> {
        let (days, rest) = read_date(text)?;
        let Some((&separator, rest)) = rest.split_first() else { return Some((days * 86_400, 0)) };
        if !matches!(separator, b'T' | b't' | b' ') || rest.get(2) != Some(&b':') {
            return None;
        }
        let (hour, minute) = (two_digits(rest, 0)?, two_digits(rest, 3)?);
        if hour > 23 || minute > 59 {
            return None;
        }
        let start = days * 86_400 + hour * 3600 + minute * 60;
        let rest = &rest[5..];
        let (seconds, nanos) = seconds_and_zone(rest)?;
        // Only the usual form has its minute in the first 16 bytes.
        if let (Some(minute), true) = (text.first_chunk::<16>(), text.len() - rest.len() == 16) {
            self.minute = u128::from_le_bytes(*minute);
            self.seconds = start;
        }
        Some((start + seconds, nanos))
    }
}

/// What follows the minute: seconds east of UTC are taken off already.
#[inline]
fn seconds_and_zone(mut rest: &[u8]) -> Option<Moment> {
    let (mut seconds, mut nanos) = (0, 0);
    if rest.first() == Some(&b':') {
        seconds = two_digits(rest, 1)?;
        if seconds > 59 {
            return None;
        }
        rest = &rest[3..];
        (nanos, rest) = read_fraction(rest)?;
    }
    match rest {
        [] | [b'Z' | b'z'] => Some((seconds, nanos)),
        [sign @ (b'+' | b'-'), offset @ ..] => {
            let (hours, minutes) = match offset.len() {
                2 => (two_digits(offset, 0)?, 0),
                4 => (two_digits(offset, 0)?, two_digits(offset, 2)?),
                5 if offset[2] == b':' => (two_digits(offset, 0)?, two_digits(offset, 3)?),
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = hours * 3600 + minutes * 60;
            Some((if *sign == b'+' { seconds - east } else { seconds + east }, nanos))
        }
        _ => None,
    }
}

/// Nanoseconds behind a point (or a comma), if there is one, and what follows.
#[inline]
fn read_fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.' | b',', digits)) = text.split_first() else { return Some((0, text)) };
    let (mut nanos, mut at) = (0, 0);
    while let Some(digit @ 0..=9) = digits.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        if at < 9 {
            nanos = nanos * 10 + u32::from(digit);
        }
        at += 1;
    }
    if at == 0 {
        return None;
    }
    const SCALE: [u32; 10] = [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    Some((nanos * SCALE[at.min(9)], &digits[at..]))
}

#[inline]
fn two_digits(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// Days since 1970 of a date at the beginning of the text, and what follows. Years have four digits, or a sign and
/// four to six.
fn read_date(text: &[u8]) -> Option<(i64, &[u8])> {
    let signed = matches!(text.first(), Some(b'+' | b'-'));
    let digits = &text[usize::from(signed)..];
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(length == 4 || (signed && (4..=6).contains(&length))) {
        return None;
    }
    let year = digits[..length].iter().fold(0, |year, digit| year * 10 + i64::from(digit - b'0'));
    let year = if text[0] == b'-' { -year } else { year };
    let rest = &digits[length..];
    if rest.first() != Some(&b'-') || rest.get(3) != Some(&b'-') {
        return None;
    }
    let (month, day) = (two_digits(rest, 1)?, two_digits(rest, 4)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    Some((days_from_civil(year, month, day), &rest[6..]))
}

/// Days since 1970 of `2026-11-24`.
pub(crate) fn date(text: &[u8]) -> Option<i64> {
    read_date(text).filter(|(_, rest)| rest.is_empty()).map(|(days, _)| days)
}

/// Nanoseconds since midnight of `10:00`, `10:00:00` or `10:00:00.123`.
pub(crate) fn time_of_day(text: &[u8]) -> Option<i64> {
    let (hour, minute) = (two_digits(text, 0)?, two_digits(text, 3)?);
    if text.get(2) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let rest = &text[5..];
    let (seconds, nanos, rest) = if rest.first() == Some(&b':') {
        let seconds = two_digits(rest, 1)?;
        let (nanos, rest) = read_fraction(&rest[3..])?;
        (seconds, nanos, rest)
    } else {
        (0, 0, rest)
    };
    (rest.is_empty() && seconds < 60).then(|| (hour * 3600 + minute * 60 + seconds) * 1_000_000_000 + i64::from(nanos))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn write_two(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
}

/// Appends `2026-11-24`; years beyond 0 to 9999 get a sign, as ISO 8601 has it.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        write_two(year / 100, out);
        write_two(year % 100, out);
    } else {
        out.extend_from_slice(format!("{year:+05}").as_bytes());
    }
    out.push(b'-');
    write_two(month, out);
    out.push(b'-');
    write_two(day, out);
}

/// Appends `2026-11-24T10:00:00.123Z`, with a fraction of 0, 3, 6 or 9 digits, the fewest that lose nothing.
pub(crate) fn write_timestamp(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let units = per_second(unit);
    let (seconds, fraction) = (value.div_euclid(units), value.rem_euclid(units));
    write_date(seconds.div_euclid(86_400), out);
    out.push(b'T');
    write_clock(seconds.rem_euclid(86_400), fraction * (1_000_000_000 / units), out);
    out.push(b'Z');
}

/// Appends `10:00:00.123` for a time of day in `unit`.
pub(crate) fn write_time_of_day(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let units = per_second(unit);
    write_clock(value.div_euclid(units), value.rem_euclid(units) * (1_000_000_000 / units), out);
}

fn write_clock(seconds: i64, nanos: i64, out: &mut Vec<u8>) {
    write_two(seconds / 3600 % 100, out);
    out.push(b':');
    write_two(seconds / 60 % 60, out);
    out.push(b':');
    write_two(seconds % 60, out);
    let (digits, value) = match nanos {
        0 => return,
        _ if nanos % 1_000_000 == 0 => (3, nanos / 1_000_000),
        _ if nanos % 1_000 == 0 => (6, nanos / 1_000),
        _ => (9, nanos),
    };
    out.push(b'.');
    let start = out.len();
    out.resize(start + digits, b'0');
    let mut value = value;
    for slot in out[start..].iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Moment> {
        let mut reader = TimestampReader::default();
        let first = reader.read(text.as_bytes());
        assert_eq!(reader.read(text.as_bytes()), first, "the remembered minute gives the same for {text}");
        first
    }

    #[test]
    fn the_usual_forms() {
        let expected = chrono::DateTime::parse_from_rfc3339("2026-11-24T10:00:07.123Z").unwrap_or_default();
        let expected = (expected.timestamp(), 123_000_000);
        for text in [
            "2026-11-24T10:00:07.123Z",
            "2026-11-24 10:00:07.123",
            "2026-11-24t10:00:07,123z",
            "2026-11-24T11:30:07.123+01:30",
            "2026-11-24T05:00:07.123-0500",
            "2026-11-24T12:00:07.123000000999+02",
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        assert_eq!(read("1970-01-02"), Some((86_400, 0)));
        assert_eq!(read("1970-01-01T00:01"), Some((60, 0)));
        assert_eq!(read("1970-01-01T00:01Z"), Some((60, 0)));
        assert_eq!(read("1969-12-31T23:59:59.5Z"), Some((-1, 500_000_000)));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-24T",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:60:00Z",
            "2026-11-24T10:00:60Z",
            "2026-11-24T10:00:00.Z",
            "2026-11-24T10:00:00ZZ",
            "2026-11-24T10:00:00+1",
            "2026-11-24T10:00:00+01:0",
            "26-11-24T10:00:00Z",
            "2026-11-24X10:00:00Z",
            "2026/11/24T10:00:00",
            "soon",
            "2026-11-24T10:00x",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day(b"00:00"), Some(0));
        assert_eq!(time_of_day(b"23:59:59.999999999"), Some(86_399_999_999_999));
        assert_eq!(time_of_day(b"24:00:00"), None);
        assert_eq!(time_of_day(b"10:0"), None);
    }

    proptest! {
        #[test]
        fn timestamps_are_written_and_read_as_chrono_does(nanos in any::<i64>()) {
            let mut text = vec![];
            write_timestamp(nanos, TimeUnit::Nanosecond, &mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            let chrono = chrono::DateTime::from_timestamp_nanos(nanos);
            prop_assert_eq!(&text, &chrono.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            prop_assert_eq!(read(&text), Some((chrono.timestamp(), chrono.timestamp_subsec_nanos())));
        }

        #[test]
        fn every_date_comes_back(days in -100_000_000i64..100_000_000) {
            let mut text = vec![];
            write_date(days, &mut text);
            prop_assert_eq!(date(&text), Some(days));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:+. -]{0,40}") {
            read(&text);
            date(text.as_bytes());
            time_of_day(text.as_bytes());
        }
    }
}
