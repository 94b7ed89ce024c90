//! Servers that let few sessions share a connection, or none: `MaxSessions` of OpenSSH.

use std::fs;
use std::path::PathBuf;

use xvault_connectors::Error;
use xvault_connectors::ssh::HostKeyPolicy;
use xvault_core::snapshot::Evidence;
use xvault_core::source::SshMode;
use xvault_core::{Dispose, Disposition, EntryKind};
use xvault_testkit::{Mariadb, Postgres, Sshd};

use crate::db_support::{Db, Way};
use crate::ssh_support::{BOTH, Job, Kind, turning};
use crate::wordpress::Site;

fn with_sessions(count: u8) -> (Sshd, PathBuf) {
    let sshd = Sshd::builder().config(&format!("MaxSessions {count}")).start();
    let tree = sshd.home.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "x").unwrap();
    (sshd, tree)
}

fn databases(sshd: &Sshd, way: Way) -> [Db; 2] {
    let (postgres, mariadb) = (Postgres::shared(), Mariadb::shared());
    let [pg, my] = [postgres.create_database(), mariadb.create_database()];
    [Db::postgres(postgres, &pg), Db::mysql(mariadb, &my)].map(|db| db.by(way, sshd))
}

/// How many connections logged in.
fn logins(sshd: &Sshd) -> usize {
    sshd.log().matches("Accepted publickey").count()
}

#[tokio::test]
async fn one_session_a_connection_is_enough_for_files() {
    for (kind, most) in [(Kind::Sftp, 1), (Kind::Ssh, 3)] {
        let (sshd, tree) = with_sessions(1);
        let job = Job::new(kind, &sshd, &[&tree]);
        let (kept, summary) = job.pull().await;
        assert_eq!(kept.body(&tree.join("file")), Some(&b"x"[..]));
        assert_eq!(matches!(summary.evidence, Evidence::Tar { .. }), kind == Kind::Ssh, "{summary:?}");
        assert!(logins(&sshd) <= most, "{kind:?}: {}", sshd.log());

        let (free, its_tree) = with_sessions(100);
        let [narrow, wide] = [&job, &Job::new(kind, &free, &[&its_tree])].map(Job::source);
        let (narrow, wide) = (probed(narrow).await, probed(wide).await);
        assert_eq!(narrow, wide);
    }
}

/// What a test of it says but for where that is.
async fn probed(mut source: Box<dyn xvault_connectors::Source>) -> (Vec<Option<&'static str>>, Vec<String>) {
    let probe = source.probe().await.unwrap();
    (probe.paths.iter().map(|path| path.kind).collect(), probe.notes)
}

#[tokio::test]
async fn one_session_a_connection_is_enough_for_databases() {
    for way in [Way::Remote, Way::Tunnel] {
        let (sshd, _) = with_sessions(1);
        for db in databases(&sshd, way) {
            let probe = db.source().unwrap().probe().await.unwrap();
            assert!(probe.paths.iter().all(|path| path.error.is_none()), "{probe:?}");
            let (kept, _) = db.pull().await;
            assert!(kept.entries.len() > 1 && kept.warnings.is_empty());
        }
    }
}

#[tokio::test]
async fn one_session_a_connection_is_enough_for_a_site() {
    for mode in [SshMode::Tunnel, SshMode::Remote] {
        let mut site = Site::new(with_sessions(1).0).small();
        site.settings.ssh_mode = Some(mode);
        let (kept, _) = site.pull().await;
        assert!(kept.entries.iter().any(|(entry, body)| entry.kind == EntryKind::Stream && !body.is_empty()));
        let probe = site.probe().await;
        assert!(probe.paths.iter().all(|path| path.error.is_none()), "{probe:?}");
    }
}

#[tokio::test]
async fn an_account_without_sessions_is_told_so_and_tunnels_go_on() {
    let (sshd, tree) = with_sessions(0);
    let mut errors = Vec::new();
    for kind in BOTH {
        errors.push(Job::new(kind, &sshd, &[&tree]).error().await);
    }
    for db in databases(&sshd, Way::Remote) {
        let error = db.error().await;
        assert!(matches!(error, Error::NoShell { .. }), "{error:?}");
        errors.push(error);
    }
    for error in errors {
        let words = "the server opens no sessions for this account (`MaxSessions` of its settings is 0?)";
        assert!(error.to_string().ends_with(words), "{error}");
        assert_eq!(error.disposition(), Disposition::Permanent, "{error:?}");
    }
    for db in databases(&sshd, Way::Tunnel) {
        db.pull().await;
    }
}

#[tokio::test]
async fn where_no_other_connection_can_be_made_the_limit_is_named() {
    let (sshd, tree) = with_sessions(1);
    let port = turning(sshd.port, 1, xvault_testkit::unused_port());
    let error = Job::new(Kind::Ssh, &sshd, &[&tree]).with(|options| options.port = port).error().await;
    let Error::Connection { reason, .. } = &error else { panic!("{error:?}") };
    assert!(
        reason.contains("`MaxSessions` of its settings") && reason.contains(&port.to_string()),
        "{error}"
    );
}

/// Who was believed first is who the other connections must lead to.
#[tokio::test]
async fn another_connection_leads_to_the_same_server() {
    let ((sshd, tree), (other, _)) = (with_sessions(1), with_sessions(1));
    let port = turning(sshd.port, 1, other.port);
    let job = Job::new(Kind::Ssh, &sshd, &[&tree]).with(|options| {
        options.host_key = HostKeyPolicy::AcceptNew;
        options.port = port;
    });
    let error = job.error().await;
    let Error::ChangedHostKey { expected, found, .. } = &error else { panic!("{error:?}") };
    assert_eq!([expected, found], [&sshd, &other].map(|sshd| &sshd.host_key.fingerprint));
}
