//! Verifications: whether a stored snapshot is still what was written.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Sealed, StoreAccess};
use crate::SnapshotKey;

/// How far a verification goes. The greater goes further, and finds all that the lesser finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum VerifyDepth {
    /// Lengths and hashes of the stored files. Needs no key.
    Quick,
    /// Everything is decrypted and decompressed, and every content hash compared.
    Deep,
    /// Everything is restored, into nothing that stays, and counted; dumps of databases are loaded into scratch databases.
    RestoreTest,
}

impl VerifyDepth {
    /// All, from the shallowest on.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Deep, Self::RestoreTest];

    /// The word in JSON and in databases.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Deep => "deep",
            Self::RestoreTest => "restore_test",
        }
    }

    /// Whether it looks inside, for which it takes the tenant's identity.
    #[must_use]
    pub fn decrypts(self) -> bool {
        self > Self::Quick
    }
}

impl fmt::Display for VerifyDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for VerifyDepth {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|depth| depth.as_str() == text).ok_or(())
    }
}

/// A snapshot to be verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerifyTask {
    /// Which one.
    pub snapshot: SnapshotKey,
    /// Where it lies.
    #[serde(default)]
    pub store: StoreAccess,
    /// How far to go.
    pub depth: VerifyDepth,
    /// What opens artifact and index, each one a list of the tenant's identities, one per line. Empty in a quick one.
    #[serde(default)]
    pub identities: Vec<Sealed>,
}

/// What came of loading the dumps of a snapshot into scratch databases, which are gone again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DatabasesTried {
    /// Dumps that were loaded, each into a database of its own.
    pub loaded: u64,
    /// Dumps that were unpacked and counted like files, because the worker has no scratch server for them.
    pub not_loaded: u64,
    /// Tables that were made.
    pub tables: u64,
    /// Their rows, counted.
    pub rows: u64,
    /// Bytes of the databases, as far as their server knows.
    pub bytes: u64,
}

/// What a verification found. That a store can't be asked is no finding, but a failed job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Finding {
    /// The snapshot is what was written.
    Ok {
        /// Entries whose content was compared; 0 in a quick one.
        entries: u64,
        /// Bytes that were compared: of the stored files in a quick one, of the content else.
        bytes: u64,
        /// What came of loading the dumps of databases. Absent: it was no restore test, or there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        databases: Option<DatabasesTried>,
    },
    /// Something of it is missing, or is not what was written.
    Damaged {
        /// One sentence that names the file, and the entry where that can be told.
        damage: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_ordered_and_keep_their_words() {
        assert!(VerifyDepth::ALL.is_sorted());
        for depth in VerifyDepth::ALL {
            assert_eq!(serde_json::to_value(depth).unwrap(), depth.as_str());
            assert_eq!(depth.as_str().parse(), Ok(depth));
        }
        assert_eq!("full".parse::<VerifyDepth>(), Err(()));
        let damaged = serde_json::to_value(Finding::Damaged { damage: "gone".into() }).unwrap();
        assert_eq!(damaged, serde_json::json!({"result": "damaged", "damage": "gone"}));
    }
}
