//! Restores: what is wanted of a snapshot, where it goes, and how a download link is opened.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Assignment, Sealed, StoreAccess};
use crate::{DatabaseTarget, ExportFormat, Overwrite, SnapshotKey, SshSettings};

/// A snapshot, or some of it, to be given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreTask {
    /// Which one.
    pub snapshot: SnapshotKey,
    /// Where it lies.
    #[serde(default)]
    pub store: StoreAccess,
    /// The tenant's identities, one per line.
    pub identities: Sealed,
    /// These entries and what lies below them; none: everything.
    pub paths: Vec<String>,
    /// One more of them, in base64: it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Where it goes.
    pub target: RestoreTarget,
}

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RestoreTarget {
    /// Nowhere yet: that all paths are there is checked, and what they hold is counted.
    Check,
    /// To whoever opened a download link, packed. Only in the answer to [`OpenDownload`].
    Archive {
        /// How it is packed.
        format: ExportFormat,
    },
    /// To whoever opened a download link: the content of one file. Only in the answer to [`OpenDownload`].
    File,
    /// To a server, over SFTP.
    Server {
        /// Which one, and as whom: its host key is pinned.
        server: Box<SshSettings>,
        /// Password or private key, as the settings say.
        #[serde(default)]
        credential: Option<Sealed>,
        /// The directory that everything goes below, absolute.
        directory: String,
        /// What becomes of what is there already.
        overwrite: Overwrite,
    },
    /// Into a database: the one entry of the task is a dump.
    Database {
        /// Which one, and as whom.
        database: Box<DatabaseTarget>,
        /// As that of the source whose server it is.
        #[serde(default)]
        credential: Option<Sealed>,
    },
}

/// What a restore gave back, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RestoreReport {
    /// Entries of all kinds.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What was there already and was left as it is.
    #[serde(default)]
    pub skipped: u64,
}

/// Somebody has opened a download link: asks what it gives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenDownload {
    /// As it stands in the link.
    pub token: String,
    /// Only look: nothing is begun, and a link that is good for one use stays so.
    #[serde(default)]
    pub peek: bool,
    /// Who opened it.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub client: Option<IpAddr>,
}

impl std::fmt::Debug for OpenDownload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenDownload").field("peek", &self.peek).finish_non_exhaustive()
    }
}

/// What a link gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenedDownload {
    /// What it shall be called.
    pub file_name: String,
    /// Its media type; absent for a file of a snapshot, of which the worker knows it.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Good for one use: it is sent whole or not at all.
    pub single_use: bool,
    /// Where it comes from.
    pub body: DownloadBody,
}

/// Where a download comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DownloadBody {
    /// A job would make it; none was begun.
    Peek,
    /// A job makes it, which the worker holds already.
    Restore {
        /// The job.
        assignment: Box<Assignment>,
    },
    /// It lies in the store as it is.
    Stored {
        /// Of this snapshot.
        snapshot: SnapshotKey,
        /// Which lies there.
        store: StoreAccess,
        /// The file.
        file: StoredFile,
    },
}

/// An encrypted file of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StoredFile {
    /// `backup.tar.zst.enc`
    Artifact,
    /// `index.zst.enc`
    Index,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_link_does_not_print() {
        let open = OpenDownload { token: "xvd_hunter2".into(), peek: false, client: None };
        assert!(!format!("{open:?}").contains("hunter2"));
    }
}
