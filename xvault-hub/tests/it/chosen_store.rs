//! From which of its places a snapshot is read: the one that was asked for, or the one that can be reached.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use xvault_core::Recipient;
use xvault_core::protocol::{BrowseTask, JobMessage, QueueName, StoreAccess, Task};

use crate::downloads::{Stage, token};
use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::stores::{bucket, new_store};
use crate::world::{Dialect, text};

/// A copy of every snapshot in the only store.
pub(crate) const COPY: &str = "INSERT INTO snapshot_copies (snapshot_id, store_id, tenant_id, source_id, bucket, object_key, job_id, copied_at,
        updated_at)
    SELECT n.id, s.id, n.tenant_id, n.source_id, 'backups', 'x/y/of-' || n.id, n.job_id, 1, 1 FROM snapshots n CROSS JOIN stores s";

/// A snapshot on the disk of `w1` with a copy in a store, which `w2` reaches.
pub(crate) struct Copied {
    stage: Stage,
    other: FakeWorker,
    store: String,
    /// Looks that `w2` shall take.
    messages: Mutex<Receiver<JobMessage>>,
}

impl Copied {
    pub(crate) async fn set(engine: Dialect) -> Self {
        let stage = Stage::set(engine).await;
        let store = bucket(&stage.acme.admin).await;
        stage.world.execute(COPY).await;
        let other = FakeWorker::join(&stage.world, "w2", &["ssh", "s3"]).await;
        let queue = QueueName::Quick("w2".parse().unwrap());
        let messages = Mutex::new(stage.world.queue.receiver(&queue).unwrap());
        Self { stage, other, store, messages }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/snapshots/{}/{rest}", self.stage.snapshot)
    }

    async fn restore(&self, body: Value) -> Value {
        self.stage.acme.member.post(&self.path("restore"), body).await.expect(201)
    }

    /// What `w2` is given for a link.
    async fn opened(&self, link: &Value) -> Value {
        let open = json!({ "token": token(link) });
        self.other.caller.post("/internal/downloads/open", open).await.expect(200)
    }

    /// What `w2` is told to look at for a question, which it answers so.
    async fn look(&self, path: &str, found: &Value) -> BrowseTask {
        let doing = async {
            let message = self.messages.lock().await.recv().await.unwrap();
            let assignment = self.other.claim(message.job_id.as_str()).await;
            self.other.complete(&assignment, json!({ "type": "browse", "found": found })).await;
            assignment.task
        };
        let both = async { tokio::join!(self.stage.acme.member.get(path), doing) };
        let (answer, task) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        answer.expect(200);
        match task {
            Task::Browse(task) => *task,
            other => panic!("{other:?}"),
        }
    }

    /// What `w2` is told to give for a link.
    async fn restored_by(&self, link: &Value) -> StoreAccess {
        let opened = self.opened(link).await;
        match serde_json::from_value(opened["body"]["assignment"]["task"].clone()).unwrap() {
            Task::Restore(task) => task.store,
            other => panic!("{other:?}"),
        }
    }

    /// Does a verification of the copy, which turns out so.
    async fn verified(&self, id: &str, finding: Value) {
        let assignment = self.other.claim(id).await;
        let Task::Verify(task) = &assignment.task else { panic!("{assignment:?}") };
        self.is_the_copy(&task.store);
        let result = json!({ "type": "verify", "depth": task.depth, "finding": finding });
        self.other.complete(&assignment, result).await;
    }

    /// The details of the last such event.
    async fn audited(&self, action: &str) -> Value {
        let path = format!("/api/v1/audit-events?action={action}");
        self.stage.acme.admin.get(&path).await.expect(200)["audit_events"][0]["details"].clone()
    }

    /// That it reads the copy, with a credential that it can open.
    fn is_the_copy(&self, access: &StoreAccess) {
        let StoreAccess::S3 { settings, credential, .. } = access else { panic!("{access:?}") };
        assert_eq!(settings.bucket, "backups");
        credential.open(&self.other.identity).unwrap();
    }
}

