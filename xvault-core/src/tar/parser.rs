//! The state machine that turns chunks into events.

use bytes::{Buf, Bytes};

use crate::entry::Metadata;
use crate::tar::block::{Block, Fault};
use crate::tar::pax::Records;
use crate::tar::{BLOCK_LEN, Error, Event, MAX_EXTENSION_LEN, Special, TarEntry, TarKind};

/// Extension headers before one entry; writers use at most three.
const MAX_EXTENSIONS: u32 = 16;

/// The most a user's or group's name is kept of, in bytes.
const MAX_OWNER_LEN: usize = 255;

/// Reads a tar stream that is pushed in, chunk by chunk. Holds one block and one extension at most.
#[derive(Debug, Default)]
pub struct TarParser {
    state: State,
    /// Bytes taken in so far.
    offset: u64,
    block: Vec<u8>,
    extension: Vec<u8>,
    pending: Pending,
    global: Records,
}

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Header,
    /// One zero block was seen; a second one closes the archive.
    HalfEnd,
    /// The body of an extension header.
    Extension {
        kind: Extension,
        left: u64,
        padding: u64,
    },
    /// Further blocks of an old GNU sparse header.
    SparseMap {
        entry: Box<TarEntry>,
    },
    Body {
        left: u64,
        padding: u64,
    },
    Padding {
        left: u64,
    },
    Ended,
    Failed(Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    Local,
    Global,
    LongName,
    LongLink,
}

