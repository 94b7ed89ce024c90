//! After the database is lost: what an export, the manifests of a store and a comparison bring back.

use serde_json::{Value, json};
use xvault_core::secret::{ExposeSecret as _, SecretString};
use xvault_core::{Identity, Manifest, SnapshotKey};
use xvault_hub::Db;
use xvault_hub::Keys;
use xvault_hub::recovery::{
    self, Forgotten, Found, ImportedKeys, Listing, Orphans, Place, Rebuilt, RecoveryError, export_keys,
    forget_copy, forget_record, import_keys,
};
use xvault_testkit::samples;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{World, text};

pub(crate) fn directory() -> Place {
    Place::of_store("/var/lib/xvault/backups", None)
}

pub(crate) async fn manifest(world: &World, id: &str) -> Manifest {
    let snapshot = world.operator.get(&format!("/api/v1/snapshots/{id}")).await.expect(200);
    serde_json::from_value(snapshot["manifest"].clone()).unwrap()
}

pub(crate) fn sound(manifest: &Manifest) -> Found {
    Found::Sound { manifest: Box::new(manifest.clone()), locked_until: None }
}

/// What lies there now.
fn listed(found: &[Found]) -> Listing {
    Listing { found: found.to_vec(), begun_at: xvault_core::clock::now() }
}

pub(crate) async fn rebuild(
    db: &Db,
    keys: &Keys,
    found: &[Found],
    place: &Place,
) -> Result<Rebuilt, RecoveryError> {
    recovery::rebuild(db, keys, &listed(found), place).await
}

pub(crate) async fn orphans(db: &Db, found: &[Found], place: &Place) -> Result<Orphans, RecoveryError> {
    recovery::orphans(db, &listed(found), place).await
}

/// A manifest of nobody who is known.
fn stranger() -> Manifest {
    let key = SnapshotKey {
        tenant_id: "lost-tenant".parse().unwrap(),
        source_id: "lost-source".parse().unwrap(),
        snapshot_id: "lost-snapshot".parse().unwrap(),
    };
    let mut manifest = samples::manifest(&key);
    manifest.worker_id = "lost-worker".parse().unwrap();
    manifest
}

/// The same, of this tenant.
pub(crate) fn of_tenant(id: &str) -> Manifest {
    Manifest { tenant_id: id.parse().unwrap(), ..stranger() }
}

async fn identities_go_out_and_come_back_into_another_database(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let file = export_keys(&world.db, &world.keys).await.unwrap();
    let all = Identity::parse_file(&file).unwrap();
    let recipients: Vec<_> = all.iter().map(|identity| identity.recipient().to_string()).collect();
    assert!(recipients.contains(&acme.public_key) && recipients.contains(&umbrella.public_key));
    let events = world.operator.get("/api/v1/audit-events?action=keys.export").await.expect(200);
    assert_eq!(events["audit_events"][0]["details"]["keys"], 2);

    let other = World::builder(world.db.dialect()).start().await;
    let done = import_keys(&other.db, &other.keys, &file).await.unwrap();
    assert_eq!(done, ImportedKeys { tenants: 2, keys: 2, known: 0 });
    let seen = other.operator.get(&format!("/api/v1/tenants/{}", acme.id)).await.expect(200);
    assert_eq!((&seen["name"], &seen["public_key"]), (&json!("acme"), &json!(acme.public_key)));
    // What came in goes out again: it was encrypted to the new hub's own KEK.
    let again = export_keys(&other.db, &other.keys).await.unwrap();
    let lines = |file: &SecretString| {
        let mut lines: Vec<_> =
            file.expose_secret().lines().filter(|line| line.starts_with("AGE-")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&again), lines(&file));
    let done = import_keys(&other.db, &other.keys, &file).await.unwrap();
    assert_eq!(done, ImportedKeys { tenants: 0, keys: 0, known: 2 });
}

async fn an_export_takes_the_right_kek(world: World) {
    world.tenant("acme").await;
    let wrong = export_keys(&world.db, &Keys::generate()).await.unwrap_err();
    assert!(matches!(wrong, RecoveryError::Start(_)), "{wrong:?}");
}

