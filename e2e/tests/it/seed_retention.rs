//! Retention of the service from end to end, with the requests that it was first tested with: real curl, the lines word for
//! word but for the ids in them, a bearer token added.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::curl::{Curl, filled};
use crate::database;
use crate::fleet::{SOON, text};
use crate::up::Up;
use crate::wait::until;

const CREATE_SCHEDULE: &str = r#"{
    "tenant_id": "...",
    "source_id": "...",
    "interval_minutes": 60,
    "retention_policy": {
      "keep_last_n": 7,
      "keep_daily": 30,
      "min_age_hours": 24
    }
  }"#;
const UPDATE_RETENTION: &str = r#"{
    "retention_policy": {
      "keep_last_n": 14,
      "keep_weekly": 8
    }
  }"#;
const EXAMPLE_POLICY: &str = r#"{
  "keep_last_n": 7,
  "keep_daily": 30,
  "keep_weekly": 12,
  "keep_monthly": 6,
  "min_age_hours": 24,
  "max_age_days": 365
}"#;
/// Of the example of an answer, all but its results.
const SUMMARY: &str = r#"{
    "sources_evaluated": 1,
    "total_snapshots": 10,
    "total_to_keep": 7,
    "total_to_delete": 3,
    "jobs_enqueued": 3
  }"#;
const RUN: &str = "/api/v1/admin/retention/run";

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What an answer says under the names of the document's example. It says nothing beside its results and its summary but how
/// many results were left out.
fn summary(answer: &Value) -> Value {
    let names: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["results", "results_left_out", "summary"], "{answer}");
    let example = parsed(SUMMARY);
    let told =
        example.as_object().unwrap().keys().map(|name| (name.clone(), answer["summary"][name].clone()));
    Value::Object(told.collect())
}

fn counts(total: u64, to_delete: u64, enqueued: u64) -> Value {
    json!({
        "sources_evaluated": 1, "total_snapshots": total, "total_to_keep": total - to_delete,
        "total_to_delete": to_delete, "jobs_enqueued": enqueued,
    })
}

fn ids(list: &[Value]) -> Vec<String> {
    list.iter().map(|one| text(&one["id"])).collect()
}

/// Waits until the API, the database and the disk have these snapshots of the source, and no others.
fn until_left(up: &Up, source: &str, expected: &[String]) {
    until(SOON, "the others are gone", || up.on_disk() == expected && ids(&up.snapshots(source)) == expected);
    let rows = database::texts(&up.database(), "SELECT id FROM snapshots ORDER BY id DESC");
    assert_eq!(rows, expected);
}

