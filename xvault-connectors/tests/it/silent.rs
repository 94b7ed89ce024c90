//! Servers that take connections and say nothing, or fall silent: nobody waits long for them.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use xvault_connectors::Error;
use xvault_connectors::source::Source;
use xvault_core::{Dispose, Disposition};
use xvault_testkit::tools::{command, run};
use xvault_testkit::{FaultProxy, Sshd};

use crate::db_support::{Db, Way};
use crate::db_trouble::{mysql, postgres};
use crate::ssh_support::{Job, Kind};
use crate::wordpress::Site;

/// Longer than anybody should wait, on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(15);

/// Takes connections as long as it is held.
fn silence() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Before a server that says nothing more once `login` has been let in.
fn silent_after(login: impl Fn(u16), port: u16) -> FaultProxy {
    let proxy = FaultProxy::start(port);
    login(proxy.port);
    proxy.stall_after(proxy.bytes_to_client() + 20);
    proxy
}

fn log_in_at_postgres(password: &str, port: u16) {
    let place = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres gssencmode=disable");
    let _ = run(command("psql", ["-X", "-d", &place, "-c", ""]).env("PGPASSWORD", password));
}

fn log_in_at_mysql(password: &str, port: u16) {
    let port = format!("--port={port}");
    let args = ["--no-defaults", "--skip-ssl", "--host=127.0.0.1", &port, "--user=xvt", "-e", "DO 1"];
    let _ = run(command("mariadb", args).env("MYSQL_PWD", password));
}

/// What a test of it says, and how long that took. None: nothing.
async fn probed(name: &str, mut source: Box<dyn Source>) -> Result<(), String> {
    let begun = Instant::now();
    match tokio::time::timeout(Duration::from_secs(25), source.probe()).await {
        Err(_) => Err(format!("{name}: still waits after {:?}", begun.elapsed())),
        Ok(Ok(probe)) => Err(format!("{name}: {probe:?}")),
        Ok(Err(error)) if error.disposition() != Disposition::Transient => Err(format!("{name}: {error:?}")),
        Ok(Err(_)) if begun.elapsed() < TOO_LONG => Ok(()),
        Ok(Err(error)) => Err(format!("{name}: after {:?}: {error}", begun.elapsed())),
    }
}

#[tokio::test]
async fn a_test_of_a_source_that_says_nothing_is_over_in_ten_seconds() {
    let ((_listener, port), sshd) = (silence(), Sshd::builder().start());
    let ((pg, url), (my, name)) = (postgres(), mysql());
    let ssh = |kind| Job::new(kind, &sshd, &[Path::new("/")]).with(|options| options.port = port).source();
    let mut site = Site::new(Sshd::builder().start());
    site.settings.port = port;
    let full = |db: Db| db.set("host", "localhost").set("tls_mode", "verify-full").set("port", port);
    let pg_proxy = silent_after(|port| log_in_at_postgres(pg.password(), port), pg.port);
    let my_proxy = silent_after(|port| log_in_at_mysql(&my.password, port), my.port);
    let stalled = [
        ("postgres, in mid-answer", Db::postgres(pg, &url).set("port", pg_proxy.port)),
        ("mysql, in mid-answer", Db::mysql(my, &name).set("port", my_proxy.port).set("tls_mode", "disable")),
        ("postgres", Db::postgres(pg, &url).set("port", port)),
        ("mysql", Db::mysql(my, &name).set("port", port)),
        ("mysql, its certificate", full(Db::mysql(my, &name).within(crate::egress::only("127.0.0.1")))),
        ("mysql, its certificate, by SSH", full(Db::mysql(my, &name).by(Way::Tunnel, &sshd))),
    ];
    let ftp = crate::ftp_support::Job::at(port, "u", "p", &["/"]).source();
    let others: [(&str, Box<dyn Source>); 4] = [
        ("sftp", ssh(Kind::Sftp)),
        ("ssh", ssh(Kind::Ssh)),
        ("ftp", ftp),
        ("wordpress", Box::new(site.source())),
    ];
    let databases = stalled.into_iter().map(|(name, db)| (name, db.source().unwrap()));
    let all = join_all(databases.chain(others).map(|(name, source)| probed(name, source))).await;
    let faults: Vec<String> = all.into_iter().filter_map(Result::err).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A backup would wait as long as the tools are let run.
#[tokio::test]
async fn a_server_whose_certificate_never_comes_ends_a_backup() {
    let ((_listener, port), sshd, (my, name)) = (silence(), Sshd::builder().start(), mysql());
    let full =
        || Db::mysql(my, &name).set("host", "localhost").set("tls_mode", "verify-full").set("port", port);
    let direct = full().within(crate::egress::only("127.0.0.1"));
    for db in [direct, full().by(Way::Tunnel, &sshd)] {
        let error = tokio::time::timeout(TOO_LONG, db.error()).await.expect("the backup hangs");
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("localhost:{port}")), "{error}");
    }
}
