//! `/api/v1/jobs` as people see them, and snapshots that come of them.

use serde_json::{Value, json};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{World, text};

async fn a_backup_is_asked_for_and_done(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    // As the seed's curl line does it.
    let path = format!("/api/v1/jobs?tenant_id={}", acme.id);
    let made = world.operator.post(&path, json!({ "source_id": source })).await.expect(201);
    assert_eq!(
        (&made["type"], &made["status"], &made["source_id"], &made["tenant_id"], &made["attempt"]),
        (&json!("backup"), &json!("queued"), &json!(source), &json!(acme.id), &json!(0))
    );
    let busy =
        acme.member.post("/api/v1/jobs", json!({ "source_id": source })).await.refused(409, "source_busy");
    assert_eq!(busy["details"]["job_id"], made["id"]);
    let path = format!("/api/v1/jobs/{}", text(&made["id"]));
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let snapshot = worker.back_up(&text(&made["id"])).await;
    let done = acme.member.get(&path).await.expect(200);
    assert_eq!(
        (&done["status"], &done["worker_id"], &done["snapshot_id"], &done["attempt"], &done["error_code"]),
        (&json!("completed"), &json!("w1"), &json!(snapshot), &json!(1), &Value::Null)
    );
    assert!(done["started_at"].is_string() && done["finished_at"].is_string(), "{done}");
    acme.member.post(&format!("{path}/cancel"), json!({})).await.refused(409, "job_finished");
    acme.member.post(&format!("{path}/retry"), json!({})).await.refused(409, "not_retriable");

    let one = acme.member.get(&format!("/api/v1/snapshots/{snapshot}")).await.expect(200);
    assert_eq!(
        (&one["storage_backend"], &one["worker_id"], &one["status"], &one["job_id"], &one["source_id"]),
        (&json!("local_fs"), &json!("w1"), &json!("completed"), &made["id"], &json!(source))
    );
    let tail = format!("tenants/{}/sources/{source}/snapshots/{snapshot}", acme.id);
    assert!(text(&one["local_path"]).ends_with(&tail), "{one}");
    assert_eq!(one["manifest"]["snapshot_id"], json!(snapshot));
    assert_eq!((&one["size_bytes"], &one["manifest"]["size_bytes"]), (&json!(8), &json!(8)));
    let mut listed = one;
    // Told of one snapshot, not of each in a list.
    for told in ["manifest", "locators"] {
        assert!(listed.as_object_mut().unwrap().remove(told).is_some(), "{told}");
    }
    for path in ["/api/v1/snapshots".to_owned(), format!("/api/v1/sources/{source}/snapshots")] {
        let list = acme.member.get(&path).await.expect(200);
        assert_eq!(list, json!({ "snapshots": [listed], "next_cursor": null }));
    }
}

async fn a_failed_job_tells_why_and_can_be_retried(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let path = format!("/api/v1/jobs/{id}");
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let job = worker.claim(&id).await;
    worker.progress(&job, "backup", 42).await;
    let running = acme.member.get(&path).await.expect(200);
    assert_eq!(
        (&running["status"], &running["progress"]["bytes"], &running["snapshot_id"]),
        (&json!("running"), &json!(42), &Value::Null)
    );
    worker.fail(&job, "unknown_host_key", "pin SHA256:abc").await;
    let failed = acme.member.get(&path).await.expect(200);
    assert_eq!(
        (&failed["status"], &failed["error_code"], &failed["error_message"], &failed["snapshot_id"]),
        (&json!("failed"), &json!("unknown_host_key"), &json!("pin SHA256:abc"), &Value::Null)
    );
    let again = acme.member.post(&format!("{path}/retry"), json!({})).await.expect(200);
    assert_eq!((&again["status"], &again["error_code"]), (&json!("queued"), &Value::Null));
    let canceled = acme.member.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    assert_eq!(canceled["status"], "canceled");
    acme.member.post(&format!("{path}/cancel"), json!({})).await.refused(409, "job_finished");
}

