//! Which clients are taken of those that a machine has, what they are told, and what is told of them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use xvault_connectors::Control;
use xvault_core::WarningCode;
use xvault_core::monitor::Recorder;
use xvault_testkit::tools::tool;
use xvault_testkit::{Mariadb, Postgres};

use crate::db_support::{Db, body};
use crate::db_trouble::{certificate, fake, folder, given_to, mysql};
use crate::egress::{NAME, only};
use crate::ssh_support::Kept;

/// A machine that has no other tools than those in `dir`, and MariaDB's client.
pub(crate) fn alone(mut db: Db, dir: &Path) -> Db {
    symlink(tool("mariadb"), dir.join("mariadb")).unwrap();
    db.tools.folders = vec![dir.to_owned()];
    db.tools.usual_places = false;
    db
}

#[tokio::test]
async fn a_tool_of_an_older_series_is_used_and_told_of_with_both_versions() {
    let ((server, name), dir) = (mysql(), folder());
    let version = "*--version*) echo 'mariadb-dump  Ver 10.19 Distrib 10.6.18-MariaDB'; exit";
    let real = format!("case \"$*\" in {version};; esac; exec {} \"$@\"", tool("mariadb-dump").display());
    fake(dir.path(), "mariadb-dump", &real);
    let db = alone(Db::mysql(server, &name), dir.path());
    let told = |note: &String| {
        note.starts_with("mariadb-dump 10.6.18 (MariaDB) is older than the server, MariaDB 1")
            && note.contains("mariadb-client of 1")
    };
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(probe.notes.iter().any(told), "{probe:?}");
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone());
    let _ = db.pull_into(&mut Kept::default(), &control).await.unwrap();
    assert!(seen.notes().iter().any(told), "{:?}", seen.notes());
    // The real one is as new as its server.
    let probe = Db::mysql(server, &name).source().unwrap().probe().await.unwrap();
    assert!(!probe.notes.iter().any(|note| note.contains("older than the server")), "{probe:?}");
}

/// MySQL's of 5.7 stops at an option that it does not know, unless it is told that it may be one.
#[tokio::test]
async fn what_only_newer_tools_of_mysql_know_is_told_as_such() {
    let ((server, name), dir) = (mysql(), folder());
    let version = "*--version*) echo 'mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)'; exit";
    let dump = "echo '-- MySQL dump 10.13'; for a in \"$@\"; do echo \"$a\"; done; echo '-- Dump completed'";
    fake(dir.path(), "mysqldump", &format!("case \"$*\" in {version};; esac; {dump}"));
    let (kept, _) = alone(Db::mysql(server, &name), dir.path()).pull().await;
    let said = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql"))).into_owned();
    for option in ["--set-gtid-purged=OFF", "--loose-column-statistics=0", "--loose-get-server-public-key"] {
        assert!(said.lines().any(|line| line == option), "{option}: {said}");
    }
    assert!(said.lines().any(|line| line == "--ssl-mode=PREFERRED"), "{said}");
}

#[tokio::test]
async fn packages_are_refused_to_tools_that_leave_them_out_and_come_back_from_others() {
    let ((server, name), dir) = (mysql(), folder());
    let package = "SET sql_mode = ORACLE; CREATE PACKAGE `odd one` AS FUNCTION one RETURN INT; END";
    let _ = server.sql(&name, &format!("DELIMITER ;;\n{package};;\n"));
    fake(
        dir.path(),
        "mysqldump",
        "echo 'mysqldump  Ver 8.0.44 for Linux on x86_64 (MySQL Community Server - GPL)'",
    );
    let db = alone(Db::mysql(server, &name), dir.path());
    let refused = db.error().await.to_string();
    for part in ["mysqldump 8.0.44 (MySQL)", "leaves out packages (`odd one`)", "install MariaDB's own tools"]
    {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let probe = db.source().unwrap().probe().await.unwrap();
    assert!(probe.paths[0].error.as_deref().is_some_and(|error| error.contains("`odd one`")), "{probe:?}");
    assert!(
        probe.notes.iter().any(|note| note.contains("is not of the server's kind, MariaDB 1")),
        "{probe:?}"
    );
    let (kept, _) = Db::mysql(server, &name).pull().await;
    let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql"))).into_owned();
    assert!(dump.contains("PACKAGE \"odd one\""), "no package");
}

#[tokio::test]
async fn rows_of_the_past_are_missed_in_a_warning() {
    let (server, name) = mysql();
    let _ = server.sql(
        &name,
        "CREATE TABLE `past one` (a INT) WITH SYSTEM VERSIONING; INSERT INTO `past one` VALUES (1); UPDATE `past one` SET a = 2",
    );
    let (kept, _) = Db::mysql(server, &name).pull().await;
    let [warning] = &kept.warnings[..] else { panic!("{:?}", kept.warnings) };
    assert_eq!(
        (warning.code, warning.path.to_string()),
        (WarningCode::Unreadable, format!("database/{name}.sql"))
    );
    assert!(warning.message.contains("what their rows were before: `past one`;"), "{warning:?}");
    let probe = Db::mysql(server, &name).source().unwrap().probe().await.unwrap();
    assert!(probe.notes.iter().any(|note| note.contains("`past one`")), "{probe:?}");
    let (kept, _) =
        Db::mysql(server, &name).set("exclude_tables", serde_json::json!(["past one"])).pull().await;
    assert_eq!(kept.warnings, []);
}

/// Who asks for all gets what he sees: that there may be more is for him to know.
#[tokio::test]
async fn a_user_who_does_not_see_all_databases_is_told_so_when_all_are_asked_for() {
    let (server, name) = mysql();
    let grants: [(&str, &[&str], bool); 3] = [
        ("few", &["SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON DB.*"], true),
        ("seeing", &["SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON DB.*", "SHOW DATABASES ON *.*"], false),
        ("all", &["SELECT, SHOW VIEW, TRIGGER, EVENT ON *.*"], false),
    ];
    for (user, grants, expected) in grants {
        let db = crate::db_mysql::limited(server, &name, user, grants);
        let hidden = async |db: &Db| {
            let probe = db.source().unwrap().probe().await.unwrap();
            probe.notes.iter().any(|note| note.contains("does not see databases that it has no privilege on"))
        };
        assert!(!hidden(&db).await, "{user}: it was named");
        let mut all = db.clone();
        let _ = all.config.as_object_mut().unwrap().remove("database");
        assert_eq!(hidden(&all).await, expected, "{user}");
    }
}

/// What a policy has let through is an address: a client that got the name would look it up again.
#[tokio::test]
async fn a_client_is_given_no_name_where_a_policy_is_kept() {
    let dir = folder();
    let own = certificate(dir.path(), "own", NAME);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mysql = Mariadb::start_with(&[
        &format!("--ssl-cert={}", path("own.pem")),
        &format!("--ssl-key={}", given_to(dir.path(), "own", "mysql")),
    ]);
    let postgres = Postgres::builder()
        .setting("ssl=on")
        .setting(&format!("ssl_cert_file={}", path("own.pem")))
        .setting(&format!("ssl_key_file={}", given_to(dir.path(), "own", "postgres")))
        .start();
    let name = mysql.create_database();
    for db in [Db::mysql(&mysql, &name), Db::postgres(&postgres, "postgres")] {
        // No system knows this name.
        let db = db.set("host", NAME).set("tls_mode", "verify-full").set("tls_ca", own.as_str());
        let probe = db.within(only("127.0.0.1")).source().unwrap().probe().await.unwrap();
        assert_eq!(probe.paths[0].error, None, "{probe:?}");
    }
}
