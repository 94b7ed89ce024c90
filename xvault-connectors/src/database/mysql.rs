//! A MySQL or MariaDB server: its clients, what it says of itself, and the tools that fit it.

mod rights;
mod tables;

use std::fmt;
use std::path::{Path, PathBuf};

use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::source::{DatabaseServer, TlsMode};
use zeroize::Zeroizing;

use super::complaint::understood;
use super::notary::Notary;
use super::{ALLOW, CONNECT_TIMEOUT, DatabaseLogin, MAX_ANSWER, Reach, unhex};
use crate::Error;
use crate::tool::{CA_PATH, Call, Secret, Told, Version, authorities, found};

pub(crate) use rights::Rights;
pub(crate) use tables::{UnsafeTable, View};

/// The first MariaDB and MySQL of each series whose tools guard against statements that a hostile server hides in a dump
/// (CVE-2024-21096: MySQL up to 8.0.36 and 8.3.0 does not). Later series all do.
const MENDED_MARIADB: [(u32, u32, u32); 4] = [(10, 5, 25), (10, 6, 18), (10, 11, 8), (11, 4, 2)];
const MENDED_MYSQL: [(u32, u32, u32); 2] = [(8, 0, 37), (8, 4, 0)];

/// Two lines of descent, with options of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    Mysql,
    Mariadb,
}

impl Flavor {
    fn of(text: &str) -> Self {
        if text.contains("MariaDB") { Self::Mariadb } else { Self::Mysql }
    }

    /// The release that a program of this line says it is of: `Ver 10.19 Distrib 10.11.19-MariaDB`,
    /// `from 11.4.2-MariaDB, client 10.19`, `Ver 10.13 Distrib 5.7.44`, `Ver 9.7.4`.
    fn version(self, text: &str) -> Option<Version> {
        match self {
            Self::Mariadb => {
                text.split_whitespace().find(|word| word.contains("-MariaDB")).and_then(Version::parse)
            }
            Self::Mysql => Version::find(text.split_once("Distrib ").map_or(text, |(_, release)| release)),
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mysql => "MySQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

/// A program, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    pub(crate) flavor: Flavor,
    pub(crate) version: Version,
}

impl Tool {
    /// Whether it can be told to take no commands from its input: MariaDB's clients since they are mended.
    pub(crate) fn knows_sandbox(&self) -> bool {
        self.flavor == Flavor::Mariadb && is_mended(self)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{name} {} ({})", self.version, self.flavor)
    }
}

/// A server that was reached.
pub(crate) struct Mysql {
    pub(crate) reach: Reach,
    client: Tool,
    pub(crate) flavor: Flavor,
    /// `MariaDB 10.11.19`.
    pub(crate) name: String,
}

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) name: String,
    /// Bytes of tables and indexes, as far as the server knows.
    pub(crate) size: u64,
}

impl Mysql {
    /// Connects, and asks what the server is.
    pub(crate) async fn connect(server: &DatabaseServer, login: &DatabaseLogin) -> Result<Self, Error> {
        let reach = Reach::connect(server, login, notary(server, login)?).await?;
        let client = pick(&reach, ["mariadb", "mysql"], Flavor::Mariadb).await?;
        let mut mysql = Self { reach, client, flavor: Flavor::Mysql, name: String::new() };
        let rows = mysql.query("SELECT HEX(CONCAT(VERSION(), ' ', @@version_comment))").await?;
        let text = rows.first().and_then(|row| row.first()).and_then(|text| unhex(text)).unwrap_or_default();
        mysql.flavor = Flavor::of(&text);
        let number = text.split(['-', ' ']).next().unwrap_or_default();
        let version = Version::parse(number).ok_or_else(|| mysql.nonsense("its version is no number"))?;
        mysql.name = format!("{} {version}", mysql.flavor);
        mysql.check_encryption().await?;
        Ok(mysql)
    }

    /// MariaDB's clients take plain text where TLS is demanded and the server offers none.
    async fn check_encryption(&self) -> Result<(), Error> {
        if matches!(self.reach.server.tls, TlsMode::Disable | TlsMode::Prefer) {
            return Ok(());
        }
        let rows = self.query("SHOW STATUS LIKE 'Ssl_cipher'").await?;
        let cipher = rows.first().and_then(|row| row.get(1)).map_or("", String::as_str);
        if !cipher.is_empty() {
            return Ok(());
        }
        let reason = "the server offers no encryption".to_owned();
        Err(Error::Tls { server: self.reach.server.place(), reason })
    }

    pub(crate) fn nonsense(&self, detail: &str) -> Error {
        Error::Protocol { server: self.reach.server.place(), detail: detail.to_owned() }
    }

    /// All databases that we see, without those of the system.
    pub(crate) async fn databases(&self) -> Result<Vec<Database>, Error> {
        let sql = "SELECT HEX(s.SCHEMA_NAME), COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) \
                   FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t \
                   ON t.TABLE_SCHEMA = s.SCHEMA_NAME WHERE s.SCHEMA_NAME NOT IN \
                   ('information_schema', 'performance_schema', 'mysql', 'sys') \
                   GROUP BY s.SCHEMA_NAME ORDER BY s.SCHEMA_NAME";
        let rows = self.query(sql).await?;
        rows.iter().map(|row| self.database(row)).collect()
    }

