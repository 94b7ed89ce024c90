//! Servers that are newer or older than the tools of this machine.

use xvault_connectors::Error;
use xvault_core::snapshot::Evidence;
use xvault_testkit::databases::POSTGRES_SAMPLE;
use xvault_testkit::tools::command;
use xvault_testkit::{Postgres, Sshd};

use crate::db_load::{dump, load, load_into};
use crate::db_support::{Db, WAYS, Way, body, pg_restore};
use crate::db_trouble::{fake, folder, postgres};

/// The same source with tools that are newer than Debian's, and that have no known holes.
fn with_newest_tools(mut db: Db) -> Db {
    db.tools.folders.extend(Postgres::newest_programs());
    db.tools.allow_outdated = false;
    db
}

/// The same source where there are no others.
pub(crate) fn with_newest_tools_alone(db: Db) -> Db {
    let mut db = with_newest_tools(db);
    db.tools.usual_places = false;
    db
}

/// An SSH server whose tools are the newest.
fn sshd_of_newest() -> Sshd {
    let [programs, _] = Postgres::newest_programs();
    Sshd::builder().config(&format!("SetEnv PATH={}:/usr/bin:/bin", programs.display())).start()
}

async fn dump_of(source: &Db) -> Vec<u8> {
    source.pull().await.0.entries.swap_remove(1).1
}

#[tokio::test]
async fn a_pg_dump_older_than_the_server_is_refused_with_both_versions() {
    let newest = Postgres::builder().newest().start();
    let (url, sshd) = (newest.create_database(), Sshd::builder().start());
    for way in WAYS {
        let db = Db::postgres(&newest, &url).by(way, &sshd);
        for error in [db.error().await, db.source().unwrap().probe().await.unwrap_err()] {
            assert!(matches!(error, Error::Tool { .. }), "{way:?}: {error:?}");
            let text = error.to_string();
            assert!(
                text.contains("pg_dump 1") && text.contains(" is older than the server, PostgreSQL 18."),
                "{text}"
            );
            assert!(text.contains("install postgresql-client-18"), "{text}");
        }
    }
}

#[tokio::test]
async fn tools_of_the_servers_version_read_it_and_newer_ones_an_older_server() {
    let newest = Postgres::builder().newest().start();
    let url = newest.create_database();
    let _ = newest.psql(&url, POSTGRES_SAMPLE);
    let (older, older_url) = postgres();
    for (server, url) in [(&newest, &url), (older, &older_url)] {
        let (kept, summary) = with_newest_tools(Db::postgres(server, url)).pull().await;
        let Evidence::Dump { tool, .. } = &summary.evidence else { panic!("{summary:?}") };
        assert!(tool.starts_with("pg_dump 18."), "{tool}");
        let name = url.rsplit('/').next().unwrap();
        let dump = body(&kept, &format!("database/{name}.dump"));
        // It goes into a newer server, whichever it is of.
        let copy = newest.create_database();
        let restored = with_newest_tools(Db::postgres(&newest, &copy));
        load_into(&restored, dump).await;
        let (found, expected) = (newest.checksums(&copy), server.checksums(url));
        let is_newest = server.port == newest.port;
        assert_eq!(comparable(&found, is_newest), comparable(&expected, is_newest));
    }
}

/// Such tools set what an older server does not know.
#[tokio::test]
async fn newer_tools_load_dumps_of_theirs_and_of_older_ones_into_an_older_server() {
    let ((server, url), sshd) = (postgres(), sshd_of_newest());
    for format in ["custom", "plain"] {
        let source = Db::postgres(server, &url).set("format", format);
        for (by, source) in [("newest", with_newest_tools_alone(source.clone())), ("own", source)] {
            let content = dump_of(&source).await;
            for way in WAYS {
                let name = format!("{format} {by} {way:?}");
                let logins = || sshd.log().matches("Accepted publickey").count();
                let before = logins();
                let target = Db::postgres(server, &name).set("create", true).by(way, &sshd);
                let loaded = load(&with_newest_tools_alone(target), dump(&content, None)).await.unwrap();
                assert_eq!((loaded.created, loaded.bytes), (true, content.len() as u64));
                assert_eq!(server.checksums(&name), server.checksums(&url), "{name}");
                // Two programs that feed one another share no connection.
                let expected = match (way, format) {
                    (Way::Remote, "custom") => 2,
                    (Way::Direct, _) => 0,
                    _ => 1,
                };
                assert_eq!(logins() - before, expected, "{name}");
            }
            let there = server.create_database();
            load_into(&with_newest_tools_alone(Db::postgres(server, &there)), &content).await;
            assert_eq!(server.checksums(&there), server.checksums(&url), "{format} {by}");
        }
    }
}

