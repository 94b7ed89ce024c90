//! One line of the index: JSON on one side, [`Record`] on the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use xvault_core::snapshot::{ContentSummary, FORMAT_VERSION, SnapshotKey, hex};
use xvault_core::{
    Entry, EntryKind, EntryPath, Metadata, Mtime, SnapshotId, SourceId, TenantId, Warning, WarningCode,
};

use super::{FrameInfo, IndexEntry, IndexHeader, Joined, MAX_TARGET_LEN, Record, Segment, Totals};

const FORMAT: &str = "xvault-index";

/// The longest name of a user or group, in bytes; the writer keeps no more.
const MAX_OWNER_LEN: usize = 255;

/// Why a line is no [`Record`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Not the JSON of a known line.
    #[error("not a line of an index: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of a known line with a value that can't be.
    #[error("{0}")]
    Value(&'static str),
    /// An entry's path that could lead outside.
    #[error(transparent)]
    Path(#[from] xvault_core::entry::InvalidPath),
    /// Written by a newer xVault.
    #[error("index version {0} is newer than this program: use a newer xvault")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Header(HeaderLine),
    Entry(Box<EntryLine>),
    Frame(FrameLine),
    Warning(WarningLine),
    End(EndLine),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    format: String,
    version: u32,
    tenant_id: TenantId,
    source_id: SourceId,
    snapshot_id: SnapshotId,
    frame_size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    mode: u32,
    uid: u64,
    gid: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group_base64: Option<String>,
    mtime: (i64, u32),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    offset: u64,
    data_offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined: Option<JoinedLine>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Directory,
    File,
    Symlink,
    Hardlink,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinedLine {
    parts: u64,
    length: u64,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameLine {
    offset: u64,
    size: u64,
    zstd_offset: u64,
    zstd_size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WarningLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    code: WarningCode,
    message: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    entries: u64,
    frames: u64,
    tar_size: u64,
    zstd_size: u64,
    files: u64,
    directories: u64,
    symlinks: u64,
    hardlinks: u64,
    bytes: u64,
    warnings: u64,
    skipped: u64,
}

impl Record {
    /// Reads one line, without its newline, from foreign bytes.
    ///
    /// # Errors
    /// Unknown types, unknown fields, missing fields, unsafe paths and impossible values are refused: whoever
    /// adds to the format raises its version.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        match serde_json::from_slice(line) {
            Ok(Line::Header(line)) => header(line).map(Self::Header),
            Ok(Line::Entry(line)) => entry(*line).map(Self::Entry),
            Ok(Line::Frame(line)) => Ok(Self::Frame(line.into())),
            Ok(Line::Warning(line)) => warning(line).map(Self::Warning),
            Ok(Line::End(line)) => Ok(Self::End(line.into())),
            Err(error) => Err(newer_version(line).map_or(LineError::Json(error), LineError::Version)),
        }
    }

    /// Appends the line and its newline.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut *out, &self.line())?;
        out.push(b'\n');
        Ok(())
    }

    fn line(&self) -> Line {
        match self {
            Self::Header(header) => Line::Header(header_line(header)),
            Self::Entry(entry) => Line::Entry(Box::new(entry_line(entry))),
            Self::Frame(frame) => Line::Frame((*frame).into()),
            Self::Warning(warning) => Line::Warning(warning_line(warning)),
            Self::End(totals) => Line::End((*totals).into()),
        }
    }
}

/// A newer header may have fields that we don't know; its version is the better message.
fn newer_version(line: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        format: String,
        version: u32,
    }
    let versioned: Versioned = serde_json::from_slice(line).ok()?;
    (versioned.format == FORMAT && versioned.version != FORMAT_VERSION).then_some(versioned.version)
}

fn header(line: HeaderLine) -> Result<IndexHeader, LineError> {
    if line.format != FORMAT {
        return Err(LineError::Value("the first line is not that of an xvault index"));
    }
    if line.version != FORMAT_VERSION {
        return Err(LineError::Version(line.version));
    }
    let HeaderLine { tenant_id, source_id, snapshot_id, frame_size, .. } = line;
    Ok(IndexHeader { key: SnapshotKey { tenant_id, source_id, snapshot_id }, frame_size })
}

