//! Policies as people write them: what is taken, and one test for each that is refused.

use serde_json::{Value, json};
use xvault_retention::{Count, Policy, PolicyError, Rules, Within};

use crate::support::policy;

#[test]
fn the_policy_of_the_documentation_is_taken_as_it_stands() {
    let json = json!({
        "keep_last_n": 7, "keep_daily": 30, "keep_weekly": 12, "keep_monthly": 6,
        "min_age_hours": 24, "max_age_days": 365,
    });
    let rules = Rules {
        keep_last_n: Some(7),
        keep_daily: Some(30),
        keep_weekly: Some(12),
        keep_monthly: Some(6),
        min_age_hours: Some(24),
        max_age_days: Some(365),
        ..Rules::default()
    };
    assert_eq!(policy(&json).rules(), &rules);
    assert_eq!(serde_json::to_value(policy(&json)).unwrap(), json, "and is written as it was read");
}

#[test]
fn every_field_is_read_and_written_again() {
    let json = json!({
        "keep_all": true, "keep_last_n": 1, "keep_hourly": 2, "keep_daily": 3, "keep_weekly": 4, "keep_monthly": 5,
        "keep_yearly": 6, "keep_within": "1y2m3w4d5h", "keep_tags": ["a", "b"], "min_age_hours": 7, "max_age_days": 8,
        "require_verified": true, "may_delete_last": true, "count": "existing",
    });
    let read: Policy = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(read.rules().count, Count::Existing);
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
}

#[test]
fn null_false_and_zero_are_as_good_as_left_out() {
    let json = json!({"keep_last_n": 3, "keep_daily": null, "keep_weekly": 0, "min_age_hours": 0, "keep_all": false,
        "keep_within": null, "keep_tags": [], "max_age_days": null, "mode": null, "count": "calendar"});
    assert_eq!(serde_json::to_value(policy(&json)).unwrap(), json!({"keep_last_n": 3}));
}

#[test]
fn the_mode_forms_become_plain_rules() {
    for (json, plain) in [
        (json!({"mode": "all"}), json!({"keep_all": true})),
        (json!({"mode": "all", "max_age_days": 9}), json!({"keep_all": true, "max_age_days": 9})),
        (json!({"mode": "latest_n", "keep_last_n": 5}), json!({"keep_last_n": 5})),
        (
            json!({"mode": "latest_n", "keep_last_n": 5, "keep_within_duration": null}),
            json!({"keep_last_n": 5}),
        ),
        (json!({"mode": "within_duration", "keep_within_duration": "30d"}), json!({"keep_within": "30d"})),
        (
            json!({"keep_within_duration": "30d", "keep_last_n": 1}),
            json!({"keep_last_n": 1, "keep_within": "30d"}),
        ),
        (json!({"max_age_days": 9}), json!({"keep_all": true, "max_age_days": 9})),
    ] {
        assert_eq!(serde_json::to_value(policy(&json)).unwrap(), plain, "{json}");
    }
}

fn refused(json: &Value) -> PolicyError {
    Policy::parse(json).map(|policy| panic!("{json} was taken as {policy:?}")).unwrap_err()
}

/// Asserts the field and the message of each.
fn assert_refused(cases: &[(Value, Option<&str>, &str)]) {
    for (json, field, message) in cases {
        let error = refused(json);
        assert_eq!((error.field(), error.to_string().as_str()), (*field, *message), "{json}");
        let through_serde = serde_json::from_value::<Policy>(json.clone()).unwrap_err();
        assert_eq!(through_serde.to_string(), *message);
    }
}

