//! Looking into snapshots: what a worker is told, who is answered what, and that nothing of it stays.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use xvault_core::Recipient;
use xvault_core::protocol::{Assignment, BrowseTask, JobMessage, QueueName, Task};
use xvault_core::secret::ExposeSecret as _;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Answer, Tenant, World, text};

/// A tenant with a snapshot on a worker's disk.
struct Scene {
    world: World,
    acme: Tenant,
    worker: FakeWorker,
    messages: Receiver<JobMessage>,
    snapshot: String,
}

impl Scene {
    async fn of(world: World) -> Self {
        let acme = world.tenant("acme").await;
        let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
        let snapshot = snapshot(&acme, &worker, &acme.public_key).await;
        let messages = world.queue.receiver(&QueueName::Quick("w1".parse().unwrap())).unwrap();
        Self { world, acme, worker, messages, snapshot }
    }

    fn entries(&self, query: &str) -> String {
        format!("/api/v1/snapshots/{}/entries?{query}", self.snapshot)
    }

    /// Takes the job that the next message is about.
    async fn take(&mut self) -> (Assignment, BrowseTask) {
        let message = self.messages.recv().await.unwrap();
        let job = self.worker.claim(message.job_id.as_str()).await;
        let Task::Browse(task) = job.task.clone() else { panic!("{:?}", job.task) };
        (job, *task)
    }

    /// Asks, and has the worker say that.
    async fn asked(&mut self, path: &str, found: Value) -> (Answer, BrowseTask) {
        let member = self.acme.member.clone();
        let asking = async { member.get(path).await };
        let doing = async {
            let (job, task) = self.take().await;
            self.worker.complete(&job, json!({ "type": "browse", "found": found })).await;
            task
        };
        tokio::join!(asking, doing)
    }

    async fn jobs_left(&self) -> i64 {
        let sql = self.world.database.sql().await;
        sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE type = 'browse'").fetch_one(&sql).await.unwrap()
    }

    async fn unfinished(&self) -> i64 {
        let sql = self.world.database.sql().await;
        let text = "SELECT COUNT(*) FROM jobs WHERE type = 'browse' AND finished_at IS NULL";
        sqlx::query_scalar(text).fetch_one(&sql).await.unwrap()
    }
}

async fn snapshot(tenant: &Tenant, worker: &FakeWorker, index_recipient: &str) -> String {
    let (_, source) = ssh_source(&tenant.admin).await;
    let recipient: Recipient = index_recipient.parse().unwrap();
    let as_one = |manifest: &mut xvault_core::Manifest| manifest.index_recipients = vec![recipient];
    worker.back_up_as(&enqueue(&tenant.member, &source).await, as_one).await
}

fn page(names: &[&str], next: Option<&str>) -> Value {
    let entry = |name: &&str| json!({ "path": name, "kind": "file", "size": 5, "mode": 420 });
    let entries: Vec<_> = names.iter().map(entry).collect();
    json!({ "outcome": "entries", "entries": entries, "next_cursor": next })
}

async fn a_worker_reads_the_index_with_the_tenants_identity_and_nothing_stays(world: World) {
    let mut scene = Scene::of(world).await;
    let found = page(&["srv/the-name-of-a-file"], Some("c3J2L3g"));
    let path = scene.entries("path=/srv/&limit=7&cursor=c3J2L2E");
    let (answer, task) = scene.asked(&path, found).await;
    let answer = answer.expect(200);
    assert_eq!(answer["entries"][0]["path"], "srv/the-name-of-a-file");
    assert_eq!(answer["next_cursor"], "c3J2L3g");
    let told = serde_json::to_value(&task.query).unwrap();
    let expected = json!({
        "what": { "kind": "list" }, "directory": { "path": "srv" }, "cursor": "c3J2L2E", "limit": 7,
    });
    assert_eq!(told, expected);
    let opened = task.identities.open(&scene.worker.identity).unwrap();
    let identity =
        std::str::from_utf8(opened.expose_secret()).unwrap().trim().parse::<xvault_core::Identity>();
    assert_eq!(identity.unwrap().recipient(), scene.acme.public_key.parse::<Recipient>().unwrap());
    assert_eq!(scene.jobs_left().await, 0);
    let dump = scene.world.database.dump();
    // SQLite leaves what it deletes in free pages until it needs them.
    if scene.world.db.dialect() == crate::world::Dialect::Postgres {
        assert!(!dump.windows(22).any(|part| part == b"srv/the-name-of-a-file"));
    }
    let events = scene.acme.owner.get("/api/v1/audit-events?action=snapshot.browse").await.expect(200);
    let event = &events["audit_events"][0];
    assert_eq!((&event["target_id"], &event["details"]["kind"]), (&json!(scene.snapshot), &json!("list")));
}