fn header_line(header: &IndexHeader) -> HeaderLine {
    let SnapshotKey { tenant_id, source_id, snapshot_id } = header.key.clone();
    let (format, version, frame_size) = (FORMAT.to_owned(), FORMAT_VERSION, header.frame_size);
    HeaderLine { format, version, tenant_id, source_id, snapshot_id, frame_size }
}

fn entry(line: EntryLine) -> Result<IndexEntry, LineError> {
    let path = name(line.path, line.path_base64)?.ok_or(LineError::Value("an entry has no path"))?;
    let target = name(line.target, line.target_base64)?;
    let kind = entry_kind(line.kind, line.size, target)?;
    let blake3 = line.blake3.as_deref().map(digest).transpose()?;
    if blake3.is_some() != matches!(kind, EntryKind::File { .. }) {
        return Err(LineError::Value("a content hash belongs to every file, and only to files"));
    }
    let metadata = Metadata {
        mode: line.mode,
        uid: line.uid,
        gid: line.gid,
        user: name(line.user, line.user_base64)?,
        group: name(line.group, line.group_base64)?,
        mtime: Mtime { secs: line.mtime.0, nanos: line.mtime.1 },
    };
    check_metadata(&metadata)?;
    let segment = segment(&kind, line.part, line.joined)?;
    let entry = Entry { path: EntryPath::new(path)?, kind, metadata };
    Ok(IndexEntry { entry, blake3, offset: line.offset, data_offset: line.data_offset, segment })
}

fn entry_kind(kind: Kind, size: Option<u64>, target: Option<Vec<u8>>) -> Result<EntryKind, LineError> {
    match (kind, size, target) {
        (Kind::Directory, None, None) => Ok(EntryKind::Directory),
        (Kind::File, Some(size), None) => Ok(EntryKind::File { size }),
        (Kind::Symlink, None, Some(target)) => symlink(target),
        (Kind::Hardlink, None, Some(target)) => Ok(EntryKind::Hardlink { target: EntryPath::new(target)? }),
        _ => {
            Err(LineError::Value("a size belongs to every file, a target to every link, and to nothing else"))
        }
    }
}

fn symlink(target: Vec<u8>) -> Result<EntryKind, LineError> {
    if target.is_empty() || target.contains(&0) || target.len() > MAX_TARGET_LEN {
        return Err(LineError::Value("a link's target is empty, too long or contains a NUL"));
    }
    Ok(EntryKind::Symlink { target })
}

fn check_metadata(metadata: &Metadata) -> Result<(), LineError> {
    if metadata.mode > 0o7777 {
        return Err(LineError::Value("a mode has more than its twelve bits"));
    }
    if metadata.mtime.nanos >= 1_000_000_000 {
        return Err(LineError::Value("a time has more than 999999999 nanoseconds"));
    }
    let mut owners = [&metadata.user, &metadata.group].into_iter().flatten();
    if owners.any(|name| name.is_empty() || name.contains(&0) || name.len() > MAX_OWNER_LEN) {
        return Err(LineError::Value("a user's or group's name is empty, too long or contains a NUL"));
    }
    Ok(())
}

fn segment(
    kind: &EntryKind,
    part: Option<u64>,
    joined: Option<JoinedLine>,
) -> Result<Option<Segment>, LineError> {
    let segment = match (part, joined) {
        (None, None) => return Ok(None),
        (Some(number), None) => Segment::Part { number },
        (None, Some(JoinedLine { parts, length, blake3 })) => {
            Segment::Closing(Joined { parts, length, blake3: digest(&blake3)? })
        }
        (Some(_), Some(_)) => {
            return Err(LineError::Value("an entry is both a part and the end of its parts"));
        }
    };
    match kind {
        EntryKind::File { .. } => Ok(Some(segment)),
        _ => Err(LineError::Value("only files have parts")),
    }
}

