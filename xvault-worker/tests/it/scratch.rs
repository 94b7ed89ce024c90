//! Restore tests of databases: dumps that real servers wrote, loaded into real scratch servers.

use tokio::sync::Mutex;
use xvault::core::protocol::{
    DatabasesTried, Finding, Outcome, Sealed, StoreAccess, Task, TaskResult, VerifyDepth, VerifyTask,
};
use xvault::core::secret::ExposeSecret as _;
use xvault::core::snapshot::Evidence;
use xvault::core::source::DumpFormat;
use xvault::core::{
    Disposition, JobId, JobStatus, Manifest, MysqlSettings, PostgresSettings, SnapshotKey, SourceSettings,
    clock,
};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::forge::Crafted;
use xvault_testkit::{Mariadb, Postgres};
use xvault_worker::WorkerConfig;

use crate::support::{Bench, eventually, key_of};

/// Tests that look at what is left on the shared servers do so one after the other.
static TURN: Mutex<()> = Mutex::const_new(());

/// An account of the shared PostgreSQL that may make databases and no more: its URL.
fn postgres_account(server: &Postgres) -> String {
    let make = "DO $$ BEGIN CREATE ROLE scratch LOGIN CREATEDB PASSWORD 'p@ss/word'; \
                EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
    let _ = server.psql("postgres", make);
    format!("postgres://scratch:p%40ss%2Fword@127.0.0.1:{}", server.port)
}

/// The same of the shared MariaDB, with the grants of the manual.
fn mariadb_account(server: &Mariadb) -> String {
    let _ = server.sql(
        "",
        "CREATE USER IF NOT EXISTS scratch@'%' IDENTIFIED BY 'secret'; \
         GRANT ALL ON `xvault\\_test\\_%`.* TO scratch@'%'; GRANT SET USER ON *.* TO scratch@'%'",
    );
    format!("mysql://scratch:secret@127.0.0.1:{}", server.port)
}

/// A worker that has these scratch servers.
async fn bench(postgres: Option<String>, mysql: Option<String>) -> Bench {
    let adjust = |config: &mut WorkerConfig| {
        // Debian's packages lag behind at times.
        config.allow_outdated_tools = true;
        (config.scratch_postgres_url, config.scratch_mysql_url) =
            (postgres.map(Into::into), mysql.map(Into::into));
    };
    Bench::with(adjust, None).await
}

/// A database of the shared PostgreSQL that `sql` was run in.
fn postgres_source(sql: &str) -> SourceSettings {
    let server = Postgres::shared();
    let url = server.create_database();
    let _ = server.psql(&url, sql);
    let name = url.rsplit('/').next().unwrap().to_owned();
    let mut settings = PostgresSettings::new("127.0.0.1", "postgres");
    (settings.port, settings.database) = (server.port, Some(name));
    SourceSettings::Postgres(settings)
}

fn mysql_source(sql: &str) -> SourceSettings {
    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, sql);
    let mut settings = MysqlSettings::new("127.0.0.1", Mariadb::USER);
    (settings.port, settings.database) = (server.port, Some(name));
    SourceSettings::Mysql(settings)
}

/// A snapshot of it.
async fn backed_up(bench: &Bench, source: SourceSettings) -> SnapshotKey {
    let password = match source {
        SourceSettings::Mysql(_) => Mariadb::shared().password.clone(),
        _ => Postgres::shared().password().to_owned(),
    };
    let sealed = Sealed::to(&bench.recipient, password.as_bytes()).unwrap();
    let task = bench.backup_of(source, Some(sealed));
    let key = key_of(&task);
    let made = bench.submit(task);
    bench.reaches(&made, JobStatus::Completed).await;
    key
}

fn begin(bench: &Bench, snapshot: &SnapshotKey) -> JobId {
    let secret = bench.identity.to_secret();
    let identities = vec![Sealed::to(&bench.recipient, secret.expose_secret().as_bytes()).unwrap()];
    let (snapshot, store, depth) = (snapshot.clone(), StoreAccess::LocalFs, VerifyDepth::RestoreTest);
    let job_id = bench.hub.add(Task::Verify(Box::new(VerifyTask { snapshot, store, depth, identities })));
    bench.send_own(&job_id);
    job_id
}

async fn found(bench: &Bench, snapshot: &SnapshotKey) -> Finding {
    let job_id = begin(bench, snapshot);
    bench.reaches(&job_id, JobStatus::Completed).await;
    match bench.hub.job(&job_id, |job| job.outcome.clone()) {
        Some(Outcome::Completed { result: TaskResult::Verify { finding, .. } }) => finding,
        other => panic!("{other:?}"),
    }
}

