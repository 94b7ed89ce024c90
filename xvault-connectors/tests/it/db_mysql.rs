//! MariaDB databases as sources, by every way.

use xvault_connectors::Error;
use xvault_core::WarningCode;
use xvault_core::snapshot::Evidence;
use xvault_testkit::databases::MARIADB_SAMPLE;
use xvault_testkit::{Mariadb, Sshd};

use crate::db_support::{Db, WAYS, Way, body, mariadb};

fn sample() -> (&'static Mariadb, String) {
    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    (server, name)
}

#[tokio::test]
async fn a_dump_by_every_way_restores_to_the_same_database() {
    let (server, name) = sample();
    let sshd = Sshd::builder().start();
    let fresh = Mariadb::start();
    let expected = server.checksums(&name);
    for way in WAYS {
        let (kept, summary) = Db::mysql(server, &name).by(way, &sshd).pull().await;
        let Evidence::Dump { dumps: 1, tool, server: shown } = &summary.evidence else {
            panic!("{summary:?}")
        };
        assert!(tool.starts_with("mariadb-dump ") && shown.starts_with("MariaDB "), "{tool} {shown}");
        assert_eq!(kept.warnings, []);
        let _ = fresh.sql("", &format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"));
        let dump = body(&kept, &format!("database/{name}.sql"));
        assert!(std::str::from_utf8(dump).is_ok(), "{way:?}: bytes that not every client takes");
        mariadb(&fresh, &name, dump);
        assert_eq!(fresh.checksums(&name), expected, "{way:?}");
    }
}

#[tokio::test]
async fn tables_without_transactions_are_named_in_a_warning() {
    let (server, name) = sample();
    let _ = server
        .sql(&name, "CREATE TABLE `old one` (a INT) ENGINE=MyISAM; CREATE TABLE other (a INT) ENGINE=Aria");
    let (kept, summary) =
        Db::mysql(server, &name).set("exclude_tables", serde_json::json!(["other"])).pull().await;
    assert_eq!(summary.content.warnings, 1);
    let warning = &kept.warnings[0];
    assert_eq!(warning.code, WarningCode::Other);
    assert!(
        warning.message.contains("`old one (MyISAM)`") && !warning.message.contains("other ("),
        "{warning:?}"
    );
    let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql")));
    assert!(!dump.contains("CREATE TABLE `other`") && dump.contains("CREATE TABLE `old one`"));
    let probe = Db::mysql(server, &name).source().unwrap().probe().await.unwrap();
    assert!(probe.notes.iter().any(|note| note.contains("other (Aria)")), "{probe:?}");
    let (only, _) = Db::mysql(server, &name).set("tables", serde_json::json!(["latin"])).pull().await;
    let dump = String::from_utf8_lossy(body(&only, &format!("database/{name}.sql")));
    assert!(dump.contains("CREATE TABLE `latin`") && !dump.contains("CREATE TABLE `plain`"));
}

#[tokio::test]
async fn a_password_with_every_sign_is_passed_on() {
    let (server, name) = sample();
    let sshd = Sshd::builder().start();
    let password = "a#b\"c\\d 'e;f\\n$x\u{1f600} ";
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    let user = format!("u_{name}");
    let _ =
        server.sql("", &format!("CREATE USER {user} IDENTIFIED BY '{quoted}'; GRANT ALL ON *.* TO {user}"));
    for way in WAYS {
        let mut db = Db::mysql(server, &name).by(way, &sshd).set("username", user.as_str());
        db.password = password.into();
        let probe = db.source().unwrap().probe().await.unwrap();
        assert_eq!(probe.paths[0].path, name, "{way:?}");
    }
}

#[tokio::test]
async fn a_probe_tells_what_there_is() {
    let (server, name) = sample();
    let sshd = Sshd::builder().start();
    for way in WAYS {
        let probe = Db::mysql(server, &name).by(way, &sshd).source().unwrap().probe().await.unwrap();
        assert!(probe.server.as_deref().is_some_and(|server| server.starts_with("MariaDB 1")), "{probe:?}");
        let host_key = (way != Way::Direct).then(|| sshd.host_key.fingerprint.clone());
        assert_eq!(probe.host_key, host_key);
        let place = if way == Way::Remote { "of the SSH server" } else { "of this machine" };
        assert!(
            probe.notes.iter().any(|note| note.starts_with("mariadb-dump ") && note.ends_with(place)),
            "{probe:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_login_and_a_missing_database_are_told_apart() {
    let (server, name) = sample();
    let sshd = Sshd::builder().start();
    for way in WAYS {
        let mut wrong = Db::mysql(server, &name).by(way, &sshd);
        wrong.password = "wrong".into();
        let error = wrong.error().await;
        assert!(matches!(error, Error::Auth { .. }), "{way:?}: {error:?}");
        let missing = Db::mysql(server, &name).by(way, &sshd).set("database", "gone").error().await;
        assert!(matches!(missing, Error::NotFound(_)), "{way:?}: {missing:?}");
    }
    let probed = Db::mysql(server, &name).set("database", "gone").source().unwrap().probe().await;
    let missing = probed.unwrap_err();
    assert!(matches!(&missing, Error::NotFound(what) if what.contains("`gone`")), "{missing:?}");
    let nobody = Db::mysql(server, &name).set("port", 1).error().await;
    assert!(matches!(nobody, Error::Connection { .. }), "{nobody:?}");
}

/// A user of that server with `grants`, each of which names `DB`; as whom `name` is read.
pub(crate) fn limited(server: &Mariadb, name: &str, user: &str, grants: &[&str]) -> Db {
    let user = format!("{user}_{name}");
    let _ = server.sql("", &format!("CREATE USER {user} IDENTIFIED BY 'pw'"));
    for grant in grants {
        let _ = server.sql("", &format!("GRANT {} TO {user}", grant.replace("DB", name)));
    }
    let mut db = Db::mysql(server, name).set("username", user.as_str());
    db.password = "pw".into();
    db
}

/// What a tool writes without a word, for whom a table is hidden in part: its columns, or none of its rows.
pub(crate) async fn check_unreadable(server: &Mariadb, name: &str, tools: impl Fn(Db) -> Db) {
    let cases: [(&str, &[&str]); 3] = [
        ("v", &["SELECT, SHOW VIEW ON DB.plain", "SHOW VIEW, EVENT ON DB.*"]),
        ("t", &["SELECT ON DB.plain", "TRIGGER, EVENT ON DB.*"]),
        ("c", &["SELECT ON DB.plain", "SELECT (id) ON DB.large", "EVENT ON DB.*"]),
    ];
    for (user, grants) in cases {
        let db = tools(limited(server, name, user, grants));
        let failed = db.error().await;
        assert!(matches!(failed, Error::Tool { .. }), "{user}: {failed:?}");
        let text = failed.to_string();
        assert!(text.contains("SELECT is denied on `") && text.contains("`large`"), "{user}: {text}");
        // Nor a view, which is no rows of its own.
        assert!(!text.contains("`plain`") && !text.contains("`sums`"), "{user}: {text}");
        let probe = db.source().unwrap().probe().await.unwrap();
        assert!(probe.paths[0].error.as_deref().unwrap().contains("`large`"), "{user}: {probe:?}");
        // What is asked for may be read.
        let (kept, _) = db.set("tables", serde_json::json!(["plain"])).pull().await;
        let warned: Vec<_> = kept.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(warned.len(), usize::from(user != "t"), "{user}: {warned:?}");
        assert!(warned.iter().all(|text| text.contains("sees no triggers")), "{user}: {warned:?}");
        let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql")));
        assert!(dump.contains("INSERT INTO `plain` "), "{user}");
    }
}

#[tokio::test]
async fn a_table_that_may_not_be_read_fails_the_backup() {
    let (server, name) = sample();
    check_unreadable(server, &name, |db| db).await;
}

/// What a server hides altogether nobody can name.
pub(crate) async fn check_unseen(server: &Mariadb, name: &str, tools: impl Fn(Db) -> Db) {
    let db = || tools(limited(server, name, "one", &["SELECT ON DB.plain", "EVENT ON DB.*"]));
    let (kept, _) = db().pull().await;
    let unseen = ["sees no triggers", "sees no routines", "no SELECT on the whole of"];
    assert_eq!(kept.warnings.len(), unseen.len(), "{:?}", kept.warnings);
    for (warning, part) in kept.warnings.iter().zip(unseen) {
        assert!(warning.code == WarningCode::Unreadable && warning.message.contains(part), "{warning:?}");
    }
    let _ = server.sql("", &format!("DROP USER one_{name}"));
    let probe = db().source().unwrap().probe().await.unwrap();
    for part in ["others are not seen", "sees no triggers", "sees no routines"] {
        assert!(probe.notes.iter().any(|note| note.contains(part)), "{part}: {probe:?}");
    }
    let _ = server.sql("", &format!("DROP USER one_{name}"));
    let hidden = db().set("tables", serde_json::json!(["plain", "large"])).error().await;
    assert!(hidden.to_string().contains("large"), "{hidden}");
    // Who has everything of a database has not the routines that somebody else defined there.
    for (user, grants, part) in [
        ("all", "ALL ON DB.*", Some("these routines are made of")),
        ("server", "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON *.*", None),
    ] {
        let db = tools(limited(server, name, user, &[grants]));
        let probe = db.source().unwrap().probe().await.unwrap();
        assert_eq!(probe.paths[0].error, None, "{user}");
        let told: Vec<_> = probe.notes.iter().filter(|note| note.contains("this user")).collect();
        assert_eq!(told.len(), usize::from(part.is_some()), "{user}: {told:?}");
        assert!(part.is_none_or(|part| told[0].contains(part)), "{user}: {told:?}");
        let (kept, _) = db.pull().await;
        assert_eq!(kept.warnings.len(), told.len(), "{user}: {:?}", kept.warnings);
        let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql")));
        assert_eq!(dump.contains("FUNCTION `add it`"), part.is_none(), "{user}");
    }
}

#[tokio::test]
async fn tables_that_are_not_seen_are_warned_of_and_missed_when_they_are_named() {
    let (server, name) = sample();
    check_unseen(server, &name, |db| db).await;
}

#[tokio::test]
async fn what_a_role_and_a_pattern_give_counts() {
    let (server, name) = sample();
    let _ = server.sql(&name, "DROP FUNCTION `add it`; DROP PROCEDURE nothing");
    let all = "SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON";
    let pattern = limited(server, &name, "p", &[&format!("{all} `{}%`.*", &name[..name.len() - 1])]);
    let by_role = limited(server, &name, "r", &[]);
    let role = format!("role_{name}");
    let _ = server.sql(
        "",
        &format!("CREATE ROLE {role}; GRANT {all} {name}.* TO {role}; GRANT {role} TO r_{name}; SET DEFAULT ROLE {role} FOR r_{name}"),
    );
    for db in [pattern, by_role] {
        let probe = db.source().unwrap().probe().await.unwrap();
        assert!(!probe.notes.iter().any(|note| note.contains("this user")), "{probe:?}");
        assert_eq!(probe.paths[0].error, None);
    }
}

#[tokio::test]
async fn a_server_that_keeps_no_accounts_gives_everybody_everything() {
    let server = Mariadb::start_with(&["--skip-grant-tables"]);
    let name = server.create_database();
    let _ = server.sql(&name, "CREATE TABLE t AS SELECT 7 AS a");
    let db = Db::mysql(&server, &name).set("username", "nobody");
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(!probe.notes.iter().any(|note| note.contains("this user")), "{probe:?}");
    let (kept, _) = db.pull().await;
    assert_eq!(kept.warnings, []);
}

#[tokio::test]
async fn the_user_of_the_manual_can_back_up() {
    let (server, name) = sample();
    let _ = server.sql("", &crate::db_postgres::sql_of_the_manual("mysql.md"));
    let mut db = Db::mysql(server, &name).set("username", "xvault_backup");
    db.password = "change-me".into();
    let (kept, _) = db.pull().await;
    let fresh = Mariadb::start();
    let _ = fresh.sql("", &format!("CREATE DATABASE {name}"));
    mariadb(&fresh, &name, body(&kept, &format!("database/{name}.sql")));
    assert_eq!(fresh.checksums(&name), server.checksums(&name));
}

/// A user, its grants, what is said, a table that is asked for, and the grant that helps.
type Lack<'a> = (&'a str, &'a [&'a str], &'a str, Option<&'a str>, &'a str);

/// What every tool fails for is told by the probe, too, with what helps.
#[tokio::test]
async fn what_a_dump_needs_besides_select_is_told_before_it_with_the_grant_that_helps() {
    let (server, name) = sample();
    let _ = server.sql(&name, "CREATE FUNCTION seven() RETURNS INT DETERMINISTIC RETURN 7; CREATE VIEW calls AS SELECT seven() AS a");
    let view = "SHOW VIEW, EXECUTE ON DB.*; SELECT ON mysql.proc";
    let cases: [Lack<'_>; 3] = [
        (
            "x",
            &["SELECT, EVENT, TRIGGER, LOCK TABLES, SHOW VIEW ON DB.*"],
            "EXECUTE is denied on functions that these views call: `calls`: GRANT EXECUTE ON `",
            None,
            "EXECUTE ON DB.*; SELECT ON mysql.proc",
        ),
        (
            "w",
            &["SELECT, EVENT, TRIGGER, LOCK TABLES ON DB.*"],
            "SHOW VIEW is denied on `calls`, `sums` of `",
            None,
            view,
        ),
        ("n", &["ALL ON DB.*"], "does not have, or hides from this user: `nosuch`", Some("nosuch"), ""),
    ];
    for (user, grants, part, table, cure) in cases {
        let mut db = limited(server, &name, user, grants);
        if let Some(table) = table {
            db = db.set("tables", serde_json::json!(["plain", "sums", table]));
        }
        let failed = db.error().await;
        assert!(matches!(failed, Error::Tool { .. }), "{user}: {failed:?}");
        assert!(failed.to_string().contains(part), "{user}: {failed}");
        let probe = db.source().unwrap().probe().await.unwrap();
        assert!(
            probe.paths[0].error.as_deref().is_some_and(|error| error.contains(part)),
            "{user}: {probe:?}"
        );
        if cure.is_empty() {
            continue;
        }
        for grant in cure.split("; ") {
            let _ = server.sql("", &format!("GRANT {} TO {user}_{name}", grant.replace("DB", &name)));
        }
        assert_eq!(db.source().unwrap().probe().await.unwrap().paths[0].error, None, "{user}");
        let _ = db.pull().await;
    }
}

/// Shared hosts seldom give the right to see events.
#[tokio::test]
async fn without_the_right_to_see_events_the_rest_is_dumped_and_the_snapshot_is_partial() {
    let (server, name) = sample();
    let grants = ["SELECT, SHOW VIEW, TRIGGER, LOCK TABLES ON DB.*", "SELECT ON mysql.proc"];
    let db = limited(server, &name, "e", &grants);
    let (kept, _) = db.pull().await;
    let warning = &kept.warnings[0];
    assert_eq!((kept.warnings.len(), warning.code), (1, WarningCode::Unreadable));
    assert!(
        warning.message.contains("sees no events") && warning.message.contains("grant EVENT"),
        "{warning:?}"
    );
    let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql")));
    assert!(dump.contains("CREATE TABLE `plain`") && !dump.contains(" EVENT "), "{dump}");
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(probe.paths[0].error.is_none() && probe.notes.contains(&warning.message), "{probe:?}");
    let _ = server.sql("", &format!("GRANT EVENT ON {name}.* TO e_{name}"));
    let (kept, _) = db.pull().await;
    assert!(kept.warnings.is_empty(), "{:?}", kept.warnings);
    assert!(String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql"))).contains(" EVENT "));
}

/// MariaDB opens a table to tell its size: those of others made a test of a small database take minutes.
#[tokio::test]
async fn a_probe_opens_no_tables_of_other_databases() {
    let server = Mariadb::start();
    let (many, few) = (server.create_database(), server.create_database());
    let tables: String = (0..200).map(|n| format!("CREATE TABLE t{n} (a INT) ENGINE=InnoDB;")).collect();
    let _ = server.sql(&many, &tables);
    let _ = server.sql(&few, "CREATE TABLE t AS SELECT 7 AS a");
    let opened = || -> u64 {
        let found = server.sql("", "SHOW GLOBAL STATUS LIKE 'Opened_tables'");
        found.trim().rsplit('\t').next().unwrap().parse().unwrap()
    };
    let _ = server.sql("", "FLUSH TABLES");
    let before = opened();
    let probe = Db::mysql(&server, &few).source().unwrap().probe().await.unwrap();
    assert!(probe.notes.iter().any(|note| note.contains("MiB of tables")), "{probe:?}");
    let _ = Db::mysql(&server, &few).pull().await;
    assert!(opened() - before < 150, "{} tables were opened", opened() - before);
}