fn entry_line(from: &IndexEntry) -> EntryLine {
    let Metadata { mode, uid, gid, user, group, mtime } = &from.entry.metadata;
    let (path, path_base64) = text_or_base64(from.entry.path.as_bytes());
    let (kind, size, target) = match &from.entry.kind {
        EntryKind::Directory => (Kind::Directory, None, None),
        EntryKind::File { size } => (Kind::File, Some(*size), None),
        EntryKind::Stream => (Kind::File, Some(0), None),
        EntryKind::Symlink { target } => (Kind::Symlink, None, Some(target.as_slice())),
        EntryKind::Hardlink { target } => (Kind::Hardlink, None, Some(target.as_bytes())),
    };
    let optional = |bytes: Option<&[u8]>| bytes.map_or((None, None), text_or_base64);
    let (target, target_base64) = optional(target);
    let (user, user_base64) = optional(user.as_deref());
    let (group, group_base64) = optional(group.as_deref());
    let (part, joined) = match from.segment {
        None => (None, None),
        Some(Segment::Part { number }) => (Some(number), None),
        Some(Segment::Closing(Joined { parts, length, blake3 })) => {
            (None, Some(JoinedLine { parts, length, blake3: hex(&blake3) }))
        }
    };
    EntryLine {
        path,
        path_base64,
        kind,
        size,
        target,
        target_base64,
        mode: *mode,
        uid: *uid,
        gid: *gid,
        user,
        user_base64,
        group,
        group_base64,
        mtime: (mtime.secs, mtime.nanos),
        blake3: from.blake3.map(|digest| hex(&digest)),
        offset: from.offset,
        data_offset: from.data_offset,
        part,
        joined,
    }
}

fn warning(line: WarningLine) -> Result<Warning, LineError> {
    let path = name(line.path, line.path_base64)?.ok_or(LineError::Value("a warning has no path"))?;
    Ok(Warning { path: EntryPath::new(path)?, code: line.code, message: line.message })
}

fn warning_line(warning: &Warning) -> WarningLine {
    let (path, path_base64) = text_or_base64(warning.path.as_bytes());
    WarningLine { path, path_base64, code: warning.code, message: warning.message.clone() }
}

impl From<FrameLine> for FrameInfo {
    fn from(line: FrameLine) -> Self {
        let FrameLine { offset, size, zstd_offset, zstd_size } = line;
        Self { offset, size, zstd_offset, zstd_size }
    }
}

impl From<FrameInfo> for FrameLine {
    fn from(frame: FrameInfo) -> Self {
        let FrameInfo { offset, size, zstd_offset, zstd_size } = frame;
        Self { offset, size, zstd_offset, zstd_size }
    }
}

impl From<EndLine> for Totals {
    fn from(line: EndLine) -> Self {
        let EndLine { entries, frames, tar_size, zstd_size, .. } = line;
        let EndLine { files, directories, symlinks, hardlinks, bytes, warnings, skipped, .. } = line;
        let content = ContentSummary { files, directories, symlinks, hardlinks, bytes, warnings, skipped };
        Self { entries, frames, tar_size, zstd_size, content }
    }
}

impl From<Totals> for EndLine {
    fn from(totals: Totals) -> Self {
        let Totals { entries, frames, tar_size, zstd_size, content } = totals;
        let ContentSummary { files, directories, symlinks, hardlinks, bytes, warnings, skipped } = content;
        Self {
            entries,
            frames,
            tar_size,
            zstd_size,
            files,
            directories,
            symlinks,
            hardlinks,
            bytes,
            warnings,
            skipped,
        }
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn name(text: Option<String>, encoded: Option<String>) -> Result<Option<Vec<u8>>, LineError> {
    match (text, encoded) {
        (Some(_), Some(_)) => Err(LineError::Value("a name is given both as text and as base64")),
        (text, None) => Ok(text.map(String::into_bytes)),
        (None, Some(encoded)) => {
            let bytes = STANDARD.decode(encoded).map_err(|_| LineError::Value("a name is not base64"))?;
            match std::str::from_utf8(&bytes) {
                Ok(_) => Err(LineError::Value("a name is given as base64 that is valid UTF-8")),
                Err(_) => Ok(Some(bytes)),
            }
        }
    }
}

fn digest(text: &str) -> Result<[u8; 32], LineError> {
    let fault = LineError::Value("a BLAKE3 hash is not 64 lower-case hexadecimal digits");
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(fault);
    }
    blake3::Hash::from_hex(text).map(Into::into).map_err(|_| fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(1u8..=255, len.clone()),
            proptest::collection::vec(b'a'..b'c', len)
        ]
    }

