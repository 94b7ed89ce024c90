//! What belongs to a PostgreSQL database itself: encoding, locale, settings, comment, owner and privileges come back with it.

use std::sync::Arc;
use std::time::Duration;

use xvault_connectors::database::Loaded;
use xvault_connectors::{Control, Error};
use xvault_core::monitor::Recorder;
use xvault_testkit::tools::command;
use xvault_testkit::{Postgres, Sshd};

use crate::db_load::{dump, load_of, of_postgres};
use crate::db_support::{Db, WAYS, feed};
use crate::db_trouble::{fake, folder};

/// How a database was made.
const MADE: &str = "SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d)->>'datlocprovider', \
    coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') FROM pg_database d WHERE datname = current_database()";

/// What else is its own. Who granted what is left to whoever restores.
const OWN: &str = "SELECT coalesce(r.rolname, '-'), s.setconfig::text FROM pg_db_role_setting s \
    LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    UNION ALL SELECT 'limit', datconnlimit::text || ' ' || datistemplate || ' ' || coalesce(shobj_description(oid, 'pg_database'), '-') \
    FROM pg_database WHERE datname = current_database() ORDER BY 1, 2";

const PRIVILEGES: &str = "SELECT 'owner', pg_get_userbyid(datdba), '', '' FROM pg_database WHERE datname = current_database() \
    UNION ALL SELECT 'acl', coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable::text FROM pg_database d, aclexplode(d.datacl) a \
    LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE d.datname = current_database() ORDER BY 1, 2, 3";

/// Makes `name` with `options`; gives its URL.
fn database(postgres: &Postgres, name: &str, options: &str) -> String {
    let _ = postgres.psql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0 {options}"));
    postgres.url_of(name)
}

async fn dumped(source: &Db) -> Vec<u8> {
    source.pull().await.0.entries.swap_remove(1).1
}

/// Loads `content` into a new database; gives what was noted.
async fn restored(target: &Db, content: &[u8]) -> Vec<String> {
    let (loaded, notes) = loaded(target, content).await;
    assert!(loaded.created);
    notes
}

async fn loaded(target: &Db, content: &[u8]) -> (Loaded, Vec<String>) {
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone());
    let loaded = load_of(target).load(dump(content, None), &control).await.unwrap();
    (loaded, seen.notes())
}

fn to(server: &Postgres, name: &str) -> Db {
    Db::postgres(server, name).set("create", true)
}

/// Bytes that are no UTF-8, without a client that minds.
fn insert_latin1(postgres: &Postgres, url: &str) {
    let mut psql = command("psql", ["-X", "-v", "ON_ERROR_STOP=1", "-d", url]);
    let sql = b"SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (a text); INSERT INTO t VALUES ('caf\xe9'), ('x');";
    feed(psql.env("PGPASSWORD", postgres.password()), sql);
}

const LENGTHS: &str = "SELECT length(a), encode(a::bytea, 'hex') FROM t ORDER BY 1";

#[tokio::test]
async fn a_database_comes_back_in_its_encoding_and_can_be_dumped_and_restored_again() {
    let (postgres, fresh) = (Postgres::shared(), Postgres::start());
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("enc {encoding}");
        let url = database(postgres, &name, &format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"));
        insert_latin1(postgres, &url);
        for format in ["custom", "plain"] {
            let content = dumped(&Db::postgres(postgres, &url).set("format", format)).await;
            let copy = format!("{encoding} {format}");
            let notes = restored(&to(&fresh, &copy), &content).await;
            let encoded = fresh.psql(&copy, "SHOW server_encoding");
            assert_eq!(encoded, format!("{encoding}\n"), "{format}");
            assert_eq!(fresh.psql(&copy, LENGTHS), postgres.psql(&url, LENGTHS), "{encoding} {format}");
            if format == "custom" {
                assert_eq!(fresh.psql(&copy, MADE), postgres.psql(&url, MADE));
                assert_eq!(notes, Vec::<String>::new());
            } else {
                let told = format!("locale (`{copy}` has ENCODING {encoding} LC_COLLATE C");
                assert!(notes.last().is_some_and(|note| note.contains(&told)), "{notes:?}");
            }
            let content = dumped(&Db::postgres(&fresh, &copy).set("format", format)).await;
            let again = format!("again {copy}");
            let _ = restored(&to(&fresh, &again), &content).await;
            assert_eq!(fresh.psql(&again, LENGTHS), postgres.psql(&url, LENGTHS), "{encoding} {format}");
        }
    }
}

