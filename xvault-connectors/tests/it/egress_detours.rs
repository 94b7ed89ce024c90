//! Ways around the rules for connections: a proxy that the environment names, what a site's configuration names, and commands.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use xvault_connectors::source::{Hooked, Source};
use xvault_connectors::{Control, Error, Network, S3Options, S3Store};
use xvault_core::source::{Hook, Hooks, SshMode};
use xvault_testkit::{S3Access, SeaweedFs, Sshd};

use crate::egress::{Book, NAME, assert_refused, assert_untouched, knowing, named, public, trap};
use crate::s3_support::{credential, settings};
use crate::ssh_support::{Job, Kept, Kind};
use crate::wordpress::Site;

const CHILD: &str = "XV_TEST_PROXIED_STORE";

/// Puts an object, in a process whose environment names a proxy. Whether it arrived.
fn put_beside(proxy: &str, access: &S3Access, limited: bool) -> bool {
    let parts = [&access.endpoint, &access.bucket, &access.region, &access.access_key, &access.secret_key];
    let parts = parts.map(String::as_str).join(" ");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "egress_detours::a_proxy_does_not_connect_for_who_may_not", "--nocapture"]);
    for name in ["no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env_remove(name);
    }
    child.env("http_proxy", proxy).env("HTTP_PROXY", proxy).env(CHILD, format!("{parts} {limited}"));
    child.output().unwrap().status.success()
}

#[tokio::main(flavor = "current_thread")]
async fn put(told: &str) {
    let [endpoint, bucket, region, access_key, secret_key, limited] =
        told.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let access = S3Access { endpoint, bucket, region, access_key, secret_key, session_token: None };
    let network = if limited == "true" { named() } else { Network::default() };
    let options = S3Options::default().retry_for(Duration::from_secs(1)).stall(Duration::from_secs(2));
    let store = S3Store::new(&settings(&access), &credential(&access), options.network(network)).unwrap();
    store.put("tenants/x", Bytes::from_static(b"x")).await.unwrap();
}

/// It would look names up itself, and connect to what it likes.
#[test]
fn a_proxy_does_not_connect_for_who_may_not() {
    if let Ok(told) = std::env::var(CHILD) {
        return put(&told);
    }
    let access = SeaweedFs::shared().new_bucket();
    let (proxy, port) = trap("127.0.0.1");
    assert!(put_beside(&format!("http://127.0.0.1:{port}"), &access, true));
    assert_untouched(&proxy);
    // Where everything may be connected to, the environment is followed.
    assert!(!put_beside(&format!("http://127.0.0.1:{port}"), &access, false));
    assert!(proxy.accept().is_ok());
}

#[tokio::test]
async fn sites_on_this_machine_are_refused_to_tenants() {
    let mut site = Site::new(Sshd::builder().start()).small();
    site.network = public();
    for mode in [None, Some(SshMode::Tunnel), Some(SshMode::Remote)] {
        site.settings.ssh_mode = mode;
        assert_refused(&site.error().await, "127.0.0.1");
        assert_refused(&site.source().probe().await.unwrap_err(), "127.0.0.1");
    }
}

/// A tunnel that the server does not open is no reason to connect from here, or to look the name up here.
#[tokio::test]
async fn what_a_sites_configuration_names_is_only_reached_by_its_server() {
    let mut site = Site::new(Sshd::builder().config("AllowTcpForwarding no").start()).small();
    let book = Book::of(&[(NAME, "127.0.0.1"), ("db.example", "127.0.0.1")]);
    site.network = knowing("127.0.0.1", book.clone());
    site.settings.host = NAME.to_owned();
    site.settings.ssh_mode = Some(SshMode::Tunnel);
    let (trap, port) = trap("127.0.0.1");
    for host in ["127.0.0.1", "db.example"] {
        site.configure(&format!("127.0.0.1:{}", site.wordpress.database_port), &format!("{host}:{port}"));
        let error = site.error().await;
        let told = matches!(&error, Error::Remote { reason, .. } if reason.contains("AllowTcpForwarding"));
        assert!(told, "{host}: {error:?}");
        let probe = site.probe().await;
        assert!(probe.paths[1].error.as_ref().unwrap().contains("AllowTcpForwarding"), "{host}: {probe:?}");
    }
    assert_untouched(&trap);
    assert!(book.asked().iter().all(|name| name == NAME), "{:?}", book.asked());
}

#[tokio::test]
async fn commands_are_not_run_where_backups_are_not_pulled_from() {
    let sshd = Sshd::builder().start();
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(Kind::Sftp, &sshd, &[dir.path()]);
    let hooks = Hooks { before: Some(Hook::new("touch before")), after: Some(Hook::new("touch after")) };
    let mut options = job.options.clone();
    options.network = public();
    let mut source = Hooked::around(job.source(), &hooks, Some(&options));
    let error = source.pull(&mut Kept::default(), &Control::default()).await.unwrap_err();
    assert_refused(&error, "127.0.0.1");
    assert!(!sshd.home.join("before").exists() && !sshd.home.join("after").exists());
}