async fn a_search_and_a_difference_are_told_as_they_are_asked(world: World) {
    let mut scene = Scene::of(world).await;
    let (answer, task) = scene.asked(&scene.entries("q=*.sql"), page(&["db/a.sql"], None)).await;
    assert_eq!(answer.expect(200)["entries"][0]["size"], 5);
    assert_eq!(serde_json::to_value(&task.query.what).unwrap(), json!({ "kind": "search", "name": "*.sql" }));
    let other = snapshot(&scene.acme, &scene.worker, &scene.acme.public_key).await;
    let path = format!("/api/v1/snapshots/{}/diff/{other}", scene.snapshot);
    let change = json!({ "path": "a", "change": "added", "after": { "kind": "directory" } });
    let found = json!({ "outcome": "changes", "changes": [change], "next_cursor": null });
    let (answer, task) = scene.asked(&path, found).await;
    assert_eq!(answer.expect(200)["changes"][0]["change"], "added");
    assert_eq!(task.snapshot.snapshot.snapshot_id.as_str(), scene.snapshot);
    assert_eq!(task.other.unwrap().snapshot.snapshot_id.as_str(), other);
}

async fn what_is_not_there_is_told_apart(world: World) {
    let mut scene = Scene::of(world).await;
    let path = scene.entries("path=x");
    let (answer, _) = scene.asked(&path, json!({ "outcome": "absent" })).await;
    answer.refused(404, "no_such_directory");
    let (answer, _) = scene.asked(&path, json!({ "outcome": "not_a_directory" })).await;
    answer.refused(409, "not_a_directory");
}

async fn what_can_not_be_asked_is_refused(world: World) {
    let scene = Scene::of(world).await;
    let (acme, umbrella) = (&scene.acme, scene.world.tenant("umbrella").await);
    for query in [
        "limit=0",
        "limit=1001",
        "q=",
        "q=a/b",
        "path=../x",
        "path=a&path_base64=YQ",
        "path_base64=?",
        "cursor=*",
        "x=1",
    ] {
        acme.member.get(&scene.entries(query)).await.refused(400, "bad_request");
    }
    umbrella.owner.get(&scene.entries("")).await.refused(404, "not_found");
    let foreign = snapshot(&umbrella, &scene.worker, &umbrella.public_key).await;
    for (a, b) in [(&scene.snapshot, &foreign), (&foreign, &scene.snapshot)] {
        let path = format!("/api/v1/snapshots/{a}/diff/{b}");
        acme.owner.get(&path).await.refused(404, "not_found");
        scene.world.operator.get(&path).await.refused(404, "not_found");
    }
    let own = snapshot(acme, &scene.worker, &xvault_core::Identity::generate().recipient().to_string()).await;
    for path in [
        format!("{own}/entries"),
        format!("{own}/diff/{}", scene.snapshot),
        format!("{}/diff/{own}", scene.snapshot),
    ] {
        acme.member.get(&format!("/api/v1/snapshots/{path}")).await.refused(409, "index_not_readable");
    }
    let elsewhere = FakeWorker::join(&scene.world, "w2", &["ssh"]).await;
    let far = snapshot(acme, &elsewhere, &acme.public_key).await;
    let path = format!("/api/v1/snapshots/{}/diff/{far}", scene.snapshot);
    acme.member.get(&path).await.refused(409, "different_workers");
    let sql = scene.world.database.sql().await;
    sqlx::query("UPDATE workers SET status = 'offline' WHERE id = 'w1'").execute(&sql).await.unwrap();
    acme.member.get(&scene.entries("")).await.refused(409, "worker_offline");
    assert_eq!(scene.jobs_left().await, 0);
}

