//! Servers that are newer or older than the tools of this machine.

use xvault_connectors::Error;
use xvault_core::snapshot::Evidence;
use xvault_testkit::databases::POSTGRES_SAMPLE;
use xvault_testkit::{Postgres, Sshd};

use crate::db_support::{Db, WAYS, body, pg_restore};
use crate::db_trouble::{fake, folder, postgres};

/// The same source with tools that are newer than Debian's, and that have no known holes.
fn with_newest_tools(mut db: Db) -> Db {
    db.tools.folders.extend(Postgres::newest_programs());
    db.tools.allow_outdated = false;
    db
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
        crate::db_load::load_into(&restored, dump).await;
        let (found, expected) = (newest.checksums(&copy), server.checksums(url));
        let is_newest = server.port == newest.port;
        assert_eq!(comparable(&found, is_newest), comparable(&expected, is_newest));
    }
}

/// The same, where there are no others.
fn with_newest_tools_alone(db: Db) -> Db {
    let mut db = with_newest_tools(db);
    db.tools.usual_places = false;
    db
}

/// The usual case: Debian's own tools are refused, and there are newer ones.
#[tokio::test]
async fn tools_newer_than_a_server_bring_its_dumps_back_to_it() {
    let (server, url) = postgres();
    let expected = server.checksums(&url);
    for format in ["custom", "plain"] {
        let source = with_newest_tools_alone(Db::postgres(server, &url).set("format", format));
        let dump = &source.pull().await.0.entries[1].1;
        let fresh = format!("newer {format}");
        let mut beside = Db::postgres(server, &format!("beside {format}")).set("create", true);
        beside.tools.folders.extend(Postgres::newest_programs());
        let (alone, there) = (Db::postgres(server, &fresh).set("create", true), server.create_database());
        for db in
            [with_newest_tools_alone(alone), with_newest_tools_alone(Db::postgres(server, &there)), beside]
        {
            crate::db_load::load_into(&db, dump).await;
            let name = db.config["database"].as_str().unwrap();
            assert_eq!(server.checksums(name), expected, "{format} {name}");
        }
        // One that breaks off leaves nothing in what was there.
        let there = server.create_database();
        let load = crate::db_load::load_of(&with_newest_tools_alone(Db::postgres(server, &there)));
        let cut = crate::db_load::dump(dump, Some(dump.len() - 20_000));
        let error = load.load(cut, &xvault_connectors::Control::default()).await.unwrap_err();
        assert!(matches!(error, Error::Incomplete(_)), "{error:?}");
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
        assert_eq!(server.psql(&there, tables), "0\n", "{format}");
    }
}

#[tokio::test]
async fn a_tool_that_can_not_tell_its_version_is_passed_over() {
    let ((server, url), dir) = (postgres(), folder());
    for name in ["pg_dump", "psql"] {
        fake(dir.path(), name, "echo 'Error: PostgreSQL version 9 is not installed' >&2; exit 1");
    }
    let mut db = Db::postgres(server, &url);
    db.tools.folders.push(dir.path().to_owned());
    db.tools.allow_outdated = false;
    let name = url.rsplit('/').next().unwrap();
    let (kept, _) = with_newest_tools(db.clone()).pull().await;
    assert!(body(&kept, &format!("database/{name}.dump")).starts_with(b"PGDMP"));
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
