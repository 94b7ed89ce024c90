//! Accounts whose shell runs no commands, or talks first.

use std::fs;
use std::time::{Duration, Instant};

use xvault_connectors::Error;
use xvault_core::source::SshMode;
use xvault_testkit::{Mariadb, Postgres, Sshd, SshdBuilder};

use crate::db_support::{Db, Way, body};
use crate::wordpress::Site;

/// Each way to have none, and what the account then says.
fn without_a_shell() -> [(SshdBuilder, &'static str); 3] {
    let by_force = |command: &str| Sshd::builder().config(&format!("ForceCommand {command}"));
    [
        (Sshd::builder().shell("nologin"), "no plain shell: This account is currently not available."),
        (by_force("internal-sftp"), "no plain shell: This service allows sftp connections only."),
        // Waits for its input instead of saying anything.
        (by_force("cat"), "no plain shell"),
    ]
}

fn assert_told(error: &Error, words: &str) {
    assert!(matches!(error, Error::NoShell { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.ends_with(words) && !text.contains('\\'), "{text}");
}

#[tokio::test]
async fn tools_on_the_server_need_a_shell_and_say_so() {
    let (postgres, mariadb) = (Postgres::shared(), Mariadb::shared());
    let url = postgres.create_database();
    for (builder, words) in without_a_shell() {
        let sshd = builder.start();
        for db in [Db::postgres(postgres, &url), Db::mysql(mariadb, "test")] {
            let db = db.by(Way::Remote, &sshd);
            assert_told(&db.error().await, words);
            let begun = Instant::now();
            assert_told(&db.source().unwrap().probe().await.unwrap_err(), words);
            assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn a_site_whose_tools_shall_run_on_the_server_needs_a_shell_and_says_so() {
    for (builder, words) in without_a_shell().into_iter().take(2) {
        let mut site = Site::new(builder.start());
        site.settings.ssh_mode = Some(SshMode::Remote);
        assert_told(&site.error().await, words);
    }
}

/// What a shell prints before it runs anything is in no dump.
#[tokio::test]
async fn what_a_shell_greets_with_is_no_part_of_a_dump() {
    let (server, sshd) = (Postgres::shared(), Sshd::builder().start());
    fs::write(sshd.home.join(".bashrc"), "echo welcome; printf 'to the server'; echo mind the step >&2\n")
        .unwrap();
    let db = Db::postgres(server, &server.create_database()).by(Way::Remote, &sshd);
    let (kept, _) = db.pull().await;
    let dump = kept.entries.iter().find(|(entry, _)| entry.path.to_string().ends_with(".dump"));
    let path = dump.map(|(entry, _)| entry.path.to_string()).unwrap();
    assert!(body(&kept, &path).starts_with(b"PGDMP"), "{:?}", body(&kept, &path).get(..40));
}