async fn manifests_bring_back_what_was_on_record_and_change_nothing_that_is(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let of_ssh = |manifest: &mut Manifest| manifest.source_type = "ssh".into();
    let ids = [
        worker.back_up_as(&enqueue(&acme.admin, &source).await, of_ssh).await,
        worker.back_up_as(&enqueue(&acme.admin, &source).await, of_ssh).await,
    ];
    let mut found = vec![sound(&manifest(&world, &ids[0]).await), sound(&manifest(&world, &ids[1]).await)];
    let damaged =
        Found::Damaged { snapshot_id: "cut".parse().unwrap(), owner: None, reason: "it is cut".into() };
    found.push(damaged);
    let before = world.operator.get(&format!("/api/v1/snapshots/{}", ids[0])).await.expect(200);

    // Where all is on record nothing changes.
    let done = rebuild(&world.db, &world.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.snapshots, done.known, done.tenants, done.sources), (0, 2, 0, 0));
    assert_eq!(done.left_out, [("cut".parse().unwrap(), "it is cut".to_owned())]);
    let named = acme.admin.get(&format!("/api/v1/sources/{source}")).await.expect(200);
    assert_eq!((&named["name"], &named["status"]), (&json!("server"), &json!("active")));

    // Where the database is new, all of it comes back.
    let new = World::builder(world.db.dialect()).start().await;
    let file = export_keys(&world.db, &world.keys).await.unwrap();
    import_keys(&new.db, &new.keys, &file).await.unwrap();
    let done = rebuild(&new.db, &new.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.snapshots, done.known, done.tenants, done.sources), (2, 0, 0, 1));
    assert!(done.without_identity.is_empty());
    let after = new.operator.get(&format!("/api/v1/snapshots/{}", ids[0])).await.expect(200);
    for field in [
        "tenant_id",
        "source_id",
        "job_id",
        "status",
        "size_bytes",
        "worker_id",
        "local_path",
        "manifest",
        "verified_at",
    ] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let rebuilt = new.operator.get(&format!("/api/v1/sources/{source}")).await.expect(200);
    assert_eq!((&rebuilt["type"], &rebuilt["status"]), (&json!("ssh"), &json!("disabled")));
    let done = rebuild(&new.db, &new.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.snapshots, done.known, done.sources), (0, 2, 0), "doing it again changes nothing");
}

async fn a_rebuilt_source_is_enabled_once_somebody_says_where_it_is(world: World) {
    let found = [sound(&stranger())];
    let done = rebuild(&world.db, &world.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.tenants, done.sources, done.snapshots), (1, 1, 1));
    assert_eq!(done.without_identity, ["lost-tenant"]);
    let path = "/api/v1/sources/lost-source";
    let source = world.operator.get(path).await.expect(200);
    assert!(source["config"].to_string().contains("settings-lost.invalid"), "{source}");
    world.operator.post(&format!("{path}/enable"), json!({})).await.refused(409, "settings_lost");
    let config = if source["type"] == "local" {
        json!({ "paths": ["/srv"] })
    } else {
        json!({ "host": "h.example", "username": "u", "paths": ["/srv"] })
    };
    world.operator.put(path, json!({ "config": config })).await.expect(200);
    let enabled = world.operator.post(&format!("{path}/enable"), json!({})).await.expect(200);
    assert_eq!(enabled["status"], "active");
    // The tenant has a key for what is backed up from now on.
    let tenant = world.operator.get("/api/v1/tenants/lost-tenant").await.expect(200);
    assert!(text(&tenant["public_key"]).starts_with("age1"));
}

async fn what_can_not_be_put_on_record_is_told(world: World) {
    let mut unknown = stranger();
    unknown.source_type = "carrier-pigeon".into();
    let done = rebuild(&world.db, &world.keys, &[sound(&unknown)], &directory()).await.unwrap();
    assert_eq!(done.snapshots, 0);
    assert!(done.left_out[0].1.contains("carrier-pigeon"), "{done:?}");
    let bucket = Place::of_store("s3://bucket/prefix", None);
    let error = rebuild(&world.db, &world.keys, &[sound(&stranger())], &bucket).await.unwrap_err();
    assert!(error.to_string().contains("save it first"), "{error}");
}

