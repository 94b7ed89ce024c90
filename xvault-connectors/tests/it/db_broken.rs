//! Databases of MySQL and MariaDB with parts that lead nowhere, or elsewhere.

use serde_json::json;
use xvault_connectors::Error;
use xvault_core::WarningCode;
use xvault_testkit::Mariadb;

use crate::db_load::load_into;
use crate::db_support::{Db, body};

const BROKEN: &str = r"
CREATE TABLE kept (a INT); INSERT INTO kept VALUES (7);
CREATE TABLE gone (a INT);
CREATE VIEW fine AS SELECT a FROM kept;
CREATE VIEW `bro'ken` AS SELECT a FROM gone;
CREATE VIEW on_it AS SELECT a FROM `bro'ken`;
DROP TABLE gone;
CREATE USER poor_DB;
CREATE DEFINER = poor_DB VIEW of_poor AS SELECT a FROM kept;
";

/// What nobody can read is left out and named; the rest is there, and comes back.
pub(crate) async fn check_broken_views(server: &Mariadb, tools: impl Fn(Db) -> Db) {
    let name = server.create_database();
    let _ = server.sql(&name, &BROKEN.replace("DB", &name));
    let db = || tools(Db::mysql(server, &name));
    let (kept, summary) = db().pull().await;
    assert_eq!((summary.content.warnings, kept.warnings[0].code), (1, WarningCode::Unreadable));
    let message = &kept.warnings[0].message;
    assert!(message.contains("is gone: `bro\\'ken`, `on_it`;"), "{message}");
    let probe = db().source().unwrap().probe().await.unwrap();
    assert!(probe.paths[0].error.is_none() && probe.notes.contains(message), "{probe:?}");
    let other = server.create_database();
    load_into(&tools(Db::mysql(server, &other)), body(&kept, &format!("database/{name}.sql"))).await;
    assert_eq!(server.sql(&other, "SELECT a FROM fine"), "7\n");
    // Its definer may read nothing, which is no fault of the dump.
    assert!(server.sql(&other, "SHOW CREATE VIEW of_poor").contains(&format!("poor_{name}")));

    let named = db().set("tables", json!(["kept", "on_it"])).error().await;
    assert!(named.to_string().contains("take them out of `tables`"), "{named}");
    let (kept, _) = db().set("exclude_tables", json!(["bro'ken", "on_it"])).pull().await;
    assert_eq!(kept.warnings, []);
}

#[tokio::test]
async fn views_of_what_is_gone_are_left_out_with_a_warning() {
    check_broken_views(Mariadb::shared(), |db| db).await;
}

/// Of MariaDB's dumps these lines name the database: a restore beside the original must use nothing of it, and need nothing.
const QUALIFIED: &str = r"
CREATE SEQUENCE s START WITH 100;
CREATE TABLE t (id INT DEFAULT (NEXT VALUE FOR s), a TEXT DEFAULT 'nextval(`DB`.`s`)' COMMENT 'it''s nextval(`DB`.`s`)');
INSERT INTO t () VALUES ();
CREATE USER gone_DB; GRANT ALL ON *.* TO gone_DB;
CREATE DEFINER = gone_DB VIEW v AS SELECT t.id, '`DB`.`t`.`a`' AS b FROM t WHERE EXISTS (SELECT 1 FROM t AS u WHERE u.id = t.id);
DROP USER gone_DB;
";

