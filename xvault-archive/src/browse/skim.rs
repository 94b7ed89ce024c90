//! Passing over the lines of an index, reading no more of each than is asked for.

use std::io::{Read, Seek};

use crate::error::{ArchiveFile, Error};
use crate::index::{CLOSING_SUFFIX, Lines, Record, Segment, Totals, no_end, parse};
use crate::listing::{ArchiveEntry, ArchiveIndex, join};

/// How the line of an entry with a plain path begins, as our writer writes it.
const ENTRY: &[u8] = br#"{"type":"entry","path":""#;
/// How lines begin that tell of no entry.
const OTHERS: [&[u8]; 2] = [br#"{"type":"frame","#, br#"{"type":"warning","#];
/// What stands in the name of every part of a file.
const PART: &[u8] = b".part-";
/// Behind it stands what says where an entry lies, and nothing that says what it is.
const OFFSET: &[u8] = br#","offset":"#;

/// An entry of which the path is known.
pub(super) enum Found<'l> {
    /// The rest of its line was not looked at.
    Line {
        /// As it stands in the line: without escapes.
        path: &'l [u8],
        line: &'l [u8],
    },
    /// All of it is known.
    Whole(Box<ArchiveEntry>),
}

impl Found<'_> {
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Line { path, .. } => path,
            Self::Whole(entry) => entry.entry.path.as_bytes(),
        }
    }

    /// All of it, checked.
    pub(super) fn entry(&self) -> Result<ArchiveEntry, Error> {
        match self {
            Self::Whole(entry) => Ok((**entry).clone()),
            Self::Line { line, .. } => match parse(line)? {
                Record::Entry(entry) if entry.segment.is_none() => Ok(entry.into()),
                _ => Err(Error::damaged(ArchiveFile::Index, "a part is not named like one")),
            },
        }
    }

    /// What the line says besides the path and the places in the streams: the same text, the same entry.
    pub(super) fn said(&self) -> Option<&[u8]> {
        let Self::Line { path, line } = self else { return None };
        let rest = line.get(ENTRY.len() + path.len()..)?;
        let end = rest.windows(OFFSET.len()).rposition(|window| window == OFFSET)?;
        rest.get(..end)
    }
}

/// One pass over an index.
pub(super) struct Skim<R: Read> {
    lines: Lines<R>,
    joining: Option<ArchiveEntry>,
    entries: u64,
}

impl<R: Read> Skim<R> {
    pub(super) fn of<I: Read + Seek>(index: &mut ArchiveIndex<I>) -> Result<Skim<&mut I>, Error> {
        Ok(Skim { lines: index.lines()?, joining: None, entries: 0 })
    }

    /// The next entry; none after the last line, which must be the one that ends an index.
    pub(super) fn next(&mut self) -> Result<Option<Found<'_>>, Error> {
        loop {
            if !self.lines.advance()? {
                return Err(no_end());
            }
            let line = self.lines.line();
            if OTHERS.iter().any(|start| line.starts_with(start)) {
                continue;
            }
            self.entries += 1;
            if let Some(path) = plain_path(line) {
                if self.joining.is_some() {
                    return Err(Error::damaged(ArchiveFile::Index, "the parts of a file are not complete"));
                }
                // Borrowed anew: the borrow of a loop's conditional return would last for the whole loop.
                let path = path.len();
                return Ok(Some(self.plain(path)));
            }
            match parse(line)? {
                Record::Entry(entry) => {
                    check_order(self.joining.as_ref(), entry.segment)?;
                    if let Some(entry) = join(&mut self.joining, entry) {
                        return Ok(Some(Found::Whole(Box::new(entry))));
                    }
                }
                Record::End(totals) => return self.end(&totals),
                Record::Header(_) => {
                    return Err(Error::damaged(ArchiveFile::Index, "it has a second header"));
                }
                Record::Frame(_) | Record::Warning(_) => self.entries -= 1,
            }
        }
    }

    fn plain(&self, path_len: usize) -> Found<'_> {
        let line = self.lines.line();
        let path = line.get(ENTRY.len()..ENTRY.len() + path_len).unwrap_or_default();
        Found::Line { path, line }
    }

    fn end(&mut self, totals: &Totals) -> Result<Option<Found<'_>>, Error> {
        self.lines.expect_end()?;
        // The last line was counted, too.
        if self.joining.is_none() && totals.entries == self.entries - 1 {
            Ok(None)
        } else {
            Err(Error::damaged(ArchiveFile::Index, "its totals do not add up"))
        }
    }
}

/// The path of an entry's line, unless it can't be told from the line's text, or the entry may be a part of a file.
fn plain_path(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(ENTRY)?;
    let path = rest.get(..rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?)?;
    let ended = rest.get(path.len()) == Some(&b'"');
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let part = name.ends_with(CLOSING_SUFFIX) || name.windows(PART.len()).any(|window| window == PART);
    (ended && !part).then_some(path)
}

fn check_order(joining: Option<&ArchiveEntry>, segment: Option<Segment>) -> Result<(), Error> {
    match (joining, segment) {
        (None, None | Some(Segment::Part { number: 1 })) => Ok(()),
        (Some(_), Some(Segment::Part { number })) if number > 1 => Ok(()),
        (Some(_), Some(Segment::Closing(_))) => Ok(()),
        _ => Err(Error::damaged(ArchiveFile::Index, "the parts of a file are not complete and in order")),
    }
}
