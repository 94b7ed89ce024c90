//! Dumps into databases, by every way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Mutex;
use xvault_connectors::database::{DumpReader, Loaded, Trial, dump_channel};
use xvault_connectors::{Control, DatabaseLoad, Error, Scratch};
use xvault_core::DatabaseTarget;
use xvault_core::monitor::Recorder;
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::{FaultProxy, Mariadb, Postgres, Sshd};

use crate::db_support::{Db, WAYS, Way, body};

/// A dump that comes in small pieces; whole, or broken off after so many bytes.
pub(crate) fn dump(content: &[u8], broken_after: Option<usize>) -> DumpReader {
    let (writer, reader) = dump_channel();
    let content = Bytes::copy_from_slice(content);
    tokio::spawn(async move {
        let end = broken_after.unwrap_or(content.len());
        for start in (0..end).step_by(10_000) {
            if writer.push(content.slice(start..end.min(start + 10_000))).await.is_err() {
                return;
            }
        }
        if broken_after.is_none() {
            writer.finished().await;
        }
    });
    reader
}

/// A whole dump by `pg_dump --format=plain` that has this in it.
pub(crate) fn of_postgres(sql: &str) -> Vec<u8> {
    format!("--\n-- PostgreSQL database dump\n--\n\n{sql}\n--\n-- PostgreSQL database dump complete\n--\n\n")
        .into_bytes()
}

/// As [`of_postgres`], by `mariadb-dump`.
pub(crate) fn of_mariadb(sql: &str) -> Vec<u8> {
    format!("-- MariaDB dump 10.19\n{sql}\n-- Dump completed on 2026-01-01  0:00:00\n").into_bytes()
}

pub(crate) fn load_of(db: &Db) -> DatabaseLoad {
    let target: DatabaseTarget =
        serde_json::from_value(json!({"type": db.kind, "config": db.config})).unwrap();
    DatabaseLoad::new(&target, db.login(&target.server())).unwrap()
}

pub(crate) async fn load(db: &Db, dump: DumpReader) -> Result<Loaded, Error> {
    load_of(db).load(dump, &Control::default()).await
}

/// Loads a whole dump into the database of `db`, which is there and empty.
pub(crate) async fn load_into(db: &Db, content: &[u8]) {
    let loaded = load(db, dump(content, None)).await.unwrap();
    assert_eq!(loaded.bytes, content.len() as u64);
}

/// Tests that look at what is left on the shared servers do so one after the other.
static TURN: Mutex<()> = Mutex::const_new(());

/// The server of `db`, whose account may do everything.
fn scratch(db: &Db) -> Scratch {
    let server: DatabaseTarget =
        serde_json::from_value(json!({"type": db.kind, "config": db.config})).unwrap();
    Scratch::new(&server, db.login(&server.server())).unwrap()
}

pub(crate) async fn trial(db: &Db, dump: DumpReader) -> Result<Trial, Error> {
    scratch(db).any_account().trial(dump, &Control::default()).await
}

fn postgres_sample(format: &str) -> (&'static Postgres, String, Db) {
    let postgres = Postgres::shared();
    let url = postgres.create_database();
    let _ = postgres.psql(&url, POSTGRES_SAMPLE);
    let source = Db::postgres(postgres, &url).set("format", format);
    (postgres, url, source)
}

fn to_postgres(server: &Postgres, name: &str) -> Db {
    Db::postgres(server, name).set("create", true)
}

#[tokio::test]
async fn a_postgresql_dump_loads_into_a_fresh_server_by_every_way() {
    let sshd = Sshd::builder().start();
    let fresh = Postgres::start();
    for format in ["custom", "plain"] {
        let (postgres, url, source) = postgres_sample(format);
        let (kept, _) = source.pull().await;
        let content = &kept.entries[1].1;
        for way in WAYS {
            let name = format!("{format} it's \"{way:?}\" \u{1f600}");
            let loaded = load(&to_postgres(&fresh, &name).by(way, &sshd), dump(content, None)).await.unwrap();
            assert_eq!((loaded.created, loaded.bytes), (true, content.len() as u64));
            assert_eq!(fresh.checksums(&name), postgres.checksums(&url), "{format} {way:?}");
        }
    }
}