#[tokio::test]
async fn newer_tools_undo_in_an_older_server_what_fails() {
    let ((server, url), (_, there)) = (postgres(), postgres());
    let _ = server.psql(&there, "DELETE FROM child");
    let target = |url: &str| with_newest_tools_alone(Db::postgres(server, url));
    let content = dump_of(&target(&url)).await;
    let broken = |content: &[u8]| dump(content, Some(content.len() - 20_000));
    let fresh = target("newer broken").set("create", true);
    let overwritten = target(&there).set("overwrite", true);
    for target in [&fresh, &overwritten] {
        let error = load(target, broken(&content)).await.unwrap_err();
        assert!(matches!(error, Error::Incomplete(_)), "{error:?}");
    }
    // The server does not take the last of it.
    let mut bad = content.clone();
    for place in 0..bad.len() - 10 {
        if bad[place..].starts_with(b"ADD CONSTRAINT") {
            bad[place..place + 14].copy_from_slice(b"ADD NONSENSE!!");
        }
    }
    for target in [&fresh, &overwritten] {
        let error = load(target, dump(&bad, None)).await.unwrap_err();
        assert!(matches!(error, Error::DumpRefused { .. }), "{error:?}");
        assert!(error.to_string().contains("syntax error"), "{error}");
    }
    let count = "SELECT count(*) FROM pg_database WHERE datname = 'newer broken'";
    assert_eq!(server.psql("postgres", count), "0\n");
    assert_eq!(server.psql(&there, "SELECT count(*) FROM child"), "0\n");
    load(&overwritten, dump(&content, None)).await.unwrap();
    assert_eq!(server.checksums(&there), server.checksums(&url));
}

#[tokio::test]
async fn pg_restore_is_one_that_reads_the_dump() {
    let (server, url) = postgres();
    let content = dump_of(&with_newest_tools_alone(Db::postgres(server, &url))).await;
    let own = Db::postgres(server, "by own tools").set("create", true);
    let refused = load(&own, dump(&content, None)).await.unwrap_err();
    assert!(matches!(refused, Error::Tool { .. }), "{refused:?}");
    for part in ["pg_restore 15.", "can't read this dump", "install postgresql-client-17 or newer"] {
        assert!(refused.to_string().contains(part), "{part}: {refused}");
    }
    let mut either = with_newest_tools(own);
    either.tools.allow_outdated = true;
    load(&either, dump(&content, None)).await.unwrap();
    assert_eq!(server.checksums("by own tools"), server.checksums(&url));
}

/// As Debian's are when the version that they choose was removed.
#[tokio::test]
async fn a_tool_that_can_not_tell_its_version_is_passed_over_where_there_is_another() {
    let ((server, url), dir) = (postgres(), folder());
    let broken = "echo 'Error: PostgreSQL version 15 is not installed' >&2; exit 1";
    for name in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
        fake(dir.path(), name, broken);
    }
    let with_broken = |mut db: Db| {
        db.tools.folders.push(dir.path().to_owned());
        db
    };
    let content = dump_of(&with_broken(Db::postgres(server, &url).set("globals", true))).await;
    let copy = server.create_database();
    load_into(&with_broken(Db::postgres(server, &copy)), &content).await;
    assert_eq!(server.checksums(&copy), server.checksums(&url));
    // Where it is the only one, what it says is told.
    let psql = xvault_testkit::tools::command("psql", [""; 0]);
    fake(dir.path(), "psql", &format!("exec {} \"$@\"", psql.get_program().display()));
    let mut alone = with_broken(Db::postgres(server, &url));
    alone.tools.usual_places = false;
    let text = alone.error().await.to_string();
    assert!(text.contains("pg_dump: exit status 1: Error: PostgreSQL version 15 is not installed"), "{text}");
}

