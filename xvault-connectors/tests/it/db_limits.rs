//! Databases at the limits of what servers take: many tables, odd names, locks.

use std::time::{Duration, Instant};

use serde_json::json;
use xvault_connectors::source::Source;
use xvault_connectors::{DatabaseLogin, Error, MysqlSource, PostgresSource};
use xvault_core::{MysqlSettings, PostgresSettings};
use xvault_testkit::tools::command;
use xvault_testkit::{Mariadb, Postgres, Sshd};

use crate::db_support::{Db, WAYS, Way, body, mariadb, pg_restore};

const TABLES: usize = 10_000;

#[tokio::test]
async fn ten_thousand_tables_of_postgresql_pass() {
    let server = Postgres::shared();
    let (url, copy) = (server.create_database(), server.create_database());
    let name = url.rsplit('/').next().unwrap();
    let make = format!(
        "DO $$ BEGIN FOR n IN 1..{TABLES} LOOP EXECUTE format('CREATE TABLE t%s AS SELECT %s AS a', n, n); END LOOP; END $$"
    );
    let _ = server.psql(&url, &make);
    let (kept, _) = Db::postgres(server, &url).pull().await;
    pg_restore(server, &copy, body(&kept, &format!("database/{name}.dump")));
    let sum = "SELECT count(*), sum((xpath('/row/a/text()', query_to_xml(format('SELECT a FROM %I', tablename), true, true, '')))[1]::text::int) \
               FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.psql(&copy, sum), "10000|50005000\n");
}

#[tokio::test]
async fn ten_thousand_tables_of_mariadb_pass() {
    // Whoever asks the shared one about its tables would wait for all of these. Files of their own cost the disk, not the dump.
    let server = Mariadb::start_with(&["--innodb-file-per-table=0"]);
    let name = server.create_database();
    let table = |n, engine| format!("CREATE TABLE t{n} (a INT) ENGINE={engine};\n");
    let make: String = (1..=TABLES).map(|n| table(n, if n <= 30 { "MEMORY" } else { "InnoDB" })).collect();
    let _ = server.sql(&name, &format!("{make} INSERT INTO t{TABLES} VALUES (7)"));
    let (kept, summary) = Db::mysql(&server, &name).pull().await;
    // One warning names the first few of them, and how many more.
    assert_eq!(summary.content.warnings, 1);
    assert!(kept.warnings[0].message.contains("and 20 more"), "{:?}", kept.warnings);
    let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql")));
    assert_eq!(dump.matches("\nCREATE TABLE `t").count(), TABLES);
    let row = dump.split(&format!("INSERT INTO `t{TABLES}` VALUES")).nth(1).expect("the row of the last one");
    assert!(row.trim_start().starts_with("(7)"), "{row:.20}");
}

