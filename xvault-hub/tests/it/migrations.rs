//! Schemas that others change at the same time, or have changed further.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sqlx::Row as _;
use xvault_core::snapshot::Completeness;
use xvault_hub::{Db, DbError, Dialect};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::stores::bucket;
use crate::world::{Database, World};

/// As many as a rollout may start at once.
const PROGRAMS: usize = 4;

/// `xvault-hub migrate`, begun.
fn migrate(url: &str) -> std::process::Child {
    let mut program = Command::new(env!("CARGO_BIN_EXE_xvault-hub"));
    program.arg("migrate").env_clear().env("DATABASE_URL", url);
    program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn many_migrate_at_once(engine: Dialect) {
    for _ in 0..5 {
        let database = Database::make(engine);
        let programs: Vec<_> = (0..PROGRAMS).map(|_| migrate(&database.url)).collect();
        for program in programs {
            let output = program.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            assert!(!said(&output).contains("pending"), "{}", said(&output));
        }
        Db::connect(&database.url, 1).await.unwrap().check_schema().await.unwrap();
    }
}

/// Longer than a statement of the hub waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_whoever_writes() {
    let database = Database::make(Dialect::Sqlite);
    let serving = Db::connect(&database.url, 2).await.unwrap();
    let writing = serving.begin().await.unwrap();
    let program = migrate(&database.url);
    tokio::time::sleep(Duration::from_secs(12)).await;
    writing.commit().await.unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    serving.check_schema().await.unwrap();
}

async fn a_newer_database_is_refused(engine: Dialect) {
    let database = Database::make(engine);
    let db = database.connect().await;
    database.migrate_further().await;
    for refusal in [db.check_schema().await.unwrap_err(), db.migrate().await.unwrap_err()] {
        assert!(matches!(refusal, DbError::Ahead { version: 9001 }), "{refusal:?}");
    }
    let output = migrate(&database.url).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("migration 9001") && text.contains("run that version"), "{text}");
}

/// An older hub told what is partial by the status alone, and took the mark away with that of a deletion that was called off.
async fn partial_snapshots_of_before_say_so(world: World) {
    let acme = world.tenant("acme").await;
    let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
    let (_, source) = ssh_source(&acme.admin).await;
    let sql = world.database.sql().await;
    let mut expected = BTreeMap::new();
    for (completeness, before, after, warnings) in [
        (Completeness::Partial, "partial", "partial", 1),
        (Completeness::Partial, "completed", "partial", 1),
        (Completeness::Partial, "deleting", "deleting", 1),
        (Completeness::Whole, "deleting", "deleting", 0),
        (Completeness::Whole, "completed", "completed", 0),
    ] {
        let job = enqueue(&acme.member, &source).await;
        let id = worker.back_up_as(&job, |manifest| manifest.completeness = completeness).await;
        let change = sqlx::query("UPDATE snapshots SET warnings = 0, status = $2 WHERE id = $1");
        change.bind(&id).bind(before).execute(&sql).await.unwrap();
        expected.insert(id, (after.to_owned(), warnings));
    }
    let undone =
        "DROP INDEX audit_events_by_tenant_and_action; DELETE FROM xvault_migrations WHERE version = 8";
    sqlx::raw_sql(undone).execute(&sql).await.unwrap();
    world.db.migrate().await.unwrap();
    let rows = sqlx::query("SELECT id, status, warnings FROM snapshots").fetch_all(&sql).await.unwrap();
    let found = rows.iter().map(|row| (row.get("id"), (row.get("status"), row.get("warnings"))));
    assert_eq!(found.collect::<BTreeMap<String, (String, i64)>>(), expected);
}

/// What a job of before has begun to copy: until migration 21 nobody wrote that down.
struct Copying<'a> {
    snapshot: &'a str,
    store: &'a str,
    runs: i64,
    started_at: Option<i64>,
}

