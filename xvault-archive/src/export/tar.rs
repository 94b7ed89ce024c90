//! The form that keeps everything: a POSIX tar.

use std::io::{Read, Seek, Write};

use super::Exported;
use super::chosen::Chosen;
use super::output::Output;
use crate::error::Error;
use crate::header;
use crate::index::TAR_END;
use crate::listing::ArchiveEntry;
use crate::reader::Bodies;
use crate::select::Selected;
use crate::watch::Watch;

pub(super) fn write<A: Read + Seek, I: Read + Seek, W: Write>(
    chosen: &mut Chosen<'_, I>,
    bodies: &mut Bodies<'_, A>,
    out: &mut Output<'_, W>,
) -> Result<Exported, Error> {
    let mut tar = Tar { out, scratch: Vec::new(), watch: chosen.watch };
    let mut exported = Exported::default();
    chosen.each(|selected| {
        exported.entries += 1;
        tar.entry(&selected, bodies)
    })?;
    tar.out.put(&TAR_END)?;
    Ok(exported)
}

struct Tar<'a, 'o, W> {
    out: &'a mut Output<'o, W>,
    scratch: Vec<u8>,
    watch: &'a Watch,
}

impl<W: Write> Tar<'_, '_, W> {
    fn entry<A: Read + Seek>(
        &mut self,
        selected: &Selected,
        bodies: &mut Bodies<'_, A>,
    ) -> Result<(), Error> {
        let size = selected.content.as_ref().map_or(0, ArchiveEntry::size);
        self.watch.progress.entry(&selected.shown.path);
        if let Some(bare) = &selected.bare {
            // It has no content, but what it is, and where it leads, stands in the artifact, too.
            drop(bodies.open(bare.clone()).next_chunk()?);
        }
        self.scratch.clear();
        header::encode(&selected.shown, size, &mut self.scratch);
        self.out.put(&self.scratch)?;
        let Some(content) = &selected.content else { return Ok(()) };
        let mut body = bodies.open(content.clone());
        while let Some(chunk) = body.next_chunk()? {
            self.watch.check()?;
            self.out.put(&chunk)?;
            self.watch.progress.bytes(chunk.len() as u64);
        }
        let zeros = [0; xvault_core::tar::BLOCK_LEN];
        self.out.put(zeros.get(..header::padding(size)).unwrap_or_default())
    }
}
