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
        mariadb(&fresh, &name, body(&kept, &format!("database/{name}.sql")));
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
    let nobody = Db::mysql(server, &name).set("port", 1).error().await;
    assert!(matches!(nobody, Error::Connection { .. }), "{nobody:?}");
}

#[tokio::test]
async fn a_table_that_may_not_be_read_fails_the_backup() {
    let (server, name) = sample();
    let user = format!("v_{name}");
    let _ = server.sql(
        &name,
        &format!("CREATE USER {user} IDENTIFIED BY 'pw'; GRANT SELECT, SHOW VIEW ON {name}.plain TO {user}; GRANT SHOW VIEW ON {name}.* TO {user}"),
    );
    let mut limited = Db::mysql(server, &name).set("username", user.as_str());
    limited.password = "pw".into();
    let failed = limited.error().await;
    assert!(failed.to_string().contains("denied"), "{failed}");
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