/// Jobs that copied, made of backups: only the columns that tell of it count.
async fn copied_before(sql: &sqlx::AnyPool, jobs: &[(String, Copying<'_>)]) {
    for (id, Copying { snapshot, store, runs, started_at }) in jobs {
        let text = "UPDATE jobs SET type = 'replicate', snapshot_id = $2, store_id = $3, runs = $4, started_at = $5, created_at = 5
             WHERE id = $1";
        let change = sqlx::query(text).bind(id).bind(*snapshot).bind(*store).bind(*runs).bind(*started_at);
        change.execute(sql).await.unwrap();
    }
}

async fn copies_that_were_begun_before_are_on_record_and_their_stores_are_swept(world: World) {
    let (acme, worker) = (world.tenant("acme").await, FakeWorker::join(&world, "w1", &["ssh"]).await);
    let (_, source) = ssh_source(&acme.admin).await;
    let sql = world.database.sql().await;
    let (mut snapshots, mut made) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let job = enqueue(&acme.member, &source).await;
        snapshots.push(worker.back_up(&job).await);
        made.push(job);
    }
    let [begun, twice, copied, waiting, lost, spare, _] = &snapshots[..] else { panic!() };
    let (store, swept, idle) =
        (bucket(&acme.admin).await, bucket(&acme.admin).await, bucket(&acme.admin).await);
    let copying = |snapshot, store, runs, started_at| Copying { snapshot, store, runs, started_at };
    let jobs = [
        copying(begun, &store, 1, None),
        copying(twice, &swept, 1, Some(10)),
        copying(twice, &swept, 2, Some(20)),
        copying(copied, &store, 1, Some(10)),
        copying(waiting, &idle, 0, None),
        copying(lost, &store, 1, Some(10)),
        copying(spare, &idle, 0, Some(10)),
    ];
    copied_before(&sql, &made.into_iter().zip(jobs).collect::<Vec<_>>()).await;
    let undone = format!(
        "INSERT INTO snapshot_copies (snapshot_id, store_id, tenant_id, source_id, bucket, object_key, job_id, copied_at, updated_at)
             SELECT id, '{store}', tenant_id, source_id, 'b', 'k', 'j', 1, 1 FROM snapshots WHERE id = '{copied}';
         DELETE FROM snapshots WHERE id = '{lost}';
         DELETE FROM store_sweeps;
         INSERT INTO store_sweeps (store_id, tenant_id, next_at) VALUES ('{swept}', '{}', 7);
         DROP TABLE copy_attempts;
         DELETE FROM xvault_migrations WHERE version = 21",
        acme.id
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(undone)).execute(&sql).await.unwrap();
    world.db.migrate().await.unwrap();
    let text = "SELECT snapshot_id, store_id, source_id, begun_at, told_at FROM copy_attempts WHERE tenant_id = $1 AND deleted_at IS NULL";
    let rows = sqlx::query(text).bind(&acme.id).fetch_all(&sql).await.unwrap();
    let found = rows.iter().map(|row| {
        let key: (String, String) = (row.get("snapshot_id"), row.get("store_id"));
        (key, (row.get("source_id"), row.get("begun_at"), row.get("told_at")))
    });
    let on_record =
        |snapshot: &String, store: &String, at| ((snapshot.clone(), store.clone()), (source.clone(), at, 0));
    assert_eq!(
        found.collect::<BTreeMap<_, (String, i64, i64)>>(),
        BTreeMap::from([on_record(begun, &store, 5), on_record(twice, &swept, 20)])
    );
    let rows =
        sqlx::query("SELECT store_id, tenant_id, next_at FROM store_sweeps").fetch_all(&sql).await.unwrap();
    let found = rows.iter().map(|row| (row.get("store_id"), (row.get("tenant_id"), row.get("next_at"))));
    assert_eq!(
        found.collect::<BTreeMap<String, (String, i64)>>(),
        BTreeMap::from([(store, (acme.id.clone(), 0)), (swept, (acme.id.clone(), 7))])
    );
}

on_both_engines!(
    partial_snapshots_of_before_say_so,
    copies_that_were_begun_before_are_on_record_and_their_stores_are_swept,
);

on_both_engines!(std::future::ready => many_migrate_at_once, a_newer_database_is_refused);
