//! PostgreSQL databases as sources, by every way.

use xvault_connectors::Error;
use xvault_core::WarningCode;
use xvault_core::snapshot::Evidence;
use xvault_testkit::databases::POSTGRES_SAMPLE;
use xvault_testkit::{FaultProxy, Postgres, Sshd};

use crate::db_support::{Db, WAYS, Way, body, feed, pg_restore};

fn sample() -> (&'static Postgres, String) {
    let postgres = Postgres::shared();
    let url = postgres.create_database();
    let _ = postgres.psql(&url, POSTGRES_SAMPLE);
    (postgres, url)
}

#[tokio::test]
async fn a_dump_by_every_way_restores_to_the_same_database() {
    let (postgres, url) = sample();
    let sshd = Sshd::builder().start();
    let name = url.rsplit('/').next().unwrap();
    for way in WAYS {
        let (kept, summary) = Db::postgres(postgres, &url).by(way, &sshd).pull().await;
        let Evidence::Dump { dumps: 1, tool, server } = &summary.evidence else { panic!("{summary:?}") };
        assert!(tool.starts_with("pg_dump ") && server.starts_with("PostgreSQL "), "{tool} {server}");
        assert_eq!(summary.content.warnings, 0);
        let copy = postgres.create_database();
        pg_restore(postgres, &copy, body(&kept, &format!("database/{name}.dump")));
        assert_eq!(postgres.checksums(&copy), postgres.checksums(&url), "{way:?}");
    }
}

#[tokio::test]
async fn plain_dumps_and_globals_are_sql() {
    let (postgres, url) = sample();
    let db = Db::postgres(postgres, &url).set("format", "plain").set("globals", true);
    let (kept, summary) = db.pull().await;
    assert!(matches!(summary.evidence, Evidence::Dump { dumps: 2, .. }), "{summary:?}");
    let name = url.rsplit('/').next().unwrap();
    let copy = postgres.create_database();
    let mut psql = xvault_testkit::tools::command("psql", ["-X", "-v", "ON_ERROR_STOP=1", "-d", &copy]);
    feed(&mut psql, body(&kept, &format!("database/{name}.sql")));
    assert_eq!(postgres.checksums(&copy), postgres.checksums(&url));
    let globals = String::from_utf8_lossy(body(&kept, "globals.sql"));
    assert!(globals.contains("CREATE ROLE postgres"), "{globals}");
}

#[tokio::test]
async fn all_databases_are_those_that_can_be_connected_to() {
    let postgres = Postgres::start();
    let nasty = "it's \"a/b\" \u{1f600}\n%";
    let quoted = nasty.replace('"', "\"\"");
    let _ = postgres.psql("postgres", &format!("CREATE DATABASE \"{quoted}\""));
    let mut db = Db::postgres(&postgres, "postgres").set("globals", true);
    db.config.as_object_mut().unwrap().remove("database");
    let (kept, _) = db.pull().await;
    let paths: Vec<String> = kept
        .entries
        .iter()
        .map(|(entry, _)| String::from_utf8(entry.path.as_bytes().into()).unwrap())
        .collect();
    let escaped = "database/it's \"a%2Fb\" \u{1f600}\n%25.dump";
    assert_eq!(paths, ["database", escaped, "database/postgres.dump", "globals.sql"]);
}

#[tokio::test]
async fn tables_and_schemas_are_chosen_by_pattern() {
    let (postgres, url) = sample();
    let name = url.rsplit('/').next().unwrap();
    let path = format!("database/{name}.sql");
    let plain = || Db::postgres(postgres, &url).set("format", "plain");
    let text = |kept: &crate::ssh_support::Kept| String::from_utf8_lossy(body(kept, &path)).into_owned();
    let (only, _) = plain().set("tables", serde_json::json!(["parts*"])).pull().await;
    assert!(text(&only).contains("CREATE TABLE public.parts_a"));
    assert!(!text(&only).contains("CREATE TABLE public.plain"));
    let (without, _) = plain().set("exclude_tables", serde_json::json!(["plain"])).pull().await;
    assert!(!text(&without).contains("CREATE TABLE public.plain"));
    assert!(text(&without).contains("CREATE TABLE public.large"));
    let (schema, _) = plain().set("schemas", serde_json::json!(["odd*"])).pull().await;
    assert!(!text(&schema).contains("CREATE TABLE public."), "{}", text(&schema));
    let missing = plain().set("tables", serde_json::json!(["no_such_table"])).error().await;
    assert!(missing.to_string().contains("no_such_table"), "{missing}");
}

