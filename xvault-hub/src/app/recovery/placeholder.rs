//! Sources whose settings were lost with a database: their type and id are in the manifests, and nothing else.

use serde_json::{Value, json};
use xvault_core::SourceSettings;

/// A name that leads nowhere (RFC 2606), where a host or a path belongs that nobody remembers.
const LOST: &str = "settings-lost.invalid";

/// Settings of this type that lead nowhere. None: this hub does not know the type.
pub(super) fn placeholder(kind: &str) -> Option<SourceSettings> {
    let (path, server) = (format!("/{LOST}"), json!({ "host": LOST, "username": "unknown" }));
    let with = |field: &str, value: Value| {
        let mut config = server.clone();
        config[field] = value;
        config
    };
    let candidates = [
        json!({ "paths": [path] }),
        with("paths", json!([path])),
        with("database", json!("unknown")),
        server.clone(),
        with("path", json!(path)),
    ];
    let settings = |config: Value| serde_json::from_value(json!({ "type": kind, "config": config })).ok();
    candidates.into_iter().find_map(settings)
}

/// Whether settings are such: then nothing can be backed up before somebody completes them.
pub(crate) fn settings_are_lost(settings: &SourceSettings) -> bool {
    serde_json::to_string(settings).is_ok_and(|text| text.contains(LOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_placeholder_that_is_known_as_one() {
        for kind in ["local", "sftp", "ssh", "ftp", "postgres", "mysql", "wordpress"] {
            let settings = placeholder(kind).unwrap_or_else(|| panic!("{kind}"));
            assert_eq!(settings.kind(), kind);
            assert!(settings_are_lost(&settings));
        }
        assert_eq!(placeholder("carrier-pigeon"), None);
    }
}