#[tokio::test]
async fn odd_names_of_postgresql_pass_by_every_way() {
    let (server, sshd) = (Postgres::start(), Sshd::builder().start());
    let database = "--help 'odd' \"$(id)\" \\ \u{1f600}\n%s/x";
    let table = "-t;\n'`\"\"%\u{1f600} *?.\\";
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let _ = server.psql("postgres", &format!("CREATE DATABASE {}", quoted(database)));
    // Its own tools take names in connection strings alone.
    let make = format!(
        "CREATE TABLE {} (a int); INSERT INTO {0} VALUES (7); CREATE TABLE other (a int)",
        quoted(table)
    );
    run_in(&server, database, &make);
    let _ = server.psql("postgres", "CREATE DATABASE copy");
    for way in WAYS {
        let db = Db::postgres(&server, "postgres").set("database", database).by(way, &sshd);
        assert_eq!(db.source().unwrap().probe().await.unwrap().paths[0].error, None, "{way:?}");
        let (kept, _) = db.set("tables", json!([quoted(table)])).pull().await;
        let dump = body(&kept, "database/--help 'odd' \"$(id)\" \\ \u{1f600}\n%25s%2Fx.dump");
        pg_restore(&server, &server.url_of("copy"), dump);
        let found = server.psql("copy", &format!("SELECT a FROM {}; DROP TABLE {0}", quoted(table)));
        assert_eq!(found, "7\n", "{way:?}");
        assert_eq!(server.psql("copy", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0\n");
    }
}

/// Runs `sql` in a database whose name no URL can hold.
fn run_in(server: &Postgres, database: &str, sql: &str) {
    let words = format!(
        "host=127.0.0.1 port={} user=postgres dbname='{}'",
        server.port,
        database.replace('\\', "\\\\").replace('\'', "\\'")
    );
    let mut psql = command("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &words, "-c", sql]);
    let _ = xvault_testkit::tools::run(psql.env("PGPASSWORD", server.password()));
}

/// MariaDB's names hold no emoji: what else there is.
#[tokio::test]
async fn odd_names_of_mariadb_pass_by_every_way() {
    let (server, sshd) = (Mariadb::shared(), Sshd::builder().start());
    let database = "--help 'odd' \"$(id)\" \\ \u{e9}\u{65e5}\n%s/x;";
    let (table, left_out) = ("-t;\n'\"%\u{e9} *?.\\#", "--all-databases '\u{65e5}");
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let make = format!(
        "CREATE DATABASE {0}; CREATE TABLE {0}.{1} (a INT); INSERT INTO {0}.{1} VALUES (7); CREATE TABLE {0}.{2} (a INT)",
        quoted(database),
        quoted(table),
        quoted(left_out)
    );
    let _ = server.sql("", &make);
    let copy = server.create_database();
    for way in WAYS {
        let db = || Db::mysql(server, database).set("database", database).by(way, &sshd);
        assert_eq!(db().source().unwrap().probe().await.unwrap().paths[0].path, database, "{way:?}");
        for db in [db().set("tables", json!([table])), db().set("exclude_tables", json!([left_out]))] {
            let (kept, _) = db.pull().await;
            let place = "database/--help 'odd' \"$(id)\" \\ \u{e9}\u{65e5}\n%25s%2Fx;.sql";
            mariadb(server, &copy, body(&kept, place));
            let found = server.sql(&copy, &format!("SELECT a FROM {}; DROP TABLE {0}", quoted(table)));
            assert_eq!((found.as_str(), server.sql(&copy, "SHOW TABLES").as_str()), ("7\n", ""), "{way:?}");
        }
    }
    let _ = server.sql("", &format!("DROP DATABASE {}", quoted(database)));
}

#[tokio::test]
async fn a_lock_that_takes_too_long_fails_the_backup_and_names_the_table() {
    let server = Postgres::shared();
    let url = server.create_database();
    let _ = server.psql(&url, "CREATE TABLE held (a int)");
    let hold = "BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)";
    let mut holder = command("psql", ["-X", "-q", "-d", &url, "-c", hold]).spawn().unwrap();
    while server.psql(&url, "SELECT count(*) FROM pg_locks WHERE relation = 'held'::regclass AND granted")
        == "0\n"
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sshd = Sshd::builder().start();
    for way in [Way::Direct, Way::Remote] {
        let began = Instant::now();
        let error = Db::postgres(server, &url).set("lock_timeout_seconds", 1).by(way, &sshd).error().await;
        assert!(matches!(error, Error::Tool { .. }), "{way:?}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("longer than `lock_timeout_seconds`") && text.contains("held"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
    let _ = holder.kill();
    let _ = holder.wait();
}

/// It would be further lines of the option file or of the password file.
#[tokio::test]
async fn a_password_with_a_line_break_is_refused_before_it_is_written_anywhere() {
    for password in ["a\nb", "a\rb", "a\0b"] {
        let secret = || Some(password.to_owned().into());
        let login = || DatabaseLogin { password: secret(), ..DatabaseLogin::default() };
        let (mysql, postgres) = (Mariadb::shared(), Postgres::shared());
        let mut settings = MysqlSettings::new("127.0.0.1", "root");
        (settings.port, settings.use_password) = (mysql.port, true);
        let mut all: Vec<Box<dyn Source>> = vec![Box::new(MysqlSource::new(&settings, login()).unwrap())];
        let mut settings = PostgresSettings::new("127.0.0.1", "postgres");
        (settings.port, settings.use_password) = (postgres.port, true);
        all.push(Box::new(PostgresSource::new(&settings, login()).unwrap()));
        for source in &mut all {
            let error = source.probe().await.unwrap_err();
            let refused = matches!(&error, Error::Credential(reason) if reason.contains("line break"));
            assert!(refused, "{}: {error:?}", source.kind());
        }
    }
}