#[tokio::test]
async fn a_database_sorts_as_it_did() {
    let (postgres, fresh) = (Postgres::shared(), Postgres::start());
    let url = database(
        postgres,
        "sorted",
        "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
    );
    let _ = postgres
        .psql(&url, "CREATE TABLE t (a text UNIQUE); INSERT INTO t VALUES ('\u{e4}'), ('z'), ('a'), ('B')");
    let content = dumped(&Db::postgres(postgres, &url)).await;
    assert_eq!(restored(&to(&fresh, "copy"), &content).await, Vec::<String>::new());
    assert_eq!(fresh.psql("copy", MADE), "UTF8|C|C.UTF-8|i|de-DE\n");
    assert_eq!(fresh.psql("copy", "SELECT string_agg(a, '' ORDER BY a) FROM t"), "a\u{e4}Bz\n");
}

#[tokio::test]
async fn a_locale_that_the_server_lacks_is_told_with_what_there_is_instead() {
    let (postgres, newest) = (Postgres::shared(), Postgres::builder().newest().start());
    // The newest server here is built without ICU.
    let url = database(postgres, "lacking", "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' LOCALE 'C.UTF-8'");
    let _ = postgres.psql(&url, "CREATE TABLE t (a text); INSERT INTO t VALUES ('\u{e4}')");
    let content = dumped(&Db::postgres(postgres, &url)).await;
    let mut target = to(&newest, "copy");
    target.tools.folders.extend(Postgres::newest_programs());
    let notes = restored(&target, &content).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    for part in [
        "`copy`",
        "ICU_LOCALE E'de-DE'",
        "ICU is not supported in this build",
        "it has ENCODING UTF8 LC_COLLATE",
    ] {
        assert!(notes[0].contains(part), "{part}: {notes:?}");
    }
    assert_eq!(newest.psql("copy", "SELECT a FROM t"), "\u{e4}\n");
    // A locale of the system, and one that does not go with the encoding.
    let url = database(postgres, "latin", "ENCODING 'LATIN1' LOCALE 'C'");
    let mut content = dumped(&Db::postgres(postgres, &url)).await;
    let place = content.windows(12).position(|part| part == b"LOCALE = 'C'").unwrap();
    content[place + 10] = b'X';
    let notes = restored(&to(postgres, "of no locale"), &content).await;
    assert!(notes.len() == 1 && notes[0].contains("LC_COLLATE E'X'"), "{notes:?}");
    assert!(notes[0].contains("it has ENCODING LATIN1 LC_COLLATE C LC_CTYPE C,"), "{notes:?}");
}

/// A database with everything of its own.
fn with_properties(postgres: &Postgres, name: &str) -> String {
    let url = database(postgres, name, "");
    let sql = "DO $$ BEGIN CREATE ROLE own_app; CREATE ROLE \"own B\"; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        CREATE SCHEMA app; CREATE TABLE app.t (a int); INSERT INTO app.t VALUES (7);
        ALTER DATABASE \"N\" SET search_path TO app, public, \"o'dd\\\";
        ALTER DATABASE \"N\" SET timezone TO 'Asia/Tokyo';
        ALTER DATABASE \"N\" SET default_transaction_read_only TO on;
        ALTER DATABASE \"N\" SET app.key TO E'a\\\\b''c\\n\\\\! touch x';
        ALTER ROLE \"own B\" IN DATABASE \"N\" SET statement_timeout TO '5s';
        ALTER DATABASE \"N\" CONNECTION LIMIT 7;
        COMMENT ON DATABASE \"N\" IS E'it''s\\na \\\\ \u{1f600};';
        REVOKE ALL ON DATABASE \"N\" FROM PUBLIC; ALTER DATABASE \"N\" OWNER TO own_app;
        GRANT CONNECT ON DATABASE \"N\" TO \"own B\" WITH GRANT OPTION; ALTER DATABASE \"N\" IS_TEMPLATE true;";
    let sql = sql.replace("\"N\"", &format!("\"{name}\"").replace('\'', "''"));
    // What is set for a database is not for the session that sets it.
    let _ = postgres.psql(&url, &sql);
    url
}

