//! `/api/v1/sources`.

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, enqueue, local_source, ssh_source};
use crate::world::{Answer, World, text};

fn ssh() -> Value {
    json!({ "type": "sftp", "name": "server", "config": { "host": "h", "username": "web", "paths": ["/srv"] } })
}

async fn a_source_is_saved_with_all_its_settings(world: World) {
    let acme = world.tenant("acme").await;
    let made = acme.admin.post("/api/v1/sources", ssh()).await.expect(201);
    assert_eq!(
        made["config"],
        json!({ "host": "h", "port": 22, "username": "web", "paths": ["/srv"], "use_password": false })
    );
    assert_eq!(
        (&made["type"], &made["name"], &made["status"], &made["read_back"], &made["credential_id"]),
        (&json!("sftp"), &json!("server"), &json!("active"), &json!("full"), &Value::Null)
    );
    let path = format!("/api/v1/sources/{}", text(&made["id"]));
    assert_eq!(acme.member.get(&path).await.expect(200), made);
    let list = acme.member.get("/api/v1/sources").await.expect(200);
    assert_eq!(list, json!({ "sources": [made], "next_cursor": null }));
    let mut named = ssh();
    named["tenant_id"] = json!(acme.id);
    world.operator.post("/api/v1/sources", named).await.expect(201);
    assert_eq!(acme.member.get("/api/v1/sources").await.expect(200)["sources"].as_array().unwrap().len(), 2);
}

async fn a_change_leaves_the_rest(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/sources/{source}");
    let before = acme.admin.get(&path).await.expect(200);
    let renamed = acme.admin.put(&path, json!({ "name": "other" })).await.expect(200);
    assert_eq!(
        (&renamed["name"], &renamed["config"], &renamed["credential_id"]),
        (&json!("other"), &before["config"], &json!(credential))
    );
    let config = json!({ "host": "h2", "username": "u2", "paths": ["/a"] });
    let moved = acme.admin.put(&path, json!({ "config": config, "read_back": "off" })).await.expect(200);
    assert_eq!((&moved["config"]["host"], &moved["config"]["use_password"]), (&json!("h2"), &json!(false)));
    assert_eq!((&moved["name"], &moved["read_back"]), (&json!("other"), &json!("off")));
    let freed = acme.admin.put(&path, json!({ "credential_id": null })).await.expect(200);
    assert_eq!(freed["credential_id"], Value::Null);
    assert_eq!(acme.member.get(&path).await.expect(200), freed);
    acme.admin.put(&path, json!({ "type": "ssh" })).await.refused(422, "invalid_field");
    let error =
        acme.admin.put(&path, json!({ "config": { "host": "h" } })).await.refused(422, "invalid_field");
    assert_eq!(error["details"]["field"], "config.username");
    assert_eq!(acme.member.get(&path).await.expect(200), freed);
}

async fn a_disabled_source_is_not_backed_up(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/sources/{source}");
    let off = acme.admin.post(&format!("{path}/disable"), json!({})).await.expect(200);
    assert_eq!(off["status"], "disabled");
    let job = json!({ "source_id": source });
    acme.member.post("/api/v1/jobs", job.clone()).await.refused(409, "source_disabled");
    let on = acme.admin.post(&format!("{path}/enable"), json!({})).await.expect(200);
    assert_eq!(on["status"], "active");
    acme.member.post("/api/v1/jobs", job).await.expect(201);
}

