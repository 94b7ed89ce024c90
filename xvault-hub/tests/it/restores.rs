//! Restore jobs: where they run, what they answer, and who may ask for one.

use serde_json::{Value, json};
use xvault_core::Overwrite;
use xvault_core::protocol::{RestoreTarget, Task};

use crate::downloads::{Stage, token};
use crate::fake_worker::FakeWorker;
use crate::world::text;

async fn job(stage: &Stage, id: &str) -> Value {
    stage.acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
}

async fn a_restore_by_the_backup_job_runs_where_the_snapshot_lies_and_ends_in_a_link(stage: Stage) {
    let path = format!("/api/v1/jobs/{}/restore", stage.backup_job);
    let body = json!({ "paths": ["/home/web", "srv/x"], "format": "zip", "target": { "type": "download", "once": true } });
    let made = stage.acme.member.post(&path, body).await.expect(201);
    assert_eq!((&made["type"], &made["status"]), (&json!("restore"), &json!("queued")), "{made}");
    assert_eq!(
        (&made["snapshot_id"], &made["target_worker_id"], &made["note"]),
        (&json!(stage.snapshot), &json!("w1"), &Value::Null)
    );
    let id = text(&made["id"]);
    let assignment = stage.worker.claim(&id).await;
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    assert_eq!(
        (&task.target, &task.paths[..]),
        (&RestoreTarget::Check, &["home/web".to_owned(), "srv/x".to_owned()][..])
    );
    assert_eq!(job(&stage, &id).await["download"], Value::Null);
    let report = json!({ "entries": 9, "files": 7, "bytes": 7000 });
    stage.worker.complete(&assignment, json!({ "type": "restore", "report": report })).await;

    let done = job(&stage, &id).await;
    assert_eq!((&done["status"], &done["restore"]["files"]), (&json!("completed"), &json!(7)), "{done}");
    let link = done["download"].clone();
    assert!(text(&link["url"]).ends_with(".zip") && link["single_use"] == true, "{link}");
    assert_eq!(job(&stage, &id).await["download"], link, "it is the same link each time");
    let open = json!({ "token": token(&link) });
    let opened = stage.worker.caller.post("/internal/downloads/open", open).await.expect(200);
    assert_eq!(opened["body"]["assignment"]["task"]["paths"], json!(["home/web", "srv/x"]));
    assert_eq!(job(&stage, &id).await["download"], Value::Null, "a link that was used up is not shown");
    let jobs = stage.acme.member.get("/api/v1/jobs?type=restore").await.expect(200);
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2);
}

async fn a_restore_waits_for_its_worker_and_says_so(stage: Stage) {
    stage.world.execute("UPDATE workers SET status = 'offline'").await;
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    let made = stage.acme.member.post(&path, json!({})).await.expect(201);
    assert!(text(&made["note"]).contains("worker w1") && made["status"] == "queued", "{made}");
}

async fn only_a_backup_that_is_done_can_be_restored(stage: Stage) {
    let queued = crate::fake_worker::enqueue(&stage.acme.member, &stage.source).await;
    let path = format!("/api/v1/jobs/{queued}/restore");
    stage.acme.member.post(&path, json!({})).await.refused(409, "no_snapshot");
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    for (body, field) in [
        (json!({ "paths": ["../x"] }), "paths"),
        (json!({ "target": { "type": "cloud" } }), "target"),
        (json!({ "format": "rar" }), "format"),
        (json!({ "pathes": [] }), "pathes"),
    ] {
        let answer = stage.acme.member.post(&path, body).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert!(answer.body["error"].as_str().unwrap().contains(field), "{}", answer.body);
    }
}

async fn a_result_of_another_kind_is_not_taken(stage: Stage) {
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    let made = stage.acme.member.post(&path, json!({})).await.expect(201);
    let assignment = stage.worker.claim(&text(&made["id"])).await;
    let outcome = json!({ "status": "completed", "result": { "type": "delete_snapshot" } });
    let said = stage.worker.say(&assignment, "complete", json!({ "outcome": outcome })).await;
    said.refused(422, "invalid_field");
}

/// As it is asked for: to `/srv/restored` of a server.
fn to_server(change: &Value) -> Value {
    let mut target = json!({ "type": "server", "path": "/srv/restored" });
    target.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({ "target": target })
}

