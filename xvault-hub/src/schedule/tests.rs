//! Runs by example, and against an oracle that looks at a clock on the wall each minute.

mod oracle;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Cron, Part, Rhythm, Timing, interval_after, jitter, wall, zone};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The first runs after an instant, as that zone's clock shows them.
fn runs(expression: &str, name: &str, after: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (Cron::parse(expression).unwrap(), zone(name).unwrap());
    let next = |after: &Timestamp| wall::next_after(&cron, &zone, *after);
    let runs = std::iter::successors(next(&at(after)), next).take(count);
    runs.map(|run| run.to_zoned_datetime(zone.clone()).strftime("%a %F %H:%M %:z").to_string()).collect()
}

#[test]
fn plain_times() {
    let utc = |expression, count| runs(expression, "UTC", "2027-01-30T10:07:30Z", count);
    assert_eq!(utc("*/20 * * * *", 2), ["Sat 2027-01-30 10:20 +00:00", "Sat 2027-01-30 10:40 +00:00"]);
    assert_eq!(utc("@hourly", 1), ["Sat 2027-01-30 11:00 +00:00"]);
    assert_eq!(utc(" @Daily ", 2), ["Sun 2027-01-31 00:00 +00:00", "Mon 2027-02-01 00:00 +00:00"]);
    assert_eq!(utc("@weekly", 1), ["Sun 2027-01-31 00:00 +00:00"]);
    assert_eq!(utc("@monthly", 2), ["Mon 2027-02-01 00:00 +00:00", "Mon 2027-03-01 00:00 +00:00"]);
    assert_eq!(utc("@yearly", 1), ["Sat 2028-01-01 00:00 +00:00"]);
    assert_eq!(utc("30 6 * * mon-fri", 2), ["Mon 2027-02-01 06:30 +00:00", "Tue 2027-02-02 06:30 +00:00"]);
    assert_eq!(utc("7,8 10 * * *", 1), ["Sat 2027-01-30 10:08 +00:00"]);
    assert_eq!(utc("0 0 31 * *", 2), ["Sun 2027-01-31 00:00 +00:00", "Wed 2027-03-31 00:00 +00:00"]);
    assert_eq!(utc("0 12 29 2 *", 2), ["Tue 2028-02-29 12:00 +00:00", "Sun 2032-02-29 12:00 +00:00"]);
    assert_eq!(runs("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["Fri 2104-02-29 00:00 +00:00"]);
    assert_eq!(runs("0 0 29 2 */7", "UTC", "2088-03-01T00:00:00Z", 1), ["Sun 2128-02-29 00:00 +00:00"]);
}

#[test]
fn a_run_is_after_the_instant_never_at_it() {
    let on_time = runs("0 3 * * *", "UTC", "2027-01-01T03:00:00Z", 1);
    assert_eq!(on_time, ["Sat 2027-01-02 03:00 +00:00"]);
    let just_before = runs("0 3 * * *", "UTC", "2027-01-01T02:59:59.999999999Z", 1);
    assert_eq!(just_before, ["Fri 2027-01-01 03:00 +00:00"]);
}

#[test]
fn either_day_field_will_do_when_both_are_given() {
    let dates = |expression| {
        let runs = runs(expression, "UTC", "2027-01-31T00:00:00Z", 4);
        runs.iter().map(|run| run[..14].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        dates("0 0 13 * fri"),
        ["Fri 2027-02-05", "Fri 2027-02-12", "Sat 2027-02-13", "Fri 2027-02-19"]
    );
    // As in Vixie's cron: a field that begins with `*` is none that widens.
    assert_eq!(
        dates("0 0 */10 * fri"),
        ["Fri 2027-05-21", "Fri 2027-06-11", "Fri 2027-10-01", "Fri 2027-12-31"]
    );
}

#[test]
fn skipped_times_run_once_when_the_clock_goes_on() {
    let berlin = |expression, count| runs(expression, "Europe/Berlin", "2027-03-27T12:00:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["Sun 2027-03-28 03:00 +02:00", "Mon 2027-03-29 02:30 +02:00"]);
    assert_eq!(berlin("10,50 2 * * *", 2), ["Sun 2027-03-28 03:00 +02:00", "Mon 2027-03-29 02:10 +02:00"]);
    assert_eq!(berlin("0 2,3 * * *", 2), ["Sun 2027-03-28 03:00 +02:00", "Mon 2027-03-29 02:00 +02:00"]);
    assert_eq!(
        runs("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T02:00:00Z", 2),
        ["Sun 2027-10-03 02:30 +11:00", "Mon 2027-10-04 02:15 +11:00"]
    );
    assert_eq!(
        runs("30 2 * 3 sun", "America/New_York", "2027-03-13T12:00:00Z", 2),
        ["Sun 2027-03-14 03:00 -04:00", "Sun 2027-03-21 02:30 -04:00"]
    );
    // Samoa had no 30 December in 2011: what was to run on it did when the 31st began.
    assert_eq!(
        runs("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
        ["Thu 2011-12-29 09:00 -10:00", "Sat 2011-12-31 00:00 +14:00", "Sat 2011-12-31 09:00 +14:00"]
    );
}

#[test]
fn repeated_times_run_once_the_first_time() {
    let berlin = |expression, count| runs(expression, "Europe/Berlin", "2027-10-30T12:00:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["Sun 2027-10-31 02:30 +02:00", "Mon 2027-11-01 02:30 +01:00"]);
    assert_eq!(berlin("0 3 * * *", 1), ["Sun 2027-10-31 03:00 +01:00"]);
    assert_eq!(berlin("0 2 * * *", 2), ["Sun 2027-10-31 02:00 +02:00", "Mon 2027-11-01 02:00 +01:00"]);
    // Also when asked in the middle of the second time.
    assert_eq!(
        runs("30 2 * * *", "Europe/Berlin", "2027-10-31T01:10:00Z", 1),
        ["Mon 2027-11-01 02:30 +01:00"]
    );
    assert_eq!(
        runs("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T10:00:00Z", 2),
        ["Sun 2027-04-04 01:45 +11:00", "Mon 2027-04-05 01:45 +10:30"]
    );
}

#[test]
fn a_rhythm_of_every_hour_does_not_pause() {
    assert_eq!(
        runs("30 * * * *", "Europe/Berlin", "2027-10-30T23:00:00Z", 4),
        [
            "Sun 2027-10-31 01:30 +02:00",
            "Sun 2027-10-31 02:30 +02:00",
            "Sun 2027-10-31 02:30 +01:00",
            "Sun 2027-10-31 03:30 +01:00"
        ]
    );
}

#[test]
fn odd_offsets() {
    assert_eq!(
        runs("0 3 * * *", "Asia/Kathmandu", "2027-01-01T00:00:00Z", 1),
        ["Sat 2027-01-02 03:00 +05:45"]
    );
}

#[test]
fn what_never_comes_and_what_is_no_expression() {
    for (text, part) in [
        ("0 0 30 2 *", "day of month"),
        ("0 0 31 2,4,6,9,11 *", "day of month"),
        ("0 24 * * *", "hour"),
        ("0 0 * foo *", "month"),
        ("0 0 * * fry", "day of week"),
    ] {
        let fault = Cron::parse(text).unwrap_err();
        assert_eq!(fault.part.map(Part::name), Some(part), "{text}: {fault}");
    }
    assert!(Cron::parse("0 0 30 2 *").unwrap_err().to_string().contains("never run"));
    // Every February has a Monday.
    Cron::parse("0 0 30 2 mon").unwrap();
    for (text, reason) in [
        ("", "five fields"),
        ("* * * *", "not 4"),
        ("0 * * * * *", "not 6"),
        ("@reboot", "@daily"),
        ("@every 5m", "@daily"),
    ] {
        let fault = Cron::parse(text).unwrap_err();
        assert!(fault.part.is_none() && fault.reason.contains(reason), "{text}: {fault}");
    }
    assert!(Cron::parse(&"*".repeat(300)).unwrap_err().reason.contains("200"));
}

#[test]
fn an_interval_never_drifts() {
    let anchor = at("2027-03-01T10:20:30.5Z");
    let next = |minutes, after: &str| interval_after(minutes, anchor, at(after)).unwrap().to_string();
    assert_eq!(next(60, "2027-03-01T10:20:30.5Z"), "2027-03-01T11:20:30.5Z");
    assert_eq!(next(60, "2027-03-01T11:20:30.499Z"), "2027-03-01T11:20:30.5Z");
    assert_eq!(next(60, "2027-03-01T11:20:30.5Z"), "2027-03-01T12:20:30.5Z");
    // After a long pause the times are still those of the anchor.
    assert_eq!(next(7, "2028-03-01T00:00:00Z"), "2028-03-01T00:01:30.5Z");
    // What lies before the anchor has the same first run.
    assert_eq!(next(60, "2020-01-01T00:00:00Z"), "2027-03-01T11:20:30.5Z");
    assert_eq!(interval_after(super::MAX_INTERVAL, anchor, Timestamp::MAX), None);
}

#[test]
fn jitter_is_bounded_even_and_of_the_id() {
    assert_eq!(jitter("a", 9), SignedDuration::ZERO);
    assert_eq!(jitter("a", 1440), jitter("a", 1440));
    let mut seconds = std::collections::BTreeMap::<i64, u32>::new();
    for number in 0..10_000 {
        *seconds.entry(jitter(&format!("schedule-{number}"), 1440).as_secs()).or_default() += 1;
    }
    assert!(seconds.keys().all(|second| (0..300).contains(second)));
    assert!(seconds.values().all(|schedules| *schedules < 80), "{seconds:?}");
    for number in 0..1000 {
        let shift = jitter(&format!("schedule-{number}"), 15).as_secs();
        assert!((0..90).contains(&shift), "{shift}");
    }
}

#[test]
fn jitter_shifts_every_run_alike() {
    let id = "0190-some-schedule";
    let timing = |expression| Timing::new(id, Rhythm::Cron(Cron::parse(expression).unwrap()), TimeZone::UTC);
    let daily = timing("0 3 * * *");
    let shift = daily.jitter();
    assert!(shift > SignedDuration::ZERO, "another id is needed");
    let first = at("2027-01-01T03:00:00Z") + shift;
    assert_eq!(daily.next_after(at("2026-12-31T12:00:00Z")), Some(first));
    // Between the regular time and the shifted one it has not run yet.
    assert_eq!(daily.next_after(at("2027-01-01T03:00:00Z")), Some(first));
    let runs: Vec<_> = daily.runs_after(at("2026-12-31T12:00:00Z")).take(3).collect();
    let day = SignedDuration::from_hours(24);
    assert!(runs.windows(2).all(|pair| pair[1].duration_since(pair[0]) == day), "{runs:?}");
    assert_eq!(timing("*/5 * * * *").jitter(), SignedDuration::ZERO);
    assert_eq!(timing("0,1 3 * * *").jitter(), SignedDuration::ZERO);
    assert_eq!(timing("58 23 * * *").jitter(), shift);
    assert_eq!(timing("0 0,23 * * *").jitter(), shift);
}

#[test]
fn zones_are_those_of_iana() {
    assert_eq!(zone("europe/berlin").unwrap().iana_name(), Some("Europe/Berlin"));
    assert_eq!(zone("UTC").unwrap().iana_name(), Some("UTC"));
    for bad in
        ["", "Mars/Olympus", "localtime", "Etc/Unknown", "../../../etc/passwd", "right/UTC", "CET-1CEST"]
    {
        assert!(zone(bad).is_none(), "{bad}");
    }
}
