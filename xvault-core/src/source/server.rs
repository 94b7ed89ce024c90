//! Where a database server is and on which way it is reached: what all database types share.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::ssh::{SshAccount, SshFields};
use super::{InvalidSettings, MAX_NAME};

/// The longest certificate authority that can be saved, in bytes of PEM.
pub(super) const MAX_CA: usize = 64 << 10;

/// How the connection to the database itself is encrypted and checked: PostgreSQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// TLS where the server offers it, without looking at its certificate.
    Prefer,
    /// TLS or nothing, without looking at the certificate.
    Require,
    /// TLS, and the certificate is signed by a trusted authority.
    VerifyCa,
    /// TLS, the certificate is signed by a trusted authority, and is of this host name.
    VerifyFull,
}

impl TlsMode {
    /// PostgreSQL's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether a certificate is looked at.
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// What SSH is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SshMode {
    /// The tools run where the backup is made; only the connection to the database goes through SSH.
    #[default]
    Tunnel,
    /// The tools run on the SSH server, which must have them.
    Remote,
}

/// A database server, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseServer {
    /// Name or address; seen from the SSH server when there is one. With [`SshMode::Remote`] also the absolute path of a
    /// socket, or of the directory that PostgreSQL's socket lies in.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database's user.
    pub username: String,
    /// Whether the database asks for a password.
    pub use_password: bool,
    /// How the connection is encrypted and checked.
    pub tls: TlsMode,
    /// Whom to trust, in PEM, instead of the machine's authorities.
    pub tls_ca: Option<String>,
    /// The SSH server in between.
    pub ssh: Option<SshHop>,
}

/// The SSH server between us and the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHop {
    /// What it is used for.
    pub mode: SshMode,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account.
    pub username: String,
    /// Whether the account logs in by password; otherwise by a private key.
    pub use_password: bool,
    /// The server's key as pinned.
    pub host_key: Option<String>,
}

impl DatabaseServer {
    /// Whether the tools run on the SSH server.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.ssh.as_ref().is_some_and(|ssh| ssh.mode == SshMode::Remote)
    }

    /// `host:port`, with brackets around an IPv6 address; the path of a socket as it is.
    #[must_use]
    pub fn place(&self) -> String {
        if self.host.starts_with('/') {
            self.host.clone()
        } else if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// `KIND://user@host:port/NAMES`, with the SSH account when there is one.
    pub(super) fn address(&self, kind: &str, names: &[&str]) -> String {
        let place = self.place();
        let mut address = format!("{kind}://{}@{place}/{}", self.username, names.join(","));
        if let Some(ssh) = &self.ssh {
            address.push_str(&format!(" via ssh://{}@{}:{}", ssh.username, ssh.host, ssh.port));
        }
        address
    }

    pub(super) fn validate(&self) -> Result<(), InvalidSettings> {
        let name = "1 to 255 bytes without control characters are needed";
        if self.host.starts_with('/') && !self.is_remote() {
            return invalid("host", "the path of a socket is possible with `ssh_mode` remote only");
        }
        let is_socket = self.host.starts_with('/') && is_word(&self.host);
        if !is_host(&self.host) && !is_socket {
            return invalid("host", HOST);
        }
        if self.port == 0 {
            return invalid("port", "it must be between 1 and 65535");
        }
        if !is_name(&self.username) {
            return invalid("username", name);
        }
        self.validate_tls()?;
        self.ssh.as_ref().map_or(Ok(()), SshHop::validate)
    }

    fn validate_tls(&self) -> Result<(), InvalidSettings> {
        let Some(ca) = &self.tls_ca else { return Ok(()) };
        if !self.tls.verifies() {
            return invalid("tls_ca", "it is only looked at with `tls_mode` verify-ca or verify-full");
        }
        if self.is_remote() {
            return invalid("tls_ca", "with `ssh_mode` remote the tools trust what the SSH server trusts");
        }
        if ca.len() > MAX_CA || !ca.contains("-----BEGIN CERTIFICATE-----") {
            return invalid("tls_ca", "certificates in PEM of at most 64 KiB are needed");
        }
        Ok(())
    }
}

impl SshHop {
    fn validate(&self) -> Result<(), InvalidSettings> {
        SshAccount::from(self).validate(&SshFields::HOP)
    }
}

/// What is encrypted and checked when nobody said: through SSH it already is, and on this machine nobody listens.
pub(super) fn default_tls(host: &str, use_ssh: bool) -> TlsMode {
    let address = host.parse::<std::net::IpAddr>();
    let own = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    if use_ssh || own { TlsMode::Prefer } else { TlsMode::VerifyFull }
}

