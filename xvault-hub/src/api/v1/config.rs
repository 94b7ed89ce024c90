//! `type` and `config` of a source, with the field at fault named.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xvault_core::SourceSettings;

use crate::api::error::{Error, Result};

/// The types of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceType {
    /// Directories of the worker's machine. Only operators make and change such sources.
    Local,
    /// Files over SFTP.
    Sftp,
    /// Files over the remote `tar`, or SFTP where there is none.
    Ssh,
    /// Files over FTP, encrypted unless the settings say otherwise.
    Ftp,
    /// Dumps of PostgreSQL databases.
    Postgres,
    /// Dumps of MySQL or MariaDB databases.
    Mysql,
    /// WordPress sites: their files and their databases.
    Wordpress,
}

impl SourceType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Sftp => "sftp",
            Self::Ssh => "ssh",
            Self::Ftp => "ftp",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Wordpress => "wordpress",
        }
    }
}

/// The settings that `config` holds for a source of type `kind`: 422 naming the field when they can't be.
pub(super) fn parse(kind: &str, config: &Value) -> Result<SourceSettings> {
    if !config.is_object() {
        return Err(Error::invalid_field("config", "an object is needed"));
    }
    // Read from text with the type in front: that order lets the parser know where it stands when something is wrong.
    let text = format!(r#"{{"type":{},"config":{config}}}"#, Value::from(kind));
    let mut json = serde_json::Deserializer::from_str(&text);
    let settings: SourceSettings = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        Error::unreadable(&path, &error.into_inner().to_string())
    })?;
    settings.validate()?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ssh() -> Value {
        json!({"host": "h", "username": "u", "paths": ["/srv"]})
    }

    #[test]
    fn every_type_of_source_is_known() {
        for kind in [SourceType::Sftp, SourceType::Ssh, SourceType::Ftp, SourceType::Wordpress] {
            assert_eq!(parse(kind.as_str(), &ssh()).unwrap().kind(), kind.as_str());
        }
        for kind in [SourceType::Postgres, SourceType::Mysql] {
            let config = json!({"host": "h", "username": "u", "database": "d"});
            assert_eq!(parse(kind.as_str(), &config).unwrap().kind(), kind.as_str());
        }
        let local = parse(SourceType::Local.as_str(), &json!({"paths": ["/srv"]})).unwrap();
        assert_eq!(local.kind(), "local");
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let cases = [
            ("config.host", json!({"host": 7})),
            ("config.host", json!({"host": null})),
            ("config.port", json!({"port": "22"})),
            ("config.port", json!({"port": 65536})),
            ("config.port", json!({"port": 0})),
            ("config.paths[1]", json!({"paths": ["/a", {}]})),
            ("config.paths", json!({"paths": []})),
            ("config.exlcudes", json!({"exlcudes": []})),
            ("config.host_key", json!({"host_key": "MD5:0"})),
        ];
        for (field, change) in cases {
            let mut config = ssh();
            config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let error = format!("{:?}", parse("ssh", &config).unwrap_err());
            assert!(error.contains(&format!("field `{field}`")), "{field}: {error}");
            assert!(!error.contains("at line"), "{error}");
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        for field in ["host", "username", "paths"] {
            let mut config = ssh();
            config.as_object_mut().unwrap().remove(field);
            let error = format!("{:?}", parse("sftp", &config).unwrap_err());
            assert!(error.contains(&format!("field `config.{field}`: it is missing")), "{error}");
        }
        for config in [json!(null), json!([]), json!("x"), json!(3)] {
            let error = format!("{:?}", parse("local", &config).unwrap_err());
            assert!(error.contains("field `config"), "{error}");
        }
    }
}