/// How an attempt failed: code, message and disposition.
async fn failure(bench: &Bench, snapshot: &SnapshotKey) -> (String, String, Disposition) {
    let job_id = begin(bench, snapshot);
    assert!(eventually(|| bench.hub.job(&job_id, |job| job.completions == 1)).await);
    match bench.hub.job(&job_id, |job| job.outcome.clone()) {
        Some(Outcome::Failed { error, disposition }) => (error.code, error.message, disposition),
        other => panic!("{other:?}"),
    }
}

fn tried(finding: &Finding) -> DatabasesTried {
    match finding {
        Finding::Ok { databases: Some(tried), .. } => *tried,
        other => panic!("{other:?}"),
    }
}

/// Scratch databases that are there.
fn left_in_postgres() -> String {
    Postgres::shared().psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'xvault_test%'")
}

fn left_in_mariadb() -> String {
    Mariadb::shared().sql("", "SHOW DATABASES LIKE 'xvault_test%'")
}

#[tokio::test]
async fn dumps_are_loaded_into_scratch_databases_counted_and_dropped() {
    let _turn = TURN.lock().await;
    let (postgres, mysql) = (postgres_account(Postgres::shared()), mariadb_account(Mariadb::shared()));
    let bench = bench(Some(postgres), Some(mysql)).await;
    let snapshot = backed_up(&bench, postgres_source(POSTGRES_SAMPLE)).await;
    let of_postgres = tried(&found(&bench, &snapshot).await);
    assert_eq!((of_postgres.loaded, of_postgres.not_loaded, of_postgres.tables), (1, 0, 9));
    assert_eq!(of_postgres.rows, 2004 + 2 + 50 + 20 + 40 + 301 + 3);
    assert!(of_postgres.bytes > 100_000, "{of_postgres:?}");
    let snapshot = backed_up(&bench, mysql_source(MARIADB_SAMPLE)).await;
    let of_mysql = tried(&found(&bench, &snapshot).await);
    assert_eq!((of_mysql.loaded, of_mysql.not_loaded), (1, 0));
    assert_eq!(of_mysql.rows, 2004 + 2 + 50 + 20 + 40 + 301 + 3 + 2);
    assert_eq!((left_in_postgres(), left_in_mariadb()), (String::new(), String::new()));
}

#[tokio::test]
async fn without_a_scratch_server_dumps_are_counted_like_files_and_that_is_said() {
    let bench = bench(None, None).await;
    let snapshot = backed_up(&bench, mysql_source("CREATE TABLE t (a INT)")).await;
    let tried = tried(&found(&bench, &snapshot).await);
    assert_eq!(tried, DatabasesTried { not_loaded: 1, ..DatabasesTried::default() });
}

/// A check that looks at another table is fine for as long as nobody restores it: a dump that every hash calls sound.
#[tokio::test]
async fn a_dump_that_its_database_refuses_is_damage_and_names_what_the_server_said() {
    let _turn = TURN.lock().await;
    let bench = bench(Some(postgres_account(Postgres::shared())), None).await;
    let source = postgres_source(
        "CREATE TABLE parents (id int); INSERT INTO parents VALUES (1); \
         CREATE FUNCTION public.known(i int) RETURNS bool LANGUAGE sql AS \
             'SELECT EXISTS (SELECT FROM public.parents WHERE id = i)'; \
         CREATE TABLE children (parent int CHECK (public.known(parent))); INSERT INTO children VALUES (1)",
    );
    let snapshot = backed_up(&bench, source).await;
    let Finding::Damaged { damage } = found(&bench, &snapshot).await else { panic!("it was loaded") };
    for part in ["backup.tar.zst.enc", "database/", ".dump", "children_parent_check"] {
        assert!(damage.contains(part), "{part}: {damage}");
    }
    assert_eq!(left_in_postgres(), "");
}

#[tokio::test]
async fn what_the_scratch_server_lacks_says_nothing_of_a_snapshot() {
    // Plain SQL names its owner, whom another server does not know.
    let mut source = postgres_source(
        "DO $$ BEGIN CREATE ROLE owner_of_things; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         CREATE TABLE t (a int); ALTER TABLE t OWNER TO owner_of_things",
    );
    if let SourceSettings::Postgres(settings) = &mut source {
        settings.format = DumpFormat::Plain;
    }
    let other = Postgres::start();
    let there = bench(Some(postgres_account(&other)), None).await;
    let snapshot = backed_up(&there, source.clone()).await;
    let (code, told, disposition) = failure(&there, &snapshot).await;
    assert_eq!((code.as_str(), disposition), ("scratch_server", Disposition::Permanent), "{told}");
    // Where it is, the worker's own log says.
    assert!(told.contains("owner_of_things") && !told.contains("127.0.0.1"), "{told}");
    // Nobody is there any more.
    drop(other);
    let (code, told, disposition) = failure(&there, &snapshot).await;
    assert_eq!((code.as_str(), disposition), ("scratch_server", Disposition::Transient), "{told}");
    assert!(!told.contains("p@ss") && !told.contains("127.0.0.1"), "{told}");
}

