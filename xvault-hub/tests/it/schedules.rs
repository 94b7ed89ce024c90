//! `/api/v1/schedules`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fake_worker::{FakeWorker, ssh_source};
use crate::world::{Caller, Dialect, World, text};

/// A schedule of a source, as it is answered.
async fn schedule(admin: &Caller, source: &str, change: Value) -> Value {
    let mut body = json!({ "source_id": source });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    admin.post("/api/v1/schedules", body).await.expect(201)
}

fn at(value: &Value) -> Timestamp {
    text(value).parse().unwrap()
}

async fn a_schedule_is_saved_with_all_its_fields(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let policy = json!({ "keep_last_n": 7, "keep_daily": 30, "min_age_hours": 24 });
    let made = schedule(
        &acme.admin,
        &source,
        json!({ "cron": " 30  3 * * MON-fri ", "timezone": "europe/berlin", "retention_policy": policy }),
    )
    .await;
    assert_eq!(
        (&made["tenant_id"], &made["source_id"], &made["cron"], &made["interval_minutes"]),
        (&json!(acme.id), &json!(source), &json!("30 3 * * MON-fri"), &Value::Null)
    );
    assert_eq!(
        (&made["timezone"], &made["enabled"], &made["retention_policy"], &made["last_run"]),
        (&json!("Europe/Berlin"), &json!(true), &policy, &Value::Null)
    );
    let path = format!("/api/v1/schedules/{}", text(&made["id"]));
    assert_eq!(acme.member.get(&path).await.expect(200), made);
    let list = json!({ "schedules": [made], "next_cursor": null });
    assert_eq!(acme.member.get("/api/v1/schedules").await.expect(200), list);
    let of_source = format!("/api/v1/schedules?source_id={source}");
    assert_eq!(acme.member.get(&of_source).await.expect(200), list);
    let named = format!("{of_source}&tenant_id={}", acme.id);
    assert_eq!(world.operator.get(&named).await.expect(200), list);
    acme.admin.delete(&path).await.expect(204);
    acme.admin.delete(&path).await.refused(404, "not_found");
    acme.member.get(&path).await.refused(404, "not_found");
    // What is left out has its default.
    let made = schedule(&acme.admin, &source, json!({ "interval_minutes": 60 })).await;
    assert_eq!(
        (&made["timezone"], &made["enabled"], &made["retention_policy"], &made["cron"]),
        (&json!("UTC"), &json!(true), &Value::Null, &Value::Null)
    );
}

async fn a_source_has_one_schedule(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let first = schedule(&acme.admin, &source, json!({ "cron": "@daily" })).await;
    let body = json!({ "source_id": source, "interval_minutes": 5 });
    let error = acme.admin.post("/api/v1/schedules", body.clone()).await.refused(409, "schedule_exists");
    assert_eq!(error["details"]["schedule_id"], first["id"]);
    assert!(text(&error["error"]).contains(&text(&first["id"])), "{error}");
    // With its source it goes, and not before.
    acme.admin.delete(&format!("/api/v1/sources/{source}")).await.expect(204);
    acme.member.get(&format!("/api/v1/schedules/{}", text(&first["id"]))).await.refused(404, "not_found");
    assert_eq!(acme.member.get("/api/v1/schedules").await.expect(200)["schedules"], json!([]));
    acme.admin.post("/api/v1/schedules", body).await.refused(404, "not_found");
}

/// The first runs lie where the rule says, shifted by no more than is promised.
fn near(shown: &Value, regular: &str) {
    let late = at(shown).duration_since(regular.parse().unwrap()).as_secs();
    assert!((0..300).contains(&late), "{shown} is not near {regular}");
}

