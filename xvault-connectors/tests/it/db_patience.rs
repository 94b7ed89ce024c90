//! MySQL servers that take their time, or do not say what they are asked: the client is one that stands in front of the real one.

use std::time::Instant;

use xvault_connectors::Error;
use xvault_testkit::Mariadb;

use crate::db_load::load_into;
use crate::db_support::{Db, body};
use crate::db_trouble::{fake, folder, mysql};

/// A source whose client does `first` where a statement has `part` in it.
fn through(mut db: Db, part: &str, first: &str) -> (Db, tempfile::TempDir) {
    let dir = folder();
    fake(dir.path(), "mariadb", &format!("case \"$*\" in *'{part}'*) {first};; esac\nexec mariadb \"$@\""));
    db.tools.folders.push(dir.path().to_owned());
    (db, dir)
}

#[tokio::test]
async fn rights_that_are_not_told_are_none_but_on_a_server_that_keeps_none() {
    let (server, name) = mysql();
    let says = |error: &str| format!("echo '{error}' >&2; exit 1");
    let broken = says("ERROR 1105 (HY000) at line 1: out of order");
    let (db, _dir) = through(Db::mysql(server, &name), "SHOW GRANTS", &broken);
    let failed = [db.error().await, db.source().unwrap().probe().await.unwrap_err()];
    for error in failed {
        assert!(matches!(&error, Error::Tool { reason, .. } if reason.contains("out of order")), "{error:?}");
    }
    let none = says("ERROR 1141 (42000) at line 1: There is no such grant defined");
    let (db, _dir) = through(Db::mysql(server, &name), "SHOW GRANTS", &none);
    assert_eq!(db.pull().await.0.warnings, []);
}

#[tokio::test]
async fn a_server_that_takes_long_to_count_is_not_waited_for() {
    let (server, name) = mysql();
    let (db, _dir) = through(Db::mysql(server, &name), "DATA_LENGTH", "sleep 60");
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(probe.notes.iter().any(|note| note.contains("could not be counted in time")), "{probe:?}");
    assert_eq!(probe.paths[0].error, None);
}

#[tokio::test]
async fn of_more_databases_than_there_is_time_for_a_probe_says_how_many_it_did_not_look_at() {
    let (server, name) = mysql();
    let names: Vec<String> =
        std::iter::once(name.clone()).chain((0..7).map(|_| server.create_database())).collect();
    let mut db = Db::mysql(server, &name).set("databases", serde_json::json!(names));
    db.config.as_object_mut().unwrap().remove("database");
    // It is asked for each database, of some at once.
    let (db, _dir) = through(db, "SYSTEM VERSIONED", "sleep 5");
    let begun = Instant::now();
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    let looked_at: Vec<_> =
        probe.paths.iter().map(|path| (path.path.clone(), path.kind, &path.error)).collect();
    let expected: Vec<_> = names.into_iter().map(|name| (name, Some("database"), &None)).collect();
    assert_eq!(looked_at, expected);
    assert!(probe.notes.iter().any(|note| note.contains("more databases this user may read")), "{probe:?}");
}

/// The usual limit of clients is 16 or 24 MiB, and that of what they write a little more.
#[tokio::test]
async fn a_row_that_is_longer_than_tools_usually_take_comes_back() {
    let server = Mariadb::start_with(&["--max-allowed-packet=128M"]);
    let name = server.create_database();
    let _ =
        server.sql(&name, "CREATE TABLE big (body LONGTEXT); INSERT INTO big VALUES (REPEAT('x', 40000000))");
    let (kept, _) = Db::mysql(&server, &name).pull().await;
    let copy = server.create_database();
    let dump = body(&kept, &format!("database/{name}.sql"));
    load_into(&Db::mysql(&server, &copy), dump).await;
    assert_eq!(server.sql(&copy, "SELECT LENGTH(body) FROM big").trim(), "40000000");
}
