//! Schemas that others change at the same time, or have changed further.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sqlx::Row as _;
use xvault_core::snapshot::Completeness;
use xvault_hub::{Db, DbError, Dialect};

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
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

on_both_engines!(partial_snapshots_of_before_say_so);

on_both_engines!(std::future::ready => many_migrate_at_once, a_newer_database_is_refused);