async fn a_preview_shows_ten_runs_in_its_zone(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    // The clock stands at 2030-03-17T17:46:40Z.
    let made =
        schedule(&acme.admin, &source, json!({ "cron": "30 2 * * *", "timezone": "Europe/Berlin" })).await;
    let path = format!("/api/v1/schedules/{}", text(&made["id"]));
    let preview = acme.member.get(&format!("{path}/preview")).await.expect(200);
    let runs = preview["runs"].as_array().unwrap();
    assert_eq!((runs.len(), &preview["timezone"]), (10, &json!("Europe/Berlin")));
    assert_eq!(runs[0]["at"], made["next_run_at"]);
    near(&runs[0]["at"], "2030-03-18T01:30:00Z");
    assert!(text(&runs[0]["local"]).starts_with("2030-03-18T02:3"), "{preview}");
    assert!(text(&runs[0]["local"]).ends_with("+01:00"), "{preview}");
    let jitter = preview["jitter_seconds"].as_i64().unwrap();
    let regular: Timestamp = "2030-03-18T01:30:00Z".parse().unwrap();
    assert_eq!(at(&runs[0]["at"]).duration_since(regular).as_secs(), jitter);
    // A disabled one shows what would be.
    let off = acme.admin.put(&path, json!({ "enabled": false })).await.expect(200);
    assert_eq!((&off["enabled"], &off["next_run_at"]), (&json!(false), &Value::Null));
    assert_eq!(acme.member.get(&format!("{path}/preview")).await.expect(200), preview);
}

async fn a_change_leaves_the_rest(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let made = schedule(
        &acme.admin,
        &source,
        json!({ "interval_minutes": 1440, "retention_policy": { "keep_last_n": 3 } }),
    )
    .await;
    let path = format!("/api/v1/schedules/{}", text(&made["id"]));
    let put = async |body: Value| acme.admin.put(&path, body).await.expect(200);
    world.clock.advance(Duration::from_secs(3600));
    // Nothing about its times: these stay.
    let same = put(json!({ "interval_minutes": 1440, "retention_policy": { "keep_last_n": 4 } })).await;
    assert_eq!(same["next_run_at"], made["next_run_at"]);
    assert_eq!(same["retention_policy"], json!({ "keep_last_n": 4 }));
    // Another interval is counted from now.
    let quicker = put(json!({ "interval_minutes": 9 })).await;
    assert_eq!(at(&quicker["next_run_at"]).to_string(), "2030-03-17T18:55:40Z");
    assert_eq!(quicker["retention_policy"], same["retention_policy"]);
    // Disabled and enabled again it keeps its times, from the next one on.
    put(json!({ "enabled": false })).await;
    world.clock.advance(Duration::from_secs(3600));
    let back = put(json!({ "enabled": true })).await;
    assert_eq!(at(&back["next_run_at"]).to_string(), "2030-03-17T19:49:40Z");
    let cron = put(json!({ "cron": "0 12 * * *" })).await;
    assert_eq!((&cron["cron"], &cron["interval_minutes"]), (&json!("0 12 * * *"), &Value::Null));
    near(&cron["next_run_at"], "2030-03-18T12:00:00Z");
    let moved = put(json!({ "timezone": "Asia/Kathmandu" })).await;
    near(&moved["next_run_at"], "2030-03-18T06:15:00Z");
    let freed = put(json!({ "retention_policy": null })).await;
    assert_eq!(freed["retention_policy"], Value::Null);
    assert_eq!(freed["next_run_at"], moved["next_run_at"]);
    assert_eq!(acme.member.get(&path).await.expect(200), freed);
    for fixed in ["source_id", "tenant_id", "id", "next_run_at"] {
        acme.admin.put(&path, json!({ fixed: "x" })).await.refused(422, "invalid_field");
    }
}