    fn database(&self, row: &[String]) -> Result<Database, Error> {
        let name = row.first().and_then(|name| unhex(name));
        let name = name.ok_or_else(|| self.nonsense("the name of a database is not UTF-8"))?;
        Ok(Database { name, size: row.get(1).and_then(|size| size.parse().ok()).unwrap_or_default() })
    }

    /// Runs `sql` outside any database: rows of fields. Neither line breaks nor tabs may be in a field.
    pub(crate) async fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, Error> {
        let mut call = self.client();
        for arg in ["--batch", "--raw", "--skip-column-names", "--execute", sql] {
            call.arg(arg);
        }
        let answer = self.reach.run(call).await?.output(MAX_ANSWER).await;
        let answer = answer.map_err(|error| understood(error, &self.reach))?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// The client, without a database. It runs none of its own commands, whatever stands in its input.
    pub(crate) fn client(&self) -> Call {
        let mut call = self.call(&self.client);
        call.arg(format!("--connect-timeout={CONNECT_TIMEOUT}"));
        call
    }

    /// What the client is.
    pub(crate) fn client_tool(&self) -> &Tool {
        &self.client
    }

    /// A call of `tool` that connects to the server.
    pub(crate) fn call(&self, tool: &Tool) -> Call {
        let DatabaseServer { host, port, username, tls, tls_ca, .. } = &self.reach.server;
        let mut call = Call::new(&tool.path);
        call.port = Some(self.reach.port());
        let remote = self.reach.is_remote();
        match &self.reach.login.password {
            Some(password) => call.secret = Some(password_file(password)),
            // The account's own files may hold its password.
            None if remote => {}
            None => drop(call.arg("--no-defaults")),
        }
        // Holds what any column does. What applications connect with (WordPress's `DB_CHARSET`) may hold less of it.
        call.arg(format!("--user={username}")).arg("--default-character-set=utf8mb4");
        match self.reach.endpoint() {
            None if host.starts_with('/') => call.arg(format!("--socket={host}")).arg("--protocol=socket"),
            Some((address, port)) if !self.reach.knows_by_name() => {
                call.arg(format!("--host={address}")).arg(format!("--port={port}")).arg("--protocol=tcp")
            }
            _ => call.arg(format!("--host={host}")).arg(format!("--port={port}")).arg("--protocol=tcp"),
        };
        // Past the notary the client talks to us.
        let tls = if self.reach.is_vouched_for() { TlsMode::Require } else { *tls };
        for word in tls_options(tool.flavor, tls, certificates(tls, tls_ca.is_some(), remote)) {
            call.arg(word);
        }
        if tls.verifies() && !remote {
            call.ca = tls_ca.clone();
        }
        call
    }

    /// The tool that dumps this server.
    pub(crate) async fn dump_tool(&self) -> Result<Tool, Error> {
        let names = match self.flavor {
            Flavor::Mariadb => ["mariadb-dump", "mysqldump"],
            Flavor::Mysql => ["mysqldump", "mariadb-dump"],
        };
        pick(&self.reach, names, self.flavor).await
    }
}

/// MySQL's clients compare a certificate's name with the host that they are told to connect to. Where that is an address, we do it.
fn notary(server: &DatabaseServer, login: &DatabaseLogin) -> Result<Option<Notary>, Error> {
    let by_address = server.ssh.is_some() || login.network.is_limited();
    let wanted = server.tls == TlsMode::VerifyFull && !server.is_remote() && by_address;
    wanted.then(|| Notary::new(server)).transpose()
}

fn certificates(tls: TlsMode, own: bool, remote: bool) -> Option<String> {
    if !tls.verifies() || remote {
        return None;
    }
    if own { Some(CA_PATH.to_owned()) } else { authorities().map(|path| path.display().to_string()) }
}

fn tls_options(flavor: Flavor, tls: TlsMode, ca: Option<String>) -> Vec<String> {
    let mut words: Vec<String> = match (flavor, tls) {
        (Flavor::Mysql, _) => vec![format!("--ssl-mode={}", mysql_word(tls))],
        (Flavor::Mariadb, TlsMode::Disable) => vec!["--skip-ssl".into()],
        (Flavor::Mariadb, TlsMode::Prefer) => vec!["--skip-ssl-verify-server-cert".into()],
        (Flavor::Mariadb, TlsMode::Require | TlsMode::VerifyCa) => {
            vec!["--ssl".into(), "--skip-ssl-verify-server-cert".into()]
        }
        (Flavor::Mariadb, TlsMode::VerifyFull) => vec!["--ssl".into(), "--ssl-verify-server-cert".into()],
    };
    words.extend(ca.map(|ca| format!("--ssl-ca={ca}")));
    words
}

fn mysql_word(tls: TlsMode) -> &'static str {
    match tls {
        TlsMode::Disable => "DISABLED",
        TlsMode::Prefer => "PREFERRED",
        TlsMode::Require => "REQUIRED",
        TlsMode::VerifyCa => "VERIFY_CA",
        TlsMode::VerifyFull => "VERIFY_IDENTITY",
    }
}