async fn a_store_that_was_chosen_is_read_by_who_reaches_it(scene: Copied) {
    let made = scene.restore(json!({ "from_store": scene.store })).await;
    assert_eq!((&made["target_worker_id"], &made["note"]), (&Value::Null, &Value::Null), "{made}");
    let id = text(&made["id"]);
    let claim = json!({ "job_id": id });
    let refused = scene.stage.worker.caller.post("/internal/jobs/claim", claim).await.expect(200);
    assert_eq!(refused["outcome"], "nothing", "w1 reaches no buckets: {refused}");
    let assignment = scene.other.claim(&id).await;
    let Task::Restore(task) = &assignment.task else { panic!("{assignment:?}") };
    scene.is_the_copy(&task.store);
    let report = json!({ "entries": 9, "files": 7, "bytes": 7000 });
    scene.other.complete(&assignment, json!({ "type": "restore", "report": report })).await;
    // The link goes on with the choice, although the worker that has the snapshot on its disk is there.
    let done = scene.stage.acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
    assert!(text(&done["download"]["url"]).starts_with("http://w2.example"), "{done}");
    scene.is_the_copy(&scene.restored_by(&done["download"]).await);
    let events = scene.stage.acme.admin.get("/api/v1/audit-events?action=snapshot.restore").await.expect(200);
    assert_eq!(events["audit_events"][0]["details"]["from_store"], json!(scene.store), "{events}");
}

async fn links_lead_to_the_store_that_was_chosen(scene: Copied) {
    for query in [
        format!("download?format=zip&from_store={}", scene.store),
        format!("entries/content?path=a&from_store={}", scene.store),
    ] {
        let link = scene.stage.acme.member.get(&scene.path(&query)).await.body;
        assert!(text(&link["url"]).starts_with("http://w2.example"), "{query}: {link}");
        scene.is_the_copy(&scene.restored_by(&link).await);
    }
    let query = format!("download?what=artifact&from_store={}", scene.store);
    let link = scene.stage.acme.member.get(&scene.path(&query)).await.expect(200);
    assert!(text(&link["url"]).starts_with("https://s3.example/backups/x/y/tenants/"), "{link}");
    // Nobody asked for another place here.
    let link = scene.stage.link("?what=artifact").await;
    assert!(text(&link["url"]).starts_with("http://w1.example"), "{link}");
}

async fn a_look_goes_where_the_copy_can_be_read(scene: Copied) {
    let found = json!({ "outcome": "entries", "entries": [], "next_cursor": null });
    let chosen = scene.path(&format!("entries?from_store={}", scene.store));
    scene.is_the_copy(&scene.look(&chosen, &found).await.snapshot.store);
    scene.stage.world.execute("UPDATE workers SET status = 'offline' WHERE id = 'w1'").await;
    scene.is_the_copy(&scene.look(&scene.path("entries"), &found).await.snapshot.store);
}

async fn of_two_snapshots_on_two_disks_one_is_read_from_its_copy(scene: Copied) {
    let (_, source) = ssh_source(&scene.stage.acme.admin).await;
    let own: Recipient = scene.stage.acme.public_key.parse().unwrap();
    let readable = |manifest: &mut xvault_core::Manifest| manifest.index_recipients = vec![own];
    let job = enqueue(&scene.stage.acme.member, &source).await;
    let later = scene.other.back_up_as(&job, readable).await;
    let found = json!({ "outcome": "changes", "changes": [], "next_cursor": null });
    let task = scene.look(&scene.path(&format!("diff/{later}")), &found).await;
    scene.is_the_copy(&task.snapshot.store);
    assert_eq!(task.other.unwrap().store, StoreAccess::LocalFs);
    let path = format!("/api/v1/snapshots/{later}/diff/{}", scene.stage.snapshot);
    let task = scene.look(&path, &found).await;
    assert_eq!(task.snapshot.store, StoreAccess::LocalFs);
    scene.is_the_copy(&task.other.unwrap().store);
}

async fn a_bucket_is_looked_into_by_who_reaches_buckets(scene: Copied) {
    scene.stage.world.execute("UPDATE workers SET status = 'offline' WHERE id = 'w2'").await;
    let query = format!("entries?from_store={}", scene.store);
    scene.stage.acme.member.get(&scene.path(&query)).await.refused(409, "no_worker");
}