const KEEPS_NOTHING: &str = "no rule of this policy keeps anything: set at least one of keep_last_n, keep_hourly, \
    keep_daily, keep_weekly, keep_monthly, keep_yearly or keep_within to more than 0, name keep_tags, or write \
    \"keep_all\": true to delete nothing";

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    assert_refused(&[
        (json!({}), None, KEEPS_NOTHING),
        (json!({"keep_last_n": 0}), None, KEEPS_NOTHING),
        (json!({"keep_daily": 0, "keep_weekly": 0, "keep_tags": []}), None, KEEPS_NOTHING),
        (json!({"min_age_hours": 24}), None, KEEPS_NOTHING),
        (json!({"may_delete_last": true, "require_verified": true}), None, KEEPS_NOTHING),
        (json!({"keep_all": false, "count": "existing"}), None, KEEPS_NOTHING),
    ]);
    assert_eq!(Policy::try_from(Rules::default()), Err(PolicyError::KeepsNothing));
    let zero = Rules { keep_within: Some(Within::days(0)), ..Rules::default() };
    assert_eq!(Policy::try_from(zero), Err(PolicyError::KeepsNothing));
}

#[test]
fn what_is_no_object_is_refused() {
    assert_refused(&[
        (json!(null), None, "a retention policy is an object such as {\"keep_last_n\": 7}, not null"),
        (json!(7), None, "a retention policy is an object such as {\"keep_last_n\": 7}, not 7"),
        (json!("all"), None, "a retention policy is an object such as {\"keep_last_n\": 7}, not \"all\""),
        (json!([]), None, "a retention policy is an object such as {\"keep_last_n\": 7}, not a list"),
    ]);
}