/// As the manual says of an account without `SET USER`.
#[tokio::test]
async fn what_belongs_to_others_is_not_loaded_without_the_right_to_that_and_that_says_nothing_of_the_snapshot()
 {
    let server = Mariadb::shared();
    let _ = server.sql(
        "",
        "CREATE USER IF NOT EXISTS modest@'%' IDENTIFIED BY 'secret'; \
         GRANT ALL ON `xvault\\_test\\_%`.* TO modest@'%'",
    );
    let bench = bench(None, Some(format!("mysql://modest:secret@127.0.0.1:{}", server.port))).await;
    let plain = backed_up(&bench, mysql_source("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")).await;
    assert_eq!(tried(&found(&bench, &plain).await).rows, 1);
    let view = "CREATE TABLE t (a int); CREATE DEFINER=root@localhost VIEW v AS SELECT a FROM t";
    let snapshot = backed_up(&bench, mysql_source(view)).await;
    let (code, told, _) = failure(&bench, &snapshot).await;
    assert_eq!(code, "scratch_server", "{told}");
    assert!(told.contains("SET USER"), "{told}");
}

#[tokio::test]
async fn an_account_that_reaches_the_servers_machine_is_refused() {
    let (postgres, mariadb) = (Postgres::shared(), Mariadb::shared());
    let superuser = format!("postgres://postgres:{}@127.0.0.1:{}", postgres.password(), postgres.port);
    let mighty = format!("mysql://{}:{}@127.0.0.1:{}", Mariadb::USER, mariadb.password, mariadb.port);
    let bench = bench(Some(superuser), Some(mighty)).await;
    for source in [postgres_source("CREATE TABLE t (a int)"), mysql_source("CREATE TABLE t (a int)")] {
        let snapshot = backed_up(&bench, source).await;
        let (code, told, disposition) = failure(&bench, &snapshot).await;
        assert_eq!((code.as_str(), disposition), ("scratch_server", Disposition::Permanent), "{told}");
        assert!(told.contains("may use the files or the programs"), "{told}");
    }
}

#[tokio::test]
async fn what_killed_workers_left_is_dropped_after_a_day_and_nothing_else_is() {
    let _turn = TURN.lock().await;
    let (postgres, mariadb) = (Postgres::shared(), Mariadb::shared());
    let accounts = (postgres_account(postgres), mariadb_account(mariadb));
    // `UUIDv7`s begin with their time.
    let young = clock::new_id().replace('-', "");
    let old = format!("{:012x}{}", (clock::now().as_millisecond() - 25 * 3_600_000), &young[12..]);
    let names = [
        format!("xvault_test_{old}"),
        format!("xvault_test_{young}"),
        "xvault_test_of_somebody_else".to_owned(),
    ];
    for name in &names {
        let _ = postgres.psql("postgres", &format!("CREATE DATABASE {name} OWNER scratch"));
        let _ = mariadb.sql("", &format!("CREATE DATABASE {name}"));
    }
    let _bench = bench(Some(accounts.0), Some(accounts.1)).await;
    let old_is_gone = || !left_in_postgres().contains(&old) && !left_in_mariadb().contains(&old);
    assert!(eventually(old_is_gone).await, "{} {}", left_in_postgres(), left_in_mariadb());
    for name in &names[1..] {
        assert!(left_in_postgres().contains(name) && left_in_mariadb().contains(name), "{name}");
        let _ = postgres.psql("postgres", &format!("DROP DATABASE {name}"));
        let _ = mariadb.sql("", &format!("DROP DATABASE {name}"));
    }
}

/// A dump that was taken out of artifact, index and totals alike, so that every hash fits.
#[tokio::test]
async fn a_dump_fewer_than_the_manifest_promises_is_damage() {
    let bench = bench(None, None).await;
    let mut crafted = Crafted::default();
    let forged = crafted.directory("database").file("database/one.sql", b"-- MariaDB dump").finish();
    forged.commit(&bench.storage(), &bench.identity.recipient());
    let file = bench.storage().join(forged.key.prefix()).join("manifest.json");
    for (promised, is_sound) in [(1, true), (2, false)] {
        let mut manifest = Manifest::from_json(&std::fs::read(&file).unwrap()).unwrap();
        manifest.source_type = "mysql".to_owned();
        let (tool, server) = ("mariadb-dump".to_owned(), "MariaDB".to_owned());
        manifest.evidence = Evidence::Dump { dumps: promised, tool, server };
        std::fs::write(&file, manifest.to_json().unwrap()).unwrap();
        match found(&bench, &forged.key).await {
            Finding::Ok { databases: Some(tried), .. } => assert!(is_sound && tried.not_loaded == 1),
            Finding::Damaged { damage } => {
                assert!(
                    !is_sound && damage.contains("holds 1 dumps, and its manifest promises 2"),
                    "{damage}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