async fn where_the_snapshot_does_not_lie_it_is_not_looked_for(scene: Copied) {
    let umbrella = scene.stage.world.tenant("umbrella").await;
    let foreign = bucket(&umbrella.admin).await;
    for store in [foreign.as_str(), "nowhere"] {
        for rest in ["entries", "download", "entries/content"] {
            let path = scene.path(&format!("{rest}?path=a&from_store={store}"));
            let refused = scene.stage.acme.member.get(&path).await.refused(409, "no_copy");
            assert_eq!(refused["details"]["stores"], json!([scene.store]), "{refused}");
        }
        let body = json!({ "from_store": store });
        scene.stage.acme.member.post(&scene.path("restore"), body).await.refused(409, "no_copy");
    }
    scene
        .stage
        .acme
        .member
        .post(&scene.path("restore"), json!({ "from_store": "a/b" }))
        .await
        .refused(422, "invalid_field");
}

/// As when a machine is started anew: the link leads to the other worker, and is good there for as long as it says.
async fn a_link_that_leads_to_a_copy_outlives_the_return_of_its_worker(scene: Copied) {
    scene.stage.world.execute("UPDATE workers SET status = 'offline' WHERE id = 'w1'").await;
    let link = scene.stage.link("").await;
    assert!(text(&link["url"]).starts_with("http://w2.example"), "{link}");
    scene.stage.world.execute("UPDATE workers SET status = 'online' WHERE id = 'w1'").await;
    scene.is_the_copy(&scene.restored_by(&link).await);
}

async fn the_link_of_a_job_leads_to_a_copy_once_its_worker_is_gone(scene: Copied) {
    let id = text(&scene.restore(json!({})).await["id"]);
    let assignment = scene.stage.worker.claim(&id).await;
    let report = json!({ "entries": 9, "files": 7, "bytes": 7000 });
    scene.stage.worker.complete(&assignment, json!({ "type": "restore", "report": report })).await;
    let link = async || {
        scene.stage.acme.member.get(&format!("/api/v1/jobs/{id}")).await.expect(200)["download"]["url"]
            .clone()
    };
    assert!(text(&link().await).starts_with("http://w1.example"));
    scene.stage.world.execute("UPDATE workers SET status = 'offline' WHERE id = 'w1'").await;
    assert!(text(&link().await).starts_with("http://w2.example"));
}

async fn a_copy_of_a_damaged_snapshot_is_restored_by_who_names_it(scene: Copied) {
    scene
        .stage
        .world
        .execute("UPDATE snapshots SET damaged_at = 1, damage = 'torn', damage_depth = 'deep'")
        .await;
    let path = scene.path("restore");
    let refused = scene.stage.acme.member.post(&path, json!({})).await.refused(409, "damaged");
    assert!(text(&refused["error"]).contains("from_store"), "{refused}");
    assert_eq!(refused["details"]["stores"], json!([scene.store]));
    scene.restore(json!({ "from_store": scene.store })).await;
}

async fn of_two_copies_the_one_that_is_not_known_to_be_damaged_is_read(scene: Copied) {
    let (damaged, sound) = (&scene.store, new_store("third"));
    let sound = text(&scene.stage.acme.admin.post("/api/v1/stores", sound).await.expect(201)["id"]);
    let sql = scene.stage.world.database.sql().await;
    let torn = "UPDATE snapshot_copies SET damaged_at = 1, damage = 'torn', damage_depth = 'deep'";
    sqlx::query(torn).execute(&sql).await.unwrap();
    let copy = format!("{COPY} WHERE s.id = '{sound}'").replace("n.job_id, 1, 1", "n.job_id, 2, 2");
    sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&sql).await.unwrap();
    scene.stage.world.execute("UPDATE workers SET status = 'offline' WHERE id = 'w1'").await;
    let id = text(&scene.restore(json!({})).await["id"]);
    let query = sqlx::query_scalar("SELECT store_id FROM jobs WHERE id = $1").bind(id);
    let read: String = query.fetch_one(&sql).await.unwrap();
    assert_eq!((&read, &read == damaged), (&sound, false));
}