async fn snapshots_of_a_bucket_come_back_into_its_store(world: World) {
    sqlx::query(
        r#"INSERT INTO stores (id, name, kind, config, created_at, updated_at)
           VALUES ('s1', 'bucket', 's3', '{"bucket":"bucket","prefix":"some/prefix"}', 0, 0)"#,
    )
    .execute(&world.database.sql().await)
    .await
    .unwrap();
    let bucket = Place::of_store("s3://bucket/some/prefix/", None);
    let done = rebuild(&world.db, &world.keys, &[sound(&stranger())], &bucket).await.unwrap();
    assert_eq!(done.snapshots, 1);
    let snapshot = world.operator.get("/api/v1/snapshots/lost-snapshot").await.expect(200);
    assert_eq!((&snapshot["storage_backend"], &snapshot["bucket"]), (&json!("s3"), &json!("bucket")));
    let key = "some/prefix/tenants/lost-tenant/sources/lost-source/snapshots/lost-snapshot";
    assert_eq!(snapshot["object_key"], key);
    let found = orphans(&world.db, &[sound(&stranger())], &bucket).await.unwrap();
    assert_eq!((found.matching, found.without_bytes.len()), (1, 0));
}

/// A store of the hub in a bucket, of this tenant or of the platform.
pub(crate) async fn bucket(world: &World, id: &str, tenant: Option<&str>) {
    sqlx::query(
        r#"INSERT INTO stores (id, tenant_id, name, kind, config, created_at, updated_at)
           VALUES ($1, $2, $1, 's3', '{"bucket":"second","prefix":"copies"}', 0, 0)"#,
    )
    .bind(id)
    .bind(tenant)
    .execute(&world.database.sql().await)
    .await
    .unwrap();
}

pub(crate) fn second() -> Place {
    Place::of_store("s3://second/copies", None)
}

async fn what_is_on_record_elsewhere_gets_a_second_place_in_a_bucket(world: World) {
    bucket(&world, "s2", None).await;
    let found = [sound(&stranger())];
    let told = orphans(&world.db, &found, &second()).await.unwrap();
    assert_eq!((told.without_record.len(), told.elsewhere.len()), (1, 0));
    rebuild(&world.db, &world.keys, &found, &directory()).await.unwrap();
    let told = orphans(&world.db, &found, &second()).await.unwrap();
    assert_eq!((told.elsewhere, told.matching), (vec!["lost-snapshot".parse().unwrap()], 0));
    let done = rebuild(&world.db, &world.keys, &found, &second()).await.unwrap();
    assert_eq!((done.snapshots, done.copies, done.known, done.left_out.len()), (0, 1, 0, 0));
    let done = rebuild(&world.db, &world.keys, &found, &second()).await.unwrap();
    assert_eq!((done.snapshots, done.copies, done.known), (0, 0, 1), "doing it again changes nothing");
    let done = rebuild(&world.db, &world.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.copies, done.known), (0, 1), "it still lies where it lay");
    let snapshot = world.operator.get("/api/v1/snapshots/lost-snapshot").await.expect(200);
    let key = "copies/tenants/lost-tenant/sources/lost-source/snapshots/lost-snapshot";
    assert_eq!(snapshot["storage_backend"], "local_fs");
    assert_eq!(
        (&snapshot["locators"][1]["bucket"], &snapshot["locators"][1]["object_key"]),
        (&json!("second"), &json!(key))
    );

    // A copy that is lost is told apart from a snapshot that is lost.
    let told = orphans(&world.db, &[], &second()).await.unwrap();
    let expected =
        Orphans { copies_without_bytes: vec!["lost-snapshot".parse().unwrap()], ..Orphans::default() };
    assert_eq!(told, expected);
    let id = "lost-snapshot".parse().unwrap();
    assert!(forget_copy(&world.db, &id, &second()).await.unwrap());
    assert!(!forget_copy(&world.db, &id, &second()).await.unwrap());
    let snapshot = world.operator.get("/api/v1/snapshots/lost-snapshot").await.expect(200);
    assert_eq!(snapshot["locators"].as_array().unwrap().len(), 1, "{snapshot}");
    let event = world.operator.get("/api/v1/audit-events?action=snapshot.forget_copy").await.expect(200);
    assert_eq!(event["audit_events"][0]["details"]["store_id"], "s2");
}

