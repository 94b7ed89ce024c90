//! Who may not connect somewhere does not: by every connector, to every server, whatever the name is.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_connectors::target::Target;
use xvault_connectors::{
    DatabaseLoad, Error, Network, Resolve, S3Options, S3Store, SftpTarget, SftpTargetOptions, Store,
};
use xvault_core::egress::{Egress, EgressPolicy, parse_network};
use xvault_core::source::DatabaseTarget;
use xvault_core::{Dispose, Disposition, Overwrite};
use xvault_testkit::{FtpKind, Ftpd, Mariadb, Postgres, SeaweedFs, Sshd};

use crate::db_support::{Db, WAYS, Way};
use crate::ftp_support::{Job as FtpJob, fill};
use crate::s3_support::{credential, settings, stage};
use crate::ssh_support::{BOTH, Job};

/// A name that no system knows.
pub(crate) const NAME: &str = "backup.example";

/// The only one who knows names. Remembers who asked.
#[derive(Default)]
pub(crate) struct Book {
    names: BTreeMap<&'static str, &'static str>,
    asked: Mutex<Vec<String>>,
}

impl Book {
    pub(crate) fn of(names: &[(&'static str, &'static str)]) -> Arc<Self> {
        Arc::new(Self { names: names.iter().copied().collect(), asked: Mutex::default() })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolve for Book {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(host.to_owned());
        let address = self.names.get(host).copied().unwrap_or(host);
        Ok(vec![address.parse().map_err(|_| io::Error::from(io::ErrorKind::NotFound))?])
    }
}

pub(crate) fn public() -> Network {
    Network::new(EgressPolicy::public())
}

/// This address and nothing else, which `localhost` and the other name lead to.
pub(crate) fn only(address: &'static str) -> Network {
    knowing(address, Book::of(&[(NAME, address), ("localhost", address)]))
}

/// The same, where `book` knows the names.
pub(crate) fn knowing(address: &str, book: Arc<Book>) -> Network {
    let allow = vec![parse_network(address).unwrap()];
    let policy = EgressPolicy { others: Egress::Listed, allow, deny: vec![] };
    Network::new(policy).resolving_by(book)
}

pub(crate) fn named() -> Network {
    only("127.0.0.1")
}

#[track_caller]
pub(crate) fn assert_refused(error: &Error, host: &str) {
    let Error::Egress(denied) = error else { panic!("{error:?}") };
    assert_eq!((denied.host.as_str(), denied.address.is_loopback()), (host, true));
    assert_eq!(error.disposition(), Disposition::Permanent);
    assert!(error.to_string().contains("`EgressPolicy::allow`"), "{error}");
}

fn db(kind: &str) -> Db {
    if kind == "mysql" {
        let server = Mariadb::shared();
        return Db::mysql(server, &server.create_database());
    }
    let server = Postgres::shared();
    Db::postgres(server, &server.create_database())
}

async fn probed(db: Db, network: Network) -> Result<(), Error> {
    db.within(network).source().unwrap().probe().await.map(drop)
}

#[tokio::test]
async fn servers_of_files_on_this_machine_are_refused_to_tenants() {
    let (sshd, ftpd) = (Sshd::builder().start(), Ftpd::builder(FtpKind::Vsftpd).start());
    let dir = tempfile::tempdir().unwrap();
    for host in ["127.0.0.1", "localhost", "127.1"] {
        for kind in BOTH {
            let job = Job::new(kind, &sshd, &[dir.path()]).with(|options| options.host = host.into());
            let job = job.with(|options| options.network = public());
            assert_refused(&job.error().await, host);
            assert_refused(&job.source().probe().await.unwrap_err(), host);
        }
        let job = FtpJob::new(&ftpd, &["/"]).set(|settings| settings.host = host.into());
        let job = job.with(|options| options.network = public());
        assert_refused(&job.error().await, host);
        assert_refused(&job.probe().await.unwrap_err(), host);
    }
}

#[tokio::test]
async fn databases_on_this_machine_are_refused_to_tenants_and_so_are_ssh_servers_before_them() {
    let sshd = Sshd::builder().start();
    for kind in ["postgres", "mysql"] {
        for way in WAYS {
            let error = probed(db(kind).by(way, &sshd), public()).await.unwrap_err();
            assert_refused(&error, "127.0.0.1");
        }
        assert_refused(&probed(db(kind).set("host", "localhost"), public()).await.unwrap_err(), "localhost");
    }
}

/// Only our own look-up knows the name: a tool that looked it up again would not find it.
#[tokio::test]
async fn tools_connect_to_the_address_that_was_checked() {
    for kind in ["postgres", "mysql"] {
        let db = db(kind).set("host", NAME).set("tls_mode", "prefer");
        let (kept, _) = db.within(named()).pull().await;
        assert!(!kept.entries.is_empty());
    }
}

#[tokio::test]
async fn what_lies_behind_an_ssh_server_is_for_that_server_to_reach() {
    let sshd = Sshd::builder().start();
    for (kind, way) in [("postgres", Way::Tunnel), ("postgres", Way::Remote), ("mysql", Way::Tunnel)] {
        let db = db(kind).by(way, &sshd).set("ssh_host", NAME);
        // Its own loopback interface: the usual case.
        probed(db, named()).await.unwrap();
    }
}

#[tokio::test]
async fn servers_of_files_are_reached_at_the_address_that_was_checked() {
    let (sshd, ftpd) = (Sshd::builder().start(), Ftpd::builder(FtpKind::Proftpd).start());
    fill(&ftpd, &[("a", "content")]);
    let dir = tempfile::tempdir().unwrap();
    for kind in BOTH {
        let job = Job::new(kind, &sshd, &[dir.path()]).with(|options| options.network = named());
        let (kept, _) = job.with(|options| options.host = NAME.into()).pull().await;
        assert_eq!(kept.entries.len(), 1);
    }
    let job = FtpJob::new(&ftpd, &["/"]).set(|settings| {
        settings.host = NAME.into();
        // Its certificate is of another name.
        (settings.tls_ca, settings.tls_fingerprint) = (None, Some(ftpd.fingerprint.clone()));
    });
    let (kept, _) = job.with(|options| options.network = named()).pull().await;
    assert!(kept.entries.iter().any(|(_, body)| body == b"content"));
}

#[tokio::test]
async fn restores_are_not_pushed_where_backups_are_not_pulled_from() {
    let sshd = Sshd::builder().start();
    let options = Job::new(BOTH[0], &sshd, &[]).with(|options| options.network = public()).options;
    let place = SftpTargetOptions { directory: "/tmp/x".into(), overwrite: Overwrite::Never, owner: false };
    assert_refused(&SftpTarget::new(options, place).connect().await.unwrap_err(), "127.0.0.1");
    for kind in ["postgres", "mysql"] {
        let db = db(kind).within(public());
        let target: DatabaseTarget =
            serde_json::from_value(serde_json::json!({ "type": kind, "config": db.config })).unwrap();
        let load = DatabaseLoad::new(&target, db.login(&target.server())).unwrap();
        let (writer, reader) = xvault_connectors::database::dump_channel();
        let head =
            if kind == "mysql" { "-- MariaDB dump 10.19\n" } else { "--\n-- PostgreSQL database dump\n--\n" };
        writer.push(head.into()).await.unwrap();
        writer.finished().await;
        let error = load.load(reader, &xvault_connectors::Control::default()).await.unwrap_err();
        assert_refused(&error, "127.0.0.1");
    }
}

fn bucket(endpoint: &str, network: Network) -> (S3Store, u16) {
    let access = SeaweedFs::shared().new_bucket();
    let port = access.endpoint.rsplit(':').next().unwrap().parse().unwrap();
    let endpoint = endpoint.replace("PORT", &format!("{port}"));
    let settings = xvault_core::S3Settings { endpoint: Some(endpoint), ..settings(&access) };
    let options = S3Options::default().retry_for(Duration::from_secs(20)).network(network);
    (S3Store::new(&settings, &credential(&access), options).unwrap(), port)
}

#[tokio::test]
async fn buckets_on_this_machine_are_refused_to_tenants_however_they_are_spelt() {
    for (endpoint, host) in [
        ("http://127.0.0.1:PORT", "127.0.0.1"),
        ("http://127.1:PORT", "127.0.0.1"),
        ("http://0x7f000001:PORT", "127.0.0.1"),
        ("http://[::ffff:127.0.0.1]:PORT", "::ffff:7f00:1"),
        ("http://localhost:PORT", "localhost"),
        ("http://s3.localhost:PORT", "s3.localhost"),
    ] {
        let (store, _) = bucket(endpoint, public());
        // What we ask ourselves, and what opendal asks; neither is tried for long.
        let begun = std::time::Instant::now();
        assert_refused(&store.put("tenants/x", Bytes::from_static(b"x")).await.unwrap_err(), host);
        assert_refused(&store.size("tenants/x").await.unwrap_err(), host);
        assert!(begun.elapsed() < Duration::from_secs(10), "{endpoint} was tried again");
    }
}

#[tokio::test]
async fn a_bucket_is_reached_at_the_address_that_was_checked() {
    let (store, _) = bucket(&format!("http://{NAME}:PORT"), named());
    stage(&store, "x", [Bytes::from_static(b"content")])
        .await
        .unwrap()
        .commit("m", Bytes::from_static(b"{}"))
        .await
        .unwrap();
}

/// A server that answers every request with a redirection.
fn redirecting(to: String) -> u16 {
    use std::io::{Read, Write};
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 8192]);
            let _ = write!(
                stream,
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
    });
    port
}

