//! What goes wrong with databases, on real servers.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use xvault_connectors::{Control, Error, Network, PullSummary, TlsFault};
use xvault_testkit::databases::{MARIADB_SAMPLE, POSTGRES_SAMPLE};
use xvault_testkit::tools::{command, run};
use xvault_testkit::{FaultProxy, Mariadb, Postgres, Sshd};

use crate::db_support::{Db, WAYS, Way, body};
use crate::ssh_support::Kept;

pub(crate) fn postgres() -> (&'static Postgres, String) {
    let server = Postgres::shared();
    let url = server.create_database();
    let _ = server.psql(&url, POSTGRES_SAMPLE);
    (server, url)
}

pub(crate) fn mysql() -> (&'static Mariadb, String) {
    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(&name, MARIADB_SAMPLE);
    (server, name)
}

#[tokio::test]
async fn a_connection_cut_in_mid_dump_fails_the_backup() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    for (db, port) in [(Db::postgres(postgres, &url), postgres.port), (Db::mysql(mysql, &name), mysql.port)] {
        let proxy = FaultProxy::start(port);
        let db = db.set("port", proxy.port).set("tls_mode", "disable");
        let mut kept = Kept::default();
        // Small answers pass; the dump does not.
        proxy.cut_each_after(600_000);
        let error = db.pull_into(&mut kept, &Control::default()).await.unwrap_err();
        assert!(matches!(error, Error::Connection { .. } | Error::Tool { .. }), "{}: {error:?}", db.kind);
        assert!(kept.open, "the body of the dump was not ended");
    }
}

#[tokio::test]
async fn a_session_that_ends_in_mid_dump_fails_the_backup() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    for way in [Way::Tunnel, Way::Remote] {
        for db in [Db::postgres(postgres, &url), Db::mysql(mysql, &name)] {
            let sshd = Sshd::builder().start();
            let db = db.by(way, &sshd);
            let (begun, control) = (Arc::new(Notify::new()), Control::default());
            let tell = begun.clone();
            let mut kept = Kept {
                slow: Some(Duration::from_millis(20)),
                on_data: Some(Box::new(move |_| tell.notify_one())),
                ..Kept::default()
            };
            let pull = db.pull_into(&mut kept, &control);
            let cut = async {
                begun.notified().await;
                while sshd.drop_sessions() == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let (ended, ()) = tokio::join!(pull, cut);
            let error = ended.unwrap_err();
            assert!(
                matches!(error, Error::Connection { .. } | Error::Tool { .. }),
                "{} {way:?}: {error:?}",
                db.kind
            );
            assert!(kept.open, "the body of the dump was not ended");
        }
    }
}

