//! What a download gives, and what it is called.

use serde::{Deserialize, Serialize};
use xvault_core::ExportFormat;
use xvault_core::protocol::{Name, StoredFile};

use crate::db::snapshots::Snapshot;

/// The longest name that is made up from a source's, in characters.
const MAX_STEM: usize = 64;
/// The longest name of a file that is kept, in bytes.
const MAX_NAME: usize = 180;

/// What a link gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Content {
    /// Entries, decrypted and packed on the way.
    Archive {
        format: ExportFormat,
        /// And what lies below them; none: everything.
        paths: Vec<String>,
    },
    /// The content of one file.
    File {
        #[serde(flatten)]
        path: Name,
    },
    /// The encrypted artifact, as it lies in the store.
    Artifact,
    /// The encrypted index.
    Index,
}

impl Content {
    /// Whether the tenant's identity is needed to give it.
    pub(crate) fn is_decrypted(&self) -> bool {
        self.stored().is_none()
    }

    /// The stored file that it is, if it is one.
    pub(crate) fn stored(&self) -> Option<StoredFile> {
        match self {
            Self::Artifact => Some(StoredFile::Artifact),
            Self::Index => Some(StoredFile::Index),
            Self::Archive { .. } | Self::File { .. } => None,
        }
    }

    /// The word for it in audit events.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Archive { .. } => "archive",
            Self::File { .. } => "file",
            Self::Artifact => "artifact",
            Self::Index => "index",
        }
    }

    /// What it is called: a file as it is called in the snapshot, all else by source and time.
    pub(crate) fn file_name(&self, source: &str, snapshot: &Snapshot) -> String {
        let at = snapshot.started_at.strftime("%Y-%m-%dT%H%M%SZ");
        let stem = format!("{}-{at}", stem(source));
        match self {
            Self::File { path } => last_name(&String::from_utf8_lossy(&path.to_bytes().unwrap_or_default())),
            Self::Archive { format, .. } => format!("{stem}.{}", format.extension()),
            Self::Artifact => format!("{stem}.tar.zst.age"),
            Self::Index => format!("{stem}.index.zst.age"),
        }
    }

    /// What to type to get it and open it. `url` holds nothing that a shell would take for more than text.
    pub(crate) fn command(&self, url: &str) -> String {
        let get = format!("curl -fsS '{url}'");
        match self {
            Self::Archive { format: ExportFormat::Tar, .. } => format!("{get} | tar x"),
            Self::Archive { format: ExportFormat::TarZst, .. } => format!("{get} | zstd -d | tar x"),
            Self::Archive { format: ExportFormat::Zip, .. } | Self::File { .. } => {
                format!("curl -fsSOJ '{url}'")
            }
            Self::Artifact => format!("{get} | age -d -i KEY | zstd -d | tar x"),
            Self::Index => format!("{get} | age -d -i KEY | zstd -d"),
        }
    }
}

/// A source's name as part of a file's.
fn stem(name: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
    let stem: String = name.chars().take(MAX_STEM).map(kept).collect();
    let stem = stem.trim_matches(['-', '.']);
    if stem.is_empty() { "snapshot".to_owned() } else { stem.to_owned() }
}

/// The last part of a path, without what no file system or header takes.
fn last_name(path: &str) -> String {
    let kept = |c: char| if c.is_control() || matches!(c, '\\' | '"') { '_' } else { c };
    let mut name: String =
        path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().chars().map(kept).collect();
    while name.len() > MAX_NAME {
        name.pop();
    }
    if name.trim_matches('.').is_empty() { "file".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_a_file_can_have() {
        assert_eq!(stem("web 1/ä"), "web-1-ä");
        assert_eq!(stem("../.."), "snapshot");
        assert_eq!(last_name("home/web/letter to \"me\".txt"), "letter to _me_.txt");
        assert_eq!(last_name("a/\x1b[31m"), "_[31m");
        assert_eq!(last_name(".."), "file");
        assert!(last_name(&"ä".repeat(500)).len() <= MAX_NAME);
    }

    #[test]
    fn what_is_stored_as_it_is_needs_no_identity() {
        assert!(!Content::Artifact.is_decrypted() && !Content::Index.is_decrypted());
        let file = Content::File { path: Name::of(b"x") };
        assert!(file.is_decrypted());
        for (name, kept) in [
            (&b"x"[..], serde_json::json!({"what": "file", "path": "x"})),
            (b"\xe9", serde_json::json!({"what": "file", "path_base64": "6Q=="})),
        ] {
            let file = Content::File { path: Name::of(name) };
            assert_eq!(serde_json::to_value(&file).unwrap(), kept);
            assert_eq!(serde_json::from_value::<Content>(kept).unwrap(), file);
        }
        let archive = Content::Archive { format: ExportFormat::Zip, paths: vec![] };
        assert_eq!(
            serde_json::to_value(archive).unwrap(),
            serde_json::json!({"what": "archive", "format": "zip", "paths": []})
        );
    }
}