/// What a host is, for people.
pub(super) const HOST: &str = "a host name or address of 1 to 255 bytes is needed, without spaces: no URL, and no user or port beside it";

/// Whether it may be a name or an address. What is written beside them in other places would be found out at the look-up only.
pub(super) fn is_host(text: &str) -> bool {
    let is_address = || text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    is_word(text) && !text.contains(['/', '@']) && (!text.contains(':') || is_address())
}

/// Whether it is one word.
pub(super) fn is_word(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Refuses what is said of an SSH server that nobody asked to use: whoever forgot the switch would go without it, and not know.
pub(super) fn check_unused(use_ssh: bool, fields: [(&'static str, bool); 3]) -> Result<(), InvalidSettings> {
    match fields.into_iter().find(|(_, is_said)| *is_said && !use_ssh) {
        Some((field, _)) => {
            invalid(field, "it is looked at with `use_ssh` only: set that to true, or leave this out")
        }
        None => Ok(()),
    }
}

/// Users and databases may have spaces, quotes and emoji in their names.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

pub(super) fn invalid(field: &'static str, reason: &str) -> Result<(), InvalidSettings> {
    Err(InvalidSettings::new(field, reason.into()))
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn ssh_port() -> u16 {
    22
}

/// A struct of settings with the fields that all database types share, then those of its own.
macro_rules! database_settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident ($default_port:literal, port $port:literal) own [$($own_name:ident),*] { $($own:tt)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name {
            /// Name or address of the database server; with `use_ssh` as the SSH server sees it, `localhost` for itself. With
            /// `ssh_mode` `remote` also the absolute path of a socket (PostgreSQL: of its directory).
            #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255, pattern = "^\\S*$"))]
            pub host: String,
            /// TCP port.
            #[serde(default = $default_port)]
            #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 65535))]
            pub port: u16,
            /// The database's user.
            #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
            pub username: String,
            /// Whether the database asks for a password. Without `use_ssh` the credential is that password. With it and
            /// `use_ssh`, the credential is a JSON object: `{"password": "…", "ssh": "…"}`, the database's password, and the
            /// SSH account's private key or password. Without a password and with `use_ssh`, it is the latter alone.
            #[serde(default = "super::server::yes")]
            pub use_password: bool,
            /// How the connection to the database is encrypted and checked. Left out: `verify-full`; but `prefer` with
            /// `use_ssh` and on the loopback interface.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub tls_mode: Option<crate::source::TlsMode>,
            /// Certificates in PEM, of authorities or of the server itself, that are trusted instead of the machine's.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(max_length = 65536))]
            pub tls_ca: Option<String>,
            /// Whether the database is reached through an SSH server.
            #[serde(default)]
            pub use_ssh: bool,
            /// Whether only the connection goes through SSH, or the tools run there.
            #[serde(default)]
            pub ssh_mode: crate::source::SshMode,
            /// Name or address of the SSH server.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
            pub ssh_host: Option<String>,
            /// TCP port of the SSH server.
            #[serde(default = "super::server::ssh_port")]
            #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 65535))]
            pub ssh_port: u16,
            /// Account on the SSH server.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
            pub ssh_username: Option<String>,
            /// Whether the SSH account logs in by password; otherwise by a private key.
            #[serde(default)]
            pub ssh_use_password: bool,
            /// The SSH server's key as pinned: `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", schema(pattern = "^SHA256:[A-Za-z0-9+/]{43}$"))]
            pub ssh_host_key: Option<String>,
            $($own)*
        }

        impl $name {
            /// The usual port.
            #[must_use]
            pub fn default_port() -> u16 {
                $port
            }

            /// Of this user on this server, reached directly; everything else as it is when nobody says otherwise.
            pub fn new(host: impl Into<String>, username: impl Into<String>) -> Self {
                Self {
                    host: host.into(),
                    port: $port,
                    username: username.into(),
                    use_password: true,
                    tls_mode: None,
                    tls_ca: None,
                    use_ssh: false,
                    ssh_mode: crate::source::SshMode::default(),
                    ssh_host: None,
                    ssh_port: super::server::ssh_port(),
                    ssh_username: None,
                    ssh_use_password: false,
                    ssh_host_key: None,
                    $($own_name: Default::default(),)*
                }
            }

            pub(super) fn validate_server(&self) -> Result<(), crate::source::InvalidSettings> {
                let said = [
                    ("ssh_host", self.ssh_host.is_some()),
                    ("ssh_username", self.ssh_username.is_some()),
                    ("ssh_host_key", self.ssh_host_key.is_some()),
                ];
                super::server::check_unused(self.use_ssh, said)?;
                self.server().validate()
            }

            /// The server and the way to it.
            #[must_use]
            pub fn server(&self) -> crate::source::DatabaseServer {
                crate::source::DatabaseServer {
                    host: self.host.clone(),
                    port: self.port,
                    username: self.username.clone(),
                    use_password: self.use_password,
                    tls: self.tls_mode.unwrap_or_else(|| super::server::default_tls(&self.host, self.use_ssh)),
                    tls_ca: self.tls_ca.clone(),
                    ssh: self.use_ssh.then(|| crate::source::SshHop {
                        mode: self.ssh_mode,
                        host: self.ssh_host.clone().unwrap_or_default(),
                        port: self.ssh_port,
                        username: self.ssh_username.clone().unwrap_or_default(),
                        use_password: self.ssh_use_password,
                        host_key: self.ssh_host_key.clone(),
                    }),
                }
            }
        }
    };
}
pub(super) use database_settings;

#[cfg(test)]
mod tests {
    use super::super::{DatabaseCredential, DatabaseTarget, SourceSettings, UnfitCredential};
    use super::*;
    use secrecy::{ExposeSecret, SecretString};
    use serde_json::{Value, json};

    fn through_ssh(kind: &str) -> Value {
        json!({"type": kind, "config": {
            "host": "localhost", "username": "backup", "database": "shop",
            "use_ssh": true, "ssh_host": "db.example", "ssh_username": "web", "ssh_mode": "remote",
        }})
    }

    fn read(value: Value) -> SourceSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn both_kinds_read_alike_and_come_back() {
        for (kind, port) in [("postgres", 5432), ("mysql", 3306)] {
            let settings = read(through_ssh(kind));
            settings.validate().unwrap();
            let server = settings.database_server().unwrap();
            assert_eq!((settings.kind(), server.port, server.use_password), (kind, port, true));
            assert!(server.is_remote());
            let address = format!("{kind}://backup@localhost:{port}/shop via ssh://web@db.example:22");
            assert_eq!(settings.address(), address);
            let again = serde_json::to_value(&settings).unwrap();
            assert_eq!(read(again), settings);
        }
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let long = "x".repeat(256);
        let cases = [
            ("host", json!("a b")),
            ("host", json!("")),
            ("host", json!("h:22")),
            ("host", json!("u@h")),
            ("host", json!("a/b")),
            ("port", json!(0)),
            ("username", json!("a\nb")),
            ("tls_ca", json!("-----BEGIN CERTIFICATE-----")),
            ("ssh_host", json!(null)),
            ("ssh_host", json!("a b")),
            ("ssh_port", json!(0)),
            ("ssh_username", json!("")),
            ("ssh_host_key", json!("MD5:00")),
            ("databases", json!(["other"])),
            ("database", json!("")),
            ("database", json!("a\u{0}b")),
            ("tables", json!([long])),
            ("exclude_tables", json!([""])),
        ];
        for kind in ["postgres", "mysql"] {
            for (field, bad) in &cases {
                let mut value = through_ssh(kind);
                value["config"][field] = bad.clone();
                assert_eq!(read(value).validate().unwrap_err().field, *field, "{bad}");
            }
        }
        let cases = [
            ("postgres", "schemas", json!([""])),
            ("postgres", "exclude_schemas", json!([""])),
            ("postgres", "lock_timeout_seconds", json!(0)),
            ("postgres", "lock_timeout_seconds", json!(86_401)),
        ];
        for (kind, field, bad) in cases {
            let mut value = through_ssh(kind);
            value["config"][field] = bad;
            assert_eq!(read(value).validate().unwrap_err().field, field);
        }
        let mut value = through_ssh("mysql");
        value["config"]["database"] = json!(null);
        value["config"]["databases"] = json!(["a", "b"]);
        read(value.clone()).validate().unwrap();
        value["config"]["tables"] = json!(["t"]);
        assert_eq!(read(value.clone()).validate().unwrap_err().field, "tables");
        value["config"]["databases"] = json!(["a", "b", "a"]);
        assert_eq!(read(value).validate().unwrap_err().field, "databases");
    }

    #[test]
    fn a_certificate_that_would_not_be_looked_at_or_is_none_is_refused_and_why_is_told() {
        let pem = "-----BEGIN CERTIFICATE-----";
        let of = |tls_mode: &str, ssh_mode: &str, ca: &str| {
            let mut value = through_ssh("postgres");
            for (field, text) in [("tls_mode", tls_mode), ("ssh_mode", ssh_mode), ("tls_ca", ca)] {
                value["config"][field] = json!(text);
            }
            read(value).validate()
        };
        of("verify-ca", "tunnel", pem).unwrap();
        for (tls_mode, ssh_mode, ca, reason) in [
            ("require", "tunnel", pem, "only looked at with `tls_mode` verify-ca or verify-full"),
            ("verify-full", "remote", pem, "the tools trust what the SSH server trusts"),
            ("verify-ca", "tunnel", "MIIB", "certificates in PEM"),
            ("verify-ca", "tunnel", &pem.repeat(3000), "at most 64 KiB"),
        ] {
            let refused = of(tls_mode, ssh_mode, ca).unwrap_err();
            assert_eq!(refused.field, "tls_ca");
            assert!(refused.reason.contains(reason), "{refused}");
        }
    }

    #[test]
    fn an_ssh_server_that_is_named_and_not_used_is_refused_by_its_field() {
        let pin = format!("SHA256:{}", "a".repeat(43));
        for kind in ["postgres", "mysql"] {
            for (field, text) in [("ssh_host", "h"), ("ssh_username", "u"), ("ssh_host_key", pin.as_str())] {
                let config = json!({"host": "h", "username": "u", field: text});
                let refused = read(json!({"type": kind, "config": config})).validate().unwrap_err();
                assert_eq!(refused.field, field, "{kind}");
                assert!(refused.reason.contains("with `use_ssh` only"), "{refused}");
            }
        }
    }

    #[test]
    fn a_socket_is_for_tools_that_run_beside_it() {
        let mut value = through_ssh("postgres");
        value["config"]["host"] = json!("/run/postgresql");
        read(value.clone()).validate().unwrap();
        value["config"]["ssh_mode"] = json!("tunnel");
        assert_eq!(read(value).validate().unwrap_err().field, "host");
    }

    #[test]
    fn unsaid_the_network_is_not_trusted() {
        let tls = |host: &str, use_ssh| default_tls(host, use_ssh);
        assert_eq!(tls("db.example", false), TlsMode::VerifyFull);
        assert_eq!(tls("10.0.0.1", false), TlsMode::VerifyFull);
        assert_eq!(tls("db.example", true), TlsMode::Prefer);
        for own in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
            assert_eq!(tls(own, false), TlsMode::Prefer, "{own}");
        }
        let json = serde_json::to_value(TlsMode::VerifyFull).unwrap();
        assert_eq!(json, TlsMode::VerifyFull.as_str());
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        for kind in ["postgres", "mysql"] {
            let mut value = through_ssh(kind);
            value["config"]["shemas"] = json!([]);
            let error = serde_json::from_value::<SourceSettings>(value).unwrap_err().to_string();
            assert!(error.contains("shemas"), "{error}");
        }
    }

    #[test]
    fn one_secret_is_the_text_and_two_are_an_object() {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let shown = |s: &Option<SecretString>| s.as_ref().map(|s| s.expose_secret().to_owned());
        let mut server = read(through_ssh("mysql")).database_server().unwrap();
        let pair =
            DatabaseCredential::parse(&server, secret(r#"{"password": "p\"w", "ssh": "key"}"#)).unwrap();
        assert_eq!((shown(&pair.password), shown(&pair.ssh)), (Some("p\"w".into()), Some("key".into())));
        for unfit in ["hunter2", r#"{"password": "hunter2"}"#, r#"{"password":"hunter2","ssh":"k","x":1}"#] {
            let error = DatabaseCredential::parse(&server, secret(unfit)).unwrap_err();
            assert_eq!(error, UnfitCredential::NoPair);
            assert!(!error.to_string().contains("hunter2"));
        }
        server.use_password = false;
        let alone = DatabaseCredential::parse(&server, secret("key")).unwrap();
        assert_eq!((shown(&alone.password), shown(&alone.ssh)), (None, Some("key".into())));
        server.ssh = None;
        server.use_password = true;
        let alone = DatabaseCredential::parse(&server, secret("{}")).unwrap();
        assert_eq!((shown(&alone.password), shown(&alone.ssh)), (Some("{}".into()), None));
        let broken = DatabaseCredential::parse(&server, secret("two\nlines")).unwrap_err();
        assert_eq!(broken, UnfitCredential::BadPassword);
    }

    #[test]
    fn a_target_is_one_database() {
        let value =
            json!({"type": "postgres", "config": {"host": "::1", "username": "u", "database": "a b"}});
        let target: DatabaseTarget = serde_json::from_value(value).unwrap();
        target.validate().unwrap();
        assert_eq!(target.address(), "postgres://u@[::1]:5432/a b");
        let value = json!({"type": "mysql", "config": {"host": "h", "username": "u", "database": "a\nb"}});
        let target: DatabaseTarget = serde_json::from_value(value).unwrap();
        assert_eq!(target.validate().unwrap_err().field, "database");
    }
}