async fn bad_schedules_are_refused_by_place(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let refused = async |change: Value| {
        let mut body = json!({ "source_id": source });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        acme.admin.post("/api/v1/schedules", body).await.refused(422, "invalid_field")
    };
    for (cron, part, shown) in [
        ("61 * * * *", json!("minute"), json!("61")),
        ("0 24 * * *", json!("hour"), json!("24")),
        ("0 0 1,32 * *", json!("day of month"), json!("32")),
        ("0 0 * 13 *", json!("month"), json!("13")),
        ("0 0 * * mon,fryday", json!("day of week"), json!("fryday")),
        ("0 0 30 2 *", json!("day of month"), json!("30")),
        ("*/90 * * * *", json!("minute"), json!("90")),
        ("* * * *", Value::Null, Value::Null),
        ("0 0 0 * * *", Value::Null, Value::Null),
        ("@reboot", Value::Null, Value::Null),
    ] {
        let error = refused(json!({ "cron": cron })).await;
        assert_eq!(error["details"], json!({ "field": "cron", "part": part, "text": shown }), "{error}");
        assert!(shown.is_null() || text(&error["error"]).contains(&text(&shown)), "{error}");
    }
    for (field, change) in [
        ("cron", json!({})),
        ("interval_minutes", json!({ "cron": "@daily", "interval_minutes": 5 })),
        ("interval_minutes", json!({ "interval_minutes": 0 })),
        ("interval_minutes", json!({ "interval_minutes": -5 })),
        ("interval_minutes", json!({ "interval_minutes": 527_041 })),
        ("interval_minutes", json!({ "interval_minutes": 5.5 })),
        ("timezone", json!({ "cron": "@daily", "timezone": "Mars/Olympus" })),
        ("timezone", json!({ "cron": "@daily", "timezone": "" })),
        ("timezone", json!({ "cron": "@daily", "timezone": "x".repeat(100_000) })),
        ("enabled", json!({ "cron": "@daily", "enabled": "yes" })),
        ("retention_policy.keep_dayly", json!({ "cron": "@daily", "retention_policy": { "keep_dayly": 7 } })),
        (
            "retention_policy.keep_daily",
            json!({ "cron": "@daily", "retention_policy": { "keep_daily": -1 } }),
        ),
        ("retention_policy", json!({ "cron": "@daily", "retention_policy": { "keep_last_n": 0 } })),
        ("retention_policy", json!({ "cron": "@daily", "retention_policy": [] })),
        ("colour", json!({ "cron": "@daily", "colour": "red" })),
    ] {
        let error = refused(change).await;
        assert_eq!(error["details"]["field"], field, "{error}");
        assert!(error.to_string().len() < 1000, "{error}");
    }
    assert_eq!(acme.member.get("/api/v1/schedules").await.expect(200)["schedules"], json!([]));
    let made = schedule(&acme.admin, &source, json!({ "cron": "@daily" })).await;
    let path = format!("/api/v1/schedules/{}", text(&made["id"]));
    for bad in [json!({ "cron": "x" }), json!({ "timezone": "x" }), json!({ "retention_policy": {} })] {
        acme.admin.put(&path, bad).await.refused(422, "invalid_field");
    }
    assert_eq!(acme.member.get(&path).await.expect(200), made);
}

async fn every_deed_is_written_down(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let made = schedule(&acme.admin, &source, json!({ "cron": "@daily" })).await;
    let path = format!("/api/v1/schedules/{}", text(&made["id"]));
    acme.admin.put(&path, json!({ "interval_minutes": 30 })).await.expect(200);
    acme.admin.delete(&path).await.expect(204);
    let page = acme.admin.get("/api/v1/audit-events?limit=3").await.expect(200);
    let told: Vec<_> = page["audit_events"].as_array().unwrap().iter().rev().collect();
    for (event, (action, minutes)) in
        told.iter().zip([("create", Value::Null), ("update", json!(30)), ("delete", json!(30))])
    {
        assert_eq!(event["action"], format!("schedule.{action}"));
        assert_eq!((&event["target_id"], &event["actor_id"]), (&made["id"], &json!(acme.admin.user_id)));
        assert_eq!(
            (&event["details"]["source_id"], &event["details"]["interval_minutes"]),
            (&json!(source), &minutes)
        );
    }
}

/// Asks again until the answer is as wanted.
async fn wait_for(caller: &Caller, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..400 {
        last = caller.get(path).await.expect(200);
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} never came to it: {last}");
}