/// Nothing of a locked snapshot is tried to be deleted before its time, as before the database was lost.
async fn locks_come_back_with_what_they_lock(world: World) {
    bucket(&world, "s2", None).await;
    let until: jiff::Timestamp = "2999-01-01T00:00:00Z".parse().unwrap();
    let locked = |manifest: &Manifest| Found::Sound {
        manifest: Box::new(manifest.clone()),
        locked_until: Some(until),
    };
    let mut copied = stranger();
    copied.snapshot_id = "copied-snapshot".parse().unwrap();
    rebuild(&world.db, &world.keys, &[sound(&copied)], &directory()).await.unwrap();
    let done = rebuild(&world.db, &world.keys, &[locked(&stranger()), locked(&copied)], &second()).await;
    let done = done.unwrap();
    assert_eq!((done.snapshots, done.copies), (1, 1));
    for (id, place, other) in [("lost-snapshot", 0, None), ("copied-snapshot", 1, Some(json!(null)))] {
        let path = format!("/api/v1/snapshots/{id}");
        let shown = world.operator.get(&path).await.expect(200);
        assert_eq!(shown["locked_until"], json!(until), "{id}");
        assert_eq!(shown["locators"][place]["locked_until"], json!(until), "{id}");
        assert_eq!(other.as_ref().map(|_| &shown["locators"][0]["locked_until"]), other.as_ref(), "{id}");
        world.operator.delete(&path).await.refused(409, "locked");
    }
}

async fn only_a_bucket_can_be_a_second_place(world: World) {
    bucket(&world, "s2", None).await;
    rebuild(&world.db, &world.keys, &[sound(&stranger())], &second()).await.unwrap();
    let done = rebuild(&world.db, &world.keys, &[sound(&stranger())], &directory()).await.unwrap();
    assert_eq!((done.snapshots, done.copies, done.known), (0, 0, 0));
    assert!(done.left_out[0].1.contains("lying elsewhere"), "{done:?}");
}

async fn a_record_is_not_taken_over_by_another_tenants_manifest(world: World) {
    rebuild(&world.db, &world.keys, &[sound(&stranger())], &directory()).await.unwrap();
    let before = world.operator.get("/api/v1/snapshots/lost-snapshot").await.expect(200);
    let mut other = stranger();
    other.tenant_id = "other-tenant".parse().unwrap();
    let mut same_tenant = stranger();
    same_tenant.source_id = "other-source".parse().unwrap();
    for manifest in [other, same_tenant] {
        let done = rebuild(&world.db, &world.keys, &[sound(&manifest)], &directory()).await.unwrap();
        assert_eq!((done.snapshots, done.known, done.tenants, done.sources), (0, 0, 0, 0));
        assert!(done.left_out[0].1.contains("for another source"), "{done:?}");
    }
    assert_eq!(world.operator.get("/api/v1/snapshots/lost-snapshot").await.expect(200), before);
    assert_eq!(world.operator.get("/api/v1/tenants/other-tenant").await.status, 404);
}

async fn a_tenants_own_store_brings_back_its_own_snapshots_alone(world: World) {
    let acme = world.tenant("acme").await;
    bucket(&world, "s2", Some(&acme.id)).await;
    let mut own = stranger();
    own.tenant_id = acme.id.parse().unwrap();
    own.snapshot_id = "own-snapshot".parse().unwrap();
    let done = rebuild(&world.db, &world.keys, &[sound(&stranger()), sound(&own)], &second()).await.unwrap();
    assert_eq!((done.snapshots, done.tenants), (1, 0));
    let (id, reason) = &done.left_out[0];
    assert!(id.as_str() == "lost-snapshot" && reason.contains(&acme.id), "{done:?}");
    assert_eq!(world.operator.get("/api/v1/tenants/lost-tenant").await.status, 404);
}

