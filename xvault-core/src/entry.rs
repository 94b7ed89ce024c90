//! What a source hands over and an archive keeps: entries, and the sink they are pushed into.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Dispose, Disposition};

/// The longest path of an entry, in bytes: Linux's `PATH_MAX`, which no real source exceeds.
pub const MAX_PATH_LEN: usize = 4096;

/// A path inside a snapshot: relative, in bytes, and safe by construction.
///
/// Components are separated by `/`; none is empty, `.` or `..`, none is longer
/// than [`MAX_PATH_LEN`] in total, and there is no NUL. Entries are named by
/// their absolute path at the source without the leading `/`, as `tar` does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Box<[u8]>);

/// Why bytes are no [`EntryPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsafe path `{path}`: {reason}")]
pub struct InvalidPath {
    path: String,
    reason: &'static str,
}

impl EntryPath {
    /// Takes `path` exactly as it is, or says what is wrong with it.
    ///
    /// # Errors
    /// Absolute, empty, too long, with a NUL, or with a component that is empty, `.` or `..`.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self, InvalidPath> {
        let path = path.into();
        match Self::fault(&path) {
            None => Ok(Self(path.into_boxed_slice())),
            Some(reason) => Err(InvalidPath { path: display_name(&path), reason }),
        }
    }

    /// Takes an absolute path of a source, or one that a user typed: leading, doubled and
    /// trailing slashes and `.` components are dropped first. `None` stands for the root itself.
    ///
    /// # Errors
    /// As [`EntryPath::new`], so also for `..`.
    pub fn from_source(path: &[u8]) -> Result<Option<Self>, InvalidPath> {
        let parts: Vec<_> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        if parts.is_empty() { Ok(None) } else { Self::new(parts.join(&b'/')).map(Some) }
    }

    fn fault(path: &[u8]) -> Option<&'static str> {
        if path.is_empty() {
            Some("it is empty")
        } else if path.len() > MAX_PATH_LEN {
            Some("it is longer than 4096 bytes")
        } else if path.contains(&0) {
            Some("it contains a NUL byte")
        } else if path.starts_with(b"/") {
            Some("it is absolute")
        } else {
            path.split(|b| *b == b'/').find_map(|component| match component {
                b"" => Some("it has an empty component"),
                b"." => Some("it has a `.` component"),
                b".." => Some("it has a `..` component"),
                _ => None,
            })
        }
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// When `name` holds a `/` or a NUL, is empty, `.` or `..`, or makes the whole too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, InvalidPath> {
        if name.contains(&b'/') {
            let reason = "a file name contains a slash";
            return Err(InvalidPath { path: display_name(name), reason });
        }
        Self::new([&self.0, &b"/"[..], name].concat())
    }

    /// The bytes, as they stand in the tar stream.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, first to last; never empty.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// The directory this lies in; `None` at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.iter().rposition(|b| *b == b'/')?;
        self.0.get(..cut).map(|parent| Self(parent.into()))
    }

    /// Whether this is `ancestor` or lies below it.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        match self.0.strip_prefix(&*ancestor.0) {
            Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

/// Bytes of a name for people: valid UTF-8 stays, control characters and stray bytes are escaped.
#[must_use]
pub fn display_name(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    shown
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&display_name(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

/// A moment as file systems keep it: seconds since 1970, possibly before, and nanoseconds after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtime {
    /// Whole seconds since the epoch; negative before 1970.
    pub secs: i64,
    /// 0 to 999,999,999, always counted forward from `secs`.
    pub nanos: u32,
}

/// Owner, mode and time of an entry. What a protocol does not carry is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Owner's name where the source gives it; at most 255 bytes are kept.
    pub user: Option<Vec<u8>>,
    /// Group's name where the source gives it; at most 255 bytes are kept.
    pub group: Option<Vec<u8>>,
    /// Last change of content.
    pub mtime: Mtime,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory; its children are entries of their own.
    Directory,
    /// A file whose body is exactly `size` bytes.
    File {
        /// Length of the body in bytes.
        size: u64,
    },
    /// A body whose length is known only at its end: a database dump.
    Stream,
    /// A symbolic link. The target is kept as it is, wherever it leads, and is never followed.
    Symlink {
        /// What `readlink` gives.
        target: Vec<u8>,
    },
    /// A second name for an earlier entry.
    Hardlink {
        /// The path of a `File` that came before in the same snapshot.
        target: EntryPath,
    },
}

/// One thing in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// Who owns it, and since when.
    pub metadata: Metadata,
}

impl Entry {
    /// Whether a body follows this entry.
    #[must_use]
    pub fn has_body(&self) -> bool {
        matches!(self.kind, EntryKind::File { .. } | EntryKind::Stream)
    }
}

/// What a restore does with files and links that exist already. Existing directories are always merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Overwrite {
    /// They stay as they are, and are counted as kept; so does the metadata of existing directories, unless a restore
    /// that was stopped has left them unfinished (mode 1700).
    #[default]
    Never,
    /// Files are replaced when size or mtime differ, links when their target does.
    IfChanged,
    /// They are replaced.
    Always,
}

/// What could not be read whole. Any warning makes a snapshot *partial*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The entry concerned.
    pub path: EntryPath,
    /// What kind of trouble, for programs.
    pub code: WarningCode,
    /// One sentence for people, without secrets.
    pub message: String,
}

