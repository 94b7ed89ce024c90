//! Looking into a snapshot's index: what is asked for, and what was found.
//!
//! Names stand as in the index: text where they are UTF-8, else base64 in the field with `_base64` appended.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Sealed, StoreAccess};
use crate::entry::{EntryKind, EntryPath, Metadata, Mtime, display_name};
use crate::snapshot::SnapshotKey;

/// The most entries in one answer.
pub const MAX_BROWSE_ITEMS: u32 = 1000;

/// Read an index, and tell what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BrowseTask {
    /// Whose index; for a difference, the earlier one.
    pub snapshot: StoredIndex,
    /// For a difference, the later one.
    #[serde(default)]
    pub other: Option<StoredIndex>,
    /// What opens them: identities, one per line.
    pub identities: Sealed,
    /// What is asked for.
    pub query: BrowseQuery,
}

/// An index, and how it is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredIndex {
    /// Of this snapshot.
    pub snapshot: SnapshotKey,
    /// Where it lies.
    pub store: StoreAccess,
}

/// What is asked of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BrowseQuery {
    /// What for.
    pub what: Browse,
    /// The directory that is looked into; absent: all of it.
    #[serde(default)]
    pub directory: Option<Name>,
    /// Where the page begins: the cursor of the page before.
    #[serde(default)]
    pub cursor: Option<Cursor>,
    /// At most so many entries, and never more than [`MAX_BROWSE_ITEMS`].
    pub limit: u32,
}

/// Ways to look into an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Browse {
    /// The children of the directory.
    List,
    /// Everything below it whose name has this in it, or is matched by it when it has a `*` or `?`.
    Search {
        /// Part of a name, or a glob.
        name: String,
    },
    /// What is different in the other snapshot.
    Diff,
}

/// A name or path, as the index writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Name {
    /// UTF-8.
    Text {
        /// The name.
        path: String,
    },
    /// Anything else.
    Bytes {
        /// The name in standard base64.
        path_base64: String,
    },
}

impl Name {
    /// Of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text { path: text.to_owned() },
            Err(_) => Self::Bytes { path_base64: STANDARD.encode(bytes) },
        }
    }

    /// The bytes; `None` when they are no base64.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text { path } => Some(path.clone().into_bytes()),
            Self::Bytes { path_base64 } => STANDARD.decode(path_base64).ok(),
        }
    }
}

/// Where a page begins, as a word for URLs. What is in it is nobody's business but the worker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
pub struct Cursor(Vec<u8>);

/// A text that is no [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the `next_cursor` of a page")]
pub struct NoCursor;

impl Cursor {
    /// Of a place.
    #[must_use]
    pub fn of(place: Vec<u8>) -> Self {
        Self(place)
    }

    /// The place.
    #[must_use]
    pub fn place(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for Cursor {
    type Error = NoCursor;

    fn try_from(text: String) -> Result<Self, NoCursor> {
        let place = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoCursor)?;
        if place.len() > crate::entry::MAX_PATH_LEN { Err(NoCursor) } else { Ok(Self(place)) }
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        URL_SAFE_NO_PAD.encode(cursor.0)
    }
}

/// What was found in an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Browsed {
    /// A page of a directory, or of a search.
    Entries {
        /// In the order of their paths' bytes.
        entries: Vec<BrowsedEntry>,
        /// Where the next page begins.
        next_cursor: Option<Cursor>,
    },
    /// A page of a difference.
    Changes {
        /// In the order of their paths' bytes.
        changes: Vec<BrowsedChange>,
        /// Where the next page begins.
        next_cursor: Option<Cursor>,
    },
    /// There is no such directory.
    Absent,
    /// It is a file or a link.
    NotADirectory,
}

/// An entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BrowsedEntry {
    /// Where it lies.
    #[serde(flatten)]
    pub path: Name,
    /// It has no entry of its own, and is known by what lies in it: a directory of which no more is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub implied: bool,
    /// What it is.
    #[serde(flatten)]
    pub facts: Facts,
}

/// A path that is not the same in two snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BrowsedChange {
    /// Which one.
    #[serde(flatten)]
    pub path: Name,
    /// What became of it.
    pub change: ChangeKind,
    /// In the earlier snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub before: Option<Facts>,
    /// In the later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub after: Option<Facts>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ChangeKind {
    /// Only the later snapshot has it.
    Added,
    /// Only the earlier one has it.
    Removed,
    /// Kind, size, content, mode, owner, time or link target differ.
    Changed,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum BrowsedKind {
    /// May have children.
    Directory,
    /// Has content.
    File,
    /// Leads to `target`.
    Symlink,
    /// A second name of the file `target`.
    Hardlink,
}