async fn of_two_stores_with_the_same_bucket_one_must_be_named(world: World) {
    bucket(&world, "s2", None).await;
    bucket(&world, "s3", None).await;
    let found = [sound(&stranger())];
    for error in [
        rebuild(&world.db, &world.keys, &found, &second()).await.unwrap_err(),
        orphans(&world.db, &found, &second()).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("--hub-store: s2, s3"), "{error}");
    }
    let named = second().known_as(Some("s3".parse().unwrap()));
    rebuild(&world.db, &world.keys, &found, &named).await.unwrap();
    let snapshot = world.operator.get("/api/v1/snapshots/lost-snapshot").await.expect(200);
    assert_eq!(snapshot["store_id"], "s3");
    let other = second().known_as(Some("s2".parse().unwrap()));
    assert_eq!(orphans(&world.db, &found, &named).await.unwrap().matching, 1);
    assert_eq!(orphans(&world.db, &found, &other).await.unwrap().elsewhere.len(), 1);
}

async fn an_identity_completes_the_key_of_its_own_tenant_alone(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let file = export_keys(&world.db, &world.keys).await.unwrap();
    // Both have the same key now, and keep its identity themselves.
    let sql = world.database.sql().await;
    sqlx::query("UPDATE tenant_keys SET public_key = $1, encrypted_private_key = NULL, kek_id = NULL")
        .bind(&acme.public_key)
        .execute(&sql)
        .await
        .unwrap();
    let own: Vec<_> =
        file.expose_secret().lines().skip_while(|line| !line.contains(&acme.id)).take(2).collect();
    let done = import_keys(&world.db, &world.keys, &SecretString::from(own.join("\n"))).await.unwrap();
    assert_eq!(done, ImportedKeys { tenants: 0, keys: 1, known: 0 });
    let of = |id: &str| {
        sqlx::query_scalar::<_, i64>(
            "SELECT COUNT(*) FROM tenant_keys WHERE tenant_id = $1 AND encrypted_private_key IS NOT NULL",
        )
        .bind(id.to_owned())
    };
    assert_eq!(of(&acme.id).fetch_one(&sql).await.unwrap(), 1);
    assert_eq!(of(&umbrella.id).fetch_one(&sql).await.unwrap(), 0, "a tenant that keeps its identity itself");
}

async fn an_export_that_claims_the_id_of_another_tenants_key_changes_nothing(world: World) {
    let (acme, umbrella) = (world.tenant("acme").await, world.tenant("umbrella").await);
    let file = export_keys(&world.db, &world.keys).await.unwrap();
    // The key of acme is told to be umbrella's, and to be another one.
    let (new, text) = (Identity::generate(), file.expose_secret().to_owned());
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let at = lines.iter().position(|line| line.contains(&acme.public_key)).unwrap();
    lines[at] =
        lines[at].replace(&acme.id, &umbrella.id).replace(&acme.public_key, &new.recipient().to_string());
    lines[at + 1] = new.to_secret().expose_secret().to_owned();
    let forged = SecretString::from(lines.join("\n"));
    let error = import_keys(&world.db, &world.keys, &forged).await.unwrap_err();
    assert!(error.to_string().contains("another key has the id"), "{error}");
    let after = export_keys(&world.db, &world.keys).await.unwrap();
    assert_eq!(after.expose_secret(), file.expose_secret());
}

