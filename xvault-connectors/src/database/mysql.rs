//! A MySQL or MariaDB server: its clients, what it says of itself, and the tools that fit it.

mod rights;
mod tables;
mod tool;

use xvault_core::secret::{ExposeSecret, SecretString};
use xvault_core::source::{DatabaseServer, TlsMode};
use zeroize::Zeroizing;

use super::complaint::understood;
use super::notary::Notary;
use super::{CONNECT_TIMEOUT, DatabaseLogin, MAX_ANSWER, Reach, unhex};
use crate::Error;
use crate::tool::{CA_PATH, Call, Secret, Told, Version, authorities};

pub(crate) use rights::{Rights, name as quoted_name};
pub(crate) use tables::{BrokenViews, UnsafeTable, View, text};
use tool::Wanted;
pub(crate) use tool::{Flavor, Product, Tool};

/// What the server is, and what the connection is encrypted with.
const VERSION: &str = "SELECT HEX(CONCAT(VERSION(), ' ', @@version_comment))";
const CIPHER: &str = "SHOW STATUS LIKE 'Ssl_cipher'";

/// Every MySQL and MariaDB takes it of every user. What is like them, and what stands between, may not.
pub(super) const ENGLISH: &str = "SET lc_messages = 'en_US';";

/// A server that was reached.
pub(crate) struct Mysql {
    pub(crate) reach: Reach,
    client: Tool,
    pub(crate) product: Product,
}

impl Mysql {
    /// Connects, and asks what the server is.
    pub(crate) async fn connect(server: &DatabaseServer, login: &DatabaseLogin) -> Result<Self, Error> {
        let reach = Reach::connect(server, login, notary(server, login)?).await?;
        // MariaDB's logs in at both kinds of server; MySQL's can't since 9.
        let wanted = Wanted { names: ["mariadb", "mysql"], flavor: Flavor::Mariadb, server: None };
        let client = wanted.pick(&reach).await?;
        let product = Product { flavor: Flavor::Mysql, version: Version::default() };
        let mut mysql = Self { reach, client, product };
        let demanded = is_demanded(server.tls);
        let rows =
            mysql.query(&if demanded { format!("{VERSION}; {CIPHER}") } else { VERSION.into() }).await?;
        let text = rows.first().and_then(|row| row.first()).and_then(|text| unhex(text)).unwrap_or_default();
        let number = text.split(['-', ' ']).next().unwrap_or_default();
        let version = Version::parse(number).ok_or_else(|| mysql.nonsense("its version is no number"))?;
        mysql.product = Product { flavor: Flavor::of(&text), version };
        let cipher = rows.get(1).and_then(|row| row.get(1)).map_or("", String::as_str);
        // MariaDB's clients take plain text where TLS is demanded and the server offers none.
        if demanded && cipher.is_empty() {
            let reason = "the server offers no encryption".to_owned();
            return Err(Error::Tls { server: server.place(), reason });
        }
        Ok(mysql)
    }

    pub(crate) fn nonsense(&self, detail: &str) -> Error {
        Error::Protocol { server: self.reach.server.place(), detail: detail.to_owned() }
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

    /// A statement that has the server say what it says in English in a session; nothing where it does not know how.
    pub(crate) async fn in_english(&self) -> Result<&'static str, Error> {
        match self.query(ENGLISH).await {
            Ok(_) => Ok(ENGLISH),
            Err(Error::Tool { .. }) => Ok(""),
            Err(error) => Err(error),
        }
    }

    /// The client, without a database. Whatever stands in its input, it runs none of its own commands, gives no file of its machine to the
    /// server, and tells no statement, which may hold rows, where one fails.
    pub(crate) fn client(&self) -> Call {
        let mut call = self.call(&self.client);
        call.arg("--local-infile=0");
        if self.client.flavor == Flavor::Mariadb {
            // `loose`: older ones have no such option, and tell none.
            call.arg("--loose-skip-print-query-on-error");
        }
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
        if tool.flavor == Flavor::Mysql && !is_demanded(tls) && self.reach.is_private() {
            // Without TLS a password is encrypted to a key that the server shows, which only nobody in between can change. 5.7.22
            // has no such option, and no need of it.
            call.arg("--loose-get-server-public-key");
        }
        call
    }

    /// The tool that dumps this server.
    pub(crate) async fn dump_tool(&self) -> Result<Tool, Error> {
        let names = match self.product.flavor {
            Flavor::Mariadb => ["mariadb-dump", "mysqldump"],
            Flavor::Mysql => ["mysqldump", "mariadb-dump"],
        };
        let wanted = Wanted { names, flavor: self.product.flavor, server: Some(self.product) };
        wanted.pick(&self.reach).await
    }
}

/// A name as statements write it.
pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// MySQL's clients compare a certificate's name with the host that they are told to connect to. Where that is an address, we do it.
fn notary(server: &DatabaseServer, login: &DatabaseLogin) -> Result<Option<Notary>, Error> {
    let by_address = server.ssh.is_some() || login.network.is_limited();
    let wanted = server.tls == TlsMode::VerifyFull && !server.is_remote() && by_address;
    wanted.then(|| Notary::new(server)).transpose()
}

/// Whether nothing goes without TLS.
fn is_demanded(tls: TlsMode) -> bool {
    !matches!(tls, TlsMode::Disable | TlsMode::Prefer)
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

    #[test]
    fn passwords_are_escaped() {
        let secret = password_file(&SecretString::from("a\"b\\c #d'".to_owned()));
        assert_eq!(secret.content.as_slice(), b"[client]\npassword=\"a\"b\\\\c #d'\"\n");
    }
}