#[test]
fn an_unknown_field_is_named_with_those_there_are() {
    let error = refused(&json!({"keep_last": 7}));
    assert_eq!(error.field(), Some("keep_last"));
    assert!(
        error
            .to_string()
            .starts_with("`keep_last` is no field of a retention policy; there are keep_all, keep_last_n, ")
    );
    let long = "\u{1b}".repeat(10_000);
    let error = refused(&json!({long: 7})).to_string();
    assert!(error.len() < 1000 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_what_to_write() {
    let number = |found: &str| format!("`keep_daily` is {found}: write a whole number such as 7");
    for (value, found) in [
        (json!(-1), "-1"),
        (json!(1.5), "1.5"),
        (json!(1e30), "1e+30"),
        (json!("7"), "\"7\""),
        (json!(true), "true"),
        (json!({}), "an object"),
    ] {
        assert_refused(&[(json!({"keep_daily": value}), Some("keep_daily"), &number(found))]);
    }
    let within = "a length of time in quotes, such as \"30d\", \"1y6m\" or \"36h\"";
    assert_refused(&[
        (json!({"keep_all": 1}), Some("keep_all"), "`keep_all` is 1: write true or false"),
        (
            json!({"require_verified": "yes"}),
            Some("require_verified"),
            "`require_verified` is \"yes\": write true or false",
        ),
        (json!({"keep_within": 30}), Some("keep_within"), &format!("`keep_within` is 30: write {within}")),
        (
            json!({"keep_within": "0d"}),
            Some("keep_within"),
            &format!("`keep_within` is \"0d\": write {within}"),
        ),
        (
            json!({"keep_within_duration": "30 days"}),
            Some("keep_within_duration"),
            &format!("`keep_within_duration` is \"30 days\": write {within}"),
        ),
        (
            json!({"keep_tags": "a"}),
            Some("keep_tags"),
            "`keep_tags` is \"a\": write a list of texts such as [\"release\"]",
        ),
        (
            json!({"keep_tags": [1]}),
            Some("keep_tags"),
            "`keep_tags` is a list: write a list of texts such as [\"release\"]",
        ),
        (json!({"count": "days"}), Some("count"), "`count` is \"days\": write \"calendar\" or \"existing\""),
        (
            json!({"mode": "latest"}),
            Some("mode"),
            "`mode` is \"latest\": write \"all\", \"latest_n\" or \"within_duration\"; or leave it out",
        ),
    ]);
}

#[test]
fn a_mode_takes_its_own_rule_and_no_other() {
    let other = |field: &str, mode: &str| {
        format!("`{field}` does not go with mode \"{mode}\": leave `mode` out to combine rules")
    };
    assert_refused(&[
        (
            json!({"mode": "latest_n"}),
            Some("keep_last_n"),
            "mode \"latest_n\" needs `keep_last_n`, greater than 0",
        ),
        (
            json!({"mode": "latest_n", "keep_last_n": 0}),
            Some("keep_last_n"),
            "mode \"latest_n\" needs `keep_last_n`, greater than 0",
        ),
        (
            json!({"mode": "within_duration"}),
            Some("keep_within_duration"),
            "mode \"within_duration\" needs `keep_within_duration`, greater than 0",
        ),
        (json!({"mode": "all", "keep_last_n": 5}), Some("keep_last_n"), &other("keep_last_n", "all")),
        (
            json!({"mode": "latest_n", "keep_last_n": 5, "keep_daily": 1}),
            Some("keep_daily"),
            &other("keep_daily", "latest_n"),
        ),
        (
            json!({"mode": "within_duration", "keep_within_duration": "1d", "keep_tags": ["a"]}),
            Some("keep_tags"),
            &other("keep_tags", "within_duration"),
        ),
    ]);
}

#[test]
fn two_lengths_of_one_rule_are_refused() {
    assert_refused(&[(
        json!({"keep_within": "30d", "keep_within_duration": "31d"}),
        Some("keep_within_duration"),
        "`keep_within_duration` and `keep_within` are the same rule: write only one of them",
    )]);
    policy(&json!({"keep_within": "30d", "keep_within_duration": "30d"}));
}

#[test]
fn a_max_age_of_nothing_is_refused() {
    assert_refused(&[(
        json!({"keep_last_n": 1, "max_age_days": 0}),
        Some("max_age_days"),
        "`max_age_days` is 0, which would delete everything at once: write how many days a snapshot may stay, or leave it out",
    )]);
}

#[test]
fn ages_that_contradict_each_other_are_refused() {
    let message = "`min_age_hours` is not shorter than `max_age_days`: no snapshot may be both too young and too old to decide";
    assert_refused(&[
        (json!({"keep_last_n": 1, "min_age_hours": 48, "max_age_days": 2}), Some("min_age_hours"), message),
        (
            json!({"keep_last_n": 1, "min_age_hours": u64::MAX, "max_age_days": u64::MAX}),
            Some("min_age_hours"),
            message,
        ),
    ]);
    policy(&json!({"keep_last_n": 1, "min_age_hours": 47, "max_age_days": 2}));
}

#[test]
fn tags_without_measure_are_refused() {
    let message = "`keep_tags`: tags are up to 100 texts of 1 to 256 bytes, without control characters";
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    assert_refused(&[
        (json!({"keep_tags": [""]}), Some("keep_tags"), message),
        (json!({"keep_tags": ["x".repeat(257)]}), Some("keep_tags"), message),
        (json!({"keep_tags": many}), Some("keep_tags"), message),
    ]);
}

#[test]
fn a_length_of_time_is_read_as_written_and_nothing_else() {
    for text in ["30d", "1y2m3d", "36h", "2w", "1y2m3w4d5h", "999999999d"] {
        assert_eq!(text.parse::<Within>().unwrap().to_string(), text);
    }
    for (text, canonical) in [("3d1y", "1y3d"), ("007d", "7d"), ("0y1d", "1d"), ("0h", "0h"), ("0d", "0h")] {
        assert_eq!(text.parse::<Within>().unwrap().to_string(), canonical);
    }
    let huge = "1d".repeat(1_000_000);
    let zeros = format!("{}1d", "0".repeat(60));
    for text in [
        "",
        "d",
        "30",
        "30 d",
        " 30d",
        "-1d",
        "+1d",
        "1.5d",
        "1d1d",
        "30s",
        "30D",
        "4294967296d",
        "1é",
        "1d2",
        &huge,
        &zeros,
    ] {
        let shown: String = text.chars().take(20).collect();
        assert!(text.parse::<Within>().is_err(), "{shown}");
    }
}
