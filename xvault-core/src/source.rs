//! Settings of a source: what a user saves, and what a connector is made from.
//!
//! In JSON a source is `{"type": "sftp", "config": {…}}` with the field names of the API.
//! Unknown fields are refused, so a misspelt `exlcudes` is an error, not a backup of everything.

mod database;
mod ftp;
mod glob;
mod hooks;
mod mysql;
mod postgres;
mod server;
mod ssh;
mod target;
mod wordpress;

pub use database::{DatabaseCredential, UnfitCredential};
pub use ftp::{FtpSettings, FtpTls};
pub use glob::check_glob;
pub use hooks::{Hook, Hooks, OnFailure};
pub use mysql::MysqlSettings;
pub use postgres::{DumpFormat, PostgresSettings};
pub use server::{DatabaseServer, SshHop, SshMode, TlsMode};
pub use ssh::SshAccount;
pub use target::{DatabaseTarget, MysqlTarget, PostgresTarget};
pub use wordpress::WordpressSettings;

use serde::{Deserialize, Serialize};
use ssh::SshFields;

/// The most paths of a source, and the most globs.
pub const MAX_ITEMS: usize = 1000;
/// The longest path or glob, in bytes.
pub const MAX_ITEM: usize = 4096;
/// The most that all paths and globs of a source have together, in bytes.
pub const MAX_TOTAL: usize = 64 << 10;
/// The longest host or user name, in bytes.
const MAX_NAME: usize = 255;

/// The kinds of sources and their settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "config", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SourceSettings {
    /// Directories of the machine that does the backup.
    Local(LocalSettings),
    /// Files over SFTP.
    Sftp(SshSettings),
    /// Files over the remote `tar`, or SFTP where there is none.
    Ssh(SshSettings),
    /// Files over FTP, encrypted or not.
    Ftp(FtpSettings),
    /// Dumps of PostgreSQL databases.
    Postgres(PostgresSettings),
    /// Dumps of MySQL or MariaDB databases.
    Mysql(MysqlSettings),
    /// WordPress sites: their files and their databases.
    Wordpress(WordpressSettings),
}

impl SourceSettings {
    /// The word for this kind in JSON, manifests and URLs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Sftp(_) => "sftp",
            Self::Ssh(_) => "ssh",
            Self::Ftp(_) => "ftp",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Wordpress(_) => "wordpress",
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        match self {
            Self::Local(settings) => settings.validate(),
            Self::Sftp(settings) | Self::Ssh(settings) => settings.validate(),
            Self::Ftp(settings) => settings.validate(),
            Self::Postgres(settings) => settings.validate(),
            Self::Mysql(settings) => settings.validate(),
            Self::Wordpress(settings) => settings.validate(),
        }
    }

    /// The database server, for the types that dump one.
    #[must_use]
    pub fn database_server(&self) -> Option<DatabaseServer> {
        match self {
            Self::Postgres(settings) => Some(settings.server()),
            Self::Mysql(settings) => Some(settings.server()),
            _ => None,
        }
    }

    /// The SSH server and account that files are read from, for the types that have one.
    #[must_use]
    pub fn file_server(&self) -> Option<SshSettings> {
        match self {
            Self::Sftp(settings) | Self::Ssh(settings) => Some(settings.clone()),
            Self::Wordpress(settings) => Some(settings.files()),
            _ => None,
        }
    }

    /// The commands around a backup, for the types that have an SSH server; `None` where there are none.
    #[must_use]
    pub fn hooks(&self) -> Option<&Hooks> {
        let hooks = match self {
            Self::Sftp(settings) | Self::Ssh(settings) => &settings.hooks,
            Self::Wordpress(settings) => &settings.hooks,
            Self::Postgres(settings) => &settings.hooks,
            Self::Mysql(settings) => &settings.hooks,
            Self::Local(_) | Self::Ftp(_) => return None,
        };
        Some(hooks).filter(|hooks| !hooks.is_empty())
    }

    /// What the server proves itself with, as pinned: the SSH server's key for the types that log in at one, an FTP server's certificate.
    #[must_use]
    pub fn host_key(&self) -> Option<String> {
        match self {
            Self::Sftp(ssh) | Self::Ssh(ssh) => ssh.host_key.clone(),
            Self::Ftp(ftp) => ftp.tls_fingerprint.clone(),
            Self::Wordpress(site) => site.host_key.clone(),
            _ => self.database_server()?.ssh?.host_key,
        }
    }

    /// One line that names the system and, unless secret options change, stays the same:
    /// what ids of one-shot sources are derived from.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Local(settings) => format!("local:{}", settings.paths.join("\n")),
            Self::Sftp(s) | Self::Ssh(s) => {
                format!("{}://{}@{}:{}{}", self.kind(), s.username, s.host, s.port, s.paths.join("\n"))
            }
            Self::Ftp(s) => s.address(),
            Self::Postgres(s) => s.server().address(self.kind(), &s.names()),
            Self::Mysql(s) => s.server().address(self.kind(), &s.names()),
            Self::Wordpress(s) => s.address(),
        }
    }
}