/// The kinds of [`Warning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningCode {
    /// The source refused to let it be read.
    Unreadable,
    /// It was listed, and gone when it was read.
    Vanished,
    /// It became shorter while it was read, and was padded with zeros to its promised size.
    Shrunk,
    /// It became longer while it was read, and was cut at its promised size.
    Grew,
    /// Its name can't stand in an archive.
    BadName,
    /// The remote side reported trouble of another kind.
    Other,
}

impl WarningCode {
    /// The word used in the index, in JSON and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Vanished => "vanished",
            Self::Shrunk => "shrunk",
            Self::Grew => "grew",
            Self::BadName => "bad_name",
            Self::Other => "other",
        }
    }
}

/// Where a source pushes entries.
///
/// The calls follow a grammar, which an implementation checks and whose breach is an error:
///
/// ```text
/// pull    = { begin [ data* end ] | warning }
/// ```
///
/// A `File` or `Stream` entry is followed by its body and `end`; the chunks of a `File` add up to
/// exactly its size (a source pads or cuts a file that changes while it is read, and warns).
/// A warning may come anywhere, also inside a body.
///
/// Futures resolve when the sink has room: awaiting them is the backpressure. Once a call has
/// failed every later call fails too, and what was written is not a snapshot.
/// A dropped future leaves the sink failed: after cancellation nothing can be finished by accident.
#[async_trait]
pub trait EntrySink: Send {
    /// Begins an entry. Directories and links are complete with this.
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError>;

    /// A part of the current body. Any size; 64 KiB to 1 MiB is cheap to pass on.
    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError>;

    /// Ends the current body.
    async fn end(&mut self) -> Result<(), SinkError>;

    /// Records what could not be read.
    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError>;
}

/// Why a sink takes no more: the store is full, the archive was cancelled, the grammar was broken.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    message: String,
    disposition: Disposition,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SinkError {
    /// The source broke the grammar of [`EntrySink`]; a defect, hence permanent.
    #[must_use]
    pub fn misuse(message: impl Into<String>) -> Self {
        Self { message: message.into(), disposition: Disposition::Permanent, source: None }
    }

    /// Wraps the error of whatever lies behind the sink.
    pub fn new(message: impl Into<String>, source: impl Dispose + Send + Sync + 'static) -> Self {
        let disposition = source.disposition();
        Self { message: message.into(), disposition, source: Some(Box::new(source)) }
    }

    /// The other end of the sink is gone; its own error says why.
    #[must_use]
    pub fn closed() -> Self {
        let message = "the archive stopped taking entries".into();
        Self { message, disposition: Disposition::Cancelled, source: None }
    }
}

impl Dispose for SinkError {
    fn disposition(&self) -> Disposition {
        self.disposition
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_that_could_escape_are_refused() {
        let long = [b'a'; MAX_PATH_LEN + 1];
        let bad: [&[u8]; 10] =
            [b"", b"/etc", b"..", b"a/../b", b"a//b", b"a/", b"./a", b"a/.", b"a\0b", &long];
        for path in bad {
            assert!(EntryPath::new(path).is_err(), "{}", display_name(path));
        }
        assert_eq!(
            EntryPath::new(*b"a/../b").unwrap_err().to_string(),
            "unsafe path `a/../b`: it has a `..` component"
        );
    }

    #[test]
    fn a_typed_path_loses_only_its_slashes_and_dots() {
        let path = EntryPath::from_source(b"//srv/./data/").unwrap().unwrap();
        assert_eq!(path.as_bytes(), b"srv/data");
        assert_eq!(EntryPath::from_source(b"/").unwrap(), None);
        assert!(EntryPath::from_source(b"/srv/../etc").is_err());
    }

    #[test]
    fn joining_takes_one_component() {
        let dir = EntryPath::new(*b"srv").unwrap();
        assert_eq!(dir.join(b"x").unwrap().as_bytes(), b"srv/x");
        for name in [&b"a/b"[..], b"..", b".", b"", b"\0"] {
            assert!(dir.join(name).is_err());
        }
    }

    #[test]
    fn within_respects_component_borders() {
        let path = |p: &str| EntryPath::new(p).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), None);
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        assert_eq!(display_name(b"caf\xe9\n\x1b[31m\xc3\xa9"), "caf\\xe9\\n\\u{1b}[31m\u{e9}");
    }

    proptest! {
        #[test]
        fn accepted_paths_stay_inside(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = EntryPath::new(bytes.clone()) {
                prop_assert_eq!(path.as_bytes(), &bytes[..]);
                for component in path.components() {
                    prop_assert!(!matches!(component, b"" | b"." | b".."));
                    prop_assert!(!component.contains(&b'/') && !component.contains(&0));
                }
            }
        }

        #[test]
        fn parent_and_name_rebuild_the_path(parts in proptest::collection::vec("[a-z.]{3,8}", 1..6)) {
            let path = EntryPath::new(parts.join("/")).unwrap();
            let rebuilt = match path.parent() {
                Some(parent) => parent.join(path.name()).unwrap(),
                None => EntryPath::new(path.name()).unwrap(),
            };
            prop_assert_eq!(rebuilt, path);
        }
    }
}
