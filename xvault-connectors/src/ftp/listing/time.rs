//! Times as FTP servers write them.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use xvault_core::Mtime;

use super::Digits;

/// How far in the future a time without a year may lie: clocks and time zones differ.
const TOMORROW: i64 = 36 * 60 * 60;

/// `YYYYMMDDHHMMSS[.fraction]` in UTC: MDTM, and the fact `modify`.
pub(crate) fn modified(text: &[u8]) -> Option<Mtime> {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &b""[..]),
    };
    if whole.len() != 14 {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to)?.parse_number();
    let date = date(part(0, 4)?, part(4, 6)?, part(6, 8)?)?;
    let time = time(part(8, 10)?, part(10, 12)?, part(12, 14)?)?;
    Some(Mtime { nanos: nanos(fraction)?, ..moment(date, time)? })
}

/// Digits behind a point as billionths; more than nine are cut.
pub(super) fn nanos(fraction: &[u8]) -> Option<u32> {
    if fraction.is_empty() {
        return Some(0);
    }
    let kept = fraction.get(..fraction.len().min(9))?;
    let zeros = 10_u64.pow(u32::try_from(9 - kept.len()).ok()?);
    fraction.iter().all(u8::is_ascii_digit).then_some(())?;
    u32::try_from(kept.parse_number()? * zeros).ok()
}

pub(super) fn date(year: u64, month: u64, day: u64) -> Option<Date> {
    Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

pub(super) fn time(hour: u64, minute: u64, second: u64) -> Option<Time> {
    // A leap second is the last one of its minute.
    let second = second.min(if second == 60 { 59 } else { second });
    Time::new(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, i8::try_from(second).ok()?, 0).ok()
}

pub(super) fn moment(date: Date, time: Time) -> Option<Mtime> {
    let secs = TimeZone::UTC.to_timestamp(DateTime::from_parts(date, time)).ok()?.as_second();
    Some(Mtime { secs, nanos: 0 })
}

/// The last time that this day came round before `now`: listings leave the year out of what is younger than half a year.
pub(super) fn without_year(month: u64, day: u64, time: Time, now: i64) -> Option<Mtime> {
    let latest = now.saturating_add(TOMORROW);
    let this = TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(now).ok()?).year();
    // A 29th of February may be up to eight years ago.
    (0..=8).find_map(|back| {
        let date = date(u64::try_from(this + 1 - back).ok()?, month, day)?;
        moment(date, time).filter(|mtime| mtime.secs <= latest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_mdtm_are_utc() {
        assert_eq!(modified(b"20010909014640"), Some(Mtime { secs: 1_000_000_000, nanos: 0 }));
        assert_eq!(modified(b"20010909014640.5"), Some(Mtime { secs: 1_000_000_000, nanos: 500_000_000 }));
        assert_eq!(modified(b"19600101000000"), Some(Mtime { secs: -315_619_200, nanos: 0 }));
        assert_eq!(modified(b"20161231235960").map(|m| m.secs), modified(b"20161231235959").map(|m| m.secs));
        for bad in ["", "2001", "20011309014640", "20010230014640", "2001090901464x", "20010909014640.x"] {
            assert_eq!(modified(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_day_without_a_year_is_the_last_one_of_its_name() {
        let now = modified(b"20260310120000").unwrap().secs;
        let found = |month, day| without_year(month, day, time(13, 30, 0).unwrap(), now);
        assert_eq!(found(3, 9), modified(b"20260309133000"));
        assert_eq!(found(3, 11), modified(b"20260311133000"));
        assert_eq!(found(3, 13), modified(b"20250313133000"));
        assert_eq!(found(12, 31), modified(b"20251231133000"));
        assert_eq!(found(2, 29), modified(b"20240229133000"));
        assert_eq!(found(2, 30), None);
        let new_years_eve = modified(b"20251231200000").unwrap().secs;
        assert_eq!(without_year(1, 1, time(1, 0, 0).unwrap(), new_years_eve), modified(b"20260101010000"));
    }
}