async fn an_answer_to_something_else_is_not_taken(world: World) {
    let mut scene = Scene::of(world).await;
    let member = scene.acme.member.clone();
    let path = scene.entries("limit=1");
    let asking = tokio::spawn(async move { member.get(&path).await });
    let (job, _) = scene.take().await;
    let changes = json!({ "outcome": "changes", "changes": [], "next_cursor": null });
    let long = "x".repeat(1 << 20);
    for found in [page(&["a", "b"], None), changes, page(&[&long], None)] {
        let outcome = json!({ "status": "completed", "result": { "type": "browse", "found": found } });
        let refused = scene.worker.say(&job, "complete", json!({ "outcome": outcome })).await;
        refused.refused(422, "invalid_field");
    }
    scene.worker.fail(&job, "store_damaged", "the index is missing").await;
    let refused = asking.await.unwrap().refused(502, "browse_failed");
    assert_eq!(refused["details"]["code"], "store_damaged");
    assert!(text(&refused["error"]).contains("the index is missing"), "{refused}");
    assert_eq!(scene.jobs_left().await, 0);
}

async fn a_tenant_looks_a_few_times_at_once_and_who_leaves_takes_the_job_along(world: World) {
    let scene = Scene::of(world).await;
    let (member, path) = (scene.acme.member.clone(), scene.entries(""));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let (member, path) = (member.clone(), path.clone());
            tokio::spawn(async move { member.get(&path).await })
        })
        .collect();
    while scene.unfinished().await < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = member.get(&path).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(429, "rate_limited");
    assert_eq!(
        member.get("/api/v1/jobs").await.expect(200)["jobs"].as_array().unwrap().len(),
        1,
        "the backup"
    );
    let shown = member.get("/api/v1/jobs?type=browse").await.expect(200);
    assert_eq!(shown["jobs"].as_array().unwrap().len(), 4);
    for asked in &asking {
        asked.abort();
    }
    join_all(asking).await;
    let mut rounds = 0..250;
    while scene.unfinished().await > 0 {
        rounds.next().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn impatient(engine: crate::world::Dialect) -> World {
    World::builder(engine)
        .settings(|settings| settings.browse_wait = Duration::from_millis(300))
        .start()
        .await
}

async fn a_worker_that_does_not_answer_is_not_waited_for(world: World) {
    let mut scene = Scene::of(world).await;
    let refused = scene.acme.member.get(&scene.entries("")).await.refused(504, "browse_timeout");
    assert!(text(&refused["error"]).contains("worker w1 did not begin"), "{refused}");
    let message = scene.messages.recv().await.unwrap();
    let mut rounds = 0..250;
    while scene.unfinished().await > 0 {
        rounds.next().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let claim = json!({ "job_id": message.job_id });
    let answer = scene.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert_eq!(answer["outcome"], "nothing");
}

on_both_engines!(
    a_worker_reads_the_index_with_the_tenants_identity_and_nothing_stays,
    a_search_and_a_difference_are_told_as_they_are_asked,
    what_is_not_there_is_told_apart,
    what_can_not_be_asked_is_refused,
    an_answer_to_something_else_is_not_taken,
    a_tenant_looks_a_few_times_at_once_and_who_leaves_takes_the_job_along,
);
on_both_engines!(super::impatient => a_worker_that_does_not_answer_is_not_waited_for);
