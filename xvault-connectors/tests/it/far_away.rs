//! Servers that are far away: a test of a source tells all that it should, and what it had no time for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;
use xvault_connectors::source::Source;
use xvault_connectors::{Probe, ProbedPath};
use xvault_testkit::tools::find;
use xvault_testkit::{FaultProxy, Sshd};

use crate::db_support::{Db, Way};
use crate::db_trouble::{fake, folder, mysql, postgres};
use crate::ssh_support::{BOTH, Job};
use crate::wordpress::Site;

/// A quarter of the way around the world.
const ONE_WAY: Duration = Duration::from_millis(50);

/// Whoever waits for a probe does so for ten seconds.
const LIMIT: Duration = Duration::from_secs(10);

fn far(port: u16) -> FaultProxy {
    let proxy = FaultProxy::start(port);
    proxy.set_delay(ONE_WAY);
    proxy
}

/// What a test of it says, but for how much there is, which changes; and how long that took.
async fn probed(mut source: Box<dyn Source>) -> (Probe, Duration) {
    let begun = Instant::now();
    let mut probe = source.probe().await.unwrap();
    let took = begun.elapsed();
    let about =
        |note: &str| note.split_once("about ").map_or(note.to_owned(), |(before, _)| before.to_owned());
    probe.notes = probe.notes.iter().map(|note| about(note)).collect();
    (probe, took)
}

/// How often a command was run over SSH so far.
fn commands(sshd: &Sshd) -> usize {
    sshd.log().matches("Starting session: command").count()
}

#[tokio::test]
async fn a_probe_of_a_database_far_away_tells_what_one_nearby_does() {
    let ((pg, url), (my, name)) = (postgres(), mysql());
    for (kind, db, at_most) in [("postgres", Db::postgres(pg, &url), 5), ("mysql", Db::mysql(my, &name), 12)]
    {
        let sshd = Sshd::builder().start();
        let db = db.by(Way::Remote, &sshd);
        let (near, _) = probed(db.source().unwrap()).await;
        let calls = commands(&sshd);
        let proxy = far(sshd.port);
        let (probe, took) = probed(db.set("ssh_port", proxy.port).source().unwrap()).await;
        assert_eq!(probe, near, "{kind}");
        assert!(took < LIMIT, "{kind}: {took:?}");
        assert!(calls <= at_most, "{kind}: {calls} commands");
    }
}

#[tokio::test]
async fn a_probe_of_a_site_far_away_tells_what_one_nearby_does() {
    let mut site = Site::new(Sshd::builder().start());
    let (near, _) = probed(Box::new(site.source())).await;
    let calls = commands(&site.sshd);
    let proxy = far(site.sshd.port);
    site.settings.port = proxy.port;
    let (probe, took) = probed(Box::new(site.source())).await;
    assert_eq!(probe, near);
    assert!(took < LIMIT, "{took:?}");
    assert!(calls <= 18, "{calls} commands");
}

/// As hardening guides advise: one command at a time beside the files.
#[tokio::test]
async fn a_server_that_lets_two_sessions_share_a_connection_is_probed_as_another() {
    let (my, name) = mysql();
    let sshd = Sshd::builder().start();
    let strict = Sshd::builder().config("MaxSessions 2").start();
    let all = [&sshd, &strict].map(|sshd| Db::mysql(my, &name).by(Way::Remote, sshd).source().unwrap());
    let [free, narrow] = all;
    let ((free, _), (mut narrow, _)) = (probed(free).await, probed(narrow).await);
    narrow.host_key = free.host_key.clone();
    assert_eq!(narrow, free);
}

#[tokio::test]
async fn of_files_on_a_server_that_is_too_far_away_those_are_told_that_were_looked_at() {
    let sshd = &Sshd::builder().start();
    let paths: Vec<PathBuf> = (0..20).map(|number| sshd.home.join(format!("path {number}"))).collect();
    paths.iter().for_each(|path| fs::create_dir(path).unwrap());
    let paths: &Vec<&Path> = &paths.iter().map(PathBuf::as_path).collect();
    join_all(BOTH.map(|kind| async move {
        let proxy = FaultProxy::start(sshd.port);
        proxy.set_delay(2 * ONE_WAY);
        let (probe, took) = probed(Job::new(kind, sshd, paths).through(&proxy).source()).await;
        let seen = probe.paths.iter().filter(|path| path.kind == Some("directory")).count();
        let of_others =
            |path: &&ProbedPath| path.error.as_ref().is_some_and(|e| e.contains("was not looked at"));
        let unseen = probe.paths.iter().skip(seen).filter(of_others).count();
        assert!((1..20).contains(&seen) && seen + unseen == 20, "{kind:?}: {probe:?}");
        assert!(took < LIMIT, "{kind:?}: {took:?}");
    }))
    .await;
}

/// What is found is told, though more is to come.
#[tokio::test]
async fn a_server_that_answers_too_slowly_is_named_with_what_was_not_looked_at() {
    let ((pg, url), (my, name)) = (postgres(), mysql());
    let bin = folder();
    for tool in ["sh", "mktemp", "dd", "rm", "env", "psql", "mariadb", "mysql"] {
        symlink(find(tool).unwrap(), bin.path().join(tool)).unwrap();
    }
    for tool in ["pg_dump", "mariadb-dump"] {
        fake(bin.path(), tool, "exec /bin/sleep 60");
    }
    let sshd = &Sshd::builder().config(&format!("SetEnv PATH={}", bin.path().display())).start();
    let all = [("PostgreSQL 1", Db::postgres(pg, &url)), ("MariaDB 1", Db::mysql(my, &name))];
    join_all(all.map(|(kind, db)| async move {
        let (probe, took) = probed(db.by(Way::Remote, sshd).source().unwrap()).await;
        let error = probe.paths[0].error.as_deref().unwrap_or_default();
        assert!(probe.server.as_deref().is_some_and(|server| server.starts_with(kind)), "{probe:?}");
        assert!(probe.host_key.is_some() && error.contains("was not looked at"), "{probe:?}");
        assert!(took < LIMIT, "{kind}: {took:?}");
    }))
    .await;
}