async fn a_deleted_source_leaves_its_snapshots(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/sources/{source}");
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let job = enqueue(&acme.member, &source).await;
    let busy = acme.admin.delete(&path).await.refused(409, "source_busy");
    assert_eq!(busy["details"]["job_id"], json!(job));
    let snapshot = worker.back_up(&job).await;
    acme.admin.delete(&path).await.expect(204);
    for (method, path) in
        [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/enable"))]
    {
        acme.admin.send(method.parse().unwrap(), &path, None).await.refused(404, "not_found");
    }
    acme.admin.put(&path, json!({ "name": "x" })).await.refused(404, "not_found");
    acme.member.post(&format!("{path}/test"), json!({})).await.refused(404, "not_found");
    acme.member.post("/api/v1/jobs", json!({ "source_id": source })).await.refused(404, "not_found");
    assert_eq!(acme.member.get("/api/v1/sources").await.expect(200)["sources"], json!([]));
    let snapshots = acme.member.get(&format!("{path}/snapshots")).await.expect(200);
    assert_eq!(snapshots["snapshots"][0]["id"], json!(snapshot));
    acme.admin.delete(&format!("/api/v1/credentials/{credential}")).await.expect(204);
}

async fn bad_sources_are_refused_by_field(world: World) {
    let acme = world.tenant("acme").await;
    let config = |change: Value| {
        let mut body = ssh();
        body["config"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let whole = |change: Value| {
        let mut body = ssh();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let other = |kind: &str, change: Value| {
        let mut config = json!({ "host": "h", "username": "u" });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        whole(json!({ "type": kind, "config": config }))
    };
    let direct = |change| other("mysql", change);
    let site = |change: Value| {
        let paths = json!({ "paths": ["/var/www/html"] });
        let merged = [paths, change].map(|part| part.as_object().unwrap().clone()).into_iter().flatten();
        other("wordpress", merged.collect::<serde_json::Map<_, _>>().into())
    };
    let cases = [
        ("config.host", config(json!({ "host": "" }))),
        ("config.host", config(json!({ "host": "a b" }))),
        ("config.host", config(json!({ "host": 7 }))),
        ("config.port", config(json!({ "port": 0 }))),
        ("config.port", config(json!({ "port": 65536 }))),
        ("config.port", config(json!({ "port": "22" }))),
        ("config.username", config(json!({ "username": "" }))),
        ("config.paths", config(json!({ "paths": [] }))),
        ("config.paths", config(json!({ "paths": ["/a/../b"] }))),
        ("config.paths[0]", config(json!({ "paths": [7] }))),
        ("config.excludes", config(json!({ "excludes": "*" }))),
        ("config.host_key", config(json!({ "host_key": "MD5:0" }))),
        ("config.password", config(json!({ "password": "x" }))),
        ("config.hooks", config(json!({ "hooks": { "before": { "command": " " } } }))),
        (
            "config.hooks",
            config(json!({ "hooks": { "after": { "command": "x", "timeout_seconds": 3601 } } })),
        ),
        ("config.hooks.befor", config(json!({ "hooks": { "befor": { "command": "x" } } }))),
        ("config.hooks", direct(json!({ "hooks": { "before": { "command": "x" } } }))),
        ("config.ssh_mode", site(json!({ "ssh_mode": "direct" }))),
        ("config.paths", site(json!({ "paths": [] }))),
        ("config.default_exclude", site(json!({ "default_exclude": false }))),
        ("config", whole(json!({ "config": ["h", 22, "u", ["/srv"]] }))),
        ("config.paths", config(json!({ "paths": vec!["/a"; 1001] }))),
        ("config.paths", config(json!({ "paths": ["/".repeat(4097)] }))),
        ("config.excludes", config(json!({ "excludes": vec!["x".repeat(4000); 17] }))),
        ("config.excludes", config(json!({ "excludes": ["*.log", "["] }))),
        ("config.username", config(json!({ "username": "u".repeat(256) }))),
        ("config.paths", whole(json!({ "type": "local", "config": { "paths": ["relative"] } }))),
        ("config.host", whole(json!({ "type": "local" }))),
        ("type", whole(json!({ "type": "telnet" }))),
        ("name", whole(json!({ "name": "" }))),
        ("name", whole(json!({ "name": "a\nb" }))),
        ("read_back", whole(json!({ "read_back": "some" }))),
        ("credential_id", whole(json!({ "credential_id": "a b" }))),
        ("colour", whole(json!({ "colour": "red" }))),
    ];
    for (field, body) in cases {
        let error = acme.admin.post("/api/v1/sources", body.clone()).await.refused(422, "invalid_field");
        assert_eq!(error["details"], json!({ "field": field }), "{body}: {error}");
        assert!(error.to_string().len() < 500, "{error}");
    }
    acme.admin
        .post("/api/v1/sources", whole(json!({ "credential_id": "none" })))
        .await
        .refused(404, "not_found");
    let storage = json!({ "kind": "storage", "plaintext": "eHg=" });
    let storage = acme.admin.post("/api/v1/credentials", storage).await.expect(201);
    let error = acme.admin.post("/api/v1/sources", whole(json!({ "credential_id": storage["id"] }))).await;
    assert_eq!(error.refused(422, "invalid_field")["details"]["field"], "credential_id");
    assert_eq!(acme.member.get("/api/v1/sources").await.expect(200)["sources"], json!([]));
}

async fn a_test_waits_for_its_worker(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/sources/{source}/test");
    let pending = acme.member.post(&format!("{path}?wait_seconds=0"), json!({})).await.expect(200);
    assert_eq!((&pending["status"], &pending["probe"]), (&json!("queued"), &Value::Null));
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let probe = json!({
        "server": "SSH-2.0-test", "host_key": "SHA256:abc", "logged_in": true,
        "paths": [{ "path": "/home/web", "kind": "directory", "error": null }], "notes": ["no remote tar"],
    });
    let job = worker.claim(&text(&pending["job_id"])).await;
    worker.complete(&job, json!({ "type": "probe", "probe": probe })).await;
    let job = acme.member.get(&format!("/api/v1/jobs/{}", job.job_id)).await.expect(200);
    assert_eq!((&job["type"], &job["status"], &job["probe"]), (&json!("probe"), &json!("completed"), &probe));
    let (answer, ()) = tokio::join!(acme.member.post(&path, json!({})), async {
        let job = loop {
            let list = acme.member.get("/api/v1/jobs?status=queued&type=probe").await.expect(200);
            if let Some(job) = list["jobs"].get(0) {
                break text(&job["id"]);
            }
        };
        let job = worker.claim(&job).await;
        worker.fail(&job, "authentication_failed", "the server refuses the password").await;
    });
    let answer = answer.expect(200);
    assert_eq!(
        (&answer["status"], &answer["error"]["code"]),
        (&json!("failed"), &json!("authentication_failed")),
        "{answer}"
    );
    for bad in ["31", "-1", "x", ""] {
        let path = format!("{path}?wait_seconds={bad}");
        acme.member.post(&path, json!({})).await.refused(400, "bad_request");
    }
}

async fn a_local_source_needs_a_worker_that_may(world: World) {
    let acme = world.tenant("acme").await;
    let source = local_source(&world, &acme).await;
    let job = json!({ "source_id": source });
    acme.member.post("/api/v1/jobs", job.clone()).await.refused(409, "no_worker");
    acme.member.post(&format!("/api/v1/sources/{source}/test"), json!({})).await.refused(409, "no_worker");
    FakeWorker::join(&world, "w1", &["local"]).await;
    let made = acme.member.post("/api/v1/jobs", job).await.expect(201);
    assert_eq!(made["target_worker_id"], "w1");
    // Each of two has a disk of its own.
    FakeWorker::join(&world, "w2", &["local"]).await;
    let path = format!("/api/v1/sources/{source}/test");
    let refused = acme.member.post(&path, json!({})).await.refused(409, "no_worker");
    assert!(text(&refused["error"]).contains("several workers"), "{refused}");
}

/// What a worker's disk holds is not a tenant's to choose: else one could back up the other's files, and export its own identity
/// to read them.
async fn only_operators_say_which_directories_of_a_worker_are_read(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let worker = FakeWorker::join(&world, "w1", &["local"]).await;
    let own = local_source(&world, &acme).await;
    let foreign = json!({ "type": "local", "name": "theirs", "config": { "paths": ["/srv/acme"] } });
    for caller in [&umbrella.admin, &umbrella.owner, &umbrella.member] {
        caller.post("/api/v1/sources", foreign.clone()).await.refused(403, "forbidden");
    }
    let key = json!({ "name": "k", "role": "owner" });
    let key = text(&umbrella.owner.post("/api/v1/api-keys", key).await.expect(201)["key"]);
    let key = world.nobody().with_token(&key);
    let answer = key.post("/api/v1/sources", foreign.clone()).await.refused(403, "forbidden");
    assert!(text(&answer["error"]).contains("operators"), "{answer}");
    assert_eq!(umbrella.owner.get("/api/v1/sources").await.expect(200)["sources"], json!([]));

    let path = format!("/api/v1/sources/{own}");
    let elsewhere = json!({ "config": { "paths": ["/srv/umbrella"] } });
    umbrella.owner.put(&path, elsewhere.clone()).await.refused(404, "not_found");
    for change in [elsewhere.clone(), json!({ "name": "x" })] {
        acme.owner.put(&path, change).await.refused(403, "forbidden");
    }
    let seen = acme.member.get(&path).await.expect(200);
    assert_eq!((&seen["config"], &seen["name"]), (&json!({ "paths": ["/srv"] }), &json!("disk")));
    // Running and reading it is the tenant's own.
    worker.back_up(&enqueue(&acme.member, &own).await).await;
    acme.admin.post(&format!("{path}/disable"), json!({})).await.expect(200);
    let moved = world.operator.put(&path, elsewhere).await.expect(200);
    assert_eq!(moved["config"], json!({ "paths": ["/srv/umbrella"] }));
    acme.admin.delete(&path).await.expect(204);
}

/// An admin who points a credential at a server of their own reads it there: that can be seen.
async fn where_a_credential_goes_is_written_down(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let key = format!("SHA256:{}", "a".repeat(43));
    let config = json!({ "host": "evil.example", "username": "x", "paths": ["/"], "host_key": key });
    acme.admin.put(&format!("/api/v1/sources/{source}"), json!({ "config": config })).await.expect(200);
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let job = worker.claim(&enqueue(&acme.member, &source).await).await;
    let page = acme.admin.get("/api/v1/audit-events?limit=4").await.expect(200);
    let events = page["audit_events"].as_array().unwrap();
    let by = |action: &str| events.iter().find(|event| event["action"] == action).unwrap();
    let (update, release) = (by("source.update"), by("credential.release"));
    let target = |address: &str, host_key: Value| json!({ "address": address, "host_key": host_key, "credential_id": credential });
    let evil = target("ssh://x@evil.example:22/", json!(key));
    assert_eq!(update["details"]["target"], evil);
    let before = target("ssh://web@h.example:22/home/web", Value::Null);
    assert_eq!(update["details"]["target_before"], before);
    assert_eq!((&release["actor_type"], &release["actor_id"]), (&json!("worker"), &json!("w1")));
    assert_eq!((&release["target_id"], &release["tenant_id"]), (&json!(credential), &json!(acme.id)));
    let details = json!({ "job_id": job.job_id, "source_id": source, "target": evil });
    assert_eq!(release["details"], details);
    assert!(!page.to_string().contains("test-pass"), "{page}");
    // Without a credential there is nothing to tell.
    let body = json!({ "config": { "host": "h", "username": "x", "paths": ["/"] }, "credential_id": null });
    worker.fail(&job, "x", "y").await;
    acme.admin.put(&format!("/api/v1/sources/{source}"), body).await.expect(200);
    worker.claim(&enqueue(&acme.member, &source).await).await;
    let page = acme.admin.get("/api/v1/audit-events?limit=1").await.expect(200);
    assert_eq!(page["audit_events"][0]["action"], "job.enqueue");
}

async fn a_credential_is_there_where_one_logs_in(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/sources/{source}");
    let pinned = |kind: &str| {
        let key = format!("SHA256:{}", "a".repeat(43));
        let config = json!({ "host": "h", "username": "web", "paths": ["/srv"], "host_key": key });
        json!({ "type": kind, "name": "server", "config": config })
    };
    let refused = |answer: Answer| {
        assert_eq!(answer.refused(422, "invalid_field")["details"]["field"], "credential_id");
    };
    for kind in ["ssh", "sftp", "wordpress"] {
        refused(acme.admin.post("/api/v1/sources", pinned(kind)).await);
        let mut with_credential = pinned(kind);
        with_credential["credential_id"] = json!(credential);
        acme.admin.post("/api/v1/sources", with_credential).await.expect(201);
    }
    let ftp = |use_password: bool| {
        let config =
            json!({ "host": "h", "username": "web", "paths": ["/srv"], "use_password": use_password });
        json!({ "type": "ftp", "name": "files", "config": config })
    };
    refused(acme.admin.post("/api/v1/sources", ftp(true)).await);
    acme.admin.post("/api/v1/sources", ftp(false)).await.expect(201);
    acme.admin.put(&path, json!({ "config": pinned("ssh")["config"] })).await.expect(200);
    refused(acme.admin.put(&path, json!({ "credential_id": null })).await);
    assert_eq!(acme.admin.get(&path).await.expect(200)["credential_id"], json!(credential));
    let config = json!({ "paths": ["/srv"] });
    let local = json!({
        "tenant_id": acme.id, "type": "local", "name": "disk", "config": config, "credential_id": credential,
    });
    refused(world.operator.post("/api/v1/sources", local).await);
}

async fn every_deed_is_written_down(world: World) {
    let acme = world.tenant("acme").await;
    let (credential, source) = ssh_source(&acme.admin).await;
    let path = format!("/api/v1/sources/{source}");
    let job = enqueue(&acme.member, &source).await;
    acme.member.post(&format!("/api/v1/jobs/{job}/cancel"), json!({})).await.expect(200);
    acme.member.post(&format!("/api/v1/jobs/{job}/retry"), json!({})).await.expect(200);
    acme.member.post(&format!("/api/v1/jobs/{job}/cancel"), json!({})).await.expect(200);
    acme.admin.post(&format!("{path}/disable"), json!({})).await.expect(200);
    acme.admin.post(&format!("{path}/enable"), json!({})).await.expect(200);
    acme.admin.put(&path, json!({ "name": "renamed" })).await.expect(200);
    let credential = format!("/api/v1/credentials/{credential}");
    acme.admin
        .post(&format!("{credential}/rotate"), json!({ "plaintext": "b3RoZXItcGFzcw==" }))
        .await
        .expect(200);
    acme.admin.delete(&path).await.expect(204);
    acme.admin.delete(&credential).await.expect(204);
    let page = acme.admin.get("/api/v1/audit-events?limit=12").await.expect(200);
    let events = page["audit_events"].as_array().unwrap();
    let told: Vec<_> = events.iter().rev().map(|event| text(&event["action"])).collect();
    let expected = [
        "credential.create",
        "source.create",
        "job.enqueue",
        "job.cancel",
        "job.retry",
        "job.cancel",
        "source.disable",
        "source.enable",
        "source.update",
        "credential.rotate",
        "source.delete",
        "credential.delete",
    ];
    assert_eq!(told, expected);
    for event in events {
        let by = if text(&event["action"]).starts_with("job.") { &acme.member } else { &acme.admin };
        assert_eq!(
            (&event["actor_type"], &event["actor_id"]),
            (&json!("user"), &json!(by.user_id)),
            "{event}"
        );
        assert_eq!((&event["tenant_id"], &event["ip"]), (&json!(acme.id), &json!("127.0.0.1")));
    }
    assert_eq!((&events[3]["target_id"], &events[3]["details"]["name"]), (&json!(source), &json!("renamed")));
    // Where the credential went, and where it goes now.
    let created = &events[10]["details"];
    let (address, host_key) = ("ssh://web@h.example:22/home/web", Value::Null);
    assert_eq!((&created["target"]["address"], &created["target"]["host_key"]), (&json!(address), &host_key));
    assert_eq!(events[3]["details"]["target_before"]["address"], json!(address));
    // What is run there with it.
    let config =
        json!({ "host": "h", "username": "u", "paths": ["/"], "hooks": { "before": { "command": "sync" } } });
    let hooked = json!({ "type": "ssh", "name": "hooked", "config": config });
    acme.admin.post("/api/v1/sources", hooked).await.expect(201);
    let last = acme.admin.get("/api/v1/audit-events?limit=1").await.expect(200);
    let hooks = &last["audit_events"][0]["details"]["target"]["hooks"];
    assert_eq!(hooks["before"]["command"], "sync", "{last}");
    for secret in ["test-pass", "dGVzdC1wYXNz", "other-pass", "b3RoZXItcGFzcw"] {
        assert!(!page.to_string().contains(secret), "{page}");
    }
}

on_both_engines!(
    every_deed_is_written_down,
    a_source_is_saved_with_all_its_settings,
    a_change_leaves_the_rest,
    a_disabled_source_is_not_backed_up,
    a_deleted_source_leaves_its_snapshots,
    bad_sources_are_refused_by_field,
    a_test_waits_for_its_worker,
    a_local_source_needs_a_worker_that_may,
    only_operators_say_which_directories_of_a_worker_are_read,
    a_credential_is_there_where_one_logs_in,
    where_a_credential_goes_is_written_down,
);