async fn jobs_of_a_disabled_tenant_do_not_run(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let (_, other) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let running = worker.claim(&enqueue(&acme.member, &other).await).await;
    let backup = enqueue(&acme.member, &source).await;
    let probe = json!({ "source_id": source, "type": "probe" });
    let probe = text(&acme.member.post("/api/v1/jobs", probe).await.expect(201)["id"]);
    let set = async |status: &str| {
        let path = format!("/api/v1/tenants/{}", acme.id);
        world.operator.put(&path, json!({ "status": status })).await.expect(200);
    };
    set("disabled").await;

    // What was queued fails when its turn comes, and no secret leaves the hub for it.
    for claim in [json!({ "job_id": backup }), json!({})] {
        let answer = worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
        assert_eq!(answer["outcome"], "nothing", "{answer}");
    }
    for id in [&backup, &probe] {
        let job = world.operator.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
        assert_eq!((&job["status"], &job["error_code"]), (&json!("failed"), &json!("disabled")), "{job}");
    }
    let events = world.operator.get("/api/v1/audit-events?limit=200").await.expect(200);
    let released = events["audit_events"].as_array().unwrap().iter();
    let released: Vec<_> = released.filter(|event| event["action"] == "credential.release").collect();
    assert!(released.len() == 1 && released[0]["details"]["source_id"] == json!(other), "{released:?}");

    // New ones are refused, whoever asks.
    let ask = json!({ "source_id": source });
    acme.member.post("/api/v1/jobs", ask.clone()).await.refused(403, "tenant_disabled");
    for (path, body) in [
        (format!("/api/v1/jobs?tenant_id={}", acme.id), ask),
        (format!("/api/v1/sources/{source}/test"), json!({})),
        (format!("/api/v1/jobs/{backup}/retry"), json!({})),
    ] {
        world.operator.post(&path, body).await.refused(409, "tenant_disabled");
    }

    // What ran already may end, and with the tenant everything is back.
    worker.say(&running, "renew", json!({})).await.expect(200);
    set("active").await;
    acme.member.post(&format!("/api/v1/jobs/{backup}/retry"), json!({})).await.expect(200);
    worker.back_up(&backup).await;
}

async fn lists_are_filtered(world: World) {
    let acme = world.tenant("acme").await;
    let (_, first) = ssh_source(&acme.admin).await;
    let (_, second) = ssh_source(&acme.admin).await;
    let (a, b) = (enqueue(&acme.member, &first).await, enqueue(&acme.member, &second).await);
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let snapshot = worker.back_up(&a).await;
    let probe = json!({ "source_id": first, "type": "probe" });
    let c = text(&acme.member.post("/api/v1/jobs", probe).await.expect(201)["id"]);
    let cases = [
        (String::new(), vec![&c, &b, &a]),
        ("?status=queued".to_owned(), vec![&c, &b]),
        ("?status=completed".to_owned(), vec![&a]),
        ("?type=probe".to_owned(), vec![&c]),
        (format!("?source_id={first}"), vec![&c, &a]),
        (format!("?source_id={first}&type=backup&status=completed"), vec![&a]),
        (format!("?source_id={second}&type=probe"), vec![]),
        (format!("?tenant_id={}&limit=1", acme.id), vec![&c]),
    ];
    for (query, expected) in cases {
        for (caller, path) in [(&acme.member, "/api/v1/jobs"), (&world.operator, "/api/v1/admin/jobs")] {
            let list = caller.get(&format!("{path}{query}")).await.expect(200);
            let ids: Vec<_> = list["jobs"].as_array().unwrap().iter().map(|job| text(&job["id"])).collect();
            assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{path}{query}");
        }
    }
    let cases = [
        (format!("?source_id={first}"), 1),
        (format!("?source_id={second}"), 0),
        ("?status=completed".to_owned(), 1),
        ("?status=partial".to_owned(), 0),
        (format!("?source_id={first}&status=deleting"), 0),
    ];
    for (query, expected) in cases {
        for (caller, path) in
            [(&acme.member, "/api/v1/snapshots"), (&world.operator, "/api/v1/admin/snapshots")]
        {
            let list = caller.get(&format!("{path}{query}")).await.expect(200);
            let list = list["snapshots"].as_array().unwrap();
            assert_eq!(list.len(), expected, "{path}{query}");
            assert!(list.iter().all(|one| one["id"] == json!(snapshot)));
        }
    }
    let bad = [
        "status=done",
        "type=x",
        "source_id=a%20b",
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=!",
        "colour=red",
    ];
    for bad in bad {
        acme.member.get(&format!("/api/v1/jobs?{bad}")).await.refused(400, "bad_request");
        let snapshots = bad.replace("type=x", "status=x");
        acme.member.get(&format!("/api/v1/snapshots?{snapshots}")).await.refused(400, "bad_request");
    }
}

