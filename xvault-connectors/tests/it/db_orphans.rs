//! A program that is killed leaves no tool at work.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use xvault_connectors::Control;

use crate::db_cancel::{holding, soon, with_word};
use crate::db_support::Db;
use crate::db_trouble::{mysql, postgres};
use crate::ssh_support::Kept;

const CHILD: &str = "XV_TEST_KILLED_DUMP";

/// Dumps `db` in a process of its own, which hardly takes what comes.
fn dumping(db: &Db) -> Child {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "db_orphans::a_tool_that_dumps_ends_with_the_program_that_started_it"]);
    child.env(CHILD, db.told()).stdout(Stdio::null()).spawn().unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn dump(told: &str) {
    let mut kept = Kept { slow: Some(Duration::from_secs(1)), ..Kept::default() };
    let _ = Db::of_told(told).pull_into(&mut kept, &Control::default()).await;
}

/// Kills the process that dumps `db` once a tool with `word` on its command line `is_at_work`, and says how long that lived on.
async fn outlived(db: &Db, word: &str, is_at_work: impl Fn() -> bool) -> Duration {
    let mut child = dumping(db);
    soon("the tool is at work", || is_at_work() && !with_word(word).is_empty()).await;
    child.kill().unwrap();
    let killed = Instant::now();
    child.wait().unwrap();
    soon("the tool lives", || with_word(word).is_empty()).await;
    killed.elapsed()
}

/// What it writes next goes nowhere.
#[test]
fn a_tool_that_dumps_ends_with_the_program_that_started_it() {
    if let Ok(told) = std::env::var(CHILD) {
        return dump(&told);
    }
    let ((pg, url), (my, name)) = (postgres(), mysql());
    let _ = pg.psql(&url, "INSERT INTO large SELECT id, body || id FROM large, generate_series(1, 40)");
    let _ = my.sql(&name, "INSERT INTO large SELECT id, body, raw FROM large, seq_1_to_20");
    let database = url.rsplit('/').next().unwrap();
    let copying = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE 'COPY%large%'"
    );
    let reading = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{name}' AND INFO LIKE '%`large`%'"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = Db::postgres(pg, &url).set("format", "plain");
        let is_copying = || pg.psql("postgres", &copying) != "0\n";
        let lived = outlived(&db, &format!("dbname='{database}'"), is_copying).await;
        assert!(lived < Duration::from_secs(5), "pg_dump: {lived:?}");
        let is_reading = || my.sql("", &reading) != "0\n";
        let lived = outlived(&Db::mysql(my, &name), &format!("--\0{name}"), is_reading).await;
        assert!(lived < Duration::from_secs(5), "mariadb-dump: {lived:?}");
    });
}

/// One that waits for a lock writes nothing meanwhile.
#[tokio::test]
async fn a_dump_of_postgresql_that_waits_ends_when_its_patience_does() {
    let (server, url) = postgres();
    let mut holder = holding(server, &url).await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'plain'::regclass";
    let db = Db::postgres(server, &url).set("lock_timeout_seconds", 4);
    let word = format!("dbname='{}'", url.rsplit('/').next().unwrap());
    let lived = outlived(&db, &word, || server.psql(&url, waits) != "0\n").await;
    assert!(lived < Duration::from_secs(9), "{lived:?}");
    let _ = holder.kill();
    let _ = holder.wait();
}
