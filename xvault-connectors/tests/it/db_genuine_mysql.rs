//! Genuine MySQL, whose tools and dumps differ from MariaDB's: `scripts/setup full` brings it.

use xvault_connectors::Error;
use xvault_core::snapshot::Evidence;
use xvault_testkit::{Mariadb, Sshd};

use crate::db_mysql::{check_unreadable, check_unseen};
use crate::db_support::{Db, Way, body};

/// A database with all that MySQL has, and MariaDB does in another way.
const SAMPLE: &str = r#"
SET NAMES utf8mb4; SET SESSION cte_max_recursion_depth = 5000;
CREATE TABLE plain (id BIGINT AUTO_INCREMENT PRIMARY KEY, name TEXT NOT NULL, mood ENUM('sad', 'it''s "ok"'), at TIMESTAMP(6) NULL, raw VARBINARY(64), bits BIT(5), doc JSON, twice INT AS (bits * 2) VIRTUAL, thrice INT AS (bits * 3) STORED, ghost INT INVISIBLE) DEFAULT CHARSET utf8mb4;
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
    let probe = mariadbs.source().unwrap().probe().await.unwrap();
    assert!(probe.paths[0].error.as_deref().unwrap().contains("`plain`"), "{probe:?}");
    let _ = server.sql(&name, "ALTER TABLE plain DROP COLUMN twice, DROP COLUMN thrice");
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