/// The first of `names` that is there; of `wanted`'s line of descent, if one is.
async fn pick(reach: &Reach, names: [&str; 2], wanted: Flavor) -> Result<Tool, Error> {
    let mut tools = Vec::new();
    for name in names {
        let places =
            if reach.is_remote() { vec![PathBuf::from(name)] } else { found(name, &reach.login.tools) };
        for path in places {
            tools.extend(look_at(reach, &path).await?);
        }
    }
    let any = reach.is_remote() || reach.login.tools.allow_outdated;
    let fits = |tool: &&Tool| any || is_mended(tool);
    let best = tools.iter().filter(fits).find(|tool| tool.flavor == wanted);
    let best = best.or_else(|| tools.iter().find(fits)).cloned();
    best.ok_or_else(|| refusal(names, tools.first()))
}

/// On an SSH server a program may be missing, which is no failure while there is another.
async fn look_at(reach: &Reach, path: &Path) -> Result<Option<Tool>, Error> {
    let text = match reach.version_text(path).await {
        Ok(text) => text,
        Err(Error::Tool { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let flavor = Flavor::of(&text);
    let version = flavor.version(&text);
    Ok(version.map(|version| Tool { path: path.to_owned(), flavor, version }))
}

fn refusal(names: [&str; 2], outdated: Option<&Tool>) -> Error {
    let tool = names.join(" or ");
    let reason = match outdated {
        None => "none of them is there: install mariadb-client or mysql-client".to_owned(),
        Some(tool) => format!(
            "version {} of {} does not guard against what a hostile server hides in a dump (CVE-2024-21096): update \
             it, or allow outdated tools ({ALLOW})",
            tool.version, tool.flavor
        ),
    };
    Error::Tool { tool, reason }
}

fn is_mended(tool: &Tool) -> bool {
    let Version { major, minor, patch } = tool.version;
    let series: &[_] = match tool.flavor {
        Flavor::Mysql => &MENDED_MYSQL,
        Flavor::Mariadb => &MENDED_MARIADB,
    };
    let newest = series.last().map_or((0, 0), |(major, minor, _)| (*major, *minor));
    let mended = |first: &(u32, u32, u32)| (first.0, first.1) == (major, minor) && patch >= first.2;
    (major, minor) > newest || series.iter().any(mended)
}

/// An option file with the password alone.
fn password_file(password: &SecretString) -> Secret {
    let mut content = Zeroizing::new(b"[client]\npassword=\"".to_vec());
    for byte in password.expose_secret().bytes() {
        if byte == b'\\' {
            content.push(b'\\');
        }
        content.push(byte);
    }
    content.extend_from_slice(b"\"\n");
    Secret { content, told: Told::FirstOption("--defaults-file=") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(flavor: Flavor, version: &str) -> Tool {
        Tool { path: "x".into(), flavor, version: Version::parse(version).unwrap() }
    }

    #[test]
    fn tools_with_known_holes_are_told() {
        for good in ["10.11.8", "10.11.19", "10.6.18", "11.4.2", "11.8.1", "12.0.1"] {
            assert!(is_mended(&tool(Flavor::Mariadb, good)), "{good}");
        }
        for bad in ["10.11.7", "10.4.34", "11.3.2", "10.6.17", "5.5.68"] {
            assert!(!is_mended(&tool(Flavor::Mariadb, bad)), "{bad}");
        }
        for good in ["8.0.37", "8.0.44", "8.4.0", "9.7.4"] {
            assert!(is_mended(&tool(Flavor::Mysql, good)), "{good}");
        }
        for bad in ["5.7.44", "8.0.36", "8.1.0", "8.3.0"] {
            assert!(!is_mended(&tool(Flavor::Mysql, bad)), "{bad}");
        }
        let old = refusal(["mariadb-dump", "mysqldump"], Some(&tool(Flavor::Mariadb, "10.11.7")));
        assert!(old.to_string().contains("10.11.7 of MariaDB"), "{old}");
    }

    #[test]
    fn the_version_is_that_of_the_release_and_not_of_the_program() {
        for (text, flavor, expected) in [
            (
                "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu",
                Flavor::Mariadb,
                "10.11.19",
            ),
            ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux", Flavor::Mariadb, "11.4.2"),
            ("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)", Flavor::Mysql, "5.7.44"),
            (
                "mysql  Ver 14.14 Distrib 5.6.51, for Linux (x86_64) using  EditLine wrapper",
                Flavor::Mysql,
                "5.6.51",
            ),
            (
                "mysqldump  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)",
                Flavor::Mysql,
                "9.7.4",
            ),
        ] {
            assert_eq!(Flavor::of(text), flavor, "{text}");
            assert_eq!(flavor.version(text), Version::parse(expected), "{text}");
        }
    }

    #[test]
    fn passwords_are_escaped() {
        let secret = password_file(&SecretString::from("a\"b\\c #d'".to_owned()));
        assert_eq!(secret.content.as_slice(), b"[client]\npassword=\"a\"b\\\\c #d'\"\n");
    }
}
