//! Settings of a store: what operators and tenants save about a bucket, and what a worker opens it with.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::SecretBytes;
use crate::source::InvalidSettings;

/// The longest prefix in a bucket, in bytes: the keys of a snapshot must fit behind it.
const MAX_PREFIX: usize = 512;
/// The longest PEM text of certificates, in bytes.
const MAX_CA: usize = 256 << 10;

/// An S3-compatible bucket. The credential ([`S3Credential`]) is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct S3Settings {
    /// The bucket's name. It must exist.
    #[cfg_attr(feature = "openapi", schema(min_length = 3, max_length = 63))]
    pub bucket: String,
    /// What all keys begin with, without a `/` at either end; none: snapshots lie at the top of the bucket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_length = 512))]
    pub prefix: String,
    /// The region that requests are signed for: `us-east-1`, `garage`.
    #[serde(default = "S3Settings::default_region")]
    pub region: String,
    /// Address of the service, `https://s3.example:9000`; Amazon's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Where the bucket's name stands in a request.
    #[serde(default)]
    pub addressing: Addressing,
    /// Certificates in PEM that the service's certificate may be of: these and no others. The system's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<String>,
}

/// Where the bucket's name stands in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Addressing {
    /// `https://s3.example/BUCKET/KEY`: what every server understands.
    #[default]
    Path,
    /// `https://BUCKET.s3.example/KEY`: what Amazon wants of new buckets.
    VirtualHost,
}

impl S3Settings {
    /// The region of servers that have none.
    #[must_use]
    pub fn default_region() -> String {
        "us-east-1".to_owned()
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn validate(&self) -> Result<(), InvalidSettings> {
        let invalid = |field, reason: &str| Err(InvalidSettings::new(field, reason.into()));
        if !is_bucket(&self.bucket) {
            return invalid("bucket", "3 to 63 lower-case letters, digits, dots and hyphens are needed");
        }
        if !is_prefix(&self.prefix) {
            return invalid(
                "prefix",
                "letters, digits and `._-` are possible, with single `/` between parts",
            );
        }
        if self.region.is_empty() || self.region.len() > 64 || !self.region.bytes().all(is_word) {
            return invalid("region", "1 to 64 letters, digits, `-`, `_` and `.` are needed");
        }
        if self.endpoint.as_deref().is_some_and(|endpoint| !is_endpoint(endpoint)) {
            return invalid(
                "endpoint",
                "http:// or https:// with a host, and no path, user or query, is needed",
            );
        }
        if self.ca_certificate.as_deref().is_some_and(|pem| !is_pem(pem)) {
            return invalid("ca_certificate", "certificates in PEM, of at most 256 KiB, are needed");
        }
        Ok(())
    }

    /// The key of what lies at `key` in the store.
    #[must_use]
    pub fn object_key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }
}

/// One line for people: `s3://bucket/prefix`.
impl fmt::Display for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_bucket(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.bytes().all(fits)
        && edge(name.bytes().next())
        && edge(name.bytes().last())
        && !name.contains("..")
}

fn is_prefix(prefix: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_word);
    prefix.is_empty() || (prefix.len() <= MAX_PREFIX && prefix.split('/').all(part))
}

fn is_endpoint(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let host = host.strip_suffix('/').unwrap_or(host);
        (1..=255).contains(&host.len()) && host.bytes().all(|b| is_word(b) || matches!(b, b':' | b'[' | b']'))
    })
}

fn is_pem(text: &str) -> bool {
    text.len() <= MAX_CA && text.contains("-----BEGIN CERTIFICATE-----")
}

/// Who may take an object lock off before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LockMode {
    /// Nobody.
    Compliance,
    /// Who has the right to go past it (`s3:BypassGovernanceRetention`).
    Governance,
}

impl LockMode {
    /// As S3 writes it.
    #[must_use]
    pub fn as_s3(self) -> &'static str {
        match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        }
    }
}

/// What keeps objects from being deleted and written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ObjectLock {
    /// Who may take it off.
    pub mode: LockMode,
    /// When it ends; in whole seconds, for S3 knows no others.
    pub until: Timestamp,
}

