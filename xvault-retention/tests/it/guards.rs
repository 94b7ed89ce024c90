//! One test for each safeguard, and for the order in which rules beat each other.

use serde_json::json;
use xvault_retention::Snapshot;
use xvault_retention::jiff::tz::TimeZone;

use crate::support::{BERLIN, at, failed, lines, partial, plan, policy, ruled, snapshot, verified, zone};

const NOW: &str = "2026-11-24T12:00:00Z";

#[test]
fn min_age_protects_from_the_keep_rules() {
    let snapshots = [
        snapshot("2026-11-24T11:00:00Z"),
        snapshot("2026-11-23T12:00:01Z"),
        failed("2026-11-23T12:00:00.5Z"),
        snapshot("2026-11-23T12:00:00Z"),
    ];
    assert_eq!(
        ruled(&plan(&json!({"keep_last_n": 1, "min_age_hours": 24}), &snapshots, NOW)),
        [
            "2026-11-24T11:00:00Z keep: younger than 24 h; 1st of 1 last",
            "2026-11-23T12:00:01Z keep: younger than 24 h",
            "2026-11-23T12:00:00.5Z keep: younger than 24 h",
            "2026-11-23T12:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn max_age_beats_the_keep_rules() {
    let snapshots = [
        snapshot("2026-11-24T11:00:00Z"),
        snapshot("2026-11-14T12:00:00Z"),
        snapshot("2026-11-14T11:59:59Z"),
        failed("2026-11-01T00:00:00Z"),
    ];
    assert_eq!(
        ruled(&plan(&json!({"keep_last_n": 9, "keep_yearly": 9, "max_age_days": 10}), &snapshots, NOW)),
        [
            "2026-11-24T11:00:00Z keep: 1st of 9 last; newest of year 2026",
            "2026-11-14T12:00:00Z keep: 2nd of 9 last",
            "2026-11-14T11:59:59Z delete: older than 10 days",
            "2026-11-01T00:00:00Z delete: older than 10 days; failed: counts for no rule",
        ]
    );
    assert_eq!(
        ruled(&plan(&json!({"keep_last_n": 1, "max_age_days": 10}), &snapshots, NOW))[2],
        "2026-11-14T11:59:59Z delete: older than 10 days; no rule keeps it"
    );
}

#[test]
fn max_age_alone_keeps_what_is_younger() {
    let snapshots =
        ["2026-11-24", "2026-11-23", "2026-01-01"].map(|day| snapshot(&format!("{day}T00:00:00Z")));
    assert_eq!(
        lines(&plan(&json!({"max_age_days": 90}), &snapshots, NOW)),
        [
            "2026-11-24T00:00:00Z keep: the last good snapshot; all are kept",
            "2026-11-23T00:00:00Z keep: all are kept",
            "2026-01-01T00:00:00Z delete: older than 90 days",
        ]
    );
}

#[test]
fn the_last_good_snapshot_stays_however_old() {
    let snapshots = ["2020-01-02", "2020-01-01"].map(|day| snapshot(&format!("{day}T00:00:00Z")));
    let rules = json!({"keep_daily": 7, "max_age_days": 30});
    assert_eq!(
        lines(&plan(&rules, &snapshots, NOW)),
        [
            "2020-01-02T00:00:00Z keep: the last good snapshot",
            "2020-01-01T00:00:00Z delete: older than 30 days; no rule keeps it",
        ]
    );
    assert_eq!(
        lines(&plan(&rules, &snapshots[..1], NOW)),
        ["2020-01-02T00:00:00Z keep: the only good snapshot"]
    );
}

#[test]
fn may_delete_last_allows_to_delete_the_last_one() {
    let rules = json!({"keep_daily": 7, "max_age_days": 30, "may_delete_last": true});
    assert_eq!(
        lines(&plan(&rules, &[snapshot("2020-01-02T00:00:00Z")], NOW)),
        ["2020-01-02T00:00:00Z delete: older than 30 days; no rule keeps it"]
    );
}

#[test]
fn the_last_good_one_is_whole_where_there_is_a_whole_one() {
    let rules = json!({"keep_hourly": 1});
    let snapshots = [
        failed("2026-11-23T00:00:00Z"),
        partial("2026-11-22T00:00:00Z"),
        partial("2026-11-21T00:00:00Z"),
        snapshot("2026-11-20T00:00:00Z"),
    ];
    assert_eq!(
        lines(&plan(&rules, &snapshots, NOW)),
        [
            "2026-11-23T00:00:00Z delete: failed: counts for no rule",
            "2026-11-22T00:00:00Z delete: no rule keeps it",
            "2026-11-21T00:00:00Z delete: no rule keeps it",
            "2026-11-20T00:00:00Z keep: the last good snapshot",
        ]
    );
    assert_eq!(
        lines(&plan(&rules, &snapshots[..3], NOW)),
        [
            "2026-11-23T00:00:00Z delete: failed: counts for no rule",
            "2026-11-22T00:00:00Z keep: the last good snapshot",
            "2026-11-21T00:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn with_require_verified_an_older_one_goes_only_when_a_newer_one_is_proven() {
    let rules = json!({"keep_last_n": 1, "require_verified": true, "max_age_days": 2});
    let snapshots = [
        snapshot("2026-11-24T00:00:00Z"),
        verified(snapshot("2026-11-21T00:00:00Z")),
        verified(snapshot("2026-11-20T00:00:00Z")),
        failed("2026-11-19T00:00:00Z"),
    ];
    assert_eq!(
        ruled(&plan(&rules, &snapshots, NOW)),
        [
            "2026-11-24T00:00:00Z keep: no newer one is verified; 1st of 1 last",
            "2026-11-21T00:00:00Z keep: no newer one is verified",
            "2026-11-20T00:00:00Z delete: older than 2 days; no rule keeps it",
            "2026-11-19T00:00:00Z delete: older than 2 days; failed: counts for no rule",
        ]
    );
}

#[test]
fn a_verified_partial_one_replaces_no_whole_one() {
    let rules = json!({"keep_last_n": 1, "require_verified": true});
    let snapshots = [
        snapshot("2026-11-24T00:00:00Z"),
        verified(partial("2026-11-23T00:00:00Z")),
        snapshot("2026-11-22T00:00:00Z"),
        partial("2026-11-21T00:00:00Z"),
    ];
    assert_eq!(
        ruled(&plan(&rules, &snapshots, NOW)),
        [
            "2026-11-24T00:00:00Z keep: no newer one is verified; 1st of 1 last",
            "2026-11-23T00:00:00Z keep: no newer one is verified",
            "2026-11-22T00:00:00Z keep: no newer one is verified",
            "2026-11-21T00:00:00Z delete: no rule keeps it",
        ]
    );
}

#[test]
fn a_snapshot_from_the_future_stays_and_counts_for_nothing() {
    let snapshots = [
        verified(snapshot("2026-11-24T12:00:00.000000001Z")),
        snapshot("2026-11-24T12:00:00Z"),
        snapshot("2026-11-24T11:00:00Z"),
    ];
    let rules = json!({"keep_last_n": 1, "keep_daily": 1, "min_age_hours": 1, "require_verified": true});
    assert_eq!(
        lines(&plan(&rules, &snapshots, NOW)),
        [
            "2026-11-24T12:00:00.000000001Z keep: dated in the future",
            "2026-11-24T12:00:00Z keep: the last good snapshot; no newer one is verified; younger than 1 h; \
             1st of 1 last; newest of day 2026-11-24",
            "2026-11-24T11:00:00Z keep: no newer one is verified",
        ]
    );
}

#[test]
fn a_hold_beats_everything() {
    let held = |snapshot: Snapshot, why: &str| Snapshot { hold: Some(why.to_owned()), ..snapshot };
    let snapshots = [
        snapshot("2026-11-24T00:00:00Z"),
        held(snapshot("2020-01-02T00:00:00Z"), "court case 7"),
        held(failed("2020-01-01T00:00:00Z"), ""),
    ];
    let rules = json!({"keep_last_n": 1, "max_age_days": 30, "may_delete_last": true});
    assert_eq!(
        lines(&plan(&rules, &snapshots, NOW)),
        [
            "2026-11-24T00:00:00Z keep: 1st of 1 last",
            "2020-01-02T00:00:00Z keep: on hold: court case 7",
            "2020-01-01T00:00:00Z keep: on hold",
        ]
    );
}

#[test]
fn numbers_without_measure_are_as_far_as_time_goes() {
    let max = u64::MAX;
    let far = json!({
        "keep_last_n": max, "keep_hourly": max, "keep_daily": max, "keep_weekly": max, "keep_monthly": max,
        "keep_yearly": max, "keep_within": "4294967295y4294967295m4294967295d", "max_age_days": max,
    });
    let first = jiff::Timestamp::MIN.to_string();
    let last = jiff::Timestamp::MAX.to_string();
    let snapshots =
        [snapshot("2026-11-24T00:00:00Z"), Snapshot { at: first.parse().unwrap(), ..snapshot(NOW) }];
    for zone in ["UTC0", "<+14>-14", "<-12>12", "<+24>-24", "<-24>24"] {
        let zone = crate::support::zone(zone);
        for now in [NOW, &last, &first] {
            let plan = xvault_retention::evaluate(
                &crate::support::policy(&far),
                &snapshots,
                now.parse().unwrap(),
                &zone,
            );
            assert_eq!(plan.summary.total_to_keep, 2, "{now}: {:?}", lines(&plan));
        }
    }
    // 2⁶⁴ seconds and a little more: what wraps around would be a little.
    let hours = json!({"keep_last_n": 1, "min_age_hours": 5_124_095_576_030_432_u64});
    let days = json!({"keep_all": true, "max_age_days": 213_503_982_334_602_u64});
    let snapshots = [snapshot("2026-11-24T00:00:00Z"), snapshot("2020-01-01T00:00:00Z")];
    for rules in [hours, days] {
        assert_eq!(plan(&rules, &snapshots, NOW).summary.total_to_keep, 2, "{rules}");
    }
    for within in ["4294967295y", "19998y11m", "4294967295h"] {
        assert_eq!(
            plan(&json!({"keep_within": within}), &snapshots, NOW).summary.total_to_keep,
            2,
            "{within}"
        );
    }
    let young = json!({"keep_last_n": 1, "min_age_hours": max});
    assert_eq!(plan(&young, &snapshots[..1], &last).summary.total_to_keep, 1);
}

#[test]
fn what_its_store_lets_nobody_delete_is_kept_and_counts_like_any_other() {
    let snapshots = [
        snapshot("2026-11-24T11:00:00Z"),
        Snapshot { undeletable: true, ..snapshot("2026-11-01T00:00:00Z") },
        Snapshot { undeletable: true, ..failed("2026-10-02T00:00:00Z") },
        snapshot("2026-10-01T00:00:00Z"),
    ];
    assert_eq!(
        ruled(&plan(&json!({"keep_last_n": 2, "max_age_days": 10}), &snapshots, NOW))[1..],
        [
            "2026-11-01T00:00:00Z keep: its store lets nobody delete",
            "2026-10-02T00:00:00Z keep: its store lets nobody delete",
            "2026-10-01T00:00:00Z delete: older than 10 days; no rule keeps it",
        ]
    );
}

#[test]
fn a_lock_keeps_until_its_very_end() {
    let until = Some(at("2026-11-24T12:00:01Z"));
    let locked = [
        snapshot("2026-11-24T11:00:00Z"),
        Snapshot { locked_until: until, ..snapshot("2026-11-01T00:00:00Z") },
        Snapshot { locked_until: until, ..failed("2026-10-01T00:00:00Z") },
    ];
    let rules = json!({"keep_last_n": 1, "max_age_days": 10});
    assert_eq!(
        ruled(&plan(&rules, &locked, NOW))[1..],
        [
            "2026-11-01T00:00:00Z keep: locked until 2026-11-24T12:00:01Z",
            "2026-10-01T00:00:00Z keep: locked until 2026-11-24T12:00:01Z",
        ]
    );
    assert_eq!(
        ruled(&plan(&rules, &locked, "2026-11-24T12:00:01Z"))[1..],
        [
            "2026-11-01T00:00:00Z delete: older than 10 days; no rule keeps it",
            "2026-10-01T00:00:00Z delete: older than 10 days; failed: counts for no rule",
        ]
    );
}

#[test]
fn only_what_time_alone_ends_is_promised() {
    let promised = |rules, of: &str, place: &TimeZone| policy(&rules).keeps_until(at(of), place).to_string();
    let of = "2026-11-24T12:00:00Z";
    for (rules, until) in [
        (json!({"keep_last_n": 99, "keep_hourly": 9, "keep_daily": 30, "keep_yearly": 10}), of),
        (json!({"keep_last_n": 1, "min_age_hours": 36}), "2026-11-26T00:00:00Z"),
        (json!({"keep_within": "30d"}), "2026-12-24T12:00:00Z"),
        (json!({"keep_within": "30d", "count": "existing"}), "2026-12-24T12:00:00Z"),
        (json!({"keep_within": "30d", "max_age_days": 7}), "2026-12-01T12:00:00Z"),
        (json!({"keep_within": "1d", "min_age_hours": 36}), "2026-11-26T00:00:00Z"),
        (json!({"max_age_days": 90}), "2027-02-22T12:00:00Z"),
        (json!({"keep_all": true}), "9999-12-30T22:00:00.999999999Z"),
    ] {
        assert_eq!(promised(rules.clone(), of, &TimeZone::UTC), until, "{rules}");
    }
    let month = json!({"keep_within": "1m"});
    assert_eq!(promised(month.clone(), "2027-01-31T10:00:00Z", &TimeZone::UTC), "2027-02-28T10:00:00Z");
    // Half past two in the night in which there is none.
    let day = json!({"keep_within": "1d"});
    assert_eq!(promised(day, "2027-03-27T01:30:00Z", &zone(BERLIN)), "2027-03-28T00:30:00Z");
}
