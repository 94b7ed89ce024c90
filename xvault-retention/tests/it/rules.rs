//! One test for each keep rule, with its reasons.

use serde_json::json;

use crate::support::{failed, lines, partial, plan, ruled, snapshot};
use xvault_retention::Snapshot;

#[test]
fn keep_all_deletes_nothing_not_even_failed_ones() {
    let snapshots = [snapshot("2020-01-01T00:00:00Z"), failed("2019-01-01T00:00:00Z")];
    let plan = plan(&json!({"keep_all": true}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        lines(&plan),
        [
            "2020-01-01T00:00:00Z keep: the only good snapshot; all are kept",
            "2019-01-01T00:00:00Z keep: all are kept",
        ]
    );
}

#[test]
fn keep_last_n_keeps_the_n_most_recent() {
    let snapshots = ["2026-11-20", "2026-11-24", "2026-11-22", "2026-11-21"]
        .map(|day| snapshot(&format!("{day}T00:00:00Z")));
    let plan = plan(&json!({"keep_last_n": 2}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        lines(&plan),
        [
            "2026-11-24T00:00:00Z keep: the last good snapshot; 1st of 2 last",
            "2026-11-22T00:00:00Z keep: 2nd of 2 last",
            "2026-11-21T00:00:00Z delete: no rule keeps it",
            "2026-11-20T00:00:00Z delete: no rule keeps it",
        ]
    );
    let summary = plan.summary;
    assert_eq!((summary.total_snapshots, summary.total_to_keep, summary.total_to_delete), (4, 2, 2));
    let deleted: Vec<String> = plan.to_delete().map(|decision| decision.at.to_string()).collect();
    assert_eq!(deleted, ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"], "oldest first");
}

#[test]
fn keep_hourly_keeps_the_newest_of_each_of_the_last_hours() {
    let times = ["12:59", "12:10", "11:30", "09:59", "09:00"].map(|time| format!("2026-11-24T{time}:00Z"));
    let snapshots = times.map(|time| snapshot(&time));
    let plan = plan(&json!({"keep_hourly": 3}), &snapshots, "2026-11-24T12:59:30Z");
    assert_eq!(
        ruled(&plan),
        [
            "2026-11-24T12:59:00Z keep: newest of hour 2026-11-24T12Z",
            "2026-11-24T12:10:00Z delete: no rule keeps it",
            "2026-11-24T11:30:00Z keep: newest of hour 2026-11-24T11Z",
            "2026-11-24T09:59:00Z delete: no rule keeps it",
            "2026-11-24T09:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn keep_daily_counts_today_and_the_days_before_it() {
    let times = ["2026-11-24T08:00", "2026-11-22T23:59", "2026-11-22T00:00", "2026-11-21T23:59"]
        .map(|t| t.to_owned() + ":00Z");
    let snapshots = times.map(|time| snapshot(&time));
    let plan = plan(&json!({"keep_daily": 3}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2026-11-24T08:00:00Z keep: newest of day 2026-11-24",
            "2026-11-22T23:59:00Z keep: newest of day 2026-11-22",
            "2026-11-22T00:00:00Z delete: no rule keeps it",
            "2026-11-21T23:59:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn keep_weekly_counts_iso_weeks_from_monday_to_sunday_across_the_year() {
    // 2026-12-28 is a Monday, of week 53; 2027-01-03 the Sunday that ends it.
    let days = ["2027-01-04", "2027-01-03", "2026-12-28", "2026-12-27", "2026-12-20"];
    let snapshots = days.map(|day| snapshot(&format!("{day}T10:00:00Z")));
    let plan = plan(&json!({"keep_weekly": 3}), &snapshots, "2027-01-04T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2027-01-04T10:00:00Z keep: newest of week 2027-W01",
            "2027-01-03T10:00:00Z keep: newest of week 2026-W53",
            "2026-12-28T10:00:00Z delete: no rule keeps it",
            "2026-12-27T10:00:00Z keep: newest of week 2026-W52",
            "2026-12-20T10:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn keep_monthly_counts_months_across_the_year() {
    let days = ["2027-01-01", "2026-12-31", "2026-12-01", "2026-11-30", "2026-10-31"];
    let snapshots = days.map(|day| snapshot(&format!("{day}T10:00:00Z")));
    let plan = plan(&json!({"keep_monthly": 3}), &snapshots, "2027-01-31T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2027-01-01T10:00:00Z keep: newest of month 2027-01",
            "2026-12-31T10:00:00Z keep: newest of month 2026-12",
            "2026-12-01T10:00:00Z delete: no rule keeps it",
            "2026-11-30T10:00:00Z keep: newest of month 2026-11",
            "2026-10-31T10:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn keep_yearly_counts_years() {
    let days = ["2026-11-24", "2025-12-31", "2025-01-01", "2023-06-01"];
    let snapshots = days.map(|day| snapshot(&format!("{day}T10:00:00Z")));
    let plan = plan(&json!({"keep_yearly": 3}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2026-11-24T10:00:00Z keep: newest of year 2026",
            "2025-12-31T10:00:00Z keep: newest of year 2025",
            "2025-01-01T10:00:00Z delete: no rule keeps it",
            "2023-06-01T10:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn keep_within_counts_calendar_units_back_from_now() {
    // 1 month and 2 days before 31 March 12:00: 28 February, then 26 February.
    let times = ["2026-03-30T00:00", "2026-02-26T12:00", "2026-02-26T11:59"].map(|t| t.to_owned() + ":00Z");
    let snapshots = times.map(|time| snapshot(&time));
    let plan = plan(&json!({"keep_within": "1m2d"}), &snapshots, "2026-03-31T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2026-03-30T00:00:00Z keep: within 1m2d",
            "2026-02-26T12:00:00Z keep: within 1m2d",
            "2026-02-26T11:59:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn keep_tags_keeps_what_has_one_of_them() {
    let tagged = |time: &str, tags: &[&str]| Snapshot {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..snapshot(time)
    };
    let snapshots = [
        tagged("2026-11-24T00:00:00Z", &[]),
        tagged("2026-11-23T00:00:00Z", &["release", "other"]),
        tagged("2026-11-22T00:00:00Z", &["before-move", "release"]),
        tagged("2026-11-21T00:00:00Z", &["Release"]),
    ];
    let plan = plan(&json!({"keep_tags": ["release", "before-move"]}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        lines(&plan),
        [
            "2026-11-24T00:00:00Z keep: the last good snapshot",
            "2026-11-23T00:00:00Z keep: tag release",
            "2026-11-22T00:00:00Z keep: tag before-move; tag release",
            "2026-11-21T00:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn count_existing_takes_the_last_periods_that_have_a_snapshot() {
    let days = ["2026-11-20", "2026-07-01", "2026-03-01", "2026-01-01"];
    let snapshots = days.map(|day| snapshot(&format!("{day}T10:00:00Z")));
    let now = "2027-11-24T12:00:00Z";
    let existing = plan(&json!({"keep_daily": 3, "count": "existing"}), &snapshots, now);
    assert_eq!(
        ruled(&existing),
        [
            "2026-11-20T10:00:00Z keep: newest of day 2026-11-20",
            "2026-07-01T10:00:00Z keep: newest of day 2026-07-01",
            "2026-03-01T10:00:00Z keep: newest of day 2026-03-01",
            "2026-01-01T10:00:00Z delete: no rule keeps it",
        ]
    );
    let calendar = plan(&json!({"keep_daily": 3}), &snapshots, now);
    assert_eq!(calendar.summary.total_to_keep, 1, "nothing was backed up in the last three days");
}

#[test]
fn count_existing_keeps_within_a_time_of_the_newest() {
    let days = ["2026-11-20", "2026-10-21", "2026-10-20"];
    let snapshots = days.map(|day| snapshot(&format!("{day}T10:00:00Z")));
    let plan = plan(&json!({"keep_within": "30d", "count": "existing"}), &snapshots, "2027-11-24T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2026-11-20T10:00:00Z keep: within 30d",
            "2026-10-21T10:00:00Z keep: within 30d",
            "2026-10-20T10:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn a_partial_snapshot_never_takes_the_place_of_a_whole_one() {
    let snapshots = [
        partial("2026-11-24T11:00:00Z"),
        partial("2026-11-24T10:00:00Z"),
        snapshot("2026-11-24T09:00:00Z"),
        partial("2026-11-23T09:00:00Z"),
        snapshot("2026-11-22T09:00:00Z"),
    ];
    let last = plan(&json!({"keep_last_n": 2}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        ruled(&last),
        [
            "2026-11-24T11:00:00Z keep: 1st of 2 last",
            "2026-11-24T10:00:00Z keep: 2nd of 2 last",
            "2026-11-24T09:00:00Z keep: 1st of 2 last",
            "2026-11-23T09:00:00Z delete: no rule keeps it",
            "2026-11-22T09:00:00Z keep: 2nd of 2 last",
        ]
    );
    let daily = plan(&json!({"keep_daily": 2, "count": "existing"}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        ruled(&daily),
        [
            "2026-11-24T11:00:00Z delete: no rule keeps it",
            "2026-11-24T10:00:00Z delete: no rule keeps it",
            "2026-11-24T09:00:00Z keep: newest whole one of day 2026-11-24",
            "2026-11-23T09:00:00Z keep: newest of day 2026-11-23",
            "2026-11-22T09:00:00Z keep: newest of day 2026-11-22",
        ]
    );
}

#[test]
fn a_partial_snapshot_does_not_move_the_span_of_keep_within_off_a_whole_one() {
    let snapshots =
        [partial("2026-11-24T09:00:00Z"), snapshot("2026-01-02T09:00:00Z"), snapshot("2026-01-01T09:00:00Z")];
    let plan = plan(&json!({"keep_within": "1d", "count": "existing"}), &snapshots, "2026-11-24T12:00:00Z");
    assert_eq!(
        ruled(&plan),
        [
            "2026-11-24T09:00:00Z keep: within 1d",
            "2026-01-02T09:00:00Z keep: within 1d",
            "2026-01-01T09:00:00Z keep: within 1d",
        ]
    );
}

#[test]
fn a_failed_snapshot_counts_for_no_rule() {
    let mut broken = failed("2026-11-24T11:00:00Z");
    broken.tags = vec!["release".to_owned()];
    let snapshots = [broken, snapshot("2026-11-24T10:00:00Z"), snapshot("2026-11-23T10:00:00Z")];
    let rules = json!({"keep_last_n": 2, "keep_daily": 7, "keep_within": "9d", "keep_tags": ["release"]});
    assert_eq!(
        ruled(&plan(&rules, &snapshots, "2026-11-24T12:00:00Z")),
        [
            "2026-11-24T11:00:00Z delete: failed: counts for no rule",
            "2026-11-24T10:00:00Z keep: 1st of 2 last; newest of day 2026-11-24; within 9d",
            "2026-11-23T10:00:00Z keep: 2nd of 2 last; newest of day 2026-11-23; within 9d",
        ]
    );
}

#[test]
fn of_two_snapshots_of_the_same_instant_the_greater_id_is_the_newer() {
    let twin = |id: &str| Snapshot { id: id.parse().unwrap(), ..snapshot("2026-11-24T00:00:00Z") };
    for snapshots in [[twin("a"), twin("b")], [twin("b"), twin("a")]] {
        let plan = plan(&json!({"keep_last_n": 1}), &snapshots, "2026-11-24T12:00:00Z");
        let ids: Vec<(&str, bool)> = plan.decisions.iter().map(|d| (d.id.as_str(), d.keep)).collect();
        assert_eq!(ids, [("b", true), ("a", false)]);
    }
}

#[test]
fn without_snapshots_there_is_nothing_to_decide() {
    let plan = plan(&json!({"keep_last_n": 1}), &[], "2026-11-24T12:00:00Z");
    assert_eq!((plan.decisions.len(), plan.summary.total_snapshots), (0, 0));
}

#[test]
fn a_plan_says_its_reasons_in_words_in_json_too() {
    let plan = plan(&json!({"keep_last_n": 7}), &[snapshot("2026-11-24T00:00:00Z")], "2026-11-24T12:00:00Z");
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        json!({
            "decisions": [{
                "id": "2026-11-24T00-00-00Z",
                "at": "2026-11-24T00:00:00Z",
                "keep": true,
                "reasons": ["the only good snapshot", "1st of 7 last"],
            }],
            "summary": {"total_snapshots": 1, "total_to_keep": 1, "total_to_delete": 0},
        })
    );
}

#[test]
fn places_are_counted_as_people_do() {
    let snapshots: Vec<Snapshot> =
        (0..24).map(|hour| snapshot(&format!("2026-11-24T{hour:02}:00:00Z"))).collect();
    let plan = plan(&json!({"keep_last_n": 99}), &snapshots, "2026-11-24T23:30:00Z");
    let places: Vec<String> = plan.decisions.iter().map(|d| d.reasons.last().unwrap().to_string()).collect();
    for (place, text) in [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (22, "22nd"),
        (23, "23rd"),
    ] {
        assert_eq!(places[place - 1], format!("{text} of 99 last"));
    }
}