/// What requests to a bucket are signed with.
#[derive(Debug, Clone)]
pub struct S3Credential {
    /// Its public half.
    pub access_key_id: String,
    /// Its secret half.
    pub secret_access_key: SecretString,
    /// What temporary credentials have besides.
    pub session_token: Option<SecretString>,
}

/// Why bytes are no credential of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not a JSON object with `access_key_id` and `secret_access_key`, and `session_token` for temporary ones"
)]
pub struct InvalidCredential;

/// How it is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_token: Option<String>,
}

impl S3Credential {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`InvalidCredential`], which repeats nothing of it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidCredential> {
        let plain: Plain = serde_json::from_slice(bytes).map_err(|_| InvalidCredential)?;
        let printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let texts =
            [Some(&plain.access_key_id), Some(&plain.secret_access_key), plain.session_token.as_ref()];
        if !texts.into_iter().flatten().all(|text| printable(text)) {
            return Err(InvalidCredential);
        }
        Ok(Self {
            access_key_id: plain.access_key_id,
            secret_access_key: plain.secret_access_key.into(),
            session_token: plain.session_token.map(Into::into),
        })
    }

    /// The JSON form: to be sealed, and nothing else.
    #[must_use]
    pub fn to_json(&self) -> SecretBytes {
        let session_token = self.session_token.as_ref().map(|token| token.expose_secret().to_owned());
        let plain = Plain {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.expose_secret().to_owned(),
            session_token,
        };
        let json = Zeroizing::new(serde_json::to_vec(&plain).unwrap_or_default());
        SecretBytes::from(json.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bucket() -> serde_json::Value {
        json!({"bucket": "backups", "prefix": "x/y", "endpoint": "http://127.0.0.1:8333", "region": "garage"})
    }

    #[test]
    fn settings_read_and_name_their_place() {
        let settings: S3Settings = serde_json::from_value(bucket()).unwrap();
        settings.validate().unwrap();
        assert_eq!(settings.to_string(), "s3://backups/x/y");
        assert_eq!(settings.object_key("tenants/t"), "x/y/tenants/t");
        assert_eq!(settings.addressing, Addressing::Path);
        let bare: S3Settings = serde_json::from_value(json!({"bucket": "backups"})).unwrap();
        assert_eq!((bare.to_string().as_str(), bare.object_key("k").as_str()), ("s3://backups", "k"));
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let cases = [
            ("bucket", json!("ab")),
            ("bucket", json!("Upper")),
            ("bucket", json!("a..b")),
            ("bucket", json!("-ab")),
            ("prefix", json!("/x")),
            ("prefix", json!("x/")),
            ("prefix", json!("x//y")),
            ("prefix", json!("x/../y")),
            ("prefix", json!("p".repeat(MAX_PREFIX + 1))),
            ("region", json!("")),
            ("region", json!("a b")),
            ("endpoint", json!("s3.example")),
            ("endpoint", json!("https://user@host")),
            ("endpoint", json!("https://host/path")),
            ("endpoint", json!("https://")),
            ("ca_certificate", json!("no pem")),
        ];
        for (field, bad) in cases {
            let mut value = bucket();
            value[field] = bad.clone();
            let settings: S3Settings = serde_json::from_value(value).unwrap();
            assert_eq!(settings.validate().unwrap_err().field, field, "{bad}");
        }
        let mut misspelt = bucket();
        misspelt["regoin"] = json!("x");
        assert!(serde_json::from_value::<S3Settings>(misspelt).unwrap_err().to_string().contains("regoin"));
    }

    #[test]
    fn a_credential_keeps_its_parts_and_never_prints() {
        let json = br#"{"access_key_id":"AK","secret_access_key":"hunter2","session_token":"tok3n"}"#;
        let credential = S3Credential::from_json(json).unwrap();
        let shown = format!("{credential:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("tok3n"), "{shown}");
        assert_eq!(credential.to_json().expose_secret(), json);
        for bad in [
            &b"AK:SK"[..],
            br#"{"access_key_id":"AK"}"#,
            br#"{"access_key_id":"","secret_access_key":"s"}"#,
            br#"{"access_key_id":"AK","secret_access_key":"a b"}"#,
        ] {
            assert_eq!(S3Credential::from_json(bad).unwrap_err(), InvalidCredential);
        }
    }
}
