//! Time zones: where days begin, and what happens when clocks are changed.

use serde_json::json;
use xvault_retention::{Snapshot, evaluate};

use crate::support::{BERLIN, LORD_HOWE, ST_JOHNS, at, policy, ruled, snapshot, zone};

fn in_zone(posix: &str, rules: &serde_json::Value, times: &[&str], now: &str) -> Vec<String> {
    let snapshots: Vec<Snapshot> = times.iter().map(|time| snapshot(time)).collect();
    ruled(&evaluate(&policy(rules), &snapshots, at(now), &zone(posix)))
}

#[test]
fn a_day_begins_at_midnight_of_the_zone() {
    let times = ["2026-11-24T08:00:00Z", "2026-11-23T23:30:00Z", "2026-11-23T22:30:00Z"];
    assert_eq!(
        in_zone(BERLIN, &json!({"keep_daily": 2}), &times, "2026-11-24T12:00:00Z"),
        [
            "2026-11-24T08:00:00Z keep: newest of day 2026-11-24",
            "2026-11-23T23:30:00Z delete: no rule keeps it",
            "2026-11-23T22:30:00Z keep: newest of day 2026-11-23",
        ]
    );
}

#[test]
fn a_day_of_25_hours_is_one_day_and_its_double_hour_is_two() {
    // Berlin, 2026-10-25: 03:00 summer time becomes 02:00 at 01:00 UTC.
    let times =
        ["2026-10-25T22:59:00Z", "2026-10-25T01:30:00Z", "2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z"];
    let now = "2026-10-25T22:59:30Z";
    assert_eq!(
        in_zone(BERLIN, &json!({"keep_daily": 1}), &times, now),
        [
            "2026-10-25T22:59:00Z keep: newest of day 2026-10-25",
            "2026-10-25T01:30:00Z delete: no rule keeps it",
            "2026-10-25T00:30:00Z delete: no rule keeps it",
            "2026-10-24T22:00:00Z delete: no rule keeps it",
        ]
    );
    // 23:59 back to 00:00 summer time: 25 hours.
    assert_eq!(
        in_zone(BERLIN, &json!({"keep_hourly": 24}), &times, now),
        [
            "2026-10-25T22:59:00Z keep: newest of hour 2026-10-25T23+01",
            "2026-10-25T01:30:00Z keep: newest of hour 2026-10-25T02+01",
            "2026-10-25T00:30:00Z keep: newest of hour 2026-10-25T02+02",
            "2026-10-24T22:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn a_day_of_23_hours_loses_no_hour() {
    // Berlin, 2026-03-29: 02:00 becomes 03:00 summer time at 01:00 UTC.
    let times = ["2026-03-29T01:10:00Z", "2026-03-29T00:10:00Z", "2026-03-28T23:10:00Z"];
    assert_eq!(
        in_zone(BERLIN, &json!({"keep_hourly": 2}), &times, "2026-03-29T01:30:00Z"),
        [
            "2026-03-29T01:10:00Z keep: newest of hour 2026-03-29T03+02",
            "2026-03-29T00:10:00Z keep: newest of hour 2026-03-29T01+01",
            "2026-03-28T23:10:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn a_change_of_half_an_hour_makes_a_short_hour_of_its_own() {
    // Lord Howe Island, 2026-10-04: 02:00 becomes 02:30 at 15:30 UTC of the day before.
    let times =
        ["2026-10-03T16:10:00Z", "2026-10-03T15:40:00Z", "2026-10-03T15:10:00Z", "2026-10-03T14:10:00Z"];
    assert_eq!(
        in_zone(LORD_HOWE, &json!({"keep_hourly": 3}), &times, "2026-10-03T16:20:00Z"),
        [
            "2026-10-03T16:10:00Z keep: newest of hour 2026-10-04T03+11",
            "2026-10-03T15:40:00Z keep: newest of hour 2026-10-04T02+11",
            "2026-10-03T15:10:00Z keep: newest of hour 2026-10-04T01+10:30",
            "2026-10-03T14:10:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn a_day_that_is_entered_twice_is_one_day() {
    // St. John's, 2026-10-25: 00:01 summer time becomes 23:01 of the day before at 02:31 UTC.
    let times = [
        "2026-10-25T12:00:00Z",
        "2026-10-25T03:00:00Z",
        "2026-10-25T02:30:30Z",
        "2026-10-25T02:00:00Z",
        "2026-10-24T12:00:00Z",
    ];
    let expected = [
        "2026-10-25T12:00:00Z keep: newest of day 2026-10-25",
        "2026-10-25T03:00:00Z keep: newest of day 2026-10-24",
        "2026-10-25T02:30:30Z delete: no rule keeps it",
        "2026-10-25T02:00:00Z delete: no rule keeps it",
        "2026-10-24T12:00:00Z delete: no rule keeps it",
    ];
    assert_eq!(in_zone(ST_JOHNS, &json!({"keep_daily": 9}), &times, "2026-10-25T13:00:00Z"), expected);
    // The same without the later day: it is first seen in the minute before the change.
    assert_eq!(
        in_zone(ST_JOHNS, &json!({"keep_daily": 9}), &times[1..], "2026-10-25T03:10:00Z"),
        [
            "2026-10-25T03:00:00Z keep: newest of day 2026-10-24",
            "2026-10-25T02:30:30Z keep: newest of day 2026-10-25",
            "2026-10-25T02:00:00Z delete: no rule keeps it",
            "2026-10-24T12:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn a_day_back_keeps_the_time_of_day_across_a_change() {
    // One day before 12:00 winter time is 12:00 summer time, 25 hours before.
    let times = ["2026-10-24T10:00:00Z", "2026-10-24T09:59:59Z"];
    assert_eq!(
        in_zone(BERLIN, &json!({"keep_within": "1d"}), &times, "2026-10-25T11:00:00Z"),
        ["2026-10-24T10:00:00Z keep: within 1d", "2026-10-24T09:59:59Z delete: no rule keeps it"]
    );
    let hours = in_zone(
        BERLIN,
        &json!({"keep_within": "24h", "may_delete_last": true}),
        &times,
        "2026-10-25T11:00:00Z",
    );
    assert!(hours[0].contains("delete"), "{hours:?}");
}

#[test]
fn the_instant_of_a_change_belongs_to_the_new_offset() {
    let times = ["2026-10-25T01:00:00Z", "2026-10-25T00:59:59.999999999Z", "2026-10-25T00:00:00Z"];
    assert_eq!(
        in_zone(BERLIN, &json!({"keep_hourly": 9}), &times, "2026-10-25T01:00:00Z"),
        [
            "2026-10-25T01:00:00Z keep: newest of hour 2026-10-25T02+01",
            "2026-10-25T00:59:59.999999999Z keep: newest of hour 2026-10-25T02+02",
            "2026-10-25T00:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn before_1970_the_fraction_of_a_second_counts_downwards() {
    let times = ["1969-12-31T23:59:59.5Z", "1969-12-31T00:00:00Z", "1969-12-30T23:59:59.5Z"];
    assert_eq!(
        in_zone("UTC0", &json!({"keep_daily": 3}), &times, "1970-01-01T00:00:00Z"),
        [
            "1969-12-31T23:59:59.5Z keep: newest of day 1969-12-31",
            "1969-12-31T00:00:00Z delete: no rule keeps it",
            "1969-12-30T23:59:59.5Z keep: newest of day 1969-12-30",
        ]
    );
}
