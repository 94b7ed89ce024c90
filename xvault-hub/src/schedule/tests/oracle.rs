//! A clock on the wall that is looked at each minute, and reads expressions on its own.

use std::collections::{BTreeSet, HashSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;

use crate::schedule::{Cron, wall, zone};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const ZONES: [&str; 7] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
    "UTC",
];

/// Whether the field's text allows a number, by trying each of its items.
fn allows(text: &str, number: i32, least: i32, greatest: i32) -> bool {
    text.split(',').any(|item| {
        let (span, step) = item.split_once('/').unwrap_or((item, "1"));
        let (low, high) = match span.split_once('-') {
            _ if span == "*" => (least, greatest),
            Some((low, high)) => (low.parse().unwrap(), high.parse().unwrap()),
            None => (span.parse().unwrap(), span.parse().unwrap()),
        };
        (low..=high).contains(&number) && (number - low) % step.parse::<i32>().unwrap() == 0
    })
}

fn matches(expression: &str, wall: DateTime) -> bool {
    let fields: Vec<_> = expression.split(' ').collect();
    let field =
        |index: usize, number: i8, least, greatest| allows(fields[index], i32::from(number), least, greatest);
    let sunday_zero = wall.weekday().to_sunday_zero_offset();
    let day = field(2, wall.day(), 1, 31);
    let weekday = field(4, sunday_zero, 0, 6) || sunday_zero == 0 && field(4, 7, 0, 6);
    let both = fields[2].starts_with('*') || fields[4].starts_with('*');
    field(0, wall.minute(), 0, 59)
        && field(1, wall.hour(), 0, 23)
        && field(3, wall.month(), 1, 12)
        && if both { day && weekday } else { day || weekday }
}

/// The runs from `from` to before `to`, both on a whole minute, by the rules as the documentation words them.
fn runs(expression: &str, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let every_hour = (0..24).all(|hour| allows(expression.split(' ').nth(1).unwrap(), hour, 0, 23));
    let (mut runs, mut shown) = (BTreeSet::new(), HashSet::new());
    // Two days more, to know what the clock has shown before.
    let mut at = from - SignedDuration::from_hours(48);
    let mut before = zone.to_datetime(at - MINUTE);
    while at < to {
        let wall = zone.to_datetime(at);
        let mut skipped = before.checked_add(1.minute()).unwrap();
        while skipped < wall {
            if matches(expression, skipped) {
                runs.insert(at);
            }
            skipped = skipped.checked_add(1.minute()).unwrap();
        }
        if matches(expression, wall) && (every_hour || !shown.contains(&wall)) {
            runs.insert(at);
        }
        shown.insert(wall);
        before = wall;
        at += MINUTE;
    }
    runs.into_iter().filter(|run| *run >= from).collect()
}

fn ours(expression: &str, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let cron = Cron::parse(expression).unwrap();
    let next = |after: &Timestamp| wall::next_after(&cron, zone, *after);
    std::iter::successors(next(&(from - MINUTE)), next).take_while(|run| *run < to).collect()
}

/// A field: often `*`, else a few items.
fn field(least: u8, greatest: u8) -> impl Strategy<Value = String> {
    let number = least..=greatest;
    let range = (number.clone(), number.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let most = greatest - least + 1;
    let stepped = (prop_oneof![Just("*".to_owned()), range.clone()], 1..=most)
        .prop_map(|(span, step)| format!("{span}/{step}"));
    let item = prop_oneof![3 => number.prop_map(|n| n.to_string()), 1 => range, 1 => stepped];
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => prop::collection::vec(item, 1..4).prop_map(|items| items.join(",")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    // Night hours are where clocks change.
    let hour = prop_oneof![2 => field(0, 23), 2 => field(0, 4), 1 => Just("*".to_owned())];
    let month = prop_oneof![4 => Just("*".to_owned()), 1 => field(1, 12)];
    (field(0, 59), hour, field(1, 31), month, field(0, 7))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
        .prop_filter("it comes", |expression| Cron::parse(expression).is_ok())
}

/// A whole minute near a change of the zone's clocks, or anywhere.
fn moment(zone: &TimeZone, day: i64, near: bool) -> Timestamp {
    let anywhere = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * (14_600 + day));
    let change = zone.following(anywhere).next().filter(|_| near);
    // Samoa's last change was long ago: the one in which it lost a day.
    let last = zone.preceding(anywhere).nth(19).filter(|_| near);
    let moment =
        change.or(last).map_or(anywhere, |change| change.timestamp() - SignedDuration::from_hours(30));
    // Some files of zones end with a change that changes nothing, at the second when 32 bits overflow.
    Timestamp::from_second(moment.as_second() / 60 * 60).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_next_run_is_that_of_the_clock_on_the_wall(
        expression in expression(), name in prop::sample::select(&ZONES[..]), day in 0i64..5000, near: bool, apia: bool,
    ) {
        let zone = zone(name).unwrap();
        let lost_day: Timestamp = "2011-12-29T00:00:00Z".parse().unwrap();
        let from = if apia && name == "Pacific/Apia" { lost_day } else { moment(&zone, day, near) };
        let to = from + SignedDuration::from_hours(72);
        let (ours, expected) = (ours(&expression, &zone, from, to), runs(&expression, &zone, from, to));
        // The first that differs, and not thousands of times.
        let differing = ours.iter().zip(&expected).find(|(ours, expected)| ours != expected);
        prop_assert_eq!(differing, None, "{} in {} from {}", expression, name, from);
        prop_assert_eq!(ours.len(), expected.len(), "{} in {} from {}", expression, name, from);
    }

    #[test]
    fn no_text_panics(text in "[-0-9*,/a-z@ ]{0,30}|.{0,40}") {
        if let Ok(cron) = Cron::parse(&text) {
            prop_assert!(wall::next_after(&cron, &TimeZone::UTC, Timestamp::UNIX_EPOCH).is_some());
        }
    }

    #[test]
    fn runs_go_on_and_on(expression in expression(), name in prop::sample::select(&ZONES[..]), seconds in 0i64..4_000_000_000) {
        let (cron, zone) = (Cron::parse(&expression).unwrap(), zone(name).unwrap());
        let after = Timestamp::from_second(seconds).unwrap();
        let mut last = after;
        for _ in 0..20 {
            let next = wall::next_after(&cron, &zone, last).unwrap();
            prop_assert!(next > last);
            last = next;
        }
    }
}
