//! The archive reader: from a hostile snapshot only what its index promised, and nothing outside a target.

use std::io::{Cursor, Read};

use xvault_archive::{ArchiveEntry, ArchiveReader};
use xvault_core::{EntryKind, EntryPath};

use crate::Verdict;
use crate::hostile::snapshot;
use crate::sealed::identities;

/// Files that are read one by one; seeds have fewer.
const MOST_READ: usize = 8;

type Reader = ArchiveReader<Cursor<Vec<u8>>, Cursor<Vec<u8>>>;

/// Makes a snapshot of `data`, as its author would who wants harm, and does with it what a user can do.
///
/// # Panics
/// When something is given out that the index did not promise.
pub fn archive_reader(data: &[u8]) -> Verdict {
    let snapshot = snapshot(data);
    let reader =
        ArchiveReader::open(Cursor::new(snapshot.artifact), Cursor::new(snapshot.index), identities());
    let Ok(mut reader) = reader else { return Verdict::Refused };
    let Ok(entries) = list(&mut reader) else { return Verdict::Refused };
    let read: Vec<_> = entries.iter().take(MOST_READ).map(|entry| read(&mut reader, entry)).collect();
    if read.contains(&Verdict::Refused) { Verdict::Refused } else { Verdict::Accepted }
}

fn list(reader: &mut Reader) -> Result<Vec<ArchiveEntry>, xvault_archive::Error> {
    let entries = reader.entries()?.collect::<Result<Vec<_>, _>>()?;
    reader.totals()?;
    for entry in &entries {
        assert_eq!(entry.blake3.is_some(), matches!(entry.entry.kind, EntryKind::File { .. }));
        assert!(entry.offset <= entry.end);
    }
    Ok(entries)
}

/// Reads one entry's content by its path. What has no content must say so.
fn read(reader: &mut Reader, entry: &ArchiveEntry) -> Verdict {
    let content = content(reader, &entry.entry.path);
    match (&entry.entry.kind, content) {
        (EntryKind::Directory | EntryKind::Symlink { .. }, content) => {
            assert!(content.is_none(), "{:?} has content", entry.entry);
            Verdict::Accepted
        }
        (_, None) => Verdict::Refused,
        (EntryKind::File { size }, Some(content)) => {
            assert_is_promised(reader, entry, *size, &content);
            Verdict::Accepted
        }
        (EntryKind::Hardlink { .. } | EntryKind::Stream, Some(_)) => Verdict::Accepted,
    }
}

fn content(reader: &mut Reader, path: &EntryPath) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    reader.read(path).ok()?.read_to_end(&mut content).ok()?;
    Some(content)
}

/// Content that was read to its end is that of the index; of two entries with one path either may be meant.
fn assert_is_promised(reader: &mut Reader, entry: &ArchiveEntry, size: u64, content: &[u8]) {
    let found = reader.find(&entry.entry.path).ok();
    if found.as_ref() == Some(entry) {
        assert_eq!(content.len() as u64, size, "{:?} is longer or shorter than promised", entry.entry);
        assert_eq!(entry.blake3.as_ref(), Some(blake3::hash(content).as_bytes()), "{:?}", entry.entry);
    }
}
