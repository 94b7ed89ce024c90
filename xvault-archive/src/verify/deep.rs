//! Decrypting, decompressing and comparing: everything, or some frames.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use xvault_core::EntryPath;

use super::Report;
use super::names::Names;
use crate::error::{ArchiveFile, Error};
use crate::index::{IndexEntry, Record, Segment, TAR_END_LEN};
use crate::listing::ArchiveEntry;
use crate::reader::{ArchiveReader, Bodies};
use crate::watch::Watch;
use crate::writer::PartsFile;

/// Reads everything: every frame, every tar header against its index line, every content hash, the parts of
/// streams, the two zero blocks, the totals; and that no path is there twice, nothing lies below a file or a link, and
/// no hard link leads nowhere.
///
/// Memory as [`ArchiveReader`], and 9 to 18 bytes for each entry and again for each directory. Compare the report with
/// [`Report::check_manifest`] or, when reading back, [`Report::check_stats`].
///
/// # Errors
/// Names the file, and where in it, of the first thing that is wrong.
pub fn deep<A: Read + Seek, I: Read + Seek>(
    reader: &mut ArchiveReader<A, I>,
    watch: &Watch,
) -> Result<Report, Error> {
    check(reader, None, watch)
}

/// Reads the given frames, and checks the entries that lie in them whole. The index is read completely.
///
/// # Errors
/// As [`deep`]; also when there is no such frame.
pub fn sample<A: Read + Seek, I: Read + Seek>(
    reader: &mut ArchiveReader<A, I>,
    frames: &BTreeSet<u64>,
    watch: &Watch,
) -> Result<Report, Error> {
    check(reader, Some(frames), watch)
}

fn check<A: Read + Seek, I: Read + Seek>(
    reader: &mut ArchiveReader<A, I>,
    only: Option<&BTreeSet<u64>>,
    watch: &Watch,
) -> Result<Report, Error> {
    let key = reader.header().key.clone();
    let (index, bodies) = reader.split()?;
    bodies.frames.expect_all(only.is_none());
    let mut records = index.records()?;
    let mut check = Check { bodies, only, watch, names: Names::default(), parts: None, entries: 0 };
    while let Some(record) = records.next_record()? {
        watch.check()?;
        if let Record::Entry(entry) = record {
            check.entry(entry)?;
        }
    }
    let (frames, bytes) = check.frames()?;
    check.tail()?;
    Ok(Report {
        key,
        entries: check.entries,
        frames,
        bytes,
        totals: *check.bodies.totals,
        content_digest: records.content_digest(),
    })
}

struct Check<'a, A> {
    bodies: Bodies<'a, A>,
    only: Option<&'a BTreeSet<u64>>,
    watch: &'a Watch,
    names: Names,
    /// The running hash of a file in parts.
    parts: Option<blake3::Hasher>,
    entries: u64,
}

impl<A: Read + Seek> Check<'_, A> {
    fn entry(&mut self, entry: IndexEntry) -> Result<(), Error> {
        self.names.entry(&entry)?;
        if !self.is_chosen(&entry) {
            return Ok(());
        }
        self.watch.progress.entry(&entry.entry.path);
        self.entries += 1;
        match (entry.segment, self.only) {
            // The hash over all parts needs all parts.
            (Some(Segment::Part { number }), None) => self.part(number, entry),
            (Some(Segment::Closing(joined)), None) => {
                let total: [u8; 32] = self.parts.take().unwrap_or_default().finalize().into();
                if total != joined.blake3 {
                    return Err(damaged(&entry.entry.path, "its parts together have another content hash"));
                }
                self.closing(entry, &PartsFile::from(&joined))
            }
            (Some(Segment::Closing(joined)), Some(_)) => self.closing(entry, &PartsFile::from(&joined)),
            _ => self.content(entry, |_| {}),
        }
    }

    fn is_chosen(&self, entry: &IndexEntry) -> bool {
        let Some(only) = self.only else { return true };
        let number = |offset| self.bodies.table.at(offset).map(|(number, _)| number);
        match (number(entry.offset), number(entry.end().saturating_sub(1))) {
            (Some(first), Some(last)) => (first..=last).all(|number| only.contains(&number)),
            _ => false,
        }
    }

    fn part(&mut self, number: u64, entry: IndexEntry) -> Result<(), Error> {
        let mut hasher =
            if number == 1 { blake3::Hasher::new() } else { self.parts.take().unwrap_or_default() };
        self.content(entry, |chunk| {
            hasher.update(chunk);
        })?;
        self.parts = Some(hasher);
        Ok(())
    }

    fn closing(&mut self, entry: IndexEntry, expected: &PartsFile) -> Result<(), Error> {
        let (path, mut json) = (entry.entry.path.clone(), Vec::new());
        if entry.size() > 4096 {
            return Err(damaged(&path, "it is too long"));
        }
        self.content(entry, |chunk| json.extend_from_slice(chunk))?;
        match serde_json::from_slice::<PartsFile>(&json) {
            Ok(found) if found == *expected => Ok(()),
            _ => Err(damaged(&path, "it says something else than the index")),
        }
    }

    fn content(&mut self, entry: IndexEntry, mut visit: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut body = self.bodies.open(ArchiveEntry::from(entry));
        while let Some(chunk) = body.next_chunk()? {
            self.watch.check()?;
            self.watch.progress.bytes(chunk.len() as u64);
            visit(&chunk);
        }
        Ok(())
    }

    /// Counts the frames looked at, and looks at those that hold no entry whole.
    fn frames(&mut self) -> Result<(u64, u64), Error> {
        let Some(only) = self.only else {
            return Ok((self.bodies.table.len(), self.bodies.totals.tar_size));
        };
        let mut bytes = 0;
        for number in only {
            self.watch.check()?;
            bytes += self.bodies.frames.load(self.bodies.table, *number, 0)?.len() as u64;
        }
        Ok((only.len() as u64, bytes))
    }

    /// The two zero blocks, when the last frame is looked at.
    fn tail(&mut self) -> Result<(), Error> {
        let mut position = self.bodies.totals.tar_size.saturating_sub(TAR_END_LEN);
        while let Some((number, frame)) = self.bodies.table.at(position) {
            if self.only.is_none_or(|only| only.contains(&number)) {
                let tar = self.bodies.frames.load(self.bodies.table, number, self.bodies.totals.tar_size)?;
                let start = usize::try_from(position - frame.offset).unwrap_or(usize::MAX);
                if tar.iter().skip(start).any(|byte| *byte != 0) {
                    let reason = "the tar stream does not end with two zero blocks";
                    return Err(Error::damaged(ArchiveFile::Artifact, reason));
                }
            }
            position = frame.offset + frame.size;
        }
        Ok(())
    }
}

fn damaged(path: &EntryPath, reason: &str) -> Error {
    Error::damaged(ArchiveFile::Artifact, format!("entry `{path}`: {reason}"))
}
