//! The archive reader: from a hostile snapshot only what its index promised, and nothing outside a target.

mod exported;
mod extracted;

use std::collections::HashMap;
use std::io::{Cursor, Read};

use xvault_archive::{ArchiveEntry, ArchiveReader, Error, Watch, verify};
use xvault_core::{EntryKind, EntryPath};

use crate::Verdict;
use crate::hostile::snapshot;
use crate::sealed::identities;

/// Files that are read one by one; seeds have fewer.
const MOST_READ: usize = 4;

type Reader = ArchiveReader<Cursor<Vec<u8>>, Cursor<Vec<u8>>>;

/// Makes a snapshot of `data`, as its author would who wants harm, and does with it what a user can do:
/// list, read, export, extract, verify.
///
/// # Panics
/// When something is given out that the index did not promise, something outside the target is touched, or
/// a verified snapshot can't be read.
pub fn archive_reader(data: &[u8]) -> Verdict {
    let snapshot = snapshot(data);
    let reader =
        ArchiveReader::open(Cursor::new(snapshot.artifact), Cursor::new(snapshot.index), identities());
    let Ok(mut reader) = reader else { return Verdict::Refused };
    let Ok(entries) = list(&mut reader) else { return Verdict::Refused };
    let contents: Vec<_> = unique(&entries).take(MOST_READ).map(|entry| read(&mut reader, entry)).collect();
    let exported = exported::check(&mut reader, &entries);
    let extracted = extracted::check(&mut reader, &entries);
    let report = verify::deep(&mut reader, &Watch::default());
    if let Ok(report) = &report {
        assert_eq!(Some(&report.totals), reader.totals().ok().as_ref());
        assert!(!contents.contains(&Verdict::Refused), "a verified snapshot has a file that can't be read");
        assert_eq!(exported, Verdict::Accepted, "a verified snapshot can't be exported");
    }
    // A file behind a symbolic link is intact, and still goes nowhere.
    if report.is_ok() { extracted } else { Verdict::Refused }
}

fn list(reader: &mut Reader) -> Result<Vec<ArchiveEntry>, Error> {
    let entries = reader.entries()?.collect::<Result<Vec<_>, _>>()?;
    reader.totals()?;
    for entry in &entries {
        assert_eq!(entry.blake3.is_some(), matches!(entry.entry.kind, EntryKind::File { .. }));
        assert!(entry.offset <= entry.end);
    }
    Ok(entries)
}

/// The entries whose path no other has: which one of two is meant is anybody's guess.
fn unique(entries: &[ArchiveEntry]) -> impl Iterator<Item = &ArchiveEntry> {
    let mut count: HashMap<&EntryPath, usize> = HashMap::new();
    for entry in entries {
        *count.entry(&entry.entry.path).or_default() += 1;
    }
    entries.iter().filter(move |entry| count.get(&entry.entry.path) == Some(&1))
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
        (EntryKind::File { .. }, Some(content)) => {
            assert_is_promised(entry, &content);
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

/// Content that was given out to its end is that of the index.
fn assert_is_promised(entry: &ArchiveEntry, content: &[u8]) {
    assert_eq!(content.len() as u64, entry.size(), "{:?} is longer or shorter than promised", entry.entry);
    assert_eq!(entry.blake3.as_ref(), Some(blake3::hash(content).as_bytes()), "{:?}", entry.entry);
}
