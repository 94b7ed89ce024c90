//! Cancelling ends a dump on both ends: the tool, here or on the SSH server, and its session in the database.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use xvault_connectors::{Control, Error};
use xvault_testkit::tools::command;
use xvault_testkit::{Mariadb, Postgres, Sshd};

use crate::db_support::{Db, WAYS, Way};
use crate::db_trouble::{fake, folder, mysql, postgres};
use crate::ssh_support::Kept;

/// All processes for which it is so. One that has ended stays in the list until somebody asks how, who may never come.
fn processes(so: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id() && lives(*pid) && so(*pid)).collect()
}

/// By the letter behind the program's name, which may hold anything.
fn lives(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = String::from_utf8_lossy(&stat).rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Those whose command line holds `word`.
pub(crate) fn with_word(word: &str) -> Vec<u32> {
    processes(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(word.len()).any(|window| window == word.as_bytes())
    })
}

/// That nothing of the account is left but `before`: its number may have been another's, who left something.
async fn account_ends(sshd: &Sshd, before: &[u32]) {
    soon("a process of the account lives", || sshd.processes().iter().all(|pid| before.contains(pid))).await;
}

pub(crate) async fn soon(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Cancels a pull of `db` once `is_in_the_middle`, and looks that nothing is left: of its tools, by a word on their command lines,
/// and of its sessions, which `sessions` counts.
async fn cancelled(
    db: Db,
    word: &str,
    mut kept: Kept,
    is_in_the_middle: impl Fn() -> bool,
    sessions: impl Fn() -> String,
) {
    let control = Control::default();
    let cancel = async {
        soon("the dump is in its middle", is_in_the_middle).await;
        assert!(!with_word(word).is_empty(), "the tool is not seen");
        assert_ne!(sessions(), "0\n", "its session is not seen");
        control.cancel_token().cancel();
    };
    let (ended, ()) = tokio::join!(db.pull_into(&mut kept, &control), cancel);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert!(
        kept.open || kept.entries.iter().all(|(entry, _)| !entry.has_body()),
        "the body of the dump was not ended"
    );
    soon("the tool lives", || with_word(word).is_empty()).await;
    soon("its session lives", || sessions() == "0\n").await;
}

/// Holds a table that no dump can do without.
pub(crate) async fn holding(server: &Postgres, url: &str) -> Child {
    let hold = "BEGIN; LOCK TABLE plain IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)";
    let holder = command("psql", ["-X", "-q", "-d", url, "-c", hold]).spawn().unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 'plain'::regclass AND granted";
    soon("the lock is held", || server.psql(url, held) != "0\n").await;
    holder
}

/// Dumps that wait for a lock write nothing: only being ended ends them.
#[tokio::test]
async fn cancelling_a_dump_of_postgresql_that_waits_ends_it_on_both_ends() {
    let (server, url) = postgres();
    let mut holder = holding(server, &url).await;
    let name = url.rsplit('/').next().unwrap();
    let waits = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                 WHERE NOT granted AND relation = 'plain'::regclass AND application_name = 'xvault'";
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'xvault'"
    );
    for way in WAYS {
        let sshd = Sshd::builder().start();
        let before = sshd.processes();
        let db = Db::postgres(server, &url).by(way, &sshd);
        let is_waiting = || server.psql(&url, waits) != "0\n";
        let ask = || server.psql("postgres", &sessions);
        cancelled(db, &format!("dbname='{name}'"), Kept::default(), is_waiting, ask).await;
        account_ends(&sshd, &before).await;
    }
    let _ = holder.kill();
    let _ = holder.wait();
}

/// A sink that takes its time, so that the dump stands in the middle of its data.
fn slow() -> Kept {
    Kept { slow: Some(Duration::from_millis(200)), ..Kept::default() }
}

#[tokio::test]
async fn cancelling_a_dump_in_the_middle_of_its_data_ends_it_on_both_ends() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    let _ = postgres.psql(&url, "INSERT INTO large SELECT id, body || id FROM large, generate_series(1, 40)");
    let _ = mysql.sql(&name, "INSERT INTO large SELECT id, body, raw FROM large, seq_1_to_20");
    let database = url.rsplit('/').next().unwrap();
    for way in [Way::Direct, Way::Tunnel, Way::Remote] {
        let sshd = Sshd::builder().start();
        let before = sshd.processes();
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'xvault' AND query LIKE 'COPY%large%'"
        );
        let ask = || Postgres::shared().psql("postgres", &sessions);
        let db = Db::postgres(postgres, &url).set("format", "plain").by(way, &sshd);
        cancelled(db, &format!("dbname='{database}'"), slow(), || ask() != "0\n", ask).await;

        let sessions = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{name}' AND INFO LIKE '%`large`%'"
        );
        let ask = || Mariadb::shared().sql("", &sessions);
        let db = Db::mysql(mysql, &name).by(way, &sshd);
        cancelled(db, &format!("--\0{name}"), slow(), || ask() != "0\n", ask).await;
        account_ends(&sshd, &before).await;
    }
}

/// The look for the tool that dumps what belongs to no database.
#[tokio::test]
async fn cancelling_waits_for_no_tool_that_does_not_tell_its_version() {
    let ((server, url), dir) = (postgres(), folder());
    fake(dir.path(), "pg_dumpall", "sleep 20");
    let mut db = Db::postgres(server, &url).set("globals", true);
    db.tools.folders.push(dir.path().to_owned());
    let (control, mut kept) = (Control::default(), Kept::default());
    let tool = dir.path().join("pg_dumpall").display().to_string();
    let cancel = async {
        soon("the tool is asked", || !with_word(&tool).is_empty()).await;
        control.cancel_token().cancel();
        Instant::now()
    };
    let (ended, cancelled) = tokio::join!(db.pull_into(&mut kept, &control), cancel);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert!(cancelled.elapsed() < Duration::from_secs(8), "{:?}", cancelled.elapsed());
}
