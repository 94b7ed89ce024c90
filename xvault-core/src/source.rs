//! Settings of a source: what a user saves, and what a connector is made from.
//!
//! In JSON a source is `{"type": "sftp", "config": {…}}` with the field names of the API.
//! Unknown fields are refused, so a misspelt `exlcudes` is an error, not a backup of everything.

use serde::{Deserialize, Serialize};

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
}

impl SourceSettings {
    /// The word for this kind in JSON, manifests and URLs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Sftp(_) => "sftp",
            Self::Ssh(_) => "ssh",
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
        }
    }
}

/// Settings of [`SourceSettings::Local`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LocalSettings {
    /// Absolute paths to back up, each with all below it.
    pub paths: Vec<String>,
    /// Globs in gitignore syntax, matched against paths relative to each of `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
}

impl LocalSettings {
    fn validate(&self) -> Result<(), InvalidSettings> {
        check_paths(&self.paths)?;
        match self.paths.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(InvalidSettings::new("paths", format!("`{path}` is not absolute"))),
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
    pub host: String,
    /// TCP port.
    #[serde(default = "SshSettings::default_port")]
    pub port: u16,
    /// Account on the server.
    pub username: String,
    /// Paths to back up, each with all below it. Relative ones start at the account's home.
    pub paths: Vec<String>,
    /// Whether the credential is a password; otherwise it is a private key.
    #[serde(default)]
    pub use_password: bool,
    /// Globs in gitignore syntax, matched against paths relative to each of `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// The server's key as pinned: `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
}

impl SshSettings {
    /// The port of SSH.
    #[must_use]
    pub fn default_port() -> u16 {
        22
    }

    fn validate(&self) -> Result<(), InvalidSettings> {
        let invalid = |field, reason: &str| Err(InvalidSettings::new(field, reason.into()));
        let plain =
            |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        if !plain(&self.host) || self.host.len() > 255 {
            return invalid("host", "a host name or address of 1 to 255 characters is needed");
        }
        if self.port == 0 {
            return invalid("port", "it must be between 1 and 65535");
        }
        if !plain(&self.username) {
            return invalid("username", "it must not be empty or contain spaces");
        }
        if self.host_key.as_deref().is_some_and(|key| !is_fingerprint(key)) {
            return invalid(
                "host_key",
                "a fingerprint as `ssh-keygen -l` prints is needed: SHA256: and 43 characters",
            );
        }
        check_paths(&self.paths)
    }
}

fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|digest| {
        digest.len() == 43 && digest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    })
}

fn check_paths(paths: &[String]) -> Result<(), InvalidSettings> {
    if paths.is_empty() {
        return Err(InvalidSettings::new("paths", "at least one path is needed".into()));
    }
    let fault = |path: &&String| path.is_empty() || path.contains('\0') || path.split('/').any(|c| c == "..");
    match paths.iter().find(fault) {
        Some(path) => {
            let reason = format!("`{}` is empty or contains `..` or a NUL", path.escape_debug());
            Err(InvalidSettings::new("paths", reason))
        }
        None => Ok(()),
    }
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
    fn new(field: &'static str, reason: String) -> Self {
        Self { field, reason }
    }
}

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
            ("host_key", json!("MD5:00:11")),
            ("host_key", json!("SHA256:short")),
        ];
        for (field, bad) in cases {
            let mut value = ssh();
            value["config"][field] = bad.clone();
            let settings: SourceSettings = serde_json::from_value(value).unwrap();
            assert_eq!(settings.validate().unwrap_err().field, field, "{bad}");
        }
        let local = SourceSettings::Local(LocalSettings { paths: vec!["relative".into()], excludes: vec![] });
        assert_eq!(local.validate().unwrap_err().field, "paths");
    }
}
