//! Dumps that somebody else made, with options that xvault does not use.

use std::process::Command;

use xvault_connectors::Error;
use xvault_testkit::tools::command;
use xvault_testkit::{Mariadb, Postgres};

use crate::db_load::{dump, load};
use crate::db_support::Db;

/// What `tool` writes of the database at `url`, or of its server.
fn of_postgres(server: &Postgres, tool: &str, url: &str, args: &[&str]) -> Vec<u8> {
    written(command(tool, args).arg(format!("--dbname={url}")).env("PGPASSWORD", server.password()))
}

fn of_mariadb(server: &Mariadb, args: &[&str]) -> Vec<u8> {
    let (port, user) = (format!("--port={}", server.port), format!("--user={}", Mariadb::USER));
    let place = ["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", &port, &user];
    written(command("mariadb-dump", place).args(args).env("MYSQL_PWD", &server.password))
}

fn written(command: &mut Command) -> Vec<u8> {
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// Such a dump drops and makes the database that it was made of, whatever the target.
#[tokio::test]
async fn a_dump_that_makes_its_own_database_of_postgresql_is_refused_and_touches_none() {
    let server = Postgres::start();
    let live = server.create_database();
    let _ = server.psql(&live, "CREATE TABLE t (a text); INSERT INTO t VALUES ('old')");
    let name = live.rsplit('/').next().unwrap();
    let files = [
        of_postgres(&server, "pg_dump", &live, &["--create"]),
        of_postgres(&server, "pg_dump", &live, &["--create", "--clean"]),
        of_postgres(&server, "pg_dumpall", &live, &["--clean", "--if-exists"]),
        of_postgres(&server, "pg_dumpall", &live, &[]),
    ];
    let _ = server.psql(&live, "INSERT INTO t VALUES ('since')");
    for (at, file) in files.iter().enumerate() {
        for target in [
            Db::postgres(&server, "fresh").set("create", true),
            Db::postgres(&server, &live).set("overwrite", true),
        ] {
            let refused = load(&target, dump(file, None)).await.unwrap_err();
            assert!(matches!(refused, Error::Target(_)), "{at}: {refused:?}");
            let word = if at < 2 { "names the database that it goes into" } else { "is no dump that can" };
            assert!(refused.to_string().contains(word), "{at}: {refused}");
            assert_eq!(server.psql(&live, "SELECT a FROM t ORDER BY 1"), "old\nsince\n", "{at}");
        }
    }
    let left = server.psql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
    assert_eq!(left, format!("postgres\n{name}\n"));
}

#[tokio::test]
async fn a_dump_of_several_databases_of_mariadb_is_refused_and_touches_none() {
    let server = Mariadb::start();
    let live = server.create_database();
    let _ = server.sql(&live, "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('old')");
    let files = [
        of_mariadb(&server, &["--databases", &live]),
        of_mariadb(&server, &["--databases", "--no-create-db", &live]),
        of_mariadb(&server, &["--databases", "--add-drop-database", &live]),
        of_mariadb(&server, &["--all-databases"]),
    ];
    let _ = server.sql(&live, "INSERT INTO t VALUES ('since')");
    for (at, file) in files.iter().enumerate() {
        let target = Db::mysql(&server, "fresh").set("create", true);
        let refused = load(&target, dump(file, None)).await.unwrap_err();
        assert!(matches!(refused, Error::Target(_)), "{at}: {refused:?}");
        assert!(refused.to_string().contains("names the database that it goes into"), "{at}: {refused}");
        assert_eq!(server.sql(&live, "SELECT a FROM t ORDER BY 1"), "old\nsince\n", "{at}");
        assert_eq!(server.sql("", "SHOW DATABASES LIKE 'fresh'"), "", "{at}");
    }
}