async fn bytes_without_record_and_records_without_bytes_are_told_apart(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let (there, gone) = (
        worker.back_up(&enqueue(&acme.admin, &source).await).await,
        worker.back_up(&enqueue(&acme.admin, &source).await).await,
    );
    let there = manifest(&world, &there).await;
    // What a running job has just made has no record yet.
    let running = worker.claim(&enqueue(&acme.admin, &source).await).await;
    let fresh =
        Manifest { job_id: running.job_id.clone(), snapshot_id: "fresh".parse().unwrap(), ..there.clone() };
    let damaged = Found::Damaged { snapshot_id: "cut".parse().unwrap(), owner: None, reason: "cut".into() };
    let found = [sound(&there), sound(&stranger()), sound(&fresh), damaged];
    let told = orphans(&world.db, &found, &directory()).await.unwrap();
    let expected = Orphans {
        without_record: vec!["lost-snapshot".parse().unwrap()],
        without_bytes: vec![gone.parse().unwrap()],
        deleting_without_bytes: Vec::new(),
        elsewhere: Vec::new(),
        copies_without_bytes: Vec::new(),
        damaged: vec![("cut".parse().unwrap(), "cut".into())],
        known_damaged: Vec::new(),
        matching: 1,
    };
    assert_eq!(told, expected);
    // Another directory says nothing of these records.
    let elsewhere = Place::of_store("/srv/elsewhere", Some("w1".parse().unwrap()));
    assert!(orphans(&world.db, &[], &elsewhere).await.unwrap().without_bytes.is_empty());
    world.operator.get(&format!("/api/v1/snapshots/{gone}")).await.expect(200);
    let id = gone.parse().unwrap();
    assert_eq!(forget_record(&world.db, &id).await.unwrap(), Forgotten::Gone);
    assert_eq!(forget_record(&world.db, &id).await.unwrap(), Forgotten::Nothing);
    assert_eq!(world.operator.get(&format!("/api/v1/snapshots/{gone}")).await.status, 404);
    let event = acme.admin.get("/api/v1/audit-events?action=snapshot.forget_record").await.expect(200);
    assert_eq!(event["audit_events"][0]["target_id"], Value::String(gone));
}

/// Its worker may still come with it: then it is on record as any other, and its bytes go if it may not.
async fn what_a_job_under_way_has_made_comes_on_record_by_its_worker_alone(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let id = enqueue(&acme.admin, &source).await;
    let made = Manifest { job_id: id.parse().unwrap(), source_type: "ssh".into(), ..of_tenant(&acme.id) };
    let made = Manifest { source_id: source.parse().unwrap(), ..made };
    let again = async || rebuild(&world.db, &world.keys, &[sound(&made)], &directory()).await.unwrap();
    // An attempt of before, which lost its lease as when an older database is put back.
    let waits = again().await;
    assert_eq!((waits.snapshots, waits.known), (0, 0), "{waits:?}");
    let (left_out, reason) = &waits.left_out[0];
    assert!(*left_out == made.snapshot_id && reason.contains(&id) && reason.contains("again"), "{reason}");
    let running = worker.claim(&id).await;
    assert_eq!(again().await.snapshots, 0);
    let of_this = worker.manifest(&running);
    let found = [sound(&of_this)];
    let done = rebuild(&world.db, &world.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.snapshots, done.left_out.len()), (0, 1));
    let locator = json!({ "storage_backend": "local_fs", "worker_id": "w1", "local_path": "/var/lib/x" });
    worker.complete(&running, json!({ "type": "backup", "manifest": of_this, "locator": locator })).await;
    let done = rebuild(&world.db, &world.keys, &found, &directory()).await.unwrap();
    assert_eq!((done.snapshots, done.known), (0, 1));
    // The job has ended: what an older attempt left is somebody's snapshot all the same.
    assert_eq!(again().await.snapshots, 1);
}

