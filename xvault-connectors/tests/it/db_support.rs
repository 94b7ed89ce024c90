//! What the database tests share: settings for each way to a server, and pulls.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use xvault_connectors::source::Source;
use xvault_connectors::tool::ToolOptions;
use xvault_connectors::{Control, DatabaseLogin, Error, MysqlSource, Network, PostgresSource, PullSummary};
use xvault_core::secret::SecretString;
use xvault_core::source::DatabaseCredential;
use xvault_core::{MysqlSettings, PostgresSettings};
use xvault_testkit::tools::command;
use xvault_testkit::{Mariadb, Postgres, Sshd};

use crate::ssh_support::{Kept, key};

/// The three ways to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Tunnel,
    Remote,
}

pub(crate) const WAYS: [Way; 3] = [Way::Direct, Way::Tunnel, Way::Remote];

/// A source to be: settings, and what one logs in with.
#[derive(Clone)]
pub(crate) struct Db {
    pub(crate) kind: &'static str,
    pub(crate) config: Value,
    pub(crate) password: String,
    pub(crate) tools: ToolOptions,
    network: Network,
    ssh_key: Option<std::path::PathBuf>,
}

impl Db {
    pub(crate) fn postgres(server: &Postgres, url: &str) -> Self {
        let name = url.rsplit('/').next().unwrap();
        Self::new("postgres", server.port, "postgres", server.password(), name)
    }

    pub(crate) fn mysql(server: &Mariadb, name: &str) -> Self {
        Self::new("mysql", server.port, Mariadb::USER, &server.password, name)
    }

    fn new(kind: &'static str, port: u16, user: &str, password: &str, database: &str) -> Self {
        let config = json!({"host": "127.0.0.1", "port": port, "username": user, "database": database});
        // Debian's packages lag behind at times.
        let tools = ToolOptions { allow_outdated: true, ..ToolOptions::default() };
        let network = Network::default();
        Self { kind, config, password: password.to_owned(), tools, network, ssh_key: None }
    }

    /// For a process of its own that makes the same of it.
    pub(crate) fn told(&self) -> String {
        json!([self.kind, self.config, self.password]).to_string()
    }

    pub(crate) fn of_told(told: &str) -> Self {
        let (kind, config, password): (String, Value, String) = serde_json::from_str(told).unwrap();
        let kind = if kind == "mysql" { "mysql" } else { "postgres" };
        Self { config, ..Self::new(kind, 0, "", &password, "") }
    }

    pub(crate) fn within(self, network: Network) -> Self {
        Self { network, ..self }
    }

    pub(crate) fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config[field] = value.into();
        self
    }

    pub(crate) fn by(self, way: Way, sshd: &Sshd) -> Self {
        if way == Way::Direct {
            return self;
        }
        let mode = if way == Way::Tunnel { "tunnel" } else { "remote" };
        let through = self.set("use_ssh", true).set("ssh_mode", mode).set("ssh_host", "127.0.0.1");
        let mut through = through.set("ssh_port", sshd.port).set("ssh_username", sshd.user.as_str());
        through.ssh_key = Some(sshd.key_path.clone());
        through.set("ssh_host_key", sshd.host_key.fingerprint.as_str())
    }

    pub(crate) fn login(&self, server: &xvault_core::source::DatabaseServer) -> DatabaseLogin {
        let credential =
            DatabaseCredential { password: Some(SecretString::from(self.password.clone())), ssh: None };
        let mut login = DatabaseLogin::new(server, credential).within(&self.network);
        if let (Some(ssh), Some(path)) = (&mut login.ssh, &self.ssh_key) {
            ssh.credential = key(path);
        }
        login.tools = self.tools.clone();
        login
    }

    pub(crate) fn source(&self) -> Result<Box<dyn Source>, Error> {
        let config = self.config.clone();
        Ok(if self.kind == "postgres" {
            let settings: PostgresSettings = serde_json::from_value(config).unwrap();
            Box::new(PostgresSource::new(&settings, self.login(&settings.server()))?)
        } else {
            let settings: MysqlSettings = serde_json::from_value(config).unwrap();
            Box::new(MysqlSource::new(&settings, self.login(&settings.server()))?)
        })
    }

    pub(crate) async fn pull_into(&self, kept: &mut Kept, control: &Control) -> Result<PullSummary, Error> {
        let mut source = self.source()?;
        let pulled = tokio::time::timeout(Duration::from_secs(300), source.pull(kept, control));
        pulled.await.expect("the pull hangs")
    }

    pub(crate) async fn pull(&self) -> (Kept, PullSummary) {
        let mut kept = Kept::default();
        let summary = self.pull_into(&mut kept, &Control::default()).await.unwrap();
        assert_eq!(summary.content.warnings, kept.warnings.len() as u64);
        (kept, summary)
    }

    pub(crate) async fn error(&self) -> Error {
        self.pull_into(&mut Kept::default(), &Control::default()).await.unwrap_err()
    }
}

/// The body of the dump at `path`.
pub(crate) fn body<'a>(kept: &'a Kept, path: &str) -> &'a [u8] {
    let found = kept.entries.iter().find(|(entry, _)| entry.path.as_bytes() == path.as_bytes());
    &found.unwrap_or_else(|| panic!("no {path}")).1
}

/// What an admin does: the tool on the command line reads the dump.
pub(crate) fn feed(command: &mut Command, dump: &[u8]) {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, dump).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = command.stdin(Stdio::from(file)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn pg_restore(server: &Postgres, url: &str, dump: &[u8]) {
    let mut tool = command("pg_restore", ["--exit-on-error", "-d", url]);
    feed(tool.env("PGPASSWORD", server.password()), dump);
}

pub(crate) fn mariadb(server: &Mariadb, database: &str, dump: &[u8]) {
    let port = format!("--port={}", server.port);
    let args = [
        "--no-defaults",
        "--host=127.0.0.1",
        &port,
        "--user",
        Mariadb::USER,
        "--max-allowed-packet=1G",
        database,
    ];
    feed(command("mariadb", args).env("MYSQL_PWD", &server.password), dump);
}