#[tokio::test]
async fn what_belongs_to_a_database_itself_comes_back_by_every_way_and_under_any_name() {
    let (postgres, sshd) = (Postgres::shared(), Sshd::builder().start());
    let url = with_properties(postgres, "own one");
    let content = dumped(&Db::postgres(postgres, &url)).await;
    let other = database(postgres, "own other", "");
    for way in WAYS {
        let name = format!("it's \"{way:?}\" own");
        let target = to(postgres, &name).by(way, &sshd).set("keep_owner", true);
        assert_eq!(restored(&target, &content).await, Vec::<String>::new(), "{way:?}");
        for sql in [OWN, PRIVILEGES, "SHOW search_path", "SELECT * FROM t", "SHOW app.key"] {
            assert_eq!(postgres.psql(&name, sql), postgres.psql(&url, sql), "{way:?} {sql}");
        }
    }
    // Owner and privileges only when asked for, as of all else.
    assert_eq!(restored(&to(postgres, "own mine"), &content).await, Vec::<String>::new());
    assert_eq!(postgres.psql("own mine", OWN), postgres.psql(&url, OWN));
    assert_eq!(postgres.psql("own mine", PRIVILEGES), "owner|postgres||\n");
    assert_eq!(postgres.psql(&other, OWN), "limit|-1 false -\n");
}

#[tokio::test]
async fn what_the_server_refuses_of_a_databases_own_is_told_and_the_rest_is_there() {
    let (postgres, fresh) = (Postgres::shared(), Postgres::start());
    let url = with_properties(postgres, "own refused");
    let content = dumped(&Db::postgres(postgres, &url)).await;
    let notes = restored(&to(&fresh, "copy").set("keep_owner", false), &content).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    let expected = "SET statement_timeout of role \"own B\" (ERROR:  role \"own B\" does not exist)";
    assert!(notes[0].contains("`copy`") && notes[0].ends_with(&format!(": {expected}")), "{notes:?}");
    assert_eq!(fresh.psql("copy", "SHOW timezone; SELECT * FROM t"), "Asia/Tokyo\n7\n");
}

#[tokio::test]
async fn a_trial_takes_nothing_of_a_databases_own() {
    let postgres = Postgres::start();
    let url = with_properties(&postgres, "own trial");
    let content = dumped(&Db::postgres(&postgres, &url)).await;
    let found = crate::db_load::trial(&Db::postgres(&postgres, "none"), dump(&content, None)).await.unwrap();
    assert_eq!((found.tables, found.rows), (1, 1));
    let count = "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0";
    assert_eq!(postgres.psql("postgres", count), "2\n");
}

/// Somebody else's roles, databases and files are out of reach, whatever stands where a setting should.
#[tokio::test]
async fn a_hostile_dump_changes_nothing_but_its_own_database() {
    let postgres = Postgres::start();
    let url = with_properties(&postgres, "hostile");
    let mut content = dumped(&Db::postgres(&postgres, &url)).await;
    let _ = postgres.psql("postgres", "CREATE DATABASE victims");
    let good = b"ALTER DATABASE hostile SET \"TimeZone\" TO 'Asia/Tokyo';\n";
    let bad = b"ALTER DATABASE victims SET  TimeZone  TO 'Asia/Tokyo';\n";
    let worse = b"ALTER ROLE \"own B\" SUPERUSER; DROP DATABASE victims  ;\n";
    let place = content.windows(good.len()).position(|part| part == good).unwrap();
    content[place..place + good.len()].copy_from_slice(bad);
    assert_eq!(restored(&to(&postgres, "copy"), &content).await, Vec::<String>::new());
    assert_eq!(postgres.psql("copy", "SHOW timezone"), "Asia/Tokyo\n");
    assert_ne!(postgres.psql("victims", "SHOW timezone"), "Asia/Tokyo\n");
    content[place..place + good.len()].copy_from_slice(worse);
    let notes = restored(&to(&postgres, "copy 2"), &content).await;
    assert!(notes.len() == 1 && notes[0].ends_with(": DATABASE PROPERTIES (2 statements)"), "{notes:?}");
    assert_eq!(postgres.psql("victims", "SELECT count(*) FROM pg_roles WHERE rolsuper"), "1\n");
}

#[tokio::test]
async fn a_dump_without_an_encoding_into_a_database_that_has_one_is_told() {
    let postgres = Postgres::shared();
    let url = database(postgres, "no encoding", "ENCODING 'SQL_ASCII' LOCALE 'C'");
    insert_latin1(postgres, &url);
    let content = dumped(&Db::postgres(postgres, &url)).await;
    let there = postgres.create_database();
    let (_, notes) = loaded(&Db::postgres(postgres, &there), &content).await;
    assert!(notes.iter().any(|note| note.contains("SQL_ASCII") && note.contains("UTF8")), "{notes:?}");
}

