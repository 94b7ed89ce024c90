//! Genuine MySQL, whose tools and dumps differ from MariaDB's: `scripts/setup full` brings it.

use std::sync::atomic::{AtomicU32, Ordering};

use xvault_connectors::Error;
use xvault_core::snapshot::Evidence;
use xvault_testkit::{Mariadb, Sshd};

use crate::db_broken::check_broken_views;
use crate::db_clients::alone;
use crate::db_mysql::{check_unreadable, check_unseen};
use crate::db_support::{Db, Way, body};
use crate::db_trouble::{certificate, check_certificates, fake, folder, given_to};
use crate::egress::only;

/// A database with all that MySQL has, and MariaDB does in another way.
const SAMPLE: &str = r#"
SET NAMES utf8mb4; SET SESSION cte_max_recursion_depth = 5000;
CREATE TABLE plain (id BIGINT AUTO_INCREMENT PRIMARY KEY, name TEXT NOT NULL, mood ENUM('sad', 'it''s "ok"'), at TIMESTAMP(6) NULL, raw VARBINARY(64), bits BIT(5), doc JSON, made DATETIME DEFAULT (NOW()), twice INT AS (bits * 2) VIRTUAL, thrice INT AS (bits * 3) STORED, ghost INT INVISIBLE) DEFAULT CHARSET utf8mb4;
INSERT INTO plain (name, mood, at, raw, bits, doc) WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 2000) SELECT CONCAT('row\t', n, '\nit''s \\N "quoted" 😀'), 1 + n % 2, FROM_UNIXTIME(1767225600 + n * 3600.5), UNHEX(LPAD(HEX(n), 64, '0')), n % 32, JSON_OBJECT('n', n, 'text', 'é\\') FROM s;
CREATE TABLE `odd ``one``; --` (a INT CHECK (a > 0), b POINT NOT NULL SRID 4326, SPATIAL INDEX (b));
INSERT INTO `odd ``one``; --` VALUES (1, ST_GeomFromText('POINT(1 2)', 4326));
CREATE TABLE large (id INT, body LONGTEXT, raw LONGBLOB) DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_0900_as_cs;
INSERT INTO large VALUES (1, REPEAT('é😀', 300000), REPEAT(UNHEX('00FF0A0D1A275C'), 100000));
CREATE VIEW sums AS SELECT mood, COUNT(*) AS `how many?` FROM plain GROUP BY mood;
CREATE FUNCTION `add it`(a INT, b INT) RETURNS INT DETERMINISTIC RETURN a + b;
CREATE PROCEDURE nothing(IN `x y` INT) SELECT `x y`;
CREATE TRIGGER `stamp it` BEFORE INSERT ON plain FOR EACH ROW SET NEW.name = COALESCE(NEW.name, '');
CREATE EVENT `every year` ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01 00:00:00' DISABLE DO DELETE FROM large;
"#;

fn with_gtids() -> Mariadb {
    Mariadb::start_mysql_with(&[
        "--gtid-mode=ON",
        "--enforce-gtid-consistency=ON",
        "--log-bin-trust-function-creators=ON",
    ])
}

/// The same source with MySQL's own tools.
fn with_its_tools(mut db: Db) -> Db {
    db.tools.folders.push(Mariadb::mysql_programs());
    db
}

/// The same source on a machine that has no others.
fn with_its_tools_alone(db: Db) -> Db {
    let mut db = with_its_tools(db);
    db.tools.usual_places = false;
    db
}