fn host_key() -> String {
    format!("SHA256:{}", "a".repeat(43))
}

/// The server proves itself with a key that is known from now on.
async fn pin(stage: &Stage, source: &str) {
    let config = json!({
        "host": "h.example", "port": 22, "username": "web", "paths": ["/home/web"], "use_password": true,
        "host_key": host_key(),
    });
    let path = format!("/api/v1/sources/{source}");
    stage.acme.admin.put(&path, json!({ "config": config })).await.expect(200);
}

async fn a_restore_to_a_server_gives_its_worker_the_servers_credential(stage: Stage) {
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    stage.acme.member.post(&path, to_server(&json!({}))).await.refused(409, "host_key_not_pinned");
    pin(&stage, &stage.source).await;
    let made =
        stage.acme.member.post(&path, to_server(&json!({ "overwrite": "if_changed" }))).await.expect(201);
    let id = text(&made["id"]);
    let assignment = stage.worker.claim(&id).await;
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    let RestoreTarget::Server { server, credential: Some(credential), directory, overwrite } = &task.target
    else {
        panic!("{task:?}")
    };
    assert_eq!(server.host_key, Some(host_key()));
    assert_eq!((directory.as_str(), *overwrite), ("/srv/restored", Overwrite::IfChanged));
    credential.open(&stage.worker.identity).unwrap();
    let events = stage.acme.admin.get("/api/v1/audit-events?action=credential.release").await.expect(200);
    let of_job = |event: &&Value| event["details"]["job_id"] == json!(id);
    let events = events["audit_events"].as_array().unwrap().iter().filter(of_job).count();
    assert_eq!(events, 1, "that the worker has the credential is written down");
    let report = json!({ "entries": 9, "files": 7, "bytes": 7000, "skipped": 2 });
    stage.worker.complete(&assignment, json!({ "type": "restore", "report": report })).await;
    let done = job(&stage, &id).await;
    assert_eq!((&done["restore"]["skipped"], &done["download"]), (&json!(2), &Value::Null), "{done}");
}

async fn what_is_wrong_with_a_server_is_said_at_once(stage: Stage) {
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    let post = async |body: Value| stage.acme.member.post(&path, body).await;
    for bad in ["srv", "", "/a\nb"] {
        post(to_server(&json!({ "path": bad }))).await.refused(422, "invalid_field");
    }
    let mut packed = to_server(&json!({}));
    packed["format"] = json!("zip");
    post(packed).await.refused(422, "invalid_field");
    let (_, other) = crate::fake_worker::ssh_source(&stage.acme.admin).await;
    pin(&stage, &other).await;
    let to_other = to_server(&json!({ "source_id": other }));
    post(to_other.clone()).await.refused(403, "forbidden");
    stage.acme.admin.post(&path, to_other).await.expect(201);
    stage
        .acme
        .admin
        .post(&path, to_server(&json!({ "source_id": "nowhere" })))
        .await
        .refused(404, "not_found");
    let foreign = stage.world.tenant("other").await;
    let (_, foreign) = crate::fake_worker::ssh_source(&foreign.admin).await;
    stage.acme.admin.post(&path, to_server(&json!({ "source_id": foreign }))).await.refused(404, "not_found");
    let local = crate::fake_worker::local_source(&stage.world, &stage.acme).await;
    stage
        .acme
        .admin
        .post(&path, to_server(&json!({ "source_id": local })))
        .await
        .refused(422, "invalid_field");
    stage.world.execute("UPDATE sources SET status = 'deleted'").await;
    post(to_server(&json!({}))).await.refused(409, "source_gone");
}

async fn a_push_from_a_bucket_is_done_by_who_has_both_tools_and_store(stage: Stage) {
    pin(&stage, &stage.source).await;
    let store = crate::stores::bucket(&stage.acme.admin).await;
    stage.world.execute(crate::chosen_store::COPY).await;
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    let mut body = to_server(&json!({}));
    body["from_store"] = json!(store);
    let id = text(&stage.acme.member.post(&path, body).await.expect(201)["id"]);
    let join = async |id, capabilities| FakeWorker::join(&stage.world, id, capabilities).await;
    for unable in [join("w2", &["s3", "postgres"]).await, join("w3", &["ssh"]).await] {
        let answer = unable.caller.post("/internal/jobs/claim", json!({ "job_id": id })).await.expect(200);
        assert_eq!(answer["outcome"], "nothing", "{answer}");
    }
    join("w4", &["ssh", "s3"]).await.claim(&id).await;
}

