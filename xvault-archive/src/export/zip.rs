//! The form for people without tar: a ZIP whose names every system can have.

use std::io::{Read, Seek, Write};

use xvault_core::{EntryKind, EntryPath, Mtime};

use super::Exported;
use super::chosen::Chosen;
use super::deflate::{Deflated, Deflater};
use super::names::{Node, SafeNames};
use super::output::Output;
use super::record::{Member, end};
use crate::error::{ArchiveFile, Error};
use crate::linked::LinkedFiles;
use crate::listing::ArchiveEntry;
use crate::reader::Bodies;
use crate::select::Selected;
use crate::watch::Watch;

/// The file at the end of a zip that says which of its names are others than in the snapshot: a line of JSON for each,
/// `{"name": …, "path": …}`, and `path_base64` instead of `path` where that is no UTF-8.
pub const REPORT_NAME: &str = "xvault-renamed.jsonl";

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Goes through the index several times, so that nothing about an entry is kept but checksum and packed length.
pub(super) fn write<A: Read + Seek, I: Read + Seek, W: Write>(
    chosen: &mut Chosen<'_, I>,
    bodies: &mut Bodies<'_, A>,
    out: &mut Output<'_, W>,
) -> Result<Exported, Error> {
    let links = LinkedFiles::find(&chosen.selection, chosen.index)?;
    let mut zip = Zip::new(out, chosen.watch, links);
    chosen.each(|selected| zip.member(selected, bodies))?;
    zip.report(chosen)?;
    zip.directory(chosen)
}

struct Zip<'a, 'o, W> {
    out: &'a mut Output<'o, W>,
    watch: &'a Watch,
    links: LinkedFiles,
    names: SafeNames,
    deflater: Deflater,
    /// Of the members with a body, in their order.
    bodies: Vec<Deflated>,
    entries: u64,
    renamed: u64,
    report: Option<(Member, Deflated)>,
    /// Over what the directory repeats, so that an index that changes meanwhile is noticed.
    seen: blake3::Hasher,
}

impl<'a, 'o, W: Write> Zip<'a, 'o, W> {
    fn new(out: &'a mut Output<'o, W>, watch: &'a Watch, links: LinkedFiles) -> Self {
        Self {
            out,
            watch,
            links,
            names: SafeNames::default(),
            deflater: Deflater::new(),
            bodies: Vec::new(),
            entries: 0,
            renamed: 0,
            report: None,
            seen: blake3::Hasher::new(),
        }
    }

    /// Writes one member.
    fn member<A: Read + Seek>(
        &mut self,
        selected: Selected,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        let path = selected.shown.path.clone();
        self.watch.progress.entry(&path);
        let node = if selected.shown.kind == EntryKind::Directory { Node::Directory } else { Node::Leaf };
        let name = self.names.claim(&path, node)?;
        self.entries += 1;
        self.renamed += u64::from(name.as_bytes() != path.as_bytes());
        let selected = self.links.resolve(selected)?;
        let member = describe(name, &selected);
        match selected.content {
            Some(content) if member.streamed => return self.streamed(&member, content, bodies),
            // An empty file's header is checked all the same.
            Some(content) => drop(bodies.open(content).next_chunk()?),
            None => {}
        }
        self.stored(&member, &selected.shown.kind)
    }

    fn streamed<A: Read + Seek>(
        &mut self,
        member: &Member,
        content: ArchiveEntry,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        self.begin(member, Deflated::default())?;
        let mut body = bodies.open(content);
        while let Some(chunk) = body.next_chunk()? {
            self.watch.check()?;
            self.deflater.data(&chunk, self.out)?;
            self.watch.progress.bytes(chunk.len() as u64);
        }
        let body = self.deflater.finish(self.out)?;
        self.bodies.push(body);
        self.out.put(&member.descriptor(body))
    }

    fn stored(&mut self, member: &Member, kind: &EntryKind) -> Result<(), Error> {
        let body = content(kind);
        self.begin(member, known(body))?;
        self.out.put(body)
    }

    fn begin(&mut self, member: &Member, known: Deflated) -> Result<(), Error> {
        let local = member.local(known);
        self.seen.update(&local);
        self.out.put(&local)
    }