    fn path() -> impl Strategy<Value = EntryPath> {
        bytes(1..40).prop_filter_map("safe", |bytes| EntryPath::new(bytes).ok())
    }

    fn entries() -> impl Strategy<Value = IndexEntry> {
        let kind = prop_oneof![
            Just(EntryKind::Directory),
            any::<u64>().prop_map(|size| EntryKind::File { size }),
            bytes(1..40).prop_map(|target| EntryKind::Symlink { target }),
            path().prop_map(|target| EntryKind::Hardlink { target }),
        ];
        let owner = || proptest::option::of(bytes(1..40));
        let ids = (any::<u64>(), any::<u64>(), any::<i64>(), 0u32..1_000_000_000, 0u32..0o10000);
        let segment = (0u8..3, any::<u64>(), any::<[u8; 32]>(), any::<[u8; 32]>());
        (path(), kind, owner(), owner(), ids, segment).prop_map(|(path, kind, user, group, ids, segment)| {
            let (uid, gid, secs, nanos, mode) = ids;
            let (role, number, blake3, total) = segment;
            let is_file = matches!(kind, EntryKind::File { .. });
            let joined = Joined { parts: number, length: uid, blake3: total };
            let segment = match role {
                1 => Some(Segment::Part { number }),
                2 => Some(Segment::Closing(joined)),
                _ => None,
            };
            let metadata = Metadata { mode, uid, gid, user, group, mtime: Mtime { secs, nanos } };
            IndexEntry {
                entry: Entry { path, kind, metadata },
                blake3: is_file.then_some(blake3),
                offset: gid,
                data_offset: uid,
                segment: segment.filter(|_| is_file),
            }
        })
    }

    proptest! {
        #[test]
        fn every_entry_reads_as_it_was_written(entry in entries()) {
            let record = Record::Entry(entry);
            let mut line = Vec::new();
            record.append_to(&mut line).unwrap();
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(Record::parse(&line).unwrap(), record);
        }

        #[test]
        fn no_line_panics(line in "\\{\"type\":\"(entry|frame|end|header|warning)\".{0,60}", noise: Vec<u8>) {
            prop_assert!(Record::parse(line.as_bytes()).is_err());
            prop_assert!(Record::parse(&noise).is_err());
        }
    }

    fn refused(line: &str) -> String {
        Record::parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn values_that_can_not_be_are_named() {
        let entry = |path: &str, rest: &str| {
            format!(
                r#"{{"type":"entry",{path},"mode":420,"uid":0,"gid":0,"mtime":[0,0],"offset":0,"data_offset":512,{rest}}}"#
            )
        };
        let dir = r#""kind":"directory""#;
        assert!(Record::parse(entry(r#""path":"a""#, dir).as_bytes()).is_ok());
        assert!(refused(&entry(r#""path":"../a""#, dir)).contains("unsafe path `../a`"));
        assert!(refused(&entry(r#""path_base64":"YQ==""#, dir)).contains("valid UTF-8"));
        assert!(
            refused(&entry(r#""path":"a","path_base64":"6Q==""#, dir)).contains("both as text and as base64")
        );
        assert!(refused(&entry(r#""path_base64":"?""#, dir)).contains("not base64"));
        assert!(refused(&entry(r#""path":"a""#, r#""kind":"file","size":1"#)).contains("content hash"));
        assert!(refused(&entry(r#""path":"a""#, r#""kind":"symlink""#)).contains("a target to every link"));
        assert!(
            refused(&entry(r#""path":"a""#, r#""kind":"directory","part":1"#))
                .contains("only files have parts")
        );
        assert!(
            refused(&entry(r#""path":"a""#, r#""kind":"directory","color":1"#)).contains("unknown field")
        );
        assert!(refused(&entry(r#""path":"a","path":"b""#, dir)).contains("duplicate field"));
    }
}