#[tokio::test]
async fn what_lies_in_a_tablespace_comes_back_without_it_where_the_server_has_none() {
    let (postgres, fresh) = (Postgres::start(), Postgres::start());
    let _ =
        postgres.psql("postgres", "SET allow_in_place_tablespaces = on; CREATE TABLESPACE fast LOCATION ''");
    let url = database(&postgres, "spaced", "TABLESPACE fast");
    let _ = postgres.psql(
        &url,
        "CREATE TABLE t (a int) TABLESPACE pg_default; CREATE TABLE u (a int); INSERT INTO u VALUES (7)",
    );
    let other = database(&postgres, "partly", "");
    let _ = postgres.psql(&other, "CREATE TABLE u (a int) TABLESPACE fast; INSERT INTO u VALUES (7)");
    let content = dumped(&Db::postgres(&postgres, &url)).await;
    let notes = restored(&to(&fresh, "copy"), &content).await;
    assert!(notes.len() == 1 && notes[0].ends_with(": TABLESPACE fast"), "{notes:?}");
    let content = dumped(&Db::postgres(&postgres, &other)).await;
    assert_eq!(restored(&to(&fresh, "copy 2"), &content).await, Vec::<String>::new());
    assert_eq!(fresh.psql("copy 2", "SELECT a FROM u"), "7\n");
    // Where it is, it serves.
    let _ = restored(&to(&postgres, "copy 2"), &content).await;
    assert_eq!(postgres.psql("copy 2", "SELECT tablespace FROM pg_tables WHERE tablename = 'u'"), "fast\n");
}

/// What belongs to each of so many roles, in a dump of a database without them.
#[tokio::test]
async fn of_more_things_than_are_told_the_rest_is_counted() {
    let postgres = Postgres::start();
    let url = database(&postgres, "many", "");
    let each =
        |sql: &str| format!("DO $$ BEGIN FOR n IN 1..210 LOOP EXECUTE format('{sql}', n); END LOOP; END $$");
    for sql in ["CREATE ROLE many_%s", "ALTER ROLE many_%s IN DATABASE many SET statement_timeout TO ''5s''"]
    {
        let _ = postgres.psql(&url, &each(sql));
    }
    let content = dumped(&Db::postgres(&postgres, &url)).await;
    let _ = postgres.psql(&url, &each("DROP ROLE many_%s"));
    let notes = restored(&to(&postgres, "copy"), &content).await;
    assert!(notes.len() == 1 && notes[0].ends_with("; and 160 more"), "{notes:?}");
    assert_eq!(notes[0].matches("does not exist").count(), 50, "{notes:?}");
}

/// A server whose client does `script` instead of looking at a database that was just made.
fn blind(server: &Postgres, name: &str, script: &str) -> (Db, tempfile::TempDir) {
    let (dir, psql) = (folder(), command("psql", [""; 0]));
    let real = psql.get_program().display().to_string();
    fake(
        dir.path(),
        "psql",
        &format!("case \"$*\" in *pg_encoding_to_char*) {script};; esac\nexec {real} \"$@\""),
    );
    let mut target = to(server, name);
    target.tools.folders.push(dir.path().to_owned());
    (target, dir)
}

/// What its dump does not tell is looked at in the database that was made.
#[tokio::test]
async fn a_database_that_was_made_and_can_not_be_looked_at_is_dropped_again() {
    let postgres = Postgres::shared();
    let content = &of_postgres("CREATE TABLE t (a int);");
    let there =
        || postgres.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'unseen %'");
    for (said, is_it) in [
        (
            "server closed the connection unexpectedly",
            (|error| matches!(error, Error::Connection { .. })) as fn(&Error) -> bool,
        ),
        ("nonsense", |error| matches!(error, Error::Tool { .. })),
    ] {
        let (target, _dir) =
            blind(postgres, "unseen one", &format!("echo 'psql: error: {said}' >&2; exit 2"));
        let error = load_of(&target).load(dump(content, None), &Control::default()).await.unwrap_err();
        assert!(is_it(&error), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(said)
                && text.ends_with(
                    "database `unseen one` had just been made for this restore, and was dropped again"
                ),
            "{text}"
        );
        assert_eq!(there(), "0\n");
    }
    // One that never answers is cancelled.
    let (target, _dir) = blind(postgres, "unseen two", "exec sleep 600");
    let control = Control::default();
    let load = load_of(&target);
    let loading = load.load(dump(content, None), &control);
    let cancel = async {
        while there() == "0\n" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        control.cancel_token().cancel();
    };
    let ended =
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(loading, cancel).0 }).await;
    assert!(matches!(ended, Ok(Err(Error::Cancelled))), "{ended:?}");
    assert_eq!(there(), "0\n");
}