/// Settings of [`SourceSettings::Local`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LocalSettings {
    /// Absolute paths to back up, each with all below it. At most 4096 bytes each, and 64 KiB with all globs.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub paths: Vec<String>,
    /// Globs in gitignore syntax, matched against paths relative to each of `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub excludes: Vec<String>,
}

impl LocalSettings {
    fn validate(&self) -> Result<(), InvalidSettings> {
        check_paths(&self.paths)?;
        check_excludes(&self.paths, &self.excludes)?;
        match self.paths.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(InvalidSettings::new("paths", format!("`{}` is not absolute", shown(path)))),
            None => Ok(()),
        }
    }
}

/// Settings of the SSH types. The credential (password or private key) is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshSettings {
    /// Name or address of the server.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255, pattern = "^\\S*$"))]
    pub host: String,
    /// TCP port.
    #[serde(default = "SshSettings::default_port")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 65535))]
    pub port: u16,
    /// Account on the server.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub username: String,
    /// Paths to back up, each with all below it. Relative ones start at the account's home. At most 4096 bytes each, and
    /// 64 KiB with all globs.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 1000))]
    pub paths: Vec<String>,
    /// Whether the credential is a password; otherwise it is a private key.
    #[serde(default)]
    pub use_password: bool,
    /// Globs in gitignore syntax, matched against paths relative to each of `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1000))]
    pub excludes: Vec<String>,
    /// The server's key as pinned: `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^SHA256:[A-Za-z0-9+/]{43}$"))]
    pub host_key: Option<String>,
    /// Commands that are run on the server before a backup, and after it.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

impl SshSettings {
    /// The account `username` of `host`; everything else as it is when nobody says otherwise.
    pub fn new(host: impl Into<String>, username: impl Into<String>, paths: Vec<String>) -> Self {
        Self {
            host: host.into(),
            port: Self::default_port(),
            username: username.into(),
            paths,
            use_password: false,
            excludes: Vec::new(),
            host_key: None,
            hooks: Hooks::default(),
        }
    }

    /// The port of SSH.
    #[must_use]
    pub fn default_port() -> u16 {
        22
    }

    fn validate(&self) -> Result<(), InvalidSettings> {
        SshAccount::from(self).validate(&SshFields::OWN)?;
        check_paths(&self.paths)?;
        self.hooks.validate(true)?;
        check_excludes(&self.paths, &self.excludes)
    }
}

fn check_paths(paths: &[String]) -> Result<(), InvalidSettings> {
    if paths.is_empty() {
        return Err(InvalidSettings::new("paths", "at least one path is needed".into()));
    }
    check_sizes("paths", paths)?;
    let fault = |path: &&String| path.is_empty() || path.contains('\0') || path.split('/').any(|c| c == "..");
    match paths.iter().find(fault) {
        Some(path) => {
            let reason = format!("`{}` is empty or contains `..` or a NUL", shown(path));
            Err(InvalidSettings::new("paths", reason))
        }
        None => Ok(()),
    }
}

/// The globs by themselves, and together with the paths that they go with.
fn check_excludes(paths: &[String], excludes: &[String]) -> Result<(), InvalidSettings> {
    check_sizes("excludes", excludes)?;
    let total: usize = paths.iter().chain(excludes).map(String::len).sum();
    if total > MAX_TOTAL {
        let field = if excludes.is_empty() { "paths" } else { "excludes" };
        let reason = format!("paths and excludes have {total} bytes together; {MAX_TOTAL} are possible");
        return Err(InvalidSettings::new(field, reason));
    }
    for glob in excludes {
        check_glob(glob)
            .map_err(|reason| InvalidSettings::new("excludes", format!("`{}`: {reason}", shown(glob))))?;
    }
    Ok(())
}