#[tokio::test]
async fn a_mariadb_dump_loads_into_a_fresh_server_by_every_way() {
    let sshd = Sshd::builder().start();
    let (server, fresh) = (Mariadb::shared(), Mariadb::start());
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    let (kept, _) = Db::mysql(server, &name).pull().await;
    let content = &kept.entries[1].1;
    for way in WAYS {
        let _ = fresh.sql("", &format!("DROP DATABASE IF EXISTS {name}"));
        let target = Db::mysql(&fresh, &name).set("create", true).by(way, &sshd);
        let loaded = load(&target, dump(content, None)).await.unwrap();
        assert!(loaded.created);
        assert_eq!(fresh.checksums(&name), server.checksums(&name), "{way:?}");
    }
    let odd = "it's `a/b` %";
    let target = Db::mysql(&fresh, odd).set("create", true);
    assert!(load(&target, dump(content, None)).await.unwrap().created);
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_asked() {
    let (postgres, url, source) = postgres_sample("custom");
    let (kept, _) = source.pull().await;
    let content = &kept.entries[1].1;
    let name = url.rsplit('/').next().unwrap();
    let _ = postgres.psql(&url, "DELETE FROM child");
    let refused = load(&to_postgres(postgres, name), dump(content, None)).await.unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    let missing = load(&Db::postgres(postgres, "not there"), dump(content, None)).await.unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
    let loaded =
        load(&Db::postgres(postgres, name).set("overwrite", true), dump(content, None)).await.unwrap();
    assert!(!loaded.created);
    assert_eq!(postgres.psql(&url, "SELECT count(*) FROM child"), "40\n");

    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    let (kept, _) = Db::mysql(server, &name).pull().await;
    let content = &kept.entries[1].1;
    let _ = server.sql(&name, "DELETE FROM child");
    let refused = load(&Db::mysql(server, &name), dump(content, None)).await.unwrap_err();
    assert!(refused.to_string().contains("not empty"), "{refused}");
    let _ = load(&Db::mysql(server, &name).set("overwrite", true), dump(content, None)).await.unwrap();
    assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM child"), "40\n");
}

#[tokio::test]
async fn a_dump_that_breaks_off_leaves_nothing() {
    let sshd = Sshd::builder().start();
    for format in ["custom", "plain"] {
        let (postgres, _, source) = postgres_sample(format);
        let (kept, _) = source.pull().await;
        let content = &kept.entries[1].1;
        for way in [Way::Direct, Way::Remote] {
            let cut = Some(content.len() - 20_000);
            let fresh = format!("fresh {format} {way:?}");
            let error =
                load(&to_postgres(postgres, &fresh).by(way, &sshd), dump(content, cut)).await.unwrap_err();
            assert!(matches!(error, Error::Incomplete(_)), "{error:?}");
            let there = "SELECT count(*) FROM pg_database WHERE datname LIKE 'fresh %'";
            assert_eq!(postgres.psql("postgres", there), "0\n", "{format} {way:?}");
            // A database that was there is as it was.
            let own = postgres.create_database();
            let name = own.rsplit('/').next().unwrap();
            let error =
                load(&Db::postgres(postgres, name).by(way, &sshd), dump(content, cut)).await.unwrap_err();
            assert!(matches!(error, Error::Incomplete(_)), "{error:?}");
            let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
            assert_eq!(postgres.psql(&own, tables), "0\n", "{format} {way:?}");
        }
    }
    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    let (kept, _) = Db::mysql(server, &name).pull().await;
    let content = &kept.entries[1].1;
    let target = Db::mysql(server, "fresh_cut").set("create", true);
    let error = load(&target, dump(content, Some(content.len() / 2))).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete(_)), "{error:?}");
    assert_eq!(server.sql("", "SHOW DATABASES LIKE 'fresh_cut'"), "");
}

