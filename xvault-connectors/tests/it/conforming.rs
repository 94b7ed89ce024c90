//! Every source passes the suite that is published for sources, on a real server.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use xvault_connectors::conformance::{self, SourceBench};
use xvault_connectors::database::DatabaseLogin;
use xvault_connectors::source::Source;
use xvault_connectors::ssh::SshCredential;
use xvault_connectors::tool::ToolOptions;
use xvault_connectors::{Error, FtpOptions, FtpSource, LocalSource, SftpSource, SshOptions, SshSource};
use xvault_connectors::{MysqlSource, PostgresSource, WordpressSource};
use xvault_core::{
    FtpSettings, LocalSettings, MysqlSettings, PostgresSettings, SshSettings, WordpressSettings,
};
use xvault_testkit::{FaultProxy, FtpFront, Ftpd, Mariadb, Postgres, Sshd, trees};

use crate::db_support::{Db, WAYS};
use crate::ftp_support;
use crate::ssh_support::{Job, Kind};

/// What servers may send that the sink has not taken, and a file that is longer than that.
const AHEAD: u64 = 24 << 20;
const LARGE: u64 = 32 << 20;

/// A port that nobody listens at.
fn nobody() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Something of everything, and what can't be read by others in it.
fn fill(dir: &Path, large: u64) {
    trees::small_files(&dir.join("small"), 40, 500);
    trees::random_file(&dir.join("large"), large, 7);
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("nothing"), "").unwrap();
    symlink("large", dir.join("link")).unwrap();
    for name in ["secret", "shut"] {
        fs::write(dir.join(name), "unseen").unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
}

/// Nobody waits long for who is not there.
fn impatient(options: &mut SshOptions) {
    options.timeouts.reconnects = 0;
    options.timeouts.backoff = Duration::from_millis(20);
}

fn inside(path: &Path) -> String {
    path.to_str().unwrap().trim_start_matches('/').to_owned()
}

#[tokio::test]
async fn local_conforms() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3 << 20);
    fs::hard_link(dir.path().join("large"), dir.path().join("other name")).unwrap();
    let make = |path: &Path| -> Box<dyn Source> {
        let paths = vec![path.to_str().unwrap().to_owned()];
        Box::new(LocalSource::new(&LocalSettings { paths, excludes: vec![] }).unwrap())
    };
    // Nothing is kept from root.
    let bench = SourceBench::new(|| make(dir.path())).refused(|| make(Path::new("/no/such/path")));
    conformance::source(&bench).await.unwrap();
}

async fn servers_of_ssh_conform(kind: Kind) {
    let sshd = Sshd::builder().start();
    let (tree, proxy) = (sshd.home.join("tree"), FaultProxy::start(sshd.port));
    fill(&tree, LARGE);
    let job = || Job::new(kind, &sshd, &[&tree]).through(&proxy).with(impatient);
    let unreadable = [inside(&tree.join("secret")), inside(&tree.join("shut"))];
    let bench = SourceBench::new(|| job().source())
        .unreadable(&unreadable.each_ref().map(String::as_str))
        .fetched(|| proxy.bytes_to_client(), AHEAD)
        .refused(|| job().with(|options| options.username = "nobody-knows".into()).source())
        .away(|| job().with(|options| options.port = nobody()).source());
    conformance::source(&bench).await.unwrap();
}

#[tokio::test]
async fn sftp_conforms() {
    servers_of_ssh_conform(Kind::Sftp).await;
}

#[tokio::test]
async fn ssh_conforms() {
    servers_of_ssh_conform(Kind::Ssh).await;
}

#[tokio::test]
async fn ftp_conforms() {
    for kind in ftp_support::BOTH {
        let ftpd = Ftpd::builder(kind).passive_ports(24).start();
        fill(&ftpd.home.join("tree"), LARGE);
        ftpd.give(&ftpd.home);
        // Its servers follow links, or tell nothing of them.
        fs::remove_file(ftpd.home.join("tree/link")).unwrap();
        let front = FtpFront::of(&ftpd);
        let impatient = |options: &mut FtpOptions| {
            options.timeouts.reconnects = 0;
            options.timeouts.connect = Duration::from_secs(5);
        };
        let job = || ftp_support::Job::new(&ftpd, &["/tree"]).through(&front).with(impatient);
        let bench = SourceBench::new(|| job().source())
            .unreadable(&["tree/secret", "tree/shut"])
            .fetched(|| front.control.bytes_to_client() + front.data_bytes(), AHEAD)
            .refused(|| job().with(|options| options.username = "nobody-knows".into()).source())
            .away(|| job().with(|options| options.port = nobody()).source());
        conformance::source(&bench).await.unwrap();
    }
}

async fn databases_conform(db: impl Fn() -> Db + Send + Sync) {
    let sshd = Sshd::builder().start();
    for way in WAYS {
        let wrong = || {
            let mut db = db().by(way, &sshd);
            db.password = "wrong".into();
            db.source().unwrap()
        };
        let port = if way == crate::db_support::Way::Direct { "port" } else { "ssh_port" };
        let bench = SourceBench::new(|| db().by(way, &sshd).source().unwrap())
            .dates_itself()
            .refused(wrong)
            .away(|| db().by(way, &sshd).set(port, nobody()).source().unwrap());
        conformance::source(&bench).await.unwrap();
    }
}

#[tokio::test]
async fn postgres_conforms() {
    let server = Postgres::shared();
    let url = server.create_database();
    let _ =
        server.psql(&url, "CREATE TABLE t AS SELECT g, md5(g::text) AS h FROM generate_series(1, 20000) g");
    databases_conform(|| Db::postgres(server, &url)).await;
}

#[tokio::test]
async fn mysql_conforms() {
    let server = Mariadb::shared();
    let name = server.create_database();
    let _ = server.sql(
        &name,
        "CREATE TABLE t (g INT PRIMARY KEY, h CHAR(32)) SELECT seq AS g, MD5(seq) AS h FROM seq_1_to_20000",
    );
    databases_conform(|| Db::mysql(server, &name)).await;
}

/// A program that embeds the library is told so as the command line and the service are.
#[test]
fn no_source_is_made_of_settings_that_cannot_work() {
    let ssh: SshSettings = serde_json::from_str(r#"{"host": "h", "username": "u", "paths": []}"#).unwrap();
    let options = SshOptions::new(&ssh, SshCredential::Password(String::new().into()));
    let site = WordpressSettings::new("h", "u", vec![]);
    let ftp = FtpSettings::new("h", "u", vec![]);
    let login = DatabaseLogin::default;
    let field = |made: Result<(), Error>| match made.unwrap_err() {
        Error::Settings(error) => error.field,
        error => panic!("{error:?}"),
    };
    let fields = [
        LocalSource::new(&LocalSettings { paths: vec![], excludes: vec![] }).map(drop),
        SftpSource::new(&ssh, options.clone()).map(drop),
        SshSource::new(&ssh, options.clone()).map(drop),
        FtpSource::new(&ftp, FtpOptions::new(&ftp, None)).map(drop),
        PostgresSource::new(&PostgresSettings::new("", "u"), login()).map(drop),
        MysqlSource::new(&MysqlSettings::new("", "u"), login()).map(drop),
        WordpressSource::new(&site, options, ToolOptions::default()).map(drop),
    ]
    .map(field);
    assert_eq!(fields, ["paths", "paths", "paths", "paths", "host", "host", "paths"]);
}