#[tokio::test]
async fn sequences_and_views_without_a_definer_come_back_under_another_name() {
    let server = Mariadb::start();
    let old = server.create_database();
    let _ = server.sql(&old, &QUALIFIED.replace("DB", &old));
    let (kept, _) = Db::mysql(&server, &old).pull().await;
    let content = body(&kept, &format!("database/{old}.sql"));
    let text = String::from_utf8_lossy(content);
    for part in [format!("nextval(`{old}`.`s`)"), format!("`{old}`.`t`.`id` AS `id`")] {
        assert!(text.contains(&part), "no test: the tool writes no {part}");
    }
    // As older dumps have it.
    let locked = text.replace("INSERT INTO `t`", "LOCK TABLES `t` WRITE;\nINSERT INTO `t`");
    assert!(!text.contains("LOCK TABLES") && locked.contains("LOCK TABLES"));
    for (original, content) in [("there", content), ("gone", locked.as_bytes())] {
        if original == "gone" {
            let _ = server.sql("", &format!("DROP DATABASE {old}"));
        }
        let new = server.create_database();
        load_into(&Db::mysql(&server, &new), content).await;
        let _ = server.sql(&new, "INSERT INTO t () VALUES ()");
        let rows = server.sql(&new, "SELECT id, a FROM t ORDER BY id");
        let ids: Vec<&str> = rows.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!((ids.len(), ids[0]), (2, "100"), "{original}: {rows}");
        assert!(rows.lines().all(|line| line.ends_with(&format!("\tnextval(`{old}`.`s`)"))), "{rows}");
        let definition = server.sql(&new, "SHOW CREATE VIEW v");
        assert!(!definition.contains(&format!("`{old}`.`t`.`id`")), "{definition}");
        if original == "there" {
            assert_eq!(server.sql(&old, "SELECT COUNT(*), LASTVAL(s) FROM t"), "1\tNULL\n");
        }
    }
}

#[tokio::test]
async fn tables_whose_rows_lie_elsewhere_are_named_in_a_warning() {
    let server = Mariadb::start_with(&["--plugin-load-add=ha_federatedx"]);
    let name = server.create_database();
    let _ = server.sql(
        &name,
        &format!(
            "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE TABLE f (a INT) ENGINE=FEDERATED CONNECTION='mysql://{}:{}@127.0.0.1:{}/{name}/t'",
            Mariadb::USER, server.password, server.port
        ),
    );
    assert_eq!(server.sql(&name, "SELECT a FROM f"), "1\n");
    let (kept, _) = Db::mysql(&server, &name).pull().await;
    let message = &kept.warnings[0].message;
    assert_eq!(kept.warnings[0].code, WarningCode::Unreadable);
    assert!(
        message.contains("lie elsewhere")
            && message.ends_with("`f`; back them up where they lie, and leave these tables out"),
        "{message}"
    );
    let probe = Db::mysql(&server, &name).source().unwrap().probe().await.unwrap();
    assert!(probe.notes.contains(message), "{probe:?}");
    let (kept, _) = Db::mysql(&server, &name).set("exclude_tables", json!(["f"])).pull().await;
    assert_eq!(kept.warnings, []);
}

#[tokio::test]
async fn a_name_is_found_in_any_case_where_the_server_knows_none() {
    let server = Mariadb::start_with(&["--lower-case-table-names=1", "--lc-messages=es_ES"]);
    let _ = server.sql("", "CREATE DATABASE Shop; CREATE TABLE Shop.Orders AS SELECT 7 AS a");
    let (kept, _) = Db::mysql(&server, "SHOP").set("tables", json!(["Orders"])).pull().await;
    let dump = String::from_utf8_lossy(body(&kept, "database/shop.sql"));
    assert!(dump.contains("CREATE TABLE `orders`"), "{dump}");
    // What is wrong with a view it says in its own language.
    let broken = "CREATE TABLE Shop.gone (a INT); CREATE VIEW Shop.broken AS SELECT a FROM Shop.gone; DROP TABLE Shop.gone";
    let _ = server.sql("", broken);
    let (kept, _) = Db::mysql(&server, "shop").pull().await;
    assert!(kept.warnings[0].message.contains("is gone: `broken`"), "{:?}", kept.warnings);
    let exact = Mariadb::shared();
    let name = exact.create_database();
    let missing = Db::mysql(exact, &name.to_uppercase()).error().await;
    assert!(matches!(missing, Error::NotFound(_)), "{missing:?}");
}