async fn bad_jobs_are_refused(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let cases = [
        ("source_id", json!({})),
        ("source_id", json!({ "source_id": 7 })),
        ("source_id", json!({ "source_id": "a/b" })),
        ("type", json!({ "source_id": source, "type": "restore" })),
        ("tenant_id", json!({ "source_id": source, "tenant_id": "" })),
        ("colour", json!({ "source_id": source, "colour": 1 })),
    ];
    for (field, body) in cases {
        let error = acme.member.post("/api/v1/jobs", body).await.refused(422, "invalid_field");
        assert_eq!(error["details"]["field"], field, "{error}");
    }
    let good = json!({ "source_id": source });
    acme.member.post("/api/v1/jobs", json!({ "source_id": "none" })).await.refused(404, "not_found");
    world.operator.post("/api/v1/jobs", good.clone()).await.refused(400, "bad_request");
    let path = format!("/api/v1/jobs?tenant_id={}", acme.id);
    let other = json!({ "source_id": source, "tenant_id": "other" });
    world.operator.post(&path, other).await.refused(400, "bad_request");
    acme.member.post("/api/v1/jobs?colour=red", good).await.refused(400, "bad_request");
    assert_eq!(acme.member.get("/api/v1/jobs").await.expect(200)["jobs"], json!([]));
}

async fn logs_are_read_in_order_and_in_pages(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let job = worker.claim(&id).await;
    worker.log(&job, 0..150).await;
    worker.log(&job, 100..256).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/jobs/{id}/logs?limit=100{cursor}");
        let page = acme.member.get(&path).await.expect(200);
        seen.extend(page["logs"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let numbers: Vec<_> = seen.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..256).collect::<Vec<_>>());
    let third =
        json!({ "run": 1, "seq": 2, "time": "2026-11-24T10:00:00Z", "level": "warn", "message": "line 2" });
    assert_eq!(seen[2], third);
    for bad in ["limit=0", "limit=1001", "cursor=x", "cursor=", "tenant_id=a"] {
        acme.member.get(&format!("/api/v1/jobs/{id}/logs?{bad}")).await.refused(400, "bad_request");
    }
}

async fn every_run_of_a_job_keeps_its_own_lines(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let id = enqueue(&acme.member, &source).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    // Handed back, then failed, then tried again by a person: three runs, whose lines all begin at 0.
    let job = worker.claim(&id).await;
    worker.log(&job, 0..2).await;
    let released = json!({ "outcome": { "status": "released", "reason": "stop" } });
    worker.say(&job, "complete", released).await.expect(200);
    let job = worker.claim(&id).await;
    worker.log(&job, 0..2).await;
    worker.fail(&job, "x", "y").await;
    acme.member.post(&format!("/api/v1/jobs/{id}/retry"), json!({})).await.expect(200);
    let job = worker.claim(&id).await;
    worker.log(&job, 0..2).await;
    let logs = acme.member.get(&format!("/api/v1/jobs/{id}/logs")).await.expect(200);
    let seen: Vec<_> =
        logs["logs"].as_array().unwrap().iter().map(|line| (&line["run"], &line["seq"])).collect();
    let expected =
        [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)].map(|(run, seq)| (json!(run), json!(seq)));
    assert_eq!(seen, expected.iter().map(|(run, seq)| (run, seq)).collect::<Vec<_>>());
    let job = acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
    assert_eq!((&job["attempt"], &job["runs"]), (&json!(1), &json!(3)));
}

on_both_engines!(
    every_run_of_a_job_keeps_its_own_lines,
    a_backup_is_asked_for_and_done,
    a_failed_job_tells_why_and_can_be_retried,
    jobs_of_a_disabled_tenant_do_not_run,
    lists_are_filtered,
    bad_jobs_are_refused,
    logs_are_read_in_order_and_in_pages,
);
