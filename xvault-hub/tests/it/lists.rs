//! What lists can be narrowed to.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Caller, Dialect, World, text};

/// A field of all rows of a list.
async fn column(caller: &Caller, path: &str, list: &str, field: &str) -> Vec<String> {
    let page = caller.get(path).await.expect(200);
    page[list].as_array().unwrap().iter().map(|row: &Value| text(&row[field])).collect()
}

async fn jobs_of_a_worker(world: World) {
    let acme = world.tenant("acme").await;
    let (one, two) =
        (FakeWorker::join(&world, "w1", &["ssh"]).await, FakeWorker::join(&world, "w2", &["ssh"]).await);
    let (_, source) = ssh_source(&acme.admin).await;
    let mut jobs = Vec::new();
    for worker in [&one, &two, &one] {
        let job = enqueue(&acme.member, &source).await;
        worker.back_up(&job).await;
        jobs.push(job);
    }
    let waiting = enqueue(&acme.member, &source).await;
    let ids = async |query: &str| {
        column(&acme.member, &format!("/api/v1/jobs?type=backup{query}"), "jobs", "id").await
    };
    assert_eq!(ids("").await, [&*waiting, &jobs[2], &jobs[1], &jobs[0]]);
    assert_eq!(ids("&worker_id=w1").await, [&*jobs[2], &jobs[0]]);
    assert_eq!(ids(&format!("&worker_id=w2&source_id={source}&status=completed")).await, [&*jobs[1]]);
    assert!(ids("&worker_id=w2&status=failed").await.is_empty());
    let all = column(&world.operator, "/api/v1/admin/jobs?worker_id=w2", "jobs", "id").await;
    assert_eq!(all, [&*jobs[1]]);
    acme.member.get("/api/v1/jobs?worker_id=no%20id").await.refused(400, "bad_request");
}

async fn still(engine: Dialect) -> World {
    World::builder(engine).manual_clock().start().await
}

async fn events_of_a_kind_a_target_and_a_time(world: World) {
    let acme = world.tenant("acme").await;
    let began = world.clock.now();
    let (_, first) = ssh_source(&acme.admin).await;
    world.clock.advance(Duration::from_secs(10));
    let middle = world.clock.now();
    let (_, second) = ssh_source(&acme.admin).await;
    acme.admin.post(&format!("/api/v1/sources/{first}/disable"), json!({})).await.expect(200);
    let path = "/api/v1/audit-events?limit=200&";
    let targets = async |query: String| {
        column(&acme.owner, &format!("{path}{query}"), "audit_events", "target_id").await
    };
    assert_eq!(targets("action=source.create".to_owned()).await, [&*second, &first]);
    assert_eq!(targets(format!("action=source.create&since={middle}")).await, [&*second]);
    assert_eq!(targets(format!("action=source.create&until={middle}")).await, [&*first]);
    assert_eq!(targets(format!("action=source.create&since={began}&until={middle}")).await, [&*first]);
    assert_eq!(targets(format!("target_id={first}")).await, [&*first, &first]);
    assert!(targets(format!("target_id={second}&action=source.disable")).await.is_empty());
    // Another tenant's are not seen, whatever is asked for.
    let other = world.tenant("other").await;
    let foreign = other.owner.get(&format!("{path}target_id={first}")).await.expect(200);
    assert_eq!(foreign["audit_events"], json!([]));
    for query in ["since=yesterday", "action=a%00b", "target_id=%0a", "actions=source.create"] {
        acme.owner.get(&format!("{path}{query}")).await.refused(400, "bad_request");
    }
}

async fn sources_by_name(world: World) {
    let acme = world.tenant("acme").await;
    let config = json!({ "host": "h", "username": "u", "paths": ["/srv"] });
    for name in ["Web 1", "web_2", "100% Öl", r"back\slash", "WEBX2"] {
        let body = json!({ "type": "sftp", "name": name, "config": config });
        acme.admin.post("/api/v1/sources", body).await.expect(201);
    }
    let cases = [
        ("web", vec!["WEBX2", "web_2", "Web 1"]),
        ("WEB%201", vec!["Web 1"]),
        ("web_", vec!["web_2"]),
        ("%25", vec!["100% Öl"]),
        ("%C3%96l", vec!["100% Öl"]),
        ("%5C", vec![r"back\slash"]),
        ("nothing", vec![]),
        ("", vec!["WEBX2", r"back\slash", "100% Öl", "web_2", "Web 1"]),
    ];
    for (sought, expected) in cases {
        let path = format!("/api/v1/sources?name={sought}");
        assert_eq!(column(&acme.member, &path, "sources", "name").await, expected, "{sought}");
        let path = format!("/api/v1/admin/sources?name={sought}");
        assert_eq!(column(&world.operator, &path, "sources", "name").await, expected, "{sought}");
    }
    acme.member.get("/api/v1/sources?name=%00").await.refused(400, "bad_request");
}

on_both_engines!(jobs_of_a_worker, sources_by_name);

on_both_engines!(super::still => events_of_a_kind_a_target_and_a_time);