#[test]
fn the_lines_of_the_first_document_work_as_printed() {
    let up = Up::start();
    let curl = Curl { port: up.port, token: up.token.clone() };
    let (tenant, source) = up.local_source();
    let mut made: Vec<_> = (0..10).map(|_| up.back_up(&tenant, &source)).collect();
    made.reverse();

    // Create a schedule with retention policy
    let body = filled(CREATE_SCHEDULE, &[("...", &tenant), ("...", &source)]);
    let schedule = curl.send("POST", "/api/v1/schedules", Some(&body));
    for (field, value) in parsed(&body).as_object().unwrap() {
        assert_eq!(schedule[field], *value, "{schedule}");
    }
    assert_eq!((&schedule["enabled"], &schedule["timezone"]), (&json!(true), &json!("UTC")));
    assert!(schedule["next_run_at"].is_string(), "{schedule}");
    let path = format!("/api/v1/schedules/{}", text(&schedule["id"]));
    assert_eq!(curl.send("GET", &path, None), schedule);
    let list = curl.send("GET", &format!("/api/v1/schedules?tenant_id={tenant}"), None);
    assert_eq!(list["schedules"], json!([schedule]));

    // Run retention evaluation for all sources, and for a specific source: all are younger than a day
    let answer = curl.send("POST", RUN, None);
    assert_eq!(summary(&answer), counts(10, 0, 0));
    let result = &answer["results"][0];
    assert_eq!((&result["source_id"], &result["total_to_keep"]), (&json!(source), &json!(10)));
    assert_eq!(summary(&curl.send("POST", &format!("{RUN}/{source}"), None)), counts(10, 0, 0));

    // Update retention policy later
    let retention = format!("/api/v1/sources/{source}/retention");
    let updated = curl.send("PUT", &retention, Some(UPDATE_RETENTION));
    assert_eq!(updated["retention_policy"], parsed(UPDATE_RETENTION)["retention_policy"]);
    assert_eq!(curl.send("GET", &retention, None), updated);
    assert_eq!(curl.send("GET", &path, None)["retention_policy"], updated["retention_policy"]);
    let body = format!(r#"{{"retention_policy": {EXAMPLE_POLICY}}}"#);
    assert_eq!(curl.send("PUT", &path, Some(&body))["retention_policy"], parsed(EXAMPLE_POLICY));
    assert_eq!(curl.send("GET", &retention, None)["retention_policy"], parsed(EXAMPLE_POLICY));

    // The example of an answer, number by number
    let _ = curl.send("PUT", &retention, Some(r#"{"retention_policy": {"keep_last_n": 7}}"#));
    let plan = curl.send("GET", &format!("{retention}/plan"), None);
    assert_eq!(ids(plan["decisions"].as_array().unwrap()), made);
    for (place, decision) in plan["decisions"].as_array().unwrap().iter().enumerate() {
        assert_eq!(decision["keep"], json!(place < 7), "{decision}");
        let reasons = decision["reasons"].to_string();
        let expected = if place < 7 { " of 7 last" } else { "no rule keeps it" };
        assert!(reasons.contains(expected), "{reasons}");
    }
    assert_eq!(summary(&curl.send("POST", RUN, None)), parsed(SUMMARY));
    until_left(&up, &source, &made[..7]);
    assert_eq!(summary(&curl.send("POST", &format!("{RUN}/{source}"), None)), counts(7, 0, 0));
}

/// A new user's first schedule: XVAULT_SLOW=yes scripts/test, or
/// `cargo test -p xvault-e2e --test it -- --ignored minute_after_minute`.
#[test]
#[ignore = "it takes six minutes; see scripts/test"]
fn minute_after_minute_the_last_three_stay() {
    let (up, start) = (Up::start(), Instant::now());
    let (tenant, source) = up.local_source();
    let schedule = json!({
        "tenant_id": tenant, "source_id": source, "interval_minutes": 1, "retention_policy": {"keep_last_n": 3},
    });
    let _ = up.api.post("/api/v1/schedules", &schedule);
    while start.elapsed() < Duration::from_secs(6 * 60) {
        std::thread::sleep(Duration::from_secs(5));
        // One may be there that is to go, and one that is just being made.
        assert!(up.on_disk().len() <= 4, "{:?}", up.on_disk());
    }
    let path = format!("/api/v1/jobs?source_id={source}&type=backup&status=completed");
    let backups = up.api.get(&path)["jobs"].as_array().unwrap().clone();
    assert!((5..=6).contains(&backups.len()), "{backups:?}");
    let last: Vec<_> = backups.iter().take(3).map(|job| text(&job["snapshot_id"])).collect();
    until_left(&up, &source, &last);
    let plan = up.api.get(&format!("/api/v1/sources/{source}/retention/plan"));
    let expected = [
        json!(["the last good snapshot", "1st of 3 last"]),
        json!(["2nd of 3 last"]),
        json!(["3rd of 3 last"]),
    ];
    let decisions = plan["decisions"].as_array().unwrap();
    assert_eq!(ids(decisions), last);
    assert_eq!(decisions.iter().map(|one| one["reasons"].clone()).collect::<Vec<_>>(), expected, "{plan}");
    // The pass over all sources has been, too.
    assert!(up.api.get("/metrics").as_str().unwrap().contains("\nxvault_retention_pass_seconds_count 1\n"));
}