/// As a file on somebody's disk a dump may have been cut, in front of the rows of its last tables.
#[tokio::test]
async fn a_dump_that_was_cut_is_refused_and_leaves_nothing() {
    let (postgres, server) = (Postgres::shared(), Mariadb::shared());
    let rows: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let plain = of_postgres(&format!(
        "CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n{rows}\\.\n\nCREATE TABLE u (a int);\n"
    ));
    let values: String = (0..1000).map(|number| format!("INSERT INTO t VALUES ({number});\n")).collect();
    let sql = of_mariadb(&format!("CREATE TABLE t (a INT);\n{values}CREATE TABLE u (a INT);\n"));
    for (target, content, end) in [
        (to_postgres(postgres, "cut short"), plain, "PostgreSQL database dump complete"),
        (Db::mysql(server, "cut short").set("create", true), sql, "Dump completed"),
    ] {
        for kept in [content.len() / 2, content.len() - 60] {
            let error = load(&target, dump(&content[..kept], None)).await.unwrap_err();
            assert!(matches!(error, Error::DumpRefused { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("{end}`): it was cut")), "{error}");
        }
    }
    let left = postgres.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'cut short'");
    assert_eq!((left.as_str(), server.sql("", "SHOW DATABASES LIKE 'cut short'").as_str()), ("0\n", ""));
    // One that is there already gets nothing of it.
    let url = postgres.create_database();
    let target = Db::postgres(postgres, &url).set("overwrite", true);
    let cut = of_postgres(&format!("CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n{rows}"));
    let _ = load(&target, dump(&cut[..cut.len() - 60], None)).await.unwrap_err();
    assert_eq!(postgres.psql(&url, "SELECT count(*) FROM pg_class WHERE relname = 't'"), "0\n");
}

/// A statement takes a server as long as it takes, and a tool that loads says nothing meanwhile.
#[tokio::test]
async fn a_load_takes_as_long_as_it_takes() {
    let sshd = Sshd::builder().start();
    let (postgres, server) = (Postgres::shared(), Mariadb::shared());
    let more = "-- nothing\n".repeat(20_000);
    let plain =
        of_postgres(&format!("SELECT pg_sleep(6);\nCREATE TABLE t (a int);\n{more}SELECT pg_sleep(6);"));
    let sql = of_mariadb(&format!("SELECT SLEEP(6);\nCREATE TABLE t (a INT);\n{more}SELECT SLEEP(6);"));
    for way in [Way::Direct, Way::Remote] {
        for (target, content) in [
            (to_postgres(postgres, &format!("slow {way:?}")), &plain),
            (Db::mysql(server, &format!("slow {way:?}")).set("create", true), &sql),
        ] {
            let mut target = target.by(way, &sshd);
            target.tools.idle = Duration::from_secs(4);
            assert!(load(&target, dump(content, None)).await.unwrap().created, "{way:?}");
        }
    }
}

#[tokio::test]
async fn what_the_server_does_not_take_is_told_and_undone() {
    let postgres = Postgres::shared();
    let bad = of_postgres("CREATE TABLE t (a int);\nSELECT no_such_function();");
    let error = load(&to_postgres(postgres, "bad_sql"), dump(&bad, None)).await.unwrap_err();
    assert!(error.to_string().contains("no_such_function"), "{error}");
    assert_eq!(
        postgres.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'bad_sql'"),
        "0\n"
    );
    let server = Mariadb::shared();
    let bad = of_mariadb("CREATE TABLE t (a INT);\nSELECT * FROM no_such_table;");
    let error = load(&Db::mysql(server, "bad_sql").set("create", true), dump(&bad, None)).await.unwrap_err();
    assert!(error.to_string().contains("no_such_table"), "{error}");
    let other = load(&to_postgres(postgres, "other_kind"), dump(&bad, None)).await.unwrap_err();
    assert!(other.to_string().contains("can be loaded into PostgreSQL"), "{other}");
    let none =
        load(&Db::mysql(server, "other_kind").set("create", true), dump(b"hello", None)).await.unwrap_err();
    assert!(none.to_string().contains("can be loaded into MySQL"), "{none}");
}

/// A directory that tools can write to, what must never be in it, and the command that makes that.
fn mark() -> (tempfile::TempDir, std::path::PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534)).unwrap();
    let mark = dir.path().join("owned");
    let touch = format!("touch {}", mark.display());
    (dir, mark, touch)
}