/// What extension headers said about the entry to come.
#[derive(Debug, Default)]
struct Pending {
    /// Where the first of them began.
    start: Option<u64>,
    count: u32,
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl TarParser {
    /// At the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes of the stream were taken in.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes what it needs from the front of `input`. `None`: `input` is used up, or the archive has ended.
    ///
    /// # Errors
    /// When a header is malformed, ambiguous or beyond a limit; the same error again ever after.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, Error> {
        let result = self.advance(input);
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// Whether the two zero blocks were seen.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// To be called when there is no more input.
    ///
    /// # Errors
    /// When the archive has not ended, or had failed.
    pub fn finish(&self) -> Result<(), Error> {
        match &self.state {
            State::Ended => Ok(()),
            State::Failed(error) => Err(error.clone()),
            _ => Err(Error::Truncated { offset: self.offset }),
        }
    }

    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Event>, Error> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
                State::Body { left: 0, padding } => {
                    self.state = State::Padding { left: *padding };
                    return Ok(Some(Event::EntryEnd));
                }
                State::Padding { left: 0 } => self.state = State::Header,
                State::Extension { kind, left: 0, padding } => {
                    let (kind, padding) = (*kind, *padding);
                    self.end_extension(kind)?;
                    self.state = State::Padding { left: padding };
                }
                _ if input.is_empty() => return Ok(None),
                State::Body { left, .. } => {
                    let data = input.split_to(shorter(input.len(), *left));
                    *left -= data.len() as u64;
                    self.offset += data.len() as u64;
                    return Ok(Some(Event::Data(data)));
                }
                State::Padding { left } => {
                    let skipped = shorter(input.len(), *left);
                    input.advance(skipped);
                    *left -= skipped as u64;
                    self.offset += skipped as u64;
                }
                State::Extension { left, .. } => {
                    let data = input.split_to(shorter(input.len(), *left));
                    *left -= data.len() as u64;
                    self.offset += data.len() as u64;
                    self.extension.extend_from_slice(&data);
                }
                State::Header | State::HalfEnd | State::SparseMap { .. } => {
                    if let Some(event) = self.take_block(input)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Collects a whole block, then acts on it.
    fn take_block(&mut self, input: &mut Bytes) -> Result<Option<Event>, Error> {
        let missing = BLOCK_LEN - self.block.len();
        let part = input.split_to(missing.min(input.len()));
        self.offset += part.len() as u64;
        self.block.extend_from_slice(&part);
        let Ok(block) = <[u8; BLOCK_LEN]>::try_from(self.block.as_slice()) else { return Ok(None) };
        self.block.clear();
        match std::mem::take(&mut self.state) {
            State::SparseMap { entry } => Ok(self.sparse_block(&block, entry)),
            State::HalfEnd => self.second_zero_block(&block),
            _ => self.header_block(&block),
        }
    }

    fn second_zero_block(&mut self, block: &[u8; BLOCK_LEN]) -> Result<Option<Event>, Error> {
        if block.iter().any(|b| *b != 0) {
            return Err(self.malformed("it follows a lone zero block"));
        }
        self.state = State::Ended;
        Ok(Some(Event::ArchiveEnd))
    }

    fn sparse_block(&mut self, block: &[u8; BLOCK_LEN], mut entry: Box<TarEntry>) -> Option<Event> {
        if block[504] != 0 {
            self.state = State::SparseMap { entry };
            return None;
        }
        entry.data_offset = self.offset;
        Some(self.begin_body(entry))
    }

    fn header_block(&mut self, block: &[u8; BLOCK_LEN]) -> Result<Option<Event>, Error> {
        if block.iter().all(|b| *b == 0) {
            if self.pending.count > 0 {
                return Err(self.malformed("the archive ends after an extension header"));
            }
            self.state = State::HalfEnd;
            return Ok(None);
        }
        let header = Block::new(block).map_err(|fault| self.malformed(fault))?;
        match extension_of(header.flag()) {
            Some(kind) => self.begin_extension(kind, &header).map(|()| None),
            None => self.begin_entry(&header),
        }
    }

    fn begin_extension(&mut self, kind: Extension, header: &Block<'_>) -> Result<(), Error> {
        let size = header.size().map_err(|fault| self.malformed(fault))?;
        if size > MAX_EXTENSION_LEN {
            return Err(self.malformed("an extension header is longer than 1 MiB"));
        }
        self.pending.count += 1;
        if self.pending.count > MAX_EXTENSIONS {
            return Err(self.malformed("more than 16 extension headers belong to one entry"));
        }
        self.pending.start.get_or_insert(self.offset - BLOCK_LEN as u64);
        self.state = State::Extension { kind, left: size, padding: padding(size) };
        Ok(())
    }

    fn end_extension(&mut self, kind: Extension) -> Result<(), Error> {
        let body = std::mem::take(&mut self.extension);
        self.keep_extension(kind, &body).map_err(|fault| self.malformed(fault))?;
        // The allocation serves the next one, unless it grew beyond the usual.
        if body.capacity() <= 64 << 10 {
            self.extension = body;
            self.extension.clear();
        }
        Ok(())
    }

    fn keep_extension(&mut self, kind: Extension, body: &[u8]) -> Result<(), Fault> {
        match kind {
            Extension::Local => {
                let mut records = self.pending.records.take().unwrap_or_else(|| self.global.clone());
                records.apply(body)?;
                self.pending.records = Some(records);
            }
            Extension::Global => self.keep_global(body)?,
            Extension::LongName => self.pending.long_name = Some(up_to_nul(body)),
            Extension::LongLink => self.pending.long_link = Some(up_to_nul(body)),
        }
        Ok(())
    }

    fn keep_global(&mut self, body: &[u8]) -> Result<(), Fault> {
        if self.pending.records.is_some() {
            return Err("a global header stands between an entry and its extension header");
        }
        self.global.apply(body)?;
        if self.global.names_or_sizes() {
            return Err("a global header sets the name or size of all entries");
        }
        self.pending.count -= 1;
        if self.pending.count == 0 {
            self.pending.start = None;
        }
        Ok(())
    }

    fn begin_entry(&mut self, header: &Block<'_>) -> Result<Option<Event>, Error> {
        let pending = std::mem::take(&mut self.pending);
        let start = pending.start.unwrap_or(self.offset - BLOCK_LEN as u64);
        let mut entry = self.describe(header, pending).map_err(|fault| self.malformed(fault))?;
        entry.offset = start;
        let entry = Box::new(entry);
        if header.flag() == b'S' && header.sparse_goes_on() {
            self.state = State::SparseMap { entry };
            return Ok(None);
        }
        Ok(Some(self.begin_body(entry)))
    }

    fn begin_body(&mut self, entry: Box<TarEntry>) -> Event {
        self.state = State::Body { left: entry.size, padding: padding(entry.size) };
        Event::Header(entry)
    }

    fn describe(&self, header: &Block<'_>, pending: Pending) -> Result<TarEntry, Fault> {
        let records = pending.records.unwrap_or_else(|| self.global.clone());
        let path = one_of(records.path.clone(), pending.long_name)?.unwrap_or_else(|| header.path());
        let target =
            one_of(records.link_target.clone(), pending.long_link)?.unwrap_or_else(|| header.link_target());
        if path.is_empty() {
            return Err("the name is empty");
        }
        let kind = kind_of(header.flag(), records.sparse, &path, target);
        let size = match records.size {
            Some(size) => size,
            None => header.size()?,
        };
        let has_body = matches!(kind, TarKind::File | TarKind::Unsupported(_));
        if size > 0 && !has_body {
            return Err("a directory, link or special file has a size: programs disagree about what follows");
        }
        // The end of the body must be addressable.
        self.offset
            .checked_add(size)
            .and_then(|end| end.checked_add(1 << 20))
            .ok_or("the size is too large")?;
        let metadata = metadata(header, records)?;
        Ok(TarEntry { path, kind, size, metadata, offset: 0, data_offset: self.offset })
    }

    fn malformed(&self, reason: Fault) -> Error {
        Error::Malformed { offset: self.offset.saturating_sub(BLOCK_LEN as u64), reason }
    }
}

fn metadata(header: &Block<'_>, records: Records) -> Result<Metadata, Fault> {
    let (user, group) = header.owner_names();
    let or = |pax: Option<u64>, field: Result<u64, Fault>| pax.map_or(field, Ok);
    Ok(Metadata {
        mode: header.mode()?,
        uid: or(records.uid, header.uid())?,
        gid: or(records.gid, header.gid())?,
        user: records.user.or(user).map(shortened),
        group: records.group.or(group).map(shortened),
        mtime: records.mtime.map_or_else(|| header.mtime(), Ok)?,
    })
}

fn extension_of(flag: u8) -> Option<Extension> {
    match flag {
        b'x' | b'X' => Some(Extension::Local),
        b'g' => Some(Extension::Global),
        b'L' => Some(Extension::LongName),
        b'K' => Some(Extension::LongLink),
        _ => None,
    }
}

fn kind_of(flag: u8, sparse: bool, path: &[u8], target: Vec<u8>) -> TarKind {
    match flag {
        _ if sparse => TarKind::Unsupported(b'S'),
        // V7 had no flag for directories; GNU tar still goes by the slash.
        b'0' | b'\0' if path.ends_with(b"/") => TarKind::Directory,
        b'0' | b'\0' | b'7' => TarKind::File,
        b'1' => TarKind::Hardlink { target },
        b'2' => TarKind::Symlink { target },
        b'3' => TarKind::Special(Special::CharDevice),
        b'4' => TarKind::Special(Special::BlockDevice),
        b'5' => TarKind::Directory,
        b'6' => TarKind::Special(Special::Fifo),
        other => TarKind::Unsupported(other),
    }
}

/// A PAX record or a GNU long name; both would be read in two ways.
fn one_of(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Fault> {
    match (pax, gnu) {
        (Some(_), Some(_)) => Err("it has both a PAX name and a GNU long name"),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

fn up_to_nul(body: &[u8]) -> Vec<u8> {
    body.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

fn shortened(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(MAX_OWNER_LEN);
    name
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_LEN as u64) - size
}

fn shorter(len: usize, left: u64) -> usize {
    usize::try_from(left).map_or(len, |left| left.min(len))
}
