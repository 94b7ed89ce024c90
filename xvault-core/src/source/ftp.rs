//! Settings of FTP.

use serde::{Deserialize, Serialize};

use super::server::{HOST, MAX_CA, invalid, is_host, is_name, yes};
use super::{InvalidSettings, check_excludes, check_paths};

/// How the connections to an FTP server are encrypted. A certificate is looked at in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FtpTls {
    /// `AUTH TLS` at the beginning, on the port of FTP; a server that refuses it is not logged in to.
    #[default]
    Explicit,
    /// TLS from the first byte, on a port of its own.
    Implicit,
    /// Plain text: whoever is in between reads password and files, and may change them.
    Disable,
}

impl FtpTls {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
            Self::Disable => "disable",
        }
    }
}

/// Settings of [`SourceSettings::Ftp`](super::SourceSettings::Ftp). The password is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FtpSettings {
    /// Name or address of the server.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255, pattern = "^\\S*$"))]
    pub host: String,
    /// TCP port. Left out: 21, and 990 with `tls_mode` `implicit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 65535))]
    pub port: Option<u16>,
    /// Account on the server.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub username: String,
    /// Paths to back up, each with all below it. Relative ones start where the login leads. At most 4096 bytes each, and
    /// 64 KiB with all globs.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub paths: Vec<String>,
    /// Whether the account has a password, which is the credential. Anonymous ones have none.
    #[serde(default = "super::server::yes")]
    pub use_password: bool,
    /// Globs in gitignore syntax, matched against paths relative to each of `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub excludes: Vec<String>,
    /// How the connections are encrypted.
    #[serde(default)]
    pub tls_mode: FtpTls,
    /// Certificates in PEM, of authorities or of the server itself, that are trusted instead of the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 65536))]
    pub tls_ca: Option<String>,
    /// The server's certificate as pinned: its SHA-256 in hexadecimal with colons, as `openssl x509 -fingerprint -sha256` prints
    /// it. It is believed then whoever signed it, and no other one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 95, max_length = 95))]
    pub tls_fingerprint: Option<String>,
    /// How many connections are made at most; a server that allows fewer gets fewer.
    #[serde(default = "FtpSettings::default_connections")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 32))]
    pub max_connections: u8,
}

impl FtpSettings {
    /// The most connections that can be asked for.
    pub const MAX_CONNECTIONS: u8 = 32;

    /// The account `username` of `host`; everything else as it is when nobody says otherwise.
    pub fn new(host: impl Into<String>, username: impl Into<String>, paths: Vec<String>) -> Self {
        Self {
            host: host.into(),
            port: None,
            username: username.into(),
            paths,
            use_password: yes(),
            excludes: Vec::new(),
            tls_mode: FtpTls::default(),
            tls_ca: None,
            tls_fingerprint: None,
            max_connections: Self::default_connections(),
        }
    }

    /// What common servers let one client have.
    #[must_use]
    pub fn default_connections() -> u8 {
        8
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls_mode == FtpTls::Implicit { 990 } else { 21 })
    }

    /// One line that names the system.
    pub(super) fn address(&self) -> String {
        let scheme = if self.tls_mode == FtpTls::Implicit { "ftps" } else { "ftp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let paths: Vec<String> = self.paths.iter().map(|path| shown(path)).collect();
        format!("{scheme}://{}@{host}:{}{}", self.username, self.port(), paths.join("\n"))
    }

    pub(super) fn validate(&self) -> Result<(), InvalidSettings> {
        if !is_host(&self.host) {
            return invalid("host", HOST);
        }
        if self.port == Some(0) {
            return invalid("port", "it must be between 1 and 65535");
        }
        if !is_name(&self.username) {
            return invalid("username", "1 to 255 bytes without control characters are needed");
        }
        if !(1..=Self::MAX_CONNECTIONS).contains(&self.max_connections) {
            return invalid("max_connections", "it must be between 1 and 32");
        }
        self.validate_tls()?;
        check_paths(&self.paths)?;
        if self.paths.iter().any(|path| path.contains(['\r', '\n'])) {
            return invalid("paths", "a line break in a path can't be said in FTP");
        }
        check_excludes(&self.paths, &self.excludes)
    }

    fn validate_tls(&self) -> Result<(), InvalidSettings> {
        let plain = self.tls_mode == FtpTls::Disable;
        if let Some(ca) = &self.tls_ca {
            if plain {
                return invalid("tls_ca", "with `tls_mode` disable there is no certificate to look at");
            }
            if ca.len() > MAX_CA || !ca.contains("-----BEGIN CERTIFICATE-----") {
                return invalid("tls_ca", "certificates in PEM of at most 64 KiB are needed");
            }
        }
        match &self.tls_fingerprint {
            Some(_) if plain => {
                invalid("tls_fingerprint", "with `tls_mode` disable there is no certificate to look at")
            }
            Some(_) if self.tls_ca.is_some() => {
                invalid("tls_fingerprint", "it stands beside `tls_ca`: give one of them")
            }
            Some(text) if !is_fingerprint(text) => invalid(
                "tls_fingerprint",
                "32 bytes in hexadecimal with colons are needed, as `openssl x509 -noout -fingerprint -sha256` prints behind `=`",
            ),
            _ => Ok(()),
        }
    }
}