async fn a_schedule_runs_by_itself(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let made = schedule(&acme.admin, &source, json!({ "interval_minutes": 5 })).await;
    let (path, source_path) =
        (format!("/api/v1/schedules/{}", text(&made["id"])), format!("/api/v1/sources/{source}"));
    let stop = CancellationToken::new();
    let (hub, token) = (world.hub.clone(), stop.clone());
    let loops = tokio::spawn(async move { hub.run_background(token).await });

    world.clock.advance(Duration::from_secs(300));
    let ran = wait_for(&acme.member, &path, |schedule| !schedule["last_run"].is_null()).await;
    assert_eq!((&ran["last_run"]["outcome"], &ran["last_run"]["reason"]), (&json!("queued"), &Value::Null));
    assert_eq!(ran["last_run"]["at"], made["next_run_at"]);
    let id = text(&ran["last_run"]["job_id"]);
    let job = acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
    assert_eq!((&job["schedule_id"], &job["source_id"]), (&made["id"], &json!(source)));

    world.clock.advance(Duration::from_secs(300));
    let skipped = |schedule: &Value| schedule["last_run"]["outcome"] == "skipped";
    let run = wait_for(&acme.member, &path, skipped).await["last_run"].clone();
    assert_eq!((&run["reason"]["code"], &run["job_id"]), (&json!("source_busy"), &Value::Null));
    assert!(text(&run["reason"]["message"]).contains(&id), "{run}");
    worker.back_up(&id).await;
    let well = acme.member.get(&source_path).await.expect(200);
    assert_eq!(
        (&well["last_success_at"], &well["next_expected_at"], &well["overdue"]),
        (&json!("2030-03-17T17:56:40Z"), &json!("2030-03-17T18:01:40Z"), &json!(false))
    );

    world.clock.advance(Duration::from_secs(2 * 3600));
    let overdue = wait_for(&acme.member, &source_path, |source| source["overdue"] == true).await;
    assert_eq!(overdue["next_expected_at"], well["next_expected_at"]);
    assert_eq!(acme.member.get("/api/v1/sources").await.expect(200)["sources"], json!([overdue]));
    let shown =
        |page: &Value| page.as_str().is_some_and(|page| page.contains("\nxvault_sources_overdue 1\n"));
    wait_for(&world.nobody(), "/metrics", shown).await;
    let again = |schedule: &Value| schedule["last_run"]["outcome"] == "queued";
    let id = text(&wait_for(&acme.member, &path, again).await["last_run"]["job_id"]);
    worker.back_up(&id).await;
    let shown =
        |page: &Value| page.as_str().is_some_and(|page| page.contains("\nxvault_sources_overdue 0\n"));
    wait_for(&world.nobody(), "/metrics", shown).await;
    assert_eq!(acme.member.get(&path).await.expect(200)["last_run"]["outcome"], "completed");
    assert_eq!(acme.member.get(&source_path).await.expect(200)["overdue"], false);
    let page = acme.admin.get("/api/v1/audit-events?limit=200").await.expect(200);
    let told: Vec<_> = page["audit_events"].as_array().unwrap().iter().rev().collect();
    let of = |action: &str| told.iter().filter(|event| event["action"] == action).count();
    assert_eq!((of("schedule.skip"), of("source.overdue"), of("source.recovered")), (1, 1, 1));
    let event = told.iter().find(|event| event["action"] == "source.overdue").unwrap();
    assert_eq!(
        (&event["actor_type"], &event["actor_id"], &event["target_id"]),
        (&json!("system"), &json!("scheduler"), &json!(source))
    );
    stop.cancel();
    loops.await.unwrap();
}

/// A world whose clock stands still, and whose people stay logged in while it is moved.
async fn still(engine: Dialect) -> World {
    let patient = |settings: &mut xvault_hub::Settings| {
        settings.access_token = Duration::from_secs(1 << 30);
        settings.scheduler_interval = Duration::from_millis(20);
    };
    World::builder(engine).manual_clock().settings(patient).start().await
}

on_both_engines!(
    super::still =>
a_preview_shows_ten_runs_in_its_zone, a_change_leaves_the_rest, a_schedule_runs_by_itself,);

on_both_engines!(
    a_schedule_is_saved_with_all_its_fields,
    a_source_has_one_schedule,
    bad_schedules_are_refused_by_place,
    every_deed_is_written_down,
);