/// PostgreSQL 18 counts NOT NULL among constraints, and writes views in another way.
fn comparable(checksums: &str, all: bool) -> Vec<&str> {
    let differs = |line: &&str| line.starts_with("constraint|") || line.starts_with("view|");
    checksums.lines().filter(|line| all || !differs(line)).collect()
}

/// Debian's own, where it is behind: refused, with what to do, unless that is allowed.
#[tokio::test]
async fn a_pg_dump_with_known_holes_says_what_to_do() {
    let (server, url) = postgres();
    let mut strict = Db::postgres(server, &url);
    strict.tools.allow_outdated = false;
    match strict
        .pull_into(&mut crate::ssh_support::Kept::default(), &xvault_connectors::Control::default())
        .await
    {
        Ok(summary) => drop(summary),
        Err(error) => {
            let text = error.to_string();
            for part in ["CVE-2026-6477", "update it to 15.19 or newer", "`ToolOptions::allow_outdated`"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
    let (kept, _) = Db::postgres(server, &url).pull().await;
    let copy = server.create_database();
    let name = url.rsplit('/').next().unwrap();
    pg_restore(server, &copy, body(&kept, &format!("database/{name}.dump")));
}

/// It logs in before anything else does.
#[tokio::test]
async fn a_psql_with_known_holes_is_left_alone_where_there_is_another() {
    let ((server, url), dir) = (postgres(), folder());
    fake(dir.path(), "psql", "[ \"$1\" = --version ] && { echo 'psql (PostgreSQL) 15.1'; exit; }; exit 9");
    let mut db = Db::postgres(server, &url);
    db.tools.folders.push(dir.path().to_owned());
    let (kept, _) = with_newest_tools(db).pull().await;
    let name = url.rsplit('/').next().unwrap();
    assert!(body(&kept, &format!("database/{name}.dump")).starts_with(b"PGDMP"));
}

/// A block of the manual's that has `part`.
fn block_of_the_manual(part: &str) -> String {
    let path = format!("{}/../docs/sources/postgres.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.split("```\n").find(|block| block.contains(part)).expect("a block").to_owned()
}

#[tokio::test]
async fn what_the_manual_pipes_into_an_older_server_comes_whole_or_not_at_all() {
    let (server, dir, [programs, _]) = (Postgres::start(), folder(), Postgres::newest_programs());
    let url = server.create_database();
    let line = "SET transaction_timeout = 0;";
    let _ = server.psql(&url, &format!("CREATE TABLE t AS SELECT '{line}' AS a; CREATE TABLE u (a int)"));
    let content = dump_of(&with_newest_tools_alone(Db::postgres(&server, &url))).await;
    std::fs::create_dir(dir.path().join("database")).unwrap();
    std::fs::write(dir.path().join("database/shop.dump"), content).unwrap();
    let block = block_of_the_manual("sed '1,");
    let run = |first: &std::path::Path| {
        let mut bash = command("bash", ["-c", &block]);
        let places = [first, &programs].map(|place| place.display().to_string());
        bash.env("PATH", format!("{}:/usr/bin:/bin", places.join(":"))).current_dir(dir.path());
        bash.env("PGHOST", "127.0.0.1").env("PGPORT", server.port.to_string()).env("PGUSER", "postgres");
        bash.env("PGPASSWORD", server.password()).output().unwrap()
    };
    let whole = run(&programs);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    assert_eq!(server.psql("shop", "SELECT a FROM t"), format!("{line}\n"));
    let _ = server.psql("postgres", "DROP DATABASE shop");

    let cut = format!("{}/pg_restore \"$@\" | head -n 40; exit 1", programs.display());
    fake(dir.path(), "pg_restore", &cut);
    let broken = run(dir.path());
    assert!(!broken.status.success());
    let made = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.psql("shop", made), "0\n");
}