/// A path behind a host: relative ones as `/~/`.
fn shown(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/~/{path}") }
}

fn is_fingerprint(text: &str) -> bool {
    let is_byte = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(':').count() == 32 && text.split(':').all(is_byte)
}

#[cfg(test)]
mod tests {
    use super::super::SourceSettings;
    use super::*;
    use serde_json::{Value, json};

    fn ftp() -> Value {
        json!({"type": "ftp", "config": {"host": "files.example", "username": "web", "paths": ["/www"]}})
    }

    fn with(field: &str, value: Value) -> SourceSettings {
        let mut settings = ftp();
        settings["config"][field] = value;
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn unsaid_everything_is_encrypted_and_checked() {
        let settings: SourceSettings = serde_json::from_value(ftp()).unwrap();
        settings.validate().unwrap();
        let SourceSettings::Ftp(s) = &settings else { panic!("{settings:?}") };
        assert_eq!((s.port(), s.tls_mode, s.use_password), (21, FtpTls::Explicit, true));
        assert_eq!(s, &FtpSettings::new("files.example", "web", vec!["/www".into()]));
        assert_eq!((settings.kind(), settings.address().as_str()), ("ftp", "ftp://web@files.example:21/www"));
        let again = serde_json::to_value(&settings).unwrap();
        assert_eq!(serde_json::from_value::<SourceSettings>(again).unwrap(), settings);
    }

    #[test]
    fn implicit_tls_has_a_port_of_its_own() {
        let settings = with("tls_mode", json!("implicit"));
        settings.validate().unwrap();
        assert_eq!(settings.address(), "ftps://web@files.example:990/www");
        for mode in [FtpTls::Explicit, FtpTls::Implicit, FtpTls::Disable] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let long = "AB:".repeat(32);
        let cases = [
            ("host", json!("a b")),
            ("host", json!("")),
            ("port", json!(0)),
            ("username", json!("a\r\nDELE x")),
            ("username", json!("u".repeat(256))),
            ("paths", json!([])),
            ("paths", json!(["/a/../b"])),
            ("paths", json!(["/a\r\nDELE x"])),
            ("excludes", json!(["["])),
            ("max_connections", json!(0)),
            ("max_connections", json!(33)),
            ("tls_ca", json!("no certificate")),
            ("tls_fingerprint", json!("AB:CD")),
            ("tls_fingerprint", json!(long)),
            ("tls_fingerprint", json!(format!("SHA256:{}", "a".repeat(43)))),
        ];
        for (field, bad) in cases {
            let error = with(field, bad.clone()).validate().unwrap_err();
            assert_eq!(error.field, field, "{bad}");
        }
    }

    #[test]
    fn what_is_not_encrypted_has_no_certificate() {
        let fingerprint = ["AB"; 32].join(":");
        let pem = "-----BEGIN CERTIFICATE-----";
        with("tls_fingerprint", json!(fingerprint.to_lowercase())).validate().unwrap();
        let mut settings = FtpSettings::new("h", "u", vec!["/".into()]);
        settings.tls_mode = FtpTls::Disable;
        settings.validate().unwrap();
        settings.tls_ca = Some(pem.into());
        assert_eq!(settings.validate().unwrap_err().field, "tls_ca");
        settings.tls_fingerprint = Some(fingerprint);
        settings.tls_mode = FtpTls::Explicit;
        assert_eq!(settings.validate().unwrap_err().field, "tls_fingerprint");
        settings.tls_ca = None;
        settings.validate().unwrap();
        settings.tls_mode = FtpTls::Disable;
        assert_eq!(settings.validate().unwrap_err().field, "tls_fingerprint");
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let mut value = ftp();
        value["config"]["pasive"] = json!(true);
        let error = serde_json::from_value::<SourceSettings>(value).unwrap_err().to_string();
        assert!(error.contains("pasive"), "{error}");
    }
}
