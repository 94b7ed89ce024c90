//! Schemas that others change at the same time, or have changed further.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use xvault_hub::{Db, DbError, Dialect};

use crate::world::Database;

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
    let newer = "INSERT INTO xvault_migrations (version, description, success, checksum, execution_time)
         SELECT 9001, 'from the future', success, checksum, execution_time FROM xvault_migrations WHERE version = 1";
    sqlx::raw_sql(newer).execute(&database.sql().await).await.unwrap();
    for refusal in [db.check_schema().await.unwrap_err(), db.migrate().await.unwrap_err()] {
        assert!(matches!(refusal, DbError::Ahead { version: 9001 }), "{refusal:?}");
    }
    let output = migrate(&database.url).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("migration 9001") && text.contains("run that version"), "{text}");
}

on_both_engines!(std::future::ready => many_migrate_at_once, a_newer_database_is_refused);