/// A hostile server, or whoever can write a dump, must not run programs where it is loaded.
#[tokio::test]
async fn commands_of_psql_in_a_dump_are_not_run() {
    let (_dir, mark, touch) = mark();
    // The last ones tell `psql` to allow everything again, by a word of their own or by one that could be guessed.
    let ways = ["", "\\restrict k\n\\unrestrict k\n", "\\unrestrict xvault\n"];
    for way in ways {
        let hostile = of_postgres(&format!("{way}\\! {touch}"));
        let target = to_postgres(Postgres::shared(), "hostile");
        let loaded = load(&target, dump(&hostile, None)).await;
        assert!(!mark.exists(), "{way:?} ran a program");
        let error = loaded.unwrap_err();
        assert!(error.to_string().contains("restrict"), "{way:?}: {error}");
    }
}

#[tokio::test]
async fn commands_of_mysqls_client_in_a_dump_are_not_run() {
    let (_dir, mark, touch) = mark();
    for way in ["\\! ", "system ", "\\P "] {
        let hostile = of_mariadb(&format!("SELECT 1;\n{way}{touch}\nSELECT 1;"));
        let target = Db::mysql(Mariadb::shared(), "hostile").set("create", true).set("overwrite", true);
        let _ = load(&target, dump(&hostile, None)).await;
        assert!(!mark.exists(), "{way:?} ran a program");
    }
}

#[tokio::test]
async fn a_trial_counts_and_leaves_nothing() {
    let _turn = TURN.lock().await;
    let (postgres, _, source) = postgres_sample("custom");
    let (kept, _) = source.pull().await;
    let content = &kept.entries[1].1;
    let found = trial(&Db::postgres(postgres, "never_made"), dump(content, None)).await.unwrap();
    assert_eq!((found.tables, found.dump_bytes), (9, content.len() as u64));
    assert_eq!(found.rows, 2004 + 2 + 50 + 20 + 40 + 301 + 3);
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'xvault_test%' OR datname = 'never_made'";
    assert_eq!(postgres.psql("postgres", left), "0\n");
    let broken = trial(&Db::postgres(postgres, "never_made"), dump(content, Some(1000))).await.unwrap_err();
    assert!(matches!(broken, Error::Incomplete(_)), "{broken:?}");
    assert_eq!(postgres.psql("postgres", left), "0\n");

    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    let (kept, _) = Db::mysql(server, &name).pull().await;
    let dumped = body(&kept, &format!("database/{name}.sql"));
    let found = trial(&Db::mysql(server, "never_made"), dump(dumped, None)).await.unwrap();
    assert_eq!(found.rows, 2004 + 2 + 50 + 20 + 40 + 301 + 3 + 2);
    assert_eq!(server.sql("", "SHOW DATABASES LIKE 'xvault_test%'"), "");
}