/// A listing takes its time, or was made on another machine before.
async fn what_came_or_went_since_a_store_was_listed_is_not_judged_by_the_listing(world: World) {
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let deleted = worker.back_up(&enqueue(&acme.admin, &source).await).await;
    let deleted = manifest(&world, &deleted).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let before = listed(&[sound(&deleted)]);
    let path = format!("/api/v1/snapshots/{}", deleted.snapshot_id);
    let job = text(&acme.owner.delete(&path).await.expect(202)["id"]);
    let job = worker.claim(&job).await;
    worker.complete(&job, json!({ "type": "delete_snapshot" })).await;
    let fresh = worker.back_up(&enqueue(&acme.admin, &source).await).await;
    let place = Place::of_store("/var/lib/xvault/backups", Some("w1".parse().unwrap()));
    let told = recovery::orphans(&world.db, &before, &place).await.unwrap();
    assert_eq!(told, Orphans::default(), "neither without a record nor without bytes");
    let done = recovery::rebuild(&world.db, &world.keys, &before, &place).await.unwrap();
    assert!(done.snapshots == 0 && done.left_out[0].1.contains("deleted since"), "{done:?}");
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let told = orphans(&world.db, &[sound(&deleted)], &place).await.unwrap();
    assert_eq!(told.without_record, std::slice::from_ref(&deleted.snapshot_id), "its bytes are back");
    assert_eq!(told.without_bytes, [fresh.parse().unwrap()]);
}

/// Whatever an attempt left, a sweep that was told of it removes.
async fn what_a_sweep_may_remove_is_not_put_on_record_meanwhile(world: World) {
    bucket(&world, "s2", None).await;
    let acme = world.tenant("acme").await;
    let (_, source) = ssh_source(&acme.admin).await;
    let sql = world.database.sql().await;
    let sweep =
        "INSERT INTO jobs (id, tenant_id, store_id, type, status, lease_token, lease_expires_at, not_before,
            push_at, created_at, updated_at)
        VALUES ('sweep', $1, 's2', 'sweep_store', 'running', 't', 0, 0, 0, 0, 0)";
    sqlx::query(sweep).bind(&acme.id).execute(&sql).await.unwrap();
    let attempt =
        "INSERT INTO store_attempts (snapshot_id, tenant_id, source_id, job_id, store_id, created_at)
        VALUES ('lost-snapshot', $1, $2, 'sweep', 's2', 0)";
    sqlx::query(attempt).bind(&acme.id).bind(&source).execute(&sql).await.unwrap();
    let left = Manifest { source_id: source.parse().unwrap(), ..of_tenant(&acme.id) };
    let found = [sound(&left)];
    let done = rebuild(&world.db, &world.keys, &found, &second()).await.unwrap();
    assert!(done.snapshots == 0 && done.left_out[0].1.contains("sweep"), "{done:?}");
    let over =
        "UPDATE jobs SET status = 'completed', lease_token = NULL, lease_expires_at = NULL, finished_at = ";
    // After the listing was begun, and before.
    sqlx::query(sqlx::AssertSqlSafe(format!("{over} 32503680000000"))).execute(&sql).await.unwrap();
    assert_eq!(rebuild(&world.db, &world.keys, &found, &second()).await.unwrap().snapshots, 0);
    sqlx::query(sqlx::AssertSqlSafe(format!("{over} 1"))).execute(&sql).await.unwrap();
    assert_eq!(rebuild(&world.db, &world.keys, &found, &second()).await.unwrap().snapshots, 1);
}

on_both_engines!(
    what_a_job_under_way_has_made_comes_on_record_by_its_worker_alone,
    what_came_or_went_since_a_store_was_listed_is_not_judged_by_the_listing,
    what_a_sweep_may_remove_is_not_put_on_record_meanwhile,
    identities_go_out_and_come_back_into_another_database,
    an_export_takes_the_right_kek,
    manifests_bring_back_what_was_on_record_and_change_nothing_that_is,
    a_rebuilt_source_is_enabled_once_somebody_says_where_it_is,
    what_can_not_be_put_on_record_is_told,
    snapshots_of_a_bucket_come_back_into_its_store,
    what_is_on_record_elsewhere_gets_a_second_place_in_a_bucket,
    locks_come_back_with_what_they_lock,
    only_a_bucket_can_be_a_second_place,
    a_record_is_not_taken_over_by_another_tenants_manifest,
    a_tenants_own_store_brings_back_its_own_snapshots_alone,
    of_two_stores_with_the_same_bucket_one_must_be_named,
    an_identity_completes_the_key_of_its_own_tenant_alone,
    an_export_that_claims_the_id_of_another_tenants_key_changes_nothing,
    bytes_without_record_and_records_without_bytes_are_told_apart,
);