#[tokio::test]
async fn a_probe_tells_what_there_is_and_what_can_not_be_read() {
    let (postgres, url) = sample();
    let sshd = Sshd::builder().start();
    let name = url.rsplit('/').next().unwrap();
    for way in WAYS {
        let probe = Db::postgres(postgres, &url).by(way, &sshd).source().unwrap().probe().await.unwrap();
        assert!(probe.server.as_deref().is_some_and(|server| server.starts_with("PostgreSQL ")), "{probe:?}");
        let host_key = (way != Way::Direct).then(|| sshd.host_key.fingerprint.clone());
        assert_eq!(probe.host_key, host_key);
        assert_eq!((probe.paths[0].path.as_str(), probe.paths[0].error.as_deref()), (name, None));
        assert!(probe.notes.iter().any(|note| note.contains("MiB")), "{probe:?}");
        let place = if way == Way::Remote { "of the SSH server" } else { "of this machine" };
        assert!(
            probe.notes.iter().any(|note| note.starts_with("pg_dump ") && note.ends_with(place)),
            "{probe:?}"
        );
    }
    let user = format!("u_{name}");
    let _ = postgres
        .psql(&url, &format!("CREATE ROLE {user} LOGIN PASSWORD 'pw'; GRANT SELECT ON plain TO {user}"));
    let mut limited = Db::postgres(postgres, &url).set("username", user.as_str());
    limited.password = "pw".into();
    let probe = limited.source().unwrap().probe().await.unwrap();
    let error = probe.paths[0].error.as_deref().unwrap();
    assert!(error.contains("`large`") && !error.contains("`plain`"), "{error}");
    assert!(probe.notes.iter().any(|note| note.contains("grant SELECT")), "{probe:?}");
    // Large objects are read as tables are: 4242 is somebody else's.
    let _ = postgres.psql(&url, &format!("GRANT pg_read_all_data TO {user}; ALTER ROLE {user} BYPASSRLS"));
    let probe = limited.source().unwrap().probe().await.unwrap();
    assert_eq!(probe.paths[0].error.as_deref(), Some("can't be read: 1 large object"));
    assert!(probe.notes.iter().any(|note| note.contains("GRANT SELECT ON LARGE OBJECT")), "{probe:?}");
    assert!(limited.error().await.to_string().contains("permission denied for large object"));
    let _ = postgres.psql(&url, &format!("GRANT SELECT ON LARGE OBJECT 4242 TO {user}"));
    assert_eq!(limited.source().unwrap().probe().await.unwrap().paths[0].error, None);
    let _ = postgres.psql(&url, &format!("REVOKE pg_read_all_data FROM {user}"));
    let failed = limited.error().await;
    assert!(failed.to_string().contains("permission denied"), "{failed}");
}

#[tokio::test]
async fn a_wrong_login_and_a_missing_database_are_told_apart() {
    let (postgres, url) = sample();
    let sshd = Sshd::builder().start();
    for way in WAYS {
        let mut wrong = Db::postgres(postgres, &url).by(way, &sshd);
        wrong.password = "wrong".into();
        let error = wrong.error().await;
        assert!(matches!(error, Error::Auth { .. }), "{way:?}: {error:?}");
        let missing = Db::postgres(postgres, &url).by(way, &sshd).set("database", "gone").error().await;
        assert!(matches!(missing, Error::NotFound(_)), "{way:?}: {missing:?}");
        assert_eq!(missing.to_string(), "database `gone` does not exist", "{way:?}");
        wrong.password = String::new();
        for text in [error.to_string(), wrong.error().await.to_string()] {
            assert!(!text.contains("file"), "{way:?}: {text}");
        }
    }
    let nobody = Db::postgres(postgres, &url).set("port", 1).error().await;
    assert!(matches!(nobody, Error::Connection { .. }), "{nobody:?}");
}

