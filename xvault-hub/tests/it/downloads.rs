//! Links to downloads: who gets one, what it gives, and when it gives nothing any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use xvault_core::protocol::{DownloadBody, OpenedDownload, RestoreTarget, StoredFile, Task};
use xvault_core::secret::ExposeSecret as _;
use xvault_core::{Identity, Recipient};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Answer, Dialect, Tenant, World, text};

/// A tenant with a snapshot on the disk of `w1`.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) acme: Tenant,
    pub(crate) worker: FakeWorker,
    pub(crate) source: String,
    pub(crate) snapshot: String,
    pub(crate) backup_job: String,
}

impl Stage {
    pub(crate) async fn set(engine: Dialect) -> Self {
        let world = World::builder(engine).manual_clock().start().await;
        let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
        let acme = world.tenant("acme").await;
        let (_, source) = ssh_source(&acme.admin).await;
        let backup_job = enqueue(&acme.member, &source).await;
        let own: Recipient = acme.public_key.parse().unwrap();
        let readable = |manifest: &mut xvault_core::Manifest| manifest.index_recipients = vec![own];
        let snapshot = worker.back_up_as(&backup_job, readable).await;
        Self { world, acme, worker, source, snapshot, backup_job }
    }

    pub(crate) async fn link(&self, query: &str) -> Value {
        self.acme.member.get(&self.path(query)).await.expect(200)
    }

    pub(crate) fn path(&self, query: &str) -> String {
        format!("/api/v1/snapshots/{}/download{query}", self.snapshot)
    }

    async fn open(&self, token: &str) -> Answer {
        self.worker.caller.post("/internal/downloads/open", json!({ "token": token })).await
    }

    async fn opened(&self, link: &Value) -> OpenedDownload {
        let answer = self.open(&token(link)).await.expect(200);
        serde_json::from_value(answer).unwrap()
    }
}

pub(crate) fn token(link: &Value) -> String {
    link["url"].as_str().unwrap().split('/').nth(4).unwrap().to_owned()
}

async fn a_link_gives_its_worker_a_job_with_the_tenants_identity(stage: Stage) {
    let link = stage.link("?format=tar.zst&path=/home/web/").await;
    let url = text(&link["url"]);
    assert!(url.starts_with("http://w1.example:8081/downloads/xvd_") && url.ends_with(".tar.zst"), "{url}");
    assert_eq!(link["command"], format!("curl -fsS '{url}' | zstd -d | tar x"));
    let opened = stage.opened(&link).await;
    assert_eq!(opened.content_type.as_deref(), Some("application/zstd"));
    assert_eq!(json!(opened.file_name), link["file_name"]);
    let DownloadBody::Restore { assignment } = opened.body else { panic!("{opened:?}") };
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    assert_eq!(task.paths, ["home/web"]);
    assert!(matches!(task.target, RestoreTarget::Archive { .. }));
    let identities = task.identities.open(&stage.worker.identity).unwrap();
    let identity: Identity = std::str::from_utf8(identities.expose_secret()).unwrap().trim().parse().unwrap();
    assert_eq!(identity.recipient().to_string(), stage.acme.public_key);

    let path = format!("/api/v1/jobs/{}", assignment.job_id);
    let job = stage.acme.member.get(&path).await.expect(200);
    assert_eq!(
        (&job["type"], &job["status"], &job["worker_id"]),
        (&json!("restore"), &json!("running"), &json!("w1"))
    );
    let report = json!({ "entries": 3, "files": 2, "bytes": 700 });
    stage.worker.complete(&assignment, json!({ "type": "restore", "report": report })).await;
    let job = stage.acme.member.get(&path).await.expect(200);
    assert_eq!((&job["status"], &job["restore"]["bytes"]), (&json!("completed"), &json!(700)));
    // Opened again, it is another job.
    assert!(matches!(stage.opened(&link).await.body, DownloadBody::Restore { .. }));

    let events = stage.acme.admin.get("/api/v1/audit-events?limit=200").await.expect(200);
    for action in ["download.create", "download.open", "identity.release"] {
        let found = events["audit_events"].as_array().unwrap().iter().any(|event| event["action"] == action);
        assert!(found, "{action}: {events}");
    }
    assert!(!events.to_string().contains(&token(&link)), "the audit log would give the download away");
}

/// On a busy machine milliseconds go by between the moment that it is opened in and the one that its job is made in: a job can't be
/// had before it was made.
async fn a_link_opens_while_the_clock_goes_on(stage: Stage) {
    let link = stage.link("").await;
    let (clock, over) = (stage.world.clock.clone(), Arc::<AtomicBool>::default());
    let is_over = over.clone();
    let ticking = std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            clock.advance(Duration::from_millis(1));
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(stage.open(&token(&link)).await);
    }
    over.store(true, Ordering::Relaxed);
    ticking.join().unwrap();
    for answer in answers {
        let opened: OpenedDownload = serde_json::from_value(answer.expect(200)).unwrap();
        assert!(matches!(opened.body, DownloadBody::Restore { .. }), "{opened:?}");
    }
}