/// Where somebody listens who must not be connected to.
pub(crate) fn trap(host: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub(crate) fn assert_untouched(trap: &TcpListener) {
    assert_eq!(trap.accept().map(drop).unwrap_err().kind(), io::ErrorKind::WouldBlock, "somebody came");
}

#[tokio::test]
async fn a_redirection_leads_nowhere() {
    let (trap, port) = trap("127.0.0.2");
    let server = redirecting(format!("http://127.0.0.2:{port}/"));
    let (store, _) = bucket(&format!("http://{NAME}:{server}"), named());
    assert!(store.put("tenants/x", Bytes::from_static(b"x")).await.is_err());
    assert!(store.size("tenants/x").await.is_err());
    assert_untouched(&trap);
}

/// An FTP server that sends whoever asks for data to another address.
fn bouncing(port: u16) -> u16 {
    use std::io::{BufRead, BufReader, Write};
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    let answer = move |line: &str| match line.split_whitespace().next().unwrap_or_default() {
        "USER" => "331 password".to_owned(),
        "PASS" => "230 in".to_owned(),
        "TYPE" | "CWD" => "200 ok".to_owned(),
        "PWD" => "257 \"/\"".to_owned(),
        "PASV" => format!("227 Entering Passive Mode (127,0,0,2,{},{})", port >> 8, port & 255),
        _ => "502 what?".to_owned(),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut out = stream.try_clone().unwrap();
            let _ = out.write_all(b"220 hello\r\n");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = out.write_all(format!("{}\r\n", answer(&line)).as_bytes());
            }
        }
    });
    own
}

#[tokio::test]
async fn an_ftp_server_sends_nobody_elsewhere() {
    let (trap, port) = trap("127.0.0.2");
    let job = FtpJob::at(bouncing(port), "u", "p", &["/"]).plain().with(|options| {
        options.network = named();
        options.timeouts.reconnects = 0;
        options.timeouts.connect = Duration::from_secs(2);
    });
    let error = job.error().await;
    assert!(!matches!(error, Error::Egress(_)), "the address that it names is not even looked at: {error:?}");
    assert_untouched(&trap);
}