/// What the manual tells to run: its first block of SQL.
pub(crate) fn sql_of_the_manual(page: &str) -> String {
    let path = format!("{}/../docs/sources/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("```sql\n").expect("a block of SQL");
    rest.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_user_of_the_manual_can_back_up_and_nothing_else() {
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let sample = POSTGRES_SAMPLE.replace("ALTER TABLE parent ENABLE ROW LEVEL SECURITY;", "");
    // Large objects are for superusers, as the manual says.
    let sample = sample.replace(r"SELECT lo_from_bytea(4242, '\x00ff10');", "");
    let _ = postgres.psql(&url, &sample);
    let _ = postgres.psql(&url, &sql_of_the_manual("postgres.md"));
    let mut db = Db::postgres(&postgres, &url).set("username", "xvault_backup").set("globals", true);
    db.password = "change-me".into();
    let probe = db.source().unwrap().probe().await.unwrap();
    assert_eq!(probe.paths[0].error, None);
    let (kept, _) = db.pull().await;
    let copy = postgres.create_database();
    let name = url.rsplit('/').next().unwrap();
    pg_restore(&postgres, &copy, body(&kept, &format!("database/{name}.dump")));
    assert_eq!(postgres.checksums(&copy), postgres.checksums(&url));
    assert!(!String::from_utf8_lossy(body(&kept, "globals.sql")).contains("SCRAM"));
    let role =
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = 'xvault_backup'";
    assert_eq!(postgres.psql(&url, role), "f\n");
}

/// Some close `postgres` to all but admins.
#[tokio::test]
async fn all_databases_are_found_where_the_usual_one_is_closed() {
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let name = url.rsplit('/').next().unwrap();
    let sql = "CREATE ROLE u LOGIN PASSWORD 'pw'; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC";
    let _ = postgres.psql(&url, sql);
    let mut db = Db::postgres(&postgres, &url).set("username", "u");
    db.password = "pw".into();
    let _ = db.config.as_object_mut().unwrap().remove("database");
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(probe.paths.iter().any(|path| path.path == name && path.error.is_none()), "{probe:?}");
    let closed = probe.paths.iter().find(|path| path.path == "postgres").and_then(|path| path.error.clone());
    assert!(closed.is_some_and(|error| error.contains("permission denied for database")), "{probe:?}");
    assert!(probe.notes.iter().any(|note| note.contains("`postgres` is closed to this user")), "{probe:?}");
    let _ = postgres.psql(&url, "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC");
    let error = db.error().await;
    assert!(error.to_string().contains("permission denied for database"), "{error}");
}

/// One that the user can't get into is left out with a warning, as a file that can't be read is: unless it was named.
#[tokio::test]
async fn a_database_that_is_closed_to_the_user_makes_a_backup_of_all_partial() {
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let name = url.rsplit('/').next().unwrap();
    // By a right that is missing, and by pg_hba.conf, as managed servers close their own.
    let _ = postgres.psql(
        &url,
        "CREATE TABLE t AS SELECT 7 AS a; CREATE ROLE u LOGIN PASSWORD 'pw'; GRANT SELECT ON t TO u",
    );
    let _ = postgres.psql(&url, "CREATE DATABASE aa_closed");
    let _ = postgres.psql(&url, "REVOKE CONNECT ON DATABASE aa_closed FROM PUBLIC");
    let _ = postgres.psql(&url, "CREATE DATABASE zz_rejected");
    let line = "COPY (SELECT 1) TO PROGRAM 'sed -i \"1i host zz_rejected u all reject\" pg_hba.conf'; SELECT pg_reload_conf()";
    let _ = postgres.psql(&url, line);
    let mut db = Db::postgres(&postgres, &url).set("username", "u").set("globals", true);
    db.password = "pw".into();
    let named = |of: &[&str]| serde_json::json!(of);
    let _ = db.config.as_object_mut().unwrap().remove("database");
    let (kept, summary) = db.pull().await;
    let warned: Vec<_> =
        kept.warnings.iter().map(|warning| (warning.path.to_string(), warning.code)).collect();
    let expected = ["database/aa_closed.dump", "database/zz_rejected.dump"];
    assert_eq!(warned, expected.map(|path| (path.to_owned(), WarningCode::Unreadable)));
    assert!(kept.warnings[0].message.contains("no CONNECT privilege on it"), "{:?}", kept.warnings);
    assert!(kept.warnings[1].message.contains("pg_hba.conf rejects"), "{:?}", kept.warnings);
    // Those that are open, and the roles.
    assert!(matches!(summary.evidence, Evidence::Dump { dumps: 3, .. }), "{summary:?}");
    let copy = postgres.create_database();
    pg_restore(&postgres, &copy, body(&kept, &format!("database/{name}.dump")));
    assert_eq!(postgres.psql(&copy, "SELECT a FROM t"), "7\n");
    assert!(String::from_utf8_lossy(body(&kept, "globals.sql")).contains("CREATE ROLE u"));
    let probe = db.source().unwrap().probe().await.unwrap();
    for closed in ["`aa_closed` is closed to this user", "`zz_rejected` is closed to this user"] {
        assert!(probe.notes.iter().any(|note| note.contains(closed)), "{closed}: {probe:?}");
    }
    for closed in ["aa_closed", "zz_rejected"] {
        let failed = db.clone().set("databases", named(&[name, closed])).error().await;
        assert!(failed.to_string().contains(closed), "{failed}");
    }
}

/// Fields of settings, and what they are set to.
type Patterns<'a> = &'a [(&'a str, &'a [&'a str])];

/// As `pg_dump` does: what is left out need not be read, what is named must be there.
#[tokio::test]
async fn a_probe_looks_at_what_is_dumped_and_at_nothing_else() {
    let postgres = Postgres::shared();
    let url = postgres.create_database();
    let user = format!("p_{}", url.rsplit('/').next().unwrap());
    let _ = postgres.psql(
        &url,
        &format!(
            "CREATE TABLE a (i int); CREATE TABLE \"B.b\" (i int); CREATE TABLE c (id serial); CREATE SCHEMA s; CREATE TABLE s.d (i int); \
             CREATE ROLE {user} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA s TO {user}; GRANT SELECT ON a, c, s.d TO {user}"
        ),
    );
    let mut db = Db::postgres(postgres, &url).set("username", user.as_str());
    db.password = "pw".into();
    let cases: [(Patterns<'_>, Option<&str>); 9] = [
        (&[], Some(r#"can't be read: `\"B.b\"`, `c_id_seq`"#)),
        (&[("exclude_tables", &["\"B.b\"", "c*"])], None),
        (&[("exclude_tables", &["\"B.b\""])], Some("can't be read: `c_id_seq`")),
        (&[("schemas", &["S"])], None),
        (&[("exclude_schemas", &["pub*"])], None),
        (&[("tables", &["A", "s.?"])], None),
        // A sequence is dumped with its table.
        (&[("tables", &["c"])], Some("can't be read: `c_id_seq`")),
        (&[("tables", &["a", "nosuch"])], Some("not there: `nosuch`")),
        (&[("schemas", &["s", "gone"])], Some("not there: `gone`")),
    ];
    for (settings, expected) in cases {
        let db =
            settings.iter().fold(db.clone(), |db, (field, names)| db.set(field, serde_json::json!(names)));
        let probe = db.source().unwrap().probe().await.unwrap();
        assert_eq!(probe.paths[0].error.as_deref(), expected, "{settings:?}");
        match expected {
            None => drop(db.pull().await),
            Some(_) => assert!(matches!(db.error().await, Error::Tool { .. }), "{settings:?}"),
        }
    }
}