    /// Writes which names were changed, if any were.
    fn report<I: Read + Seek>(&mut self, chosen: &mut Chosen<'_, I>) -> Result<(), Error> {
        if self.renamed == 0 {
            return Ok(());
        }
        let path = EntryPath::new(REPORT_NAME).map_err(|_| Error::Failed)?;
        let name = self.names.extra(&path);
        let mode = REGULAR | 0o644;
        let mut member = Member { name, mode, mtime: Mtime::default(), size: 0, streamed: true };
        self.begin(&member, Deflated::default())?;
        chosen.each(|selected| {
            let path = &selected.shown.path;
            let name = self.names.of(path)?;
            if name.as_bytes() == path.as_bytes() {
                return Ok(());
            }
            let line = line(&name, path);
            member.size += line.len() as u64;
            self.deflater.data(&line, self.out)
        })?;
        let body = self.deflater.finish(self.out)?;
        self.out.put(&member.descriptor(body))?;
        self.report = Some((member, body));
        Ok(())
    }

    /// Writes the directory, which makes the zip whole.
    fn directory<I: Read + Seek>(mut self, chosen: &mut Chosen<'_, I>) -> Result<Exported, Error> {
        let start = self.out.bytes();
        let mut again = blake3::Hasher::new();
        let (mut offset, mut number) = (0, 0);
        chosen.each(|selected| {
            let name = self.names.of(&selected.shown.path)?;
            let selected = self.links.resolve(selected)?;
            let member = describe(name, &selected);
            let body = match member.streamed {
                true => self.bodies.get(number).copied().ok_or_else(changed)?,
                false => known(content(&selected.shown.kind)),
            };
            number += usize::from(member.streamed);
            offset += self.central(&member, body, offset, &mut again)?;
            Ok(())
        })?;
        if let Some((member, body)) = self.report.take() {
            self.central(&member, body, offset, &mut again)?;
            self.entries += 1;
        }
        if again.finalize() != self.seen.finalize() {
            return Err(changed());
        }
        let members = self.entries;
        self.out.put(&end(members, start, self.out.bytes() - start))?;
        let reports = u64::from(self.renamed > 0);
        Ok(Exported { entries: members - reports, renamed: self.renamed, bytes: 0 })
    }

    /// Writes a member's record in the directory; how long the member itself is.
    fn central(
        &mut self,
        member: &Member,
        body: Deflated,
        offset: u64,
        again: &mut blake3::Hasher,
    ) -> Result<u64, Error> {
        let local = member.local(if member.streamed { Deflated::default() } else { body });
        again.update(&local);
        self.out.put(&member.central(body, offset))?;
        let descriptor = if member.streamed { member.descriptor(body).len() } else { 0 };
        Ok((local.len() + descriptor) as u64 + body.packed)
    }
}

fn changed() -> Error {
    Error::damaged(ArchiveFile::Index, "it changed while it was read")
}

fn describe(mut name: String, selected: &Selected) -> Member {
    let Selected { shown, .. } = selected;
    let kind = match &shown.kind {
        EntryKind::Directory => {
            name.push('/');
            DIRECTORY
        }
        EntryKind::Symlink { .. } => SYMLINK,
        _ => REGULAR,
    };
    let size = selected.content.as_ref().map_or(content(&shown.kind).len() as u64, ArchiveEntry::size);
    let streamed = selected.content.is_some() && size > 0;
    let metadata = &shown.metadata;
    Member { name, mode: kind | metadata.mode & 0o7777, mtime: metadata.mtime, size, streamed }
}

/// What is in a member that has no file's content: of a link, where it points to.
fn content(kind: &EntryKind) -> &[u8] {
    match kind {
        EntryKind::Symlink { target } => target,
        _ => &[],
    }
}

fn known(body: &[u8]) -> Deflated {
    let mut crc = flate2::Crc::new();
    crc.update(body);
    Deflated { crc32: crc.sum(), packed: body.len() as u64 }
}

/// One line of the report.
fn line(name: &str, path: &EntryPath) -> Vec<u8> {
    use base64::Engine as _;
    let value = match std::str::from_utf8(path.as_bytes()) {
        Ok(path) => serde_json::json!({"name": name, "path": path}),
        Err(_) => {
            let path = base64::engine::general_purpose::STANDARD.encode(path.as_bytes());
            serde_json::json!({"name": name, "path_base64": path})
        }
    };
    format!("{value}\n").into_bytes()
}