fn sample(server: &Mariadb) -> String {
    let name = server.create_database();
    let _ = server.sql(&name, SAMPLE);
    name
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn a_server_with_gtids_comes_back_from_its_own_tools_and_from_mariadbs() {
    let (server, fresh, sshd) = (with_gtids(), with_gtids(), Sshd::builder().start());
    let name = sample(&server);
    let expected = server.checksums(&name);
    assert!(expected.contains("event") && expected.contains("routine"), "{expected}");
    for way in [Way::Direct, Way::Tunnel] {
        let db = with_its_tools(Db::mysql(&server, &name)).by(way, &sshd);
        comes_back(&db, &fresh, &name, &expected, "(MySQL)").await;
    }
    // MariaDB's tool writes what generated columns hold, and MySQL does not take that.
    let mariadbs = Db::mysql(&server, &name);
    let refused = mariadbs.error().await;
    assert!(matches!(refused, Error::Tool { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("generated columns") && refused.to_string().contains("`plain`"),
        "{refused}"
    );
    for column in ["twice", "thrice"] {
        let probe = mariadbs.source().unwrap().probe().await.unwrap();
        assert!(probe.paths[0].error.as_deref().unwrap().contains("`plain`"), "{probe:?}");
        let _ = server.sql(&name, &format!("ALTER TABLE plain DROP COLUMN {column}"));
    }
    comes_back(&mariadbs, &fresh, &name, &server.checksums(&name), "(MariaDB)").await;
}

async fn comes_back(db: &Db, fresh: &Mariadb, name: &str, expected: &str, tool_is_of: &str) {
    let (kept, summary) = db.pull().await;
    let Evidence::Dump { tool, server: shown, .. } = &summary.evidence else { panic!("{summary:?}") };
    assert!(shown.starts_with("MySQL 9."), "{shown}");
    assert!(tool.ends_with(tool_is_of), "{tool}");
    let dump = body(&kept, &format!("database/{name}.sql"));
    let text = String::from_utf8_lossy(dump);
    assert!(!text.contains("GTID_PURGED") && !text.contains("ANALYZE TABLE"), "what only a replica needs");
    let _ = fresh.sql("", &format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"));
    crate::db_load::load_into(&with_its_tools(Db::mysql(fresh, name)), dump).await;
    assert_eq!(fresh.checksums(name), expected, "{tool}");
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn what_may_not_be_read_is_told_by_whichever_tool() {
    let server = Mariadb::start_mysql_with(&["--log-bin-trust-function-creators=ON"]);
    for own in [true, false] {
        let name = sample(&server);
        let _ = server.sql(&name, "ALTER TABLE plain DROP COLUMN twice, DROP COLUMN thrice");
        let tools = |db| if own { with_its_tools(db) } else { db };
        check_unreadable(&server, &name, tools).await;
        check_unseen(&server, &name, tools).await;
    }
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn the_tool_is_of_the_servers_kind_where_both_are_there() {
    let (mysql, mariadb) = (with_gtids(), Mariadb::shared());
    let tool_for = async |server: &Mariadb| {
        let probe =
            with_its_tools(Db::mysql(server, &server.create_database())).source().unwrap().probe().await;
        probe.unwrap().notes[0].clone()
    };
    assert!(tool_for(&mysql).await.starts_with("mysqldump 9."));
    assert!(tool_for(mariadb).await.starts_with("mariadb-dump 10."));
}

/// MariaDB's tool ends well all the same.
#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn what_mariadbs_tool_does_not_know_of_mysql_is_refused_to_it_and_comes_back_from_mysqls() {
    let server = Mariadb::start_mysql_with(&[]);
    let (name, copy) = (server.create_database(), server.create_database());
    let library = "CREATE LIBRARY `odd one` LANGUAGE JAVASCRIPT AS $$ export function f(n) { return n } $$";
    let vectors = "CREATE TABLE near (id INT, v VECTOR(3)); INSERT INTO near VALUES (1, UNHEX('27225C0A0D001A00FF80C3A9'))";
    let _ = server.sql(&name, &format!("{library}; {vectors}"));
    let mariadbs = Db::mysql(&server, &name);
    let probe = mariadbs.source().unwrap().probe().await.unwrap();
    assert!(
        probe.notes.iter().any(|note| note.contains("is not of the server's kind, MySQL 9.")),
        "{probe:?}"
    );
    for (parts, cure) in [
        (["leaves out libraries (`odd one`)", "(mysql-client) of 9.2"], "DROP LIBRARY `odd one`"),
        (["it writes vectors", "as of `near`"], "DROP TABLE near"),
    ] {
        let refused = mariadbs.error().await.to_string();
        let probe = mariadbs.source().unwrap().probe().await.unwrap();
        for part in parts {
            assert!(refused.contains(part), "{part}: {refused}");
            assert!(probe.paths[0].error.as_deref().is_some_and(|error| error.contains(part)), "{probe:?}");
        }
        let _ = server.sql(&name, cure);
    }
    let _ = mariadbs.pull().await;
    let _ = server.sql(&name, &format!("{library}; {vectors}"));
    let (kept, _) = with_its_tools(Db::mysql(&server, &name)).pull().await;
    let dump = body(&kept, &format!("database/{name}.sql"));
    crate::db_load::load_into(&with_its_tools(Db::mysql(&server, &copy)), dump).await;
    assert_eq!(server.sql(&copy, "SELECT HEX(v) FROM near"), "27225C0A0D001A00FF80C3A9\n");
    let libraries =
        format!("SELECT LIBRARY_NAME FROM information_schema.LIBRARIES WHERE LIBRARY_SCHEMA = '{copy}'");
    assert_eq!(server.sql("", &libraries), "odd one\n");
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn a_mysqldump_of_an_older_major_version_is_refused_with_both_versions_unless_that_is_allowed() {
    let (server, dir) = (Mariadb::start_mysql_with(&[]), folder());
    let old = "mysqldump  Ver 8.4.6 for Linux on x86_64 (MySQL Community Server - GPL)";
    fake(dir.path(), "mysqldump", &format!("echo '{old}'"));
    let mut db = alone(Db::mysql(&server, &server.create_database()), dir.path());
    db.tools.allow_outdated = false;
    for error in [db.error().await, db.source().unwrap().probe().await.unwrap_err()] {
        assert!(matches!(error, Error::OutdatedTool { .. }), "{error:?}");
        let parts = [
            "mysqldump 8.4.6 (MySQL)",
            "older than the server, MySQL 9.",
            "mysql-client of 9.",
            "`ToolOptions::allow_outdated`",
        ];
        for part in parts {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    let mut allowed = db.clone();
    allowed.tools.allow_outdated = true;
    let probe = allowed.source().unwrap().probe().await.unwrap();
    assert!(
        probe.notes.iter().any(|note| note.contains("8.4.6 (MySQL) is older than the server, MySQL 9.")),
        "{probe:?}"
    );
    // One that is new enough is found beside it.
    db.tools.folders.push(Mariadb::mysql_programs());
    let (_, summary) = db.pull().await;
    assert!(
        matches!(&summary.evidence, Evidence::Dump { tool, .. } if tool.starts_with("mysqldump 9.")),
        "{summary:?}"
    );
}

/// As a user whose password the server has seen from nobody: it asks for it whole, once.
fn as_new_user(mut db: Db, server: &Mariadb) -> Db {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let user = format!("new_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let _ = server.sql("", &format!("CREATE USER {user} IDENTIFIED BY 'pw'; GRANT ALL ON *.* TO {user}"));
    db.password = "pw".into();
    db.set("username", user)
}

/// Behind the client's back the certificate is looked at, and passwords that the server has not cached go through whole.
#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn mysqls_own_clients_pass_the_notary() {
    let (dir, sshd) = (folder(), Sshd::builder().start());
    let own = certificate(dir.path(), "own", "localhost");
    let other = certificate(dir.path(), "other", "elsewhere");
    let server = Mariadb::start_mysql_with(&[
        &format!("--ssl-cert={}", dir.path().join("own.pem").display()),
        &format!("--ssl-key={}", given_to(dir.path(), "own", "mysql")),
        "--log-bin-trust-function-creators=ON",
    ]);
    let name = sample(&server);
    let db = || with_its_tools_alone(Db::mysql(&server, &name));
    check_certificates(db, &own, &other).await;
    check_certificates(|| db().by(Way::Tunnel, &sshd), &own, &other).await;
    check_certificates(|| db().within(only("127.0.0.1")), &own, &other).await;
    let full = || db().set("host", "localhost").set("tls_mode", "verify-full").set("tls_ca", own.as_str());
    let expected = server.checksums(&name);
    for full in [full(), full().by(Way::Tunnel, &sshd), full().within(only("127.0.0.1"))] {
        let (kept, _) = as_new_user(full.clone(), &server).pull().await;
        let fresh = server.create_database();
        let dump = body(&kept, &format!("database/{name}.sql"));
        crate::db_load::load_into(&with_its_tools_alone(Db::mysql(&server, &fresh)), dump).await;
        assert_eq!(server.checksums(&fresh), expected);
        let mut wrong = full;
        wrong.password = "wrong".into();
        assert!(matches!(wrong.error().await, Error::Auth { .. }));
    }
}

/// The password is then encrypted to a key that the server shows, which a client takes where nobody can be in between.
#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn mysqls_own_clients_log_in_without_tls_through_a_tunnel_and_on_this_machine() {
    let (server, sshd) = (Mariadb::start_mysql_with(&[]), Sshd::builder().start());
    let db = with_its_tools_alone(Db::mysql(&server, &server.create_database()));
    let all: Vec<Db> = [
        (Way::Direct, "prefer"),
        (Way::Direct, "disable"),
        (Way::Tunnel, "prefer"),
        (Way::Tunnel, "disable"),
    ]
    .into_iter()
    .map(|(way, mode)| as_new_user(db.clone(), &server).by(way, &sshd).set("tls_mode", mode))
    .collect();
    let _ = server.sql("", "SET GLOBAL tls_version = ''; ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR");
    for db in all {
        let _ = db.pull().await;
    }
    let demanded = db.set("tls_mode", "require").error().await;
    assert!(matches!(demanded, Error::Tls { .. }), "{demanded:?}");
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn a_user_of_mariadb_whom_mysqls_client_can_not_log_in_is_told_what_to_install() {
    let mariadb = Mariadb::shared();
    let db = with_its_tools_alone(Db::mysql(mariadb, &mariadb.create_database()));
    for error in [db.error().await, db.source().unwrap().probe().await.unwrap_err()] {
        assert!(matches!(error, Error::Tool { .. }), "{error:?}");
        for part in ["mysql_native_password", "install mariadb-client", "this client can't log in"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
}

#[tokio::test]
#[ignore = "needs MySQL: scripts/setup full"]
async fn views_of_what_is_gone_are_left_out_with_a_warning() {
    check_broken_views(&with_gtids(), with_its_tools).await;
}