#[tokio::test]
async fn a_dump_that_can_not_be_loaded_is_told_apart_from_a_server_that_can_not_load_it() {
    let _turn = TURN.lock().await;
    let (postgres, server) = (Postgres::shared(), Mariadb::shared());
    let (postgres, mysql) = (Db::postgres(postgres, "none"), Db::mysql(server, "none"));
    for (db, content, part) in [
        (&postgres, of_postgres("CREATE TABLE t (a int); SELECT no_such_function();"), "no_such_function"),
        (&postgres, b"PGDMP\x01\x0e\x00 and nothing that follows".to_vec(), "pg_restore"),
        (&postgres, b"hello".to_vec(), "no dump"),
        (&postgres, of_mariadb("SELECT 1;"), "no dump"),
        (&mysql, of_mariadb("CREATE TABLE t (a INT);\nINSERT INTO t VALUES (1;"), "syntax"),
        (&mysql, of_postgres("SELECT 1;"), "no dump"),
    ] {
        let error = trial(db, dump(&content, None)).await.unwrap_err();
        assert!(matches!(error, Error::DumpRefused { .. }), "{part}: {error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    for (db, content, part) in [
        (&postgres, of_postgres("CREATE EXTENSION no_such_extension;"), "no_such_extension"),
        (
            &postgres,
            of_postgres("CREATE TABLE t (a int);\nALTER TABLE t OWNER TO nobody_here;"),
            "nobody_here",
        ),
        (&mysql, of_mariadb("CREATE TABLE t (a TEXT COLLATE utf8mb4_0900_as_cs);"), "utf8mb4_0900_as_cs"),
    ] {
        let error = trial(db, dump(&content, None)).await.unwrap_err();
        assert!(matches!(error, Error::Target(_)), "{part}: {error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_trial_that_is_cancelled_leaves_nothing() {
    let _turn = TURN.lock().await;
    let server = Mariadb::shared();
    let control = Control::default();
    let (writer, reader) = dump_channel();
    writer.push(Bytes::from_static(b"-- MariaDB dump 10.19\nCREATE TABLE t (a INT);\n")).await.unwrap();
    // The last piece is held back until the dump is known to be whole, so another one follows what shall be loaded.
    for _ in 0..3 {
        writer.push(Bytes::from("-- nothing\n".repeat(1000))).await.unwrap();
    }
    let (of_mysql, watching) = (scratch(&Db::mysql(server, "none")).any_account(), control.clone());
    let trial = tokio::spawn(async move { of_mysql.trial(reader, &watching).await });
    let made = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'xvault\\_test\\_%' AND TABLE_NAME = 't'";
    for _ in 0..300 {
        if server.sql("", made) != "0\n" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(server.sql("", made), "1\n");
    control.cancel_token().cancel();
    assert!(matches!(trial.await.unwrap(), Err(Error::Cancelled)));
    assert_eq!(server.sql("", made), "0\n");
}

/// What remembers that its database was of another character set: a dump goes back to that for each.
const MOVED: &str = r"
CREATE TABLE t (a INT, b TEXT) DEFAULT CHARSET utf8mb4;
INSERT INTO t VALUES (1, 'x\nALTER DATABASE `x` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;\n');
CREATE PROCEDURE p() SELECT 1;
CREATE PROCEDURE q() ALTER DATABASE `elsewhere` CHARACTER SET latin1 COLLATE latin1_swedish_ci;
CREATE TRIGGER u BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1;
CREATE EVENT e ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01 00:00:00' DISABLE DO DELETE FROM t;
";

/// An account that may make scratch databases, and no more, as docs/verify.md has it.
fn scratch_account(server: &Mariadb, definer: &str) -> Db {
    let _ = server.sql("", &format!("CREATE USER IF NOT EXISTS maker IDENTIFIED BY 'pw'; GRANT ALL ON `xvault\\_test\\_%`.* TO maker; GRANT {definer} ON *.* TO maker"));
    let mut db = Db::mysql(server, "none").set("username", "maker");
    db.password = "pw".into();
    db
}

fn defaults(server: &Mariadb, name: &str) -> String {
    server.sql(
        "",
        &format!(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{name}'"
        ),
    )
}

/// A dump of a database that was moved to another character set goes back to the old one for a while: it must do that where it is
/// loaded, and nowhere else.
async fn check_moved(server: &Mariadb, tools: impl Fn(Db) -> Db, definer: &str) {
    let old = server.create_database();
    let _ = server.sql("", &format!("ALTER DATABASE {old} CHARACTER SET latin1 COLLATE latin1_swedish_ci"));
    let _ = server.sql(&old, MOVED);
    let _ = server.sql("", &format!("ALTER DATABASE {old} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"));
    let expected = server.checksums(&old);
    let (kept, _) = tools(Db::mysql(server, &old)).pull().await;
    let content = body(&kept, &format!("database/{old}.sql"));
    let alter = format!("ALTER DATABASE `{old}` CHARACTER SET latin1");
    let found = String::from_utf8_lossy(content).matches(&alter).count();
    assert_eq!(found, 4, "no test: the tool writes no such lines");
    let limited = tools(scratch_account(server, definer));
    let tried = scratch(&limited).trial(dump(content, None), &Control::default()).await;
    assert_eq!(tried.unwrap().tables, 1);
    // One that breaks off in between leaves the original as it was.
    let end = content.windows(alter.len()).position(|part| part == alter.as_bytes()).unwrap();
    let broken = tools(Db::mysql(server, "moved_broken").set("create", true));
    let mut cut = content[..end + alter.len() + 40].to_vec();
    cut.extend_from_slice(b"\nSELECT nonsense;\n");
    assert!(load(&broken, dump(&cut, None)).await.is_err());
    assert_eq!(defaults(server, &old), "utf8mb4_bin\n");
    for (gone, name) in [(false, "moved_beside"), (true, "moved_away")] {
        if gone {
            let _ = server.sql("", &format!("DROP DATABASE {old}"));
        }
        let target = tools(Db::mysql(server, name).set("create", true));
        load(&target, dump(content, None)).await.unwrap();
        assert_eq!(server.checksums(name), expected, "{name}");
        assert_eq!(defaults(server, name), "utf8mb4_bin\n");
        let collations = format!(
            "SELECT GROUP_CONCAT(DATABASE_COLLATION) FROM (SELECT DATABASE_COLLATION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{name}' UNION ALL SELECT DATABASE_COLLATION FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{name}' UNION ALL SELECT DATABASE_COLLATION FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{name}') AS x"
        );
        assert_eq!(server.sql("", &collations), format!("{}\n", ["latin1_swedish_ci"; 4].join(",")));
    }
}

#[tokio::test]
async fn a_dump_that_changes_its_databases_defaults_changes_those_of_no_other() {
    let _turn = TURN.lock().await;
    check_moved(&Mariadb::start(), |db| db, "SET USER").await;
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn a_dump_of_mysql_that_changes_its_databases_defaults_changes_those_of_no_other() {
    let own_tools = |mut db: Db| {
        db.tools.folders.push(Mariadb::mysql_programs());
        db
    };
    check_moved(
        &Mariadb::start_mysql_with(&["--log-bin-trust-function-creators=ON"]),
        own_tools,
        "SET_ANY_DEFINER, SYSTEM_USER",
    )
    .await;
}

#[tokio::test]
async fn an_account_that_reaches_beyond_the_databases_is_refused_and_one_that_sees_others_rights_is_not() {
    let server = Mariadb::start();
    let account = || scratch_account(&server, "SELECT");
    let one = of_mariadb("CREATE TABLE t (a INT);");
    let tried = async |db: &Db| scratch(db).trial(dump(&one, None), &Control::default()).await;
    assert_eq!(tried(&account()).await.unwrap().tables, 1);
    let elsewhere = account().set("database", "not_ours").set("create", true);
    let refused = load(&elsewhere, dump(&one, None)).await.unwrap_err();
    assert!(matches!(refused, Error::Target(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("database `not_ours` could not be made: exit status 1: ERROR 1044"),
        "{refused}"
    );
    let mighty = [
        ("GRANT FILE ON *.* TO maker", "REVOKE FILE ON *.* FROM maker"),
        ("GRANT SUPER ON *.* TO maker", "REVOKE SUPER ON *.* FROM maker"),
        // A dump may take a role on.
        (
            "CREATE ROLE `a b`; CREATE ROLE inner_one; GRANT inner_one TO `a b`; GRANT FILE ON *.* TO inner_one; GRANT `a b` TO maker",
            "DROP ROLE `a b`",
        ),
    ];
    for (grant, revoke) in mighty {
        let _ = server.sql("", grant);
        let refused = tried(&account()).await.unwrap_err();
        assert!(refused.to_string().contains("may use the files"), "{grant}: {refused}");
        let _ = server.sql("", revoke);
    }
    assert_eq!(tried(&account()).await.unwrap().tables, 1);
}

/// A dump may come from a hostile server.
#[tokio::test]
async fn a_dump_reads_no_file_of_the_machine_that_loads_it() {
    let server = Mariadb::start();
    for file in ["/proc/self/fd/3", "/etc/passwd"] {
        let name = server.create_database();
        let theft =
            of_mariadb(&format!("CREATE TABLE t (a TEXT);\nLOAD DATA LOCAL INFILE '{file}' INTO TABLE t;"));
        let refused = load(&Db::mysql(&server, &name), dump(&theft, None)).await.unwrap_err();
        assert!(refused.to_string().contains("local infile"), "{refused}");
        assert_eq!(server.sql(&name, "SELECT COUNT(*) FROM t"), "0\n", "{file}");
    }
}

/// Rows are the customer's: errors and logs are kept by the service.
#[tokio::test]
async fn a_load_that_fails_tells_no_rows() {
    let server = Mariadb::shared();
    let name = server.create_database();
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone());
    for (bad, number) in [
        ("INSERT INTO t VALUES (1,'their secret'),\n(2,'another secret',3);", "ERROR 1136"),
        ("INSERT INTO t VALUES (1,'their secret'),\n(2,'their secret');", "ERROR 1062"),
        ("INSERT INTO t VALUES ('a\\nsecret',2);", "ERROR 1366"),
        ("INSERT INTO t VALUES (1,'x') 'a secret\nsecret';", "ERROR 1064"),
    ] {
        let bad = of_mariadb(&format!(
            "DROP TABLE IF EXISTS t;\nCREATE TABLE t (a INT, b VARCHAR(99) UNIQUE);\n{bad}"
        ));
        let target = Db::mysql(server, &name).set("overwrite", true);
        let failed = load_of(&target).load(dump(&bad, None), &control).await.unwrap_err();
        assert!(failed.to_string().contains(number), "{number}: {failed}");
        let told = format!("{failed} {:?}", seen.notes());
        assert!(!told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn a_database_of_routines_alone_is_not_empty() {
    let server = Mariadb::shared();
    let one = of_mariadb("DROP PROCEDURE IF EXISTS p;\nCREATE PROCEDURE p() SELECT 2;");
    for thing in [
        "CREATE PROCEDURE p() SELECT 1",
        "CREATE EVENT p ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01 00:00:00' DISABLE DO SELECT 1",
    ] {
        let name = server.create_database();
        let _ = server.sql(&name, thing);
        let refused = load(&Db::mysql(server, &name), dump(&one, None)).await.unwrap_err();
        assert!(matches!(refused, Error::NotEmpty { count: 1, .. }), "{thing}: {refused}");
    }
}

/// Nothing is wrong with a dump whose way was cut.
#[tokio::test]
async fn a_connection_cut_in_mid_load_says_nothing_of_the_dump() {
    let (mariadb, (postgres, _, source)) = (Mariadb::shared(), postgres_sample("plain"));
    let name = mariadb.create_database();
    let _ = mariadb.sql(&name, MARIADB_SAMPLE);
    let of_postgres = source.pull().await.0.entries.swap_remove(1).1;
    let of_mysql = Db::mysql(mariadb, &name).pull().await.0.entries.swap_remove(1).1;
    let there = postgres.create_database();
    for (db, port, content) in [
        (Db::postgres(postgres, &there), postgres.port, of_postgres),
        (Db::mysql(mariadb, &mariadb.create_database()), mariadb.port, of_mysql),
    ] {
        let proxy = FaultProxy::start(port);
        let db = db.set("port", proxy.port).set("tls_mode", "disable");
        let (writer, reader) = dump_channel();
        let feed = async {
            let (first, rest) = content.split_at(content.len() / 2);
            for piece in first.chunks(10_000) {
                writer.push(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            proxy.cut_now();
            for piece in rest.chunks(10_000) {
                if writer.push(Bytes::copy_from_slice(piece)).await.is_err() {
                    return;
                }
            }
            writer.finished().await;
        };
        let (loaded, ()) = tokio::join!(load(&db, reader), feed);
        let error = loaded.unwrap_err();
        assert!(matches!(error, Error::Connection { .. }), "{}: {error:?}", db.kind);
    }
}