/// What an index says of an entry. What does not belong to its kind, or is not known, is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Facts {
    /// What it is.
    pub kind: BrowsedKind,
    /// Bytes of content; of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub size: Option<u64>,
    /// The twelve permission bits, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub mode: Option<u32>,
    /// Last change of content; absent when the year has more than four digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub mtime: Option<Timestamp>,
    /// Numeric owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub uid: Option<u64>,
    /// Numeric group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub gid: Option<u64>,
    /// The owner's name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub user: Option<String>,
    /// The group's name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub group: Option<String>,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub target: Option<String>,
    /// The same when it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub target_base64: Option<String>,
    /// BLAKE3 of the content, in hexadecimal; of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub blake3: Option<String>,
}

impl Facts {
    /// Of a directory that has no entry of its own.
    #[must_use]
    pub fn of_implied() -> Self {
        Self {
            kind: BrowsedKind::Directory,
            size: None,
            mode: None,
            mtime: None,
            uid: None,
            gid: None,
            user: None,
            group: None,
            target: None,
            target_base64: None,
            blake3: None,
        }
    }

    /// Of an entry, with the hash of its content.
    #[must_use]
    pub fn of(kind: &EntryKind, metadata: &Metadata, blake3: Option<[u8; 32]>) -> Self {
        let shown = |name: &Option<Vec<u8>>| name.as_deref().map(display_name);
        let (kind, size, target) = match kind {
            EntryKind::Directory => (BrowsedKind::Directory, None, None),
            EntryKind::File { size } => (BrowsedKind::File, Some(*size), None),
            EntryKind::Stream => (BrowsedKind::File, None, None),
            EntryKind::Symlink { target } => (BrowsedKind::Symlink, None, Some(Name::of(target))),
            EntryKind::Hardlink { target } => {
                (BrowsedKind::Hardlink, None, Some(Name::of(target.as_bytes())))
            }
        };
        let (target, target_base64) = match target {
            Some(Name::Text { path }) => (Some(path), None),
            Some(Name::Bytes { path_base64 }) => (None, Some(path_base64)),
            None => (None, None),
        };
        Self {
            kind,
            size,
            mode: Some(metadata.mode),
            mtime: moment(metadata.mtime),
            uid: Some(metadata.uid),
            gid: Some(metadata.gid),
            user: shown(&metadata.user),
            group: shown(&metadata.group),
            target,
            target_base64,
            blake3: blake3.map(|digest| crate::snapshot::hex(&digest)),
        }
    }
}

fn moment(mtime: Mtime) -> Option<Timestamp> {
    // Nanoseconds count forward, also before 1970.
    let whole = Timestamp::from_second(mtime.secs).ok()?;
    whole.checked_add(jiff::SignedDuration::from_nanos(i64::from(mtime.nanos))).ok()
}

/// A path that a person asks for: of a snapshot's root when `None`.
///
/// # Errors
/// Says what is wrong with it, for people.
pub fn asked_path(name: Option<&Name>) -> Result<Option<EntryPath>, String> {
    let Some(name) = name else { return Ok(None) };
    let bytes = name.to_bytes().ok_or("it is not base64")?;
    EntryPath::from_source(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_and_cursors_survive_json(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = serde_json::to_string(&Name::of(&bytes)).unwrap();
            let read: Name = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read.to_bytes().unwrap(), bytes.clone());
            let json = serde_json::to_string(&Cursor::of(bytes.clone())).unwrap();
            let read: Cursor = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read.place(), bytes);
        }
    }

    #[test]
    fn times_before_1970_and_beyond_all_calendars_are_told_or_left_out() {
        let shown = |secs, nanos| moment(Mtime { secs, nanos }).map(|at| at.to_string());
        assert_eq!(shown(-1, 500_000_000).as_deref(), Some("1969-12-31T23:59:59.5Z"));
        assert_eq!(shown(i64::MAX, 0), None);
        assert_eq!(shown(i64::MIN, 999_999_999), None);
    }

    #[test]
    fn an_entry_is_flat_and_says_only_what_is_known() {
        let entry = BrowsedEntry { path: Name::of(b"srv"), implied: true, facts: Facts::of_implied() };
        let json = serde_json::to_value(&entry).unwrap();
        assert_eq!(json, serde_json::json!({"path": "srv", "implied": true, "kind": "directory"}));
        assert_eq!(serde_json::from_value::<BrowsedEntry>(json).unwrap(), entry);
    }

    #[test]
    fn a_cursor_that_nobody_made_is_refused() {
        for text in ["?".to_owned(), "a".repeat(10_000)] {
            let error = Cursor::try_from(text).unwrap_err();
            assert_eq!(error.to_string(), "it is not the `next_cursor` of a page");
        }
        let longest = Cursor::of(vec![b'a'; crate::entry::MAX_PATH_LEN]);
        assert_eq!(Cursor::try_from(String::from(longest.clone())).unwrap(), longest);
    }
}