/// Looks at every process's arguments and environment while `pull` runs; counts how often it looked.
async fn watch<T>(secrets: &[String], pull: impl Future<Output = T>) -> (T, u32) {
    let own = std::process::id();
    let mut pull = std::pin::pin!(pull);
    let mut looks = 0;
    loop {
        tokio::select! {
            done = &mut pull => return (done, looks),
            () = tokio::time::sleep(Duration::from_millis(1)) => looks += 1,
        }
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            for file in ["cmdline", "environ"] {
                let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                for secret in secrets {
                    let shown = text.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(
                        !shown || pid == own,
                        "{file} of {pid} shows a password: {}",
                        String::from_utf8_lossy(&text)
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_shows_a_password_on_either_end() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    let (sshd, before) = (Sshd::builder().start(), files_in_memory());
    let _ = postgres.psql(&url, "CREATE ROLE hidden_pg SUPERUSER LOGIN PASSWORD 'hidden-in-postgres'");
    let _ = mysql.sql("", "CREATE USER hidden IDENTIFIED BY 'hidden-in-mysql'; GRANT ALL ON *.* TO hidden");
    let secrets = ["hidden-in-postgres".to_owned(), "hidden-in-mysql".to_owned()];
    for way in WAYS {
        let mut pg = Db::postgres(postgres, &url).by(way, &sshd).set("username", "hidden_pg");
        pg.password.clone_from(&secrets[0]);
        let mut my = Db::mysql(mysql, &name).by(way, &sshd).set("username", "hidden");
        my.password.clone_from(&secrets[1]);
        for db in [pg, my] {
            let mut kept = Kept { slow: Some(Duration::from_millis(5)), ..Kept::default() };
            let (pulled, looks) = watch(&secrets, db.pull_into(&mut kept, &Control::default())).await;
            pulled.unwrap();
            assert!(looks > 5, "{looks}");
        }
    }
    // Other tests have theirs, for an instant.
    let mut left = files_in_memory();
    let deadline = Instant::now() + Duration::from_secs(20);
    while left.difference(&before).next().is_some() {
        assert!(Instant::now() < deadline, "{left:?}, and there were {before:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        left = left.intersection(&files_in_memory()).cloned().collect();
    }
}

/// Where remote tools read their passwords from.
fn files_in_memory() -> BTreeSet<OsString> {
    let names = fs::read_dir("/dev/shm").unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with("xv.")).collect()
}

/// A program of that name in a folder of its own.
pub(crate) fn fake(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// What a tool pretends to have dumped, and with which exit.
#[tokio::test]
async fn a_dump_without_beginning_end_or_good_exit_is_none() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    let version = "[ \"$1\" = --version ] && { echo 'pg_dump (PostgreSQL) 15.99'; exit; }";
    let cases = [
        ("exit 0", "empty"),
        ("printf 'PGDMP\\001\\016\\000\\004\\010\\001'", "cut"),
        ("printf '%s\\n' -- '-- PostgreSQL database dump complete'", "begin"),
        ("printf 'PGDMP'; exit 1", "exit status 1"),
        ("kill -9 $$", "signal"),
    ];
    for (script, part) in cases {
        let dir = folder();
        fake(dir.path(), "pg_dump", &format!("{version}\n{script}"));
        let mut db = Db::postgres(postgres, &url);
        db.tools.folders.push(dir.path().to_owned());
        let error = db.error().await;
        assert!(error.to_string().contains(part), "{script}: {error}");
    }
    let version =
        "case \"$*\" in *--version*) echo 'mariadb-dump  Ver 10.19 Distrib 10.11.99-MariaDB'; exit;; esac";
    let whole = "printf '%s\\n' '-- MariaDB dump 10.19' 'INSERT' '-- Dump completed on x'";
    for (script, part) in [
        ("exit 0", "empty"),
        ("echo '-- MariaDB dump 10.19'", "last line"),
        (&format!("{whole}; exit 3"), "exit status 3"),
    ] {
        let dir = folder();
        fake(dir.path(), "mariadb-dump", &format!("{version}\n{script}"));
        let mut db = Db::mysql(mysql, &name);
        db.tools.folders.push(dir.path().to_owned());
        let error = db.error().await;
        assert!(error.to_string().contains(part), "{script}: {error}");
    }
}

/// That a tool was passed over for its holes; a machine whose own is mended uses that one instead.
async fn passed_over(db: &Db, parts: [&str; 3]) {
    let Err(error) = db.pull_into(&mut Kept::default(), &Control::default()).await else { return };
    for part in parts {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_tool_with_known_holes_is_refused() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    let dir = folder();
    // Whatever is used of these fails in another way.
    let lines =
        [("pg_dump", "pg_dump (PostgreSQL) 15.18.99"), ("mariadb-dump", "Ver 10.19 Distrib 10.11.7-MariaDB")];
    for (tool, line) in lines {
        fake(dir.path(), tool, &format!("case \"$*\" in *--version*) echo '{line}'; exit;; esac; exit 1"));
    }
    let strict = |mut db: Db| {
        db.tools.allow_outdated = false;
        db.tools.folders.push(dir.path().to_owned());
        db
    };
    let (postgres, mysql) = (strict(Db::postgres(postgres, &url)), strict(Db::mysql(mysql, &name)));
    passed_over(&postgres, ["CVE-2026-6477", "update it to", "or allow outdated tools"]).await;
    passed_over(&mysql, ["CVE-2024-21096", "update it", "or allow outdated tools"]).await;
}

#[tokio::test]
async fn a_missing_remote_tool_and_a_forbidden_tunnel_are_named() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    let sshd = Sshd::builder().config("AllowTcpForwarding no").config("SetEnv PATH=/nonexistent").start();
    for db in [|| Db::postgres(Postgres::shared(), "postgres"), || Db::mysql(Mariadb::shared(), "mysql")] {
        let tunnel = db().by(Way::Tunnel, &sshd).error().await;
        assert!(tunnel.to_string().contains("forbids tunnels"), "{tunnel}");
    }
    let bin = folder();
    for tool in ["sh", "mktemp", "dd", "rm", "env"] {
        std::os::unix::fs::symlink(xvault_testkit::tool(tool), bin.path().join(tool)).unwrap();
    }
    let line = format!("ForceCommand PATH={} sh -c \"$SSH_ORIGINAL_COMMAND\"", bin.path().display());
    let sshd = Sshd::builder().config(&line).start();
    for db in [Db::postgres(postgres, &url), Db::mysql(mysql, &name)] {
        let missing = db.by(Way::Remote, &sshd).error().await;
        assert!(matches!(missing, Error::Tool { .. }), "{missing:?}");
        assert!(missing.to_string().contains("there"), "{missing}");
    }
    let sshd = Sshd::builder().start();
    for db in [Db::postgres(postgres, &url), Db::mysql(mysql, &name)] {
        let nowhere = db.by(Way::Tunnel, &sshd).set("port", 1).error().await;
        assert!(nowhere.to_string().contains("does not reach the database"), "{nowhere}");
    }
}

/// A key and a certificate of `name` for itself.
pub(crate) fn certificate(dir: &Path, file: &str, name: &str) -> String {
    let (key, cert) = (dir.join(format!("{file}.key")), dir.join(format!("{file}.pem")));
    let (key_text, cert_text) = (key.to_str().unwrap(), cert.to_str().unwrap());
    let subject = format!("/CN={name}");
    let alternative = format!("subjectAltName=DNS:{name}");
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", &subject];
    let more = ["-addext", &alternative, "-keyout", key_text, "-out", cert_text];
    let _ = run(command("openssl", args.into_iter().chain(more)).stderr(std::process::Stdio::piped()));
    fs::read_to_string(cert).unwrap()
}

/// The path of a copy of that key which is this user's alone: servers take no other.
pub(crate) fn given_to(dir: &Path, file: &str, user: &str) -> String {
    let path = |name: String| dir.join(name).display().to_string();
    let (key, copy) = (path(format!("{file}.key")), path(format!("{user}.key")));
    let _ = run(&mut command("cp", [&key, &copy]));
    let _ = run(&mut command("chown", [user, &copy]));
    let _ = run(&mut command("chmod", ["600", &copy]));
    copy
}

pub(crate) async fn check_certificates(db: impl Fn() -> Db, own: &str, other: &str) {
    let reach = |db: Db| async move { db.source().unwrap().probe().await };
    let refused = |outcome: Result<xvault_connectors::Probe, Error>, what: &str| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("tls_ca"), "{error}");
    };
    let full = || db().set("host", "localhost").set("tls_mode", "verify-full");
    refused(reach(full()).await, "self-signed, unknown");
    refused(reach(full().set("tls_ca", other)).await, "another authority");
    reach(full().set("tls_ca", own)).await.expect("pinned");
    let named = reach(db().set("tls_mode", "verify-full").set("tls_ca", own)).await.unwrap_err();
    assert!(matches!(named, Error::Tls { .. }) && named.to_string().contains("`verify-ca`"), "{named:?}");
    reach(db().set("tls_mode", "verify-ca").set("tls_ca", own)).await.expect("the name does not matter");
    refused(reach(db().set("tls_mode", "verify-ca").set("tls_ca", other)).await, "another authority");
    reach(db().set("tls_mode", "require")).await.expect("unchecked");
}

#[tokio::test]
async fn certificates_are_checked_as_the_mode_says() {
    let dir = folder();
    let own = certificate(dir.path(), "own", "localhost");
    let other = certificate(dir.path(), "other", "elsewhere");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let postgres = Postgres::builder()
        .setting("ssl=on")
        .setting(&format!("ssl_cert_file={}", path("own.pem")))
        .setting(&format!("ssl_key_file={}", given_to(dir.path(), "own", "postgres")))
        .start();
    check_certificates(|| Db::postgres(&postgres, "postgres"), &own, &other).await;
    let mysql = Mariadb::start_with(&[
        &format!("--ssl-cert={}", path("own.pem")),
        &format!("--ssl-key={}", given_to(dir.path(), "own", "mysql")),
    ]);
    let name = mysql.create_database();
    check_certificates(|| Db::mysql(&mysql, &name), &own, &other).await;
    // By a client that is not told the name: behind a tunnel, and where a policy lets us connect to one address alone.
    let sshd = Sshd::builder().start();
    check_certificates(|| Db::mysql(&mysql, &name).by(Way::Tunnel, &sshd), &own, &other).await;
    let only = || crate::egress::only("127.0.0.1");
    check_certificates(|| Db::mysql(&mysql, &name).within(only()), &own, &other).await;
    check_certificates(|| Db::postgres(&postgres, "postgres").within(only()), &own, &other).await;
    let full =
        Db::mysql(&mysql, &name).set("host", "localhost").set("tls_mode", "verify-full").set("tls_ca", own);
    let (kept, _) = full.within(only()).pull().await;
    assert!(body(&kept, &format!("database/{name}.sql")).ends_with(b"\n"));
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_that_is_demanded() {
    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    for db in [Db::postgres(postgres, &url), Db::mysql(mysql, &name)] {
        // Where a policy is kept, the notary asks in the client's place.
        let anywhere = Network::default;
        for (tls_mode, network) in [
            ("require", anywhere()),
            ("verify-full", anywhere()),
            ("verify-full", crate::egress::only("127.0.0.1")),
        ] {
            let error = db.clone().set("tls_mode", tls_mode).within(network).error().await;
            let Error::Tls { reason, .. } = &error else { panic!("{error:?}") };
            assert_eq!(TlsFault::of(reason), TlsFault::NotOffered, "{tls_mode}: {error}");
        }
    }
}

/// Once the server shows `sign`, `drop` runs, in a thread of its own.
fn once_shown(
    ask: impl Fn() -> String + Send + 'static,
    drop: impl FnOnce() + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(30);
        while ask().trim() == "0" {
            assert!(Instant::now() < deadline, "the dump was never seen");
            std::thread::sleep(Duration::from_millis(10));
        }
        drop();
    })
}

/// PostgreSQL holds every table still from the moment its dump begins: who drops one waits for the end.
#[tokio::test]
async fn a_table_of_postgres_is_not_dropped_in_mid_dump() {
    let (server, url) = postgres();
    let sent = url.clone();
    let held = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted AND relation = 'large'::regclass AND datname = current_database() AND application_name = 'xvault'";
    let dropped = once_shown(move || server.psql(&sent, held), {
        let url = url.clone();
        move || drop(server.psql(&url, "DROP TABLE large"))
    });
    let mut kept = Kept { slow: Some(Duration::from_millis(50)), ..Kept::default() };
    // Packed, it is too small to take long.
    let db = Db::postgres(server, &url).set("format", "plain");
    let _ = db.pull_into(&mut kept, &Control::default()).await.unwrap();
    dropped.join().unwrap();
    assert_eq!(server.psql(&url, "SELECT to_regclass('large') IS NULL"), "t\n");
    let copy = server.create_database();
    let name = url.rsplit('/').next().unwrap();
    let mut psql = command("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &copy]);
    let dump = body(&kept, &format!("database/{name}.sql"));
    crate::db_support::feed(psql.env("PGPASSWORD", server.password()), dump);
    assert_eq!(server.psql(&copy, "SELECT count(*), sum(length(body)) FROM large"), "3|1200000\n");
}

/// Dumps a database of MySQL, does `change` once the tool is at a table that takes long, and waits for both. `zzz_last` is still to come then.
async fn changed_in_mid_dump(change: &'static str) -> (String, Kept, Result<PullSummary, Error>) {
    let (server, name) = mysql();
    let more = "INSERT INTO large SELECT a.id, a.body, a.raw FROM large a, seq_1_to_3";
    let _ = server.sql(&name, more);
    let _ = server.sql(&name, "CREATE TABLE zzz_last (a INT); INSERT INTO zzz_last VALUES (1)");
    let reads = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{name}' AND info LIKE 'SELECT%FROM `large`%'"
    );
    let changed = once_shown(move || server.sql("", &reads), {
        let name = name.clone();
        move || drop(server.sql(&name, change))
    });
    let mut kept = Kept { slow: Some(Duration::from_millis(20)), ..Kept::default() };
    let pulled = Db::mysql(server, &name).pull_into(&mut kept, &Control::default()).await;
    changed.join().unwrap();
    (name, kept, pulled)
}

/// MySQL lets a table go that the dump has not come to: the dump ends there, and names it.
#[tokio::test]
async fn a_table_of_mysql_that_is_dropped_in_mid_dump_fails_it() {
    let (_, kept, pulled) = changed_in_mid_dump("DROP TABLE zzz_last").await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, Error::Tool { .. }) && error.to_string().contains("zzz_last"), "{error:?}");
    assert!(kept.open, "the body of the dump was not ended");
}

/// Nobody who writes waits for the dump, and what they write is not in it: it is of the moment that it began in.
#[tokio::test]
async fn a_dump_of_mysql_is_of_one_moment_and_holds_nobody_up() {
    let write = "SET lock_wait_timeout = 0; INSERT INTO zzz_last VALUES (2)";
    let (name, kept, pulled) = changed_in_mid_dump(write).await;
    let _ = pulled.unwrap();
    let dump = String::from_utf8_lossy(body(&kept, &format!("database/{name}.sql")));
    let of_the_last = dump.split("INSERT INTO `zzz_last` VALUES").nth(1).unwrap();
    assert!(of_the_last.trim_start().starts_with("(1);"), "{}", &of_the_last[..of_the_last.len().min(80)]);
}