async fn a_damaged_snapshot_is_restored_only_by_who_says_so(stage: Stage) {
    stage.world.execute("UPDATE snapshots SET damaged_at = 1, damage = 'torn', damage_depth = 'deep'").await;
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    stage.acme.member.post(&path, json!({})).await.refused(409, "damaged");
    stage.acme.member.post(&path, json!({ "accept_damaged": true })).await.expect(201);
}

/// Whoever asks for the retry must be allowed what the job does, and what it needs must be there now.
async fn a_retry_is_a_new_wish_of_whoever_asks_for_it(stage: Stage) {
    pin(&stage, &stage.source).await;
    let (_, other) = crate::fake_worker::ssh_source(&stage.acme.admin).await;
    pin(&stage, &other).await;
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    let to_other = to_server(&json!({ "source_id": other }));
    let id = text(&stage.acme.admin.post(&path, to_other).await.expect(201)["id"]);
    let (cancel, retry) = (format!("/api/v1/jobs/{id}/cancel"), format!("/api/v1/jobs/{id}/retry"));
    stage.acme.member.post(&cancel, json!({})).await.expect(200);
    stage.acme.member.post(&retry, json!({})).await.refused(403, "forbidden");
    stage.acme.admin.post(&retry, json!({})).await.expect(200);
    stage.acme.admin.post(&cancel, json!({})).await.expect(200);
    for (broken, whole, code) in [
        (
            "UPDATE snapshots SET damaged_at = 1, damage = 'torn', damage_depth = 'deep'",
            "UPDATE snapshots SET damaged_at = NULL, damage = NULL, damage_depth = NULL",
            "damaged",
        ),
        (
            "UPDATE tenant_keys SET key_status = 'disabled'",
            "UPDATE tenant_keys SET key_status = 'active'",
            "no_identity",
        ),
    ] {
        stage.world.execute(broken).await;
        stage.acme.admin.post(&retry, json!({})).await.refused(409, code);
        stage.world.execute(whole).await;
    }
    let unpinned =
        json!({ "host": "h.example", "username": "web", "paths": ["/home/web"], "use_password": true });
    let path = format!("/api/v1/sources/{other}");
    stage.acme.admin.put(&path, json!({ "config": unpinned })).await.expect(200);
    stage.acme.admin.post(&retry, json!({})).await.refused(409, "host_key_not_pinned");
    assert_eq!(job(&stage, &id).await["status"], "canceled", "what was refused has changed nothing");
    pin(&stage, &other).await;
    stage.acme.admin.post(&retry, json!({})).await.expect(200);
}

async fn who_has_accepted_the_damage_need_not_say_so_again(stage: Stage) {
    stage.world.execute("UPDATE snapshots SET damaged_at = 1, damage = 'torn', damage_depth = 'deep'").await;
    let path = format!("/api/v1/snapshots/{}/restore", stage.snapshot);
    let made = stage.acme.member.post(&path, json!({ "accept_damaged": true })).await.expect(201);
    let path = format!("/api/v1/jobs/{}", text(&made["id"]));
    stage.acme.member.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    stage.acme.member.post(&format!("{path}/retry"), json!({})).await.expect(200);
}

on_both_engines!(crate::downloads::Stage::set =>
    a_retry_is_a_new_wish_of_whoever_asks_for_it,
    who_has_accepted_the_damage_need_not_say_so_again,
    a_restore_to_a_server_gives_its_worker_the_servers_credential,
    what_is_wrong_with_a_server_is_said_at_once,
    a_push_from_a_bucket_is_done_by_who_has_both_tools_and_store,
    a_damaged_snapshot_is_restored_only_by_who_says_so,
    a_restore_by_the_backup_job_runs_where_the_snapshot_lies_and_ends_in_a_link,
    a_restore_waits_for_its_worker_and_says_so,
    only_a_backup_that_is_done_can_be_restored,
    a_result_of_another_kind_is_not_taken,
);