#[tokio::test]
async fn a_probe_of_more_databases_than_there_is_time_for_says_how_many_it_did_not_look_at() {
    let postgres = Postgres::start();
    for _ in 0..25 {
        let _ = postgres.create_database();
    }
    let proxy = FaultProxy::start(postgres.port);
    proxy.set_delay(std::time::Duration::from_millis(180));
    let mut db = Db::postgres(&postgres, "x/postgres").set("port", proxy.port);
    db.config.as_object_mut().unwrap().remove("database");
    let begun = std::time::Instant::now();
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    assert_eq!(probe.paths.len(), 26);
    assert!(
        probe.paths.iter().all(|path| path.error.is_none() && path.kind == Some("database")),
        "{probe:?}"
    );
    assert!(probe.notes.iter().any(|note| note.contains("more databases this user may read")), "{probe:?}");
}

#[tokio::test]
async fn a_database_that_nobody_can_get_into_does_not_end_a_backup_of_all() {
    let postgres = Postgres::start();
    let _ = postgres.psql("postgres", "CREATE DATABASE aa_invalid");
    let _ = postgres.psql("postgres", "CREATE DATABASE bb_full CONNECTION LIMIT 0");
    let _ = postgres.psql(
        "postgres",
        "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'aa_invalid'; CREATE ROLE u LOGIN PASSWORD 'pw'",
    );
    let mut db = Db::postgres(&postgres, "postgres").set("username", "u");
    db.password = "pw".into();
    let named = |name: &str| db.clone().set("database", name);
    let mut all = db.clone();
    let _ = all.config.as_object_mut().unwrap().remove("database");
    let (kept, _) = all.pull().await;
    let warned: Vec<_> = kept.warnings.iter().map(|warning| warning.path.to_string()).collect();
    assert_eq!(warned, ["database/bb_full.dump"]);
    assert!(kept.warnings[0].message.contains("too many connections for database"), "{:?}", kept.warnings);
    assert!(body(&kept, "database/postgres.dump").starts_with(b"PGDMP"));
    let probe = all.source().unwrap().probe().await.unwrap();
    let paths: Vec<_> = probe.paths.iter().map(|path| path.path.as_str()).collect();
    assert_eq!(paths, ["bb_full", "postgres"]);
    for part in ["`aa_invalid` is left out", "`bb_full` is closed"] {
        assert!(probe.notes.iter().any(|note| note.contains(part)), "{part}: {probe:?}");
    }
    for (name, part) in [("aa_invalid", "invalid database"), ("bb_full", "too many connections")] {
        let error = named(name).error().await;
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_template_is_dumped_when_it_is_named() {
    let postgres = Postgres::shared();
    let url = postgres.create_database();
    let name = url.rsplit('/').next().unwrap();
    let sql = format!("CREATE TABLE t AS SELECT 7 AS a; ALTER DATABASE {name} IS_TEMPLATE true");
    let _ = postgres.psql(&url, &sql);
    let db = Db::postgres(postgres, &url);
    assert_eq!(db.source().unwrap().probe().await.unwrap().paths[0].error, None);
    let (kept, _) = db.pull().await;
    let copy = postgres.create_database();
    pg_restore(postgres, &copy, body(&kept, &format!("database/{name}.dump")));
    assert_eq!(postgres.psql(&copy, "SELECT a FROM t"), "7\n");
}

#[tokio::test]
async fn subscriptions_that_a_user_may_not_have_make_a_snapshot_partial() {
    let postgres = Postgres::start();
    let url = postgres.create_database();
    let name = url.rsplit('/').next().unwrap();
    let sql = "CREATE ROLE u LOGIN PASSWORD 'pw'; CREATE TABLE t AS SELECT 7 AS a; GRANT SELECT ON t TO u; \
               CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false)";
    sql.split(';').for_each(|sql| drop(postgres.psql(&url, sql)));
    let mut db = Db::postgres(&postgres, &url).set("username", "u");
    db.password = "pw".into();
    let (kept, _) = db.pull().await;
    let warned: Vec<_> =
        kept.warnings.iter().map(|warning| (warning.path.to_string(), warning.message.clone())).collect();
    assert_eq!(warned[0].0, format!("database/{name}.dump"));
    assert!(warned.len() == 1 && warned[0].1.starts_with("the subscription of database `"), "{warned:?}");
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(probe.notes.contains(&warned[0].1), "{probe:?}");
    // What asks for tables asks for no subscriptions, and superusers have them.
    let (kept, _) = db.set("tables", serde_json::json!(["t"])).pull().await;
    assert!(kept.warnings.is_empty(), "{:?}", kept.warnings);
    let (kept, _) = Db::postgres(&postgres, &url).set("format", "plain").pull().await;
    assert!(kept.warnings.is_empty(), "{:?}", kept.warnings);
    let text = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql"))).into_owned();
    assert!(text.contains("CREATE SUBSCRIPTION s"), "{text}");
}

#[tokio::test]
async fn a_statement_timeout_of_the_user_does_not_end_what_is_asked() {
    let postgres = Postgres::shared();
    let url = postgres.create_database();
    let user = format!("hasty_{}", url.rsplit('/').next().unwrap());
    let sql = format!(
        "CREATE TABLE t AS SELECT 7 AS a; CREATE ROLE {user} LOGIN PASSWORD 'pw'; GRANT SELECT ON t TO {user}; \
         ALTER ROLE {user} SET statement_timeout = 1"
    );
    let _ = postgres.psql(&url, &sql);
    let mut db = Db::postgres(postgres, &url).set("username", user.as_str());
    db.password = "pw".into();
    let probe = db.source().unwrap().probe().await.unwrap();
    assert_eq!(probe.paths[0].error, None);
    assert!(probe.notes.iter().any(|note| note.contains("MiB")), "{probe:?}");
    // `pg_dump` asks something before it turns it off.
    let _ = postgres.psql(&url, &format!("ALTER ROLE {user} SET statement_timeout = '1s'"));
    let (kept, _) = db.pull().await;
    assert!(kept.warnings.is_empty());
}
