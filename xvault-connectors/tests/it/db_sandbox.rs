//! What a tool of this machine can do that a hostile server took over: nothing but talk to that server.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use xvault_connectors::{Control, Error};
use xvault_core::monitor::Recorder;
use xvault_testkit::Postgres;

use crate::db_support::Db;
use crate::db_trouble::{fake, folder, mysql, postgres};
use crate::ssh_support::Kept;

const VERSION: &str = "[ \"$1\" = --version ] && { echo 'pg_dump (PostgreSQL) 15.99'; exit; }";

/// Whether this machine's kernel holds tools with Landlock.
async fn has_landlock(db: &Db) -> bool {
    let probe = db.source().unwrap().probe().await.unwrap();
    !probe.notes.iter().any(|note| note.contains("without Landlock"))
}

/// Has a stand-in for `pg_dump` run `script`; gives the lines that it printed.
async fn said(script: &str, landlock: bool) -> Vec<String> {
    let (server, url) = postgres();
    let dir = folder();
    fake(dir.path(), "pg_dump", &format!("{VERSION}\nexec 1>&2\n{script}\nexit 9"));
    let mut db = Db::postgres(server, &url);
    db.tools.folders.push(dir.path().to_owned());
    db.tools.landlock = landlock;
    let log = Arc::new(Recorder::default());
    let control = Control::default().with_progress(log.clone());
    let error = db.pull_into(&mut Kept::default(), &control).await.unwrap_err();
    assert!(error.to_string().contains("exit status 9"), "{error:?}");
    let line = |note: &String| note.split_once(".dump: ").map(|(_, line)| line.to_owned());
    log.notes().iter().filter_map(line).collect()
}

fn holds(lines: &[String], line: &str) -> bool {
    lines.iter().any(|one| one == line)
}

#[tokio::test]
async fn a_tool_sees_no_environment_but_what_it_needs() {
    let printed = said("env | cut -d= -f1 | sort | tr '\\n' ' '; echo", true).await;
    // A shell adds its own directory, and `stdbuf` how much is written at once.
    assert_eq!(printed, ["HOME LC_ALL LD_PRELOAD PATH PGPASSFILE PWD _STDBUF_O"]);
}

#[tokio::test]
async fn a_tool_gets_no_new_privileges_another_user_and_limits() {
    let script = "setpriv --dump | tr -d ' \\t'\n\
                  for what in c f n v; do echo \"limit $what $(bash -c \"ulimit -H -$what\")\"; done";
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let user: &[&str] =
        if root { &["uid:65534", "euid:65534", "gid:65534", "Supplementarygroups:[none]"] } else { &[] };
    let always = ["no_new_privs:1", "limit c 0", "limit f 0", "limit n 256", "limit v 6291456"];
    // Landlock takes new privileges away by itself.
    for landlock in [true, false] {
        let printed = said(script, landlock).await;
        for line in always.iter().chain(user) {
            assert!(holds(&printed, line), "{line}: {printed:?}");
        }
    }
}

/// A directory that everybody may write to, with a file that everybody may read.
fn open_house(secret: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("readable"), secret).unwrap();
    for (name, mode) in [("readable", 0o644), (".", 0o777)] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    dir
}

/// Reads, lists, writes, makes, removes, connects and signals; says what worked.
fn attempts(house: &Path, port: u16) -> String {
    let house = house.display();
    format!(
        "cat {house}/readable && echo; ls {house} >/dev/null && echo listed; (: >{house}/made) && echo made\n\
         mkdir {house}/below && echo below; (: >>{house}/readable) && echo opened; rm -f {house}/readable && echo removed\n\
         ls /proc >/dev/null && echo saw; cat /etc/shadow && echo shadow\n\
         bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected'\n"
    )
}

/// What of it no user's rights forbid.
const WORK: [&str; 6] = ["for everybody", "listed", "made", "below", "saw", "connected"];

#[tokio::test]
async fn a_tool_reads_writes_and_reaches_nothing_else() {
    let (server, url) = postgres();
    if !has_landlock(&Db::postgres(server, &url)).await {
        return;
    }
    let (house, listener) = (open_house("for everybody"), TcpListener::bind("127.0.0.1:0").unwrap());
    let printed = said(&attempts(house.path(), listener.local_addr().unwrap().port()), true).await;
    for done in WORK.into_iter().chain(["opened", "removed", "shadow"]) {
        assert!(!holds(&printed, done), "{done}: {printed:?}");
    }
    assert!(printed.len() >= 9, "each attempt failed with a message: {printed:?}");
    let left: Vec<_> = fs::read_dir(house.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["readable"]);
    assert_eq!(fs::read_to_string(house.path().join("readable")).unwrap(), "for everybody");
}

/// The attempts above are good ones: they work without Landlock.
#[tokio::test]
async fn without_landlock_tools_run_and_that_is_told() {
    let (house, listener) = (open_house("for everybody"), TcpListener::bind("127.0.0.1:0").unwrap());
    let printed = said(&attempts(house.path(), listener.local_addr().unwrap().port()), false).await;
    for done in WORK {
        assert!(holds(&printed, done), "{done}: {printed:?}");
    }
    assert!(!holds(&printed, "shadow"), "{printed:?}");

    let ((postgres, url), (mysql, name)) = (postgres(), mysql());
    for mut db in [Db::postgres(postgres, &url), Db::mysql(mysql, &name)] {
        db.tools.landlock = false;
        let probe = db.source().unwrap().probe().await.unwrap();
        assert!(probe.notes.iter().any(|note| note.contains("without Landlock")), "{probe:?}");
        let log = Arc::new(Recorder::default());
        let control = Control::default().with_progress(log.clone());
        let _ = db.pull_into(&mut Kept::default(), &control).await.unwrap();
        assert!(log.notes().iter().any(|note| note.contains("without Landlock")), "{:?}", log.notes());
    }
}

#[tokio::test]
async fn a_tool_that_says_nothing_is_given_up() {
    let dir = folder();
    fake(dir.path(), "pg_dump", &format!("{VERSION}\nprintf PGDMP; exec sleep 60"));
    let mut db = Db::postgres(Postgres::shared(), "postgres");
    db.tools.folders.push(dir.path().to_owned());
    // What answers at once has time enough on a busy machine.
    db.tools.idle = std::time::Duration::from_secs(4);
    let error = db.error().await;
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}
