//! What is told of a PostgreSQL dump that can't be loaded: no rows, which are the customer's alone.

use std::sync::Arc;

use xvault_connectors::Control;
use xvault_core::monitor::Recorder;
use xvault_testkit::{Postgres, Sshd};

use crate::db_load::{dump, load_of, of_postgres};
use crate::db_support::{Db, Way};
use crate::db_versions::with_newest_tools_alone;

/// What the error and the notes say when `content` is loaded.
async fn told(target: &Db, content: &[u8]) -> String {
    let seen = Arc::new(Recorder::default());
    let control = Control::default().with_progress(seen.clone());
    let error = load_of(target).load(dump(content, None), &control).await.unwrap_err();
    format!("{} {:?}", xvault_core::error::chain(&error), seen.notes())
}

fn check(told: &str, parts: &[&str]) {
    assert!(!told.contains("secret"), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn a_script_that_fails_tells_where_and_no_rows() {
    let (server, sshd) = (Postgres::shared(), Sshd::builder().start());
    for (sql, parts) in [
        (
            "CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\nmy secret\n\\.\n",
            &["invalid input syntax for type integer", "COPY t, line 2, column a"][..],
        ),
        (
            "CREATE TABLE t (a text CONSTRAINT brief CHECK (length(a) < 5));\nCOPY t FROM stdin;\nmy secret\n\\.\n",
            &["violates check constraint \"brief\"", "COPY t, line 1"],
        ),
        (
            "CREATE TABLE t (a text);\nCOPY t FROM stdin;\nmy secret\nmy secret\n\\.\nALTER TABLE t ADD CONSTRAINT one PRIMARY KEY (a);\n",
            &["could not create unique index \"one\"", "Key (a)="],
        ),
        (
            "CREATE TABLE t (a json);\nCOPY t FROM stdin;\n{\\n my secret\\n secret\n\\.\n",
            &["invalid input syntax for type json", "CONTEXT:  JSON data"],
        ),
    ] {
        let content = of_postgres(sql);
        for way in [Way::Direct, Way::Remote] {
            let target = Db::postgres(server, "no rows").set("create", true).by(way, &sshd);
            check(&told(&target, &content).await, parts);
        }
    }
}

#[tokio::test]
async fn pg_restore_and_what_runs_its_script_tell_no_rows() {
    let server = Postgres::shared();
    let url = server.create_database();
    let _ = server.psql(&url, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (4711001, 'my secret')");
    let mut content = Db::postgres(server, &url).pull().await.0.entries.swap_remove(1).1;
    let place = content.windows(7).position(|part| part == b"4711001").unwrap();
    content[place..place + 7].copy_from_slice(b"secret!");
    let target = Db::postgres(server, "no rows either").set("create", true);
    for target in [with_newest_tools_alone(target.clone()), target] {
        let parts = ["invalid input syntax for type integer", "COPY t, line 1, column a"];
        check(&told(&target, &content).await, &parts);
    }
}
