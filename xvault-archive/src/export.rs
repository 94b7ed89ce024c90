//! A snapshot, or a part of it, as a plain tar stream.

use std::io::{Read, Seek, Write};

use xvault_core::EntryPath;

use crate::error::{ArchiveFile, Error};
use crate::header;
use crate::index::TAR_END;
use crate::listing::ArchiveEntry;
use crate::reader::{ArchiveReader, Bodies};
use crate::select::{Selected, Selection};
use crate::watch::Watch;

/// Writes the entries at or below `paths` (none: all) to `out` as a POSIX tar; returns its length.
///
/// Unlike the tar inside the artifact, streams that were stored in parts are one file again. Every
/// header and every content hash is checked. When a check fails the tar stops without its closing zero
/// blocks, by which `tar` sees that it is not whole.
///
/// # Errors
/// A damaged archive, [`Error::NotFound`], or `out` does not take it.
pub fn tar<A, I, W>(
    reader: &mut ArchiveReader<A, I>,
    paths: &[EntryPath],
    out: &mut W,
    watch: &Watch,
) -> Result<u64, Error>
where
    A: Read + Seek,
    I: Read + Seek,
    W: Write,
{
    let (index, mut bodies) = reader.split()?;
    let selection = Selection::new(paths, index)?;
    let mut export = Export { out, length: 0, scratch: Vec::new(), watch };
    for entry in index.entries()? {
        watch.check()?;
        if let Some(selected) = selection.resolve(entry?)? {
            export.entry(&selected, &mut bodies)?;
        }
    }
    export.put(&TAR_END)?;
    export.out.flush().map_err(output_error)?;
    Ok(export.length)
}

struct Export<'a, W> {
    out: &'a mut W,
    length: u64,
    scratch: Vec<u8>,
    watch: &'a Watch,
}

impl<W: Write> Export<'_, W> {
    fn entry<A: Read + Seek>(
        &mut self,
        selected: &Selected,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        let size = selected.content.as_ref().map_or(0, ArchiveEntry::size);
        self.watch.progress.entry(&selected.shown.path);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        header::encode(&selected.shown, size, &mut scratch);
        self.put(&scratch)?;
        self.scratch = scratch;
        let Some(content) = &selected.content else { return Ok(()) };
        let mut body = bodies.open(content.clone());
        while let Some(chunk) = body.next_chunk()? {
            self.watch.check()?;
            self.put(&chunk)?;
            self.watch.progress.bytes(chunk.len() as u64);
        }
        let zeros = [0; xvault_core::tar::BLOCK_LEN];
        self.put(zeros.get(..header::padding(size)).unwrap_or_default())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length += bytes.len() as u64;
        self.out.write_all(bytes).map_err(output_error)
    }
}

fn output_error(source: std::io::Error) -> Error {
    Error::Io { op: "export", file: ArchiveFile::Artifact, source }
}