fn check_sizes(field: &'static str, items: &[String]) -> Result<(), InvalidSettings> {
    if items.len() > MAX_ITEMS {
        return Err(InvalidSettings::new(field, format!("at most {MAX_ITEMS} are possible")));
    }
    match items.iter().position(|item| item.len() > MAX_ITEM) {
        Some(at) => Err(InvalidSettings::new(field, format!("[{at}] is longer than {MAX_ITEM} bytes"))),
        None => Ok(()),
    }
}

/// Foreign text in an answer: its beginning, without control characters.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(100).collect();
    beginning.escape_debug().to_string()
}

/// Which field of the settings is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{field}`: {reason}")]
pub struct InvalidSettings {
    /// The field's name in JSON.
    pub field: &'static str,
    /// One sentence.
    pub reason: String,
}

impl InvalidSettings {
    pub(crate) fn new(field: &'static str, reason: String) -> Self {
        Self { field, reason }
    }
}

#[cfg(test)]
mod manual;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ssh() -> serde_json::Value {
        json!({"type": "ssh", "config": {"host": "db.example", "username": "web", "paths": ["/home/web"], "use_password": true}})
    }

    #[test]
    fn the_seeds_shape_reads() {
        let settings: SourceSettings = serde_json::from_value(ssh()).unwrap();
        settings.validate().unwrap();
        let SourceSettings::Ssh(s) = &settings else { panic!("{settings:?}") };
        assert_eq!((s.port, s.use_password), (22, true));
        assert_eq!(settings.address(), "ssh://web@db.example:22/home/web");
        let again = serde_json::to_value(&settings).unwrap();
        assert_eq!(serde_json::from_value::<SourceSettings>(again).unwrap(), settings);
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let mut value = ssh();
        value["config"]["exlcudes"] = json!(["*"]);
        let error = serde_json::from_value::<SourceSettings>(value).unwrap_err().to_string();
        assert!(error.contains("exlcudes"), "{error}");
        assert!(
            serde_json::from_value::<SourceSettings>(json!({"type": "ssh", "config": {}, "x": 1})).is_err()
        );
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let cases = [
            ("host", json!("")),
            ("host", json!("a b")),
            ("port", json!(0)),
            ("username", json!("")),
            ("paths", json!([])),
            ("paths", json!(["/a/../b"])),
            ("paths", json!([""])),
            ("paths", json!(["/a\0b"])),
            ("paths", json!([format!("../{}", "a".repeat(3000))])),
            ("host", json!("h".repeat(256))),
            ("username", json!("u".repeat(256))),
            ("paths", json!(vec!["/a"; MAX_ITEMS + 1])),
            ("paths", json!(["/".repeat(MAX_ITEM + 1)])),
            ("paths", json!(vec!["/".repeat(MAX_ITEM); 17])),
            ("excludes", json!(vec!["a"; MAX_ITEMS + 1])),
            ("excludes", json!(["a".repeat(MAX_ITEM + 1)])),
            ("excludes", json!(vec!["a".repeat(MAX_ITEM); 16])),
            ("excludes", json!(["*.ok", "["])),
            ("host_key", json!("MD5:00:11")),
            ("host_key", json!("SHA256:short")),
            ("host_key", json!(format!("SHA256:{}", "*".repeat(43)))),
        ];
        for (field, bad) in cases {
            let mut value = ssh();
            value["config"][field] = bad.clone();
            let settings: SourceSettings = serde_json::from_value(value).unwrap();
            let error = settings.validate().unwrap_err();
            assert_eq!(error.field, field, "{bad}");
            assert!(error.to_string().len() < 500, "{error}");
        }
        let local = SourceSettings::Local(LocalSettings { paths: vec!["relative".into()], excludes: vec![] });
        assert_eq!(local.validate().unwrap_err().field, "paths");
    }

    #[test]
    fn what_just_fits_is_taken() {
        let local = |paths: Vec<String>, excludes: Vec<String>| {
            SourceSettings::Local(LocalSettings { paths, excludes }).validate()
        };
        local(vec!["/a".into(); MAX_ITEMS], vec!["a".into(); MAX_ITEMS]).unwrap();
        local(vec!["/".repeat(MAX_ITEM); 16], vec![]).unwrap();
        local(vec!["/".repeat(MAX_ITEM)], vec!["a".repeat(MAX_ITEM); 15]).unwrap();
    }
}