async fn what_is_encrypted_is_given_as_it_lies_there(stage: Stage) {
    for (what, file) in [("artifact", StoredFile::Artifact), ("index", StoredFile::Index)] {
        let link = stage.link(&format!("?what={what}")).await;
        assert!(text(&link["command"]).contains("| age -d -i KEY | zstd -d"), "{link}");
        match stage.opened(&link).await.body {
            DownloadBody::Stored { file: given, snapshot, .. } => {
                assert_eq!((given, snapshot.snapshot_id.to_string()), (file, stage.snapshot.clone()));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn an_altered_or_invented_token_is_none(stage: Stage) {
    let token = token(&stage.link("").await);
    let (said, signature) = token.rsplit_once('.').unwrap();
    let (id, end) = said.split_once('.').unwrap();
    let later = end.parse::<i64>().unwrap() + 3600;
    for altered in [
        format!("{id}.{later}.{signature}"),
        format!("{}.{end}.{signature}", id.replace('0', "1")),
        format!("{said}."),
        said.to_owned(),
        "xvd_".to_owned(),
        "x".repeat(5000),
    ] {
        stage.open(&altered).await.refused(404, "not_found");
    }
    stage.open(&token).await.expect(200);
}

async fn a_link_ends_when_the_tenants_setting_says(stage: Stage) {
    let body = json!({ "tenant_id": stage.acme.id, "settings": { "download_expiration_hours": 2 } });
    stage.acme.admin.put("/api/v1/settings", body).await.expect(200);
    let link = stage.link("").await;
    stage.world.clock.advance(Duration::from_secs(2 * 3600 - 1));
    stage.open(&token(&link)).await.expect(200);
    stage.world.clock.advance(Duration::from_secs(1));
    stage.open(&token(&link)).await.refused(410, "link_expired");
    let look = json!({ "token": token(&link), "peek": true });
    stage.worker.caller.post("/internal/downloads/open", look).await.refused(410, "link_expired");
}

async fn a_link_that_is_good_for_one_use_is_used_once_and_looking_is_no_use(stage: Stage) {
    let link = stage.link("?once=true").await;
    assert_eq!(link["single_use"], true);
    let peek = json!({ "token": token(&link), "peek": true });
    for _ in 0..2 {
        let seen = stage.worker.caller.post("/internal/downloads/open", peek.clone()).await.expect(200);
        assert_eq!(seen["body"]["kind"], "peek");
    }
    let token = token(&link);
    let both = tokio::join!(stage.open(&token), stage.open(&token));
    let mut statuses = [both.0.status, both.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410]);
    stage.open(&token).await.refused(410, "link_used");
    stage.worker.caller.post("/internal/downloads/open", peek).await.refused(410, "link_used");
}

/// As when the store's service, or the database, is away for a moment.
async fn a_link_that_gave_nothing_was_not_used(stage: Stage) {
    let token = token(&stage.link("?once=true").await);
    stage.world.execute("UPDATE tenant_keys SET key_status = 'disabled'").await;
    stage.open(&token).await.refused(409, "not_readable");
    stage.world.execute("UPDATE tenant_keys SET key_status = 'active'").await;
    stage.open(&token).await.expect(200);
    stage.open(&token).await.refused(410, "link_used");
}

async fn a_deleted_snapshot_is_not_given(stage: Stage) {
    let link = stage.link("").await;
    let artifact = stage.link("?what=artifact").await;
    let path = format!("/api/v1/snapshots/{}", stage.snapshot);
    let job = text(&stage.acme.admin.delete(&path).await.expect(202)["id"]);
    for link in [&link, &artifact] {
        stage.open(&token(link)).await.refused(410, "snapshot_gone");
    }
    stage.acme.member.get(&stage.path("")).await.refused(409, "deleting");
    let job = stage.worker.claim(&job).await;
    stage.worker.complete(&job, json!({ "type": "delete_snapshot" })).await;
    stage.open(&token(&link)).await.refused(410, "snapshot_gone");
}

async fn a_running_download_keeps_its_snapshot(stage: Stage) {
    let opened = stage.opened(&stage.link("").await).await;
    let DownloadBody::Restore { assignment } = opened.body else { panic!() };
    let path = format!("/api/v1/snapshots/{}", stage.snapshot);
    let deletion = text(&stage.acme.admin.delete(&path).await.expect(202)["id"]);
    let claim = json!({ "job_id": deletion });
    let waits = stage.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert_eq!(waits["outcome"], "nothing", "{waits}");
    let report = json!({ "entries": 1, "files": 1, "bytes": 1 });
    stage.worker.complete(&assignment, json!({ "type": "restore", "report": report })).await;
    stage.worker.claim(&deletion).await;
}

async fn only_the_worker_that_has_it_gives_it(stage: Stage) {
    let link = stage.link("").await;
    let other = FakeWorker::join(&stage.world, "w2", &["ssh"]).await;
    let body = json!({ "token": token(&link) });
    other.caller.post("/internal/downloads/open", body).await.refused(409, "not_here");
}

async fn a_stranger_and_a_disabled_tenant_get_no_link(stage: Stage) {
    let umbrella = stage.world.tenant("umbrella").await;
    umbrella.owner.get(&stage.path("")).await.refused(404, "not_found");
    let link = stage.link("").await;
    let path = format!("/api/v1/tenants/{}", stage.acme.id);
    stage.world.operator.put(&path, json!({ "status": "disabled" })).await.expect(200);
    stage.world.operator.get(&stage.path("")).await.refused(409, "tenant_disabled");
    stage.open(&token(&link)).await.refused(409, "tenant_disabled");
}

async fn a_link_of_a_worker_that_is_away_is_refused_with_what_to_do(stage: Stage) {
    stage.world.execute("UPDATE workers SET status = 'offline'").await;
    let body = stage.acme.member.get(&stage.path("")).await.refused(409, "worker_offline");
    assert!(text(&body["error"]).contains("w1"), "{body}");
    stage.world.execute("UPDATE workers SET status = 'online', download_url = NULL").await;
    let body = stage.acme.member.get(&stage.path("")).await.refused(409, "no_download_address");
    assert!(text(&body["error"]).contains("WORKER_DOWNLOAD_ADDR"), "{body}");
}

async fn what_only_the_tenant_can_decrypt_is_given_encrypted_and_the_answer_says_how(stage: Stage) {
    stage.world.execute("UPDATE tenant_keys SET encrypted_private_key = NULL, kek_id = NULL").await;
    let body = stage.acme.member.get(&stage.path("")).await.refused(409, "no_identity");
    let details = &body["details"];
    assert_eq!(details["encryption_recipient"], json!(stage.acme.public_key));
    assert!(text(&details["command"]).contains("age -d -i KEY | zstd -d | tar x"), "{details}");
    let link = stage.acme.member.get(&text(&details["download"])).await.expect(200);
    assert!(matches!(stage.opened(&link).await.body, DownloadBody::Stored { .. }));
}

async fn each_bad_question_is_named(stage: Stage) {
    for (query, status) in [
        ("?format=rar", 400),
        ("?what=all", 400),
        ("?what=file", 400),
        ("?what=file&path=/", 400),
        ("?what=artifact&path=a", 400),
        ("?what=artifact&format=zip", 400),
        ("?path=../etc", 422),
        ("?path=a%00b", 422),
        ("?once=perhaps", 400),
        ("?pth=a", 400),
    ] {
        let answer = stage.acme.member.get(&stage.path(query)).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
}

async fn a_job_of_a_link_is_not_tried_again(stage: Stage) {
    let opened = stage.opened(&stage.link("").await).await;
    let DownloadBody::Restore { assignment } = opened.body else { panic!() };
    let error = json!({ "code": "client_gone", "message": "the client went away" });
    let outcome = json!({ "status": "failed", "error": error, "disposition": "transient" });
    stage.worker.say(&assignment, "complete", json!({ "outcome": outcome })).await.expect(200);
    let path = format!("/api/v1/jobs/{}", assignment.job_id);
    assert_eq!(stage.acme.member.get(&path).await.expect(200)["status"], "failed");
    stage.acme.member.post(&format!("{path}/retry"), json!({})).await.refused(409, "not_retriable");
}

on_both_engines!(crate::downloads::Stage::set =>
    a_link_gives_its_worker_a_job_with_the_tenants_identity,
    a_link_opens_while_the_clock_goes_on,
    what_is_encrypted_is_given_as_it_lies_there,
    an_altered_or_invented_token_is_none,
    a_link_ends_when_the_tenants_setting_says,
    a_link_that_is_good_for_one_use_is_used_once_and_looking_is_no_use,
    a_link_that_gave_nothing_was_not_used,
    a_deleted_snapshot_is_not_given,
    a_running_download_keeps_its_snapshot,
    only_the_worker_that_has_it_gives_it,
    a_stranger_and_a_disabled_tenant_get_no_link,
    a_link_of_a_worker_that_is_away_is_refused_with_what_to_do,
    what_only_the_tenant_can_decrypt_is_given_encrypted_and_the_answer_says_how,
    each_bad_question_is_named,
    a_job_of_a_link_is_not_tried_again,
);