async fn what_is_found_of_a_copy_is_said_of_the_copy_alone(scene: Copied) {
    let verify = scene.path("verify");
    let wish = json!({ "depth": "deep", "from_store": scene.store });
    let nowhere = json!({ "from_store": "nowhere" });
    scene.stage.acme.member.post(&verify, nowhere).await.refused(409, "no_copy");
    let asked = async |wish: &Value| scene.stage.acme.member.post(&verify, wish.clone()).await;
    let id = text(&asked(&wish).await.expect(202)["id"]);
    assert_eq!(asked(&wish).await.expect(202)["id"], json!(id), "it is that one");
    let refused = asked(&json!({ "depth": "deep" })).await.refused(409, "verify_running");
    assert!(text(&refused["error"]).contains("another of its places"), "{refused}");

    // Damaged there: the snapshot is as good as before, and no restore reads the copy unasked.
    scene.verified(&id, json!({ "result": "damaged", "damage": "it is torn" })).await;
    let shown = scene.stage.acme.member.get(scene.path("").trim_end_matches('/')).await.expect(200);
    assert_eq!((&shown["verify_result"], &shown["damage"]), (&Value::Null, &Value::Null), "{shown}");
    let [first, copy] = [0, 1].map(|place| shown["locators"][place].clone());
    assert_eq!((&first["verify_result"], &first["damage"]), (&Value::Null, &Value::Null), "{first}");
    assert_eq!(
        (&copy["verify_result"], &copy["damage"]),
        (&json!("damaged"), &json!("it is torn")),
        "{copy}"
    );
    let event = scene.audited("snapshot.copy_damaged").await;
    assert_eq!((&event["store_id"], &event["damage"]), (&json!(scene.store), &json!("it is torn")));
    scene.restore(json!({})).await;
    let there = json!({ "from_store": scene.store });
    let path = scene.path("restore");
    let refused = scene.stage.acme.member.post(&path, there.clone()).await.refused(409, "damaged");
    assert_eq!(refused["details"]["stores"], json!([]), "{refused}");
    scene.restore(json!({ "from_store": scene.store, "accept_damaged": true })).await;
    scene.stage.world.execute("UPDATE workers SET status = 'offline' WHERE id = 'w1'").await;
    scene.stage.acme.member.post(&path, json!({})).await.refused(409, "damaged");

    // Put right.
    let id = text(&asked(&wish).await.expect(202)["id"]);
    scene.verified(&id, json!({ "result": "ok", "entries": 3, "bytes": 100 })).await;
    let shown = scene.stage.acme.member.get(scene.path("").trim_end_matches('/')).await.expect(200);
    let copy = &shown["locators"][1];
    assert_eq!((&copy["verify_result"], &copy["verified_depth"]), (&json!("ok"), &json!("deep")), "{copy}");
    assert_eq!(shown["verified_at"], shown["locators"][0]["verified_at"]);
    assert_ne!(shown["verified_at"], copy["verified_at"], "{shown}");
    assert_eq!(scene.audited("snapshot.copy_sound").await["store_id"], json!(scene.store));
    scene.restore(there).await;
}

on_both_engines!(crate::chosen_store::Copied::set =>
    a_store_that_was_chosen_is_read_by_who_reaches_it,
    links_lead_to_the_store_that_was_chosen,
    a_look_goes_where_the_copy_can_be_read,
    of_two_snapshots_on_two_disks_one_is_read_from_its_copy,
    a_bucket_is_looked_into_by_who_reaches_buckets,
    where_the_snapshot_does_not_lie_it_is_not_looked_for,
    a_link_that_leads_to_a_copy_outlives_the_return_of_its_worker,
    the_link_of_a_job_leads_to_a_copy_once_its_worker_is_gone,
    a_copy_of_a_damaged_snapshot_is_restored_by_who_names_it,
    of_two_copies_the_one_that_is_not_known_to_be_damaged_is_read,
    what_is_found_of_a_copy_is_said_of_the_copy_alone,
);
