//! A snapshot, or a part of it, as a plain stream for somebody who has no xVault: tar, tar.zst or zip.

mod chosen;
mod deflate;
mod names;
mod output;
mod record;
mod tar;
mod zip;

use std::io::{Read, Seek, Write};

use xvault_core::{EntryPath, ExportFormat, Phase};

use crate::error::Error;
use crate::reader::{ArchiveReader, Bodies};
use crate::select::Selection;
use crate::watch::Watch;
use chosen::Chosen;
use output::Output;

pub use zip::REPORT_NAME;

/// zstd's own default: compresses about as fast as a snapshot is read.
const ZSTD_LEVEL: i32 = 3;

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Bytes that went to the output.
    pub bytes: u64,
    /// Entries in it, not counting the report of renamed ones.
    pub entries: u64,
    /// Entries of a zip that have another name there than in the snapshot; the zip's [`REPORT_NAME`] lists them.
    pub renamed: u64,
}

/// Writes the entries at or below `paths` (none: all) to `out`, from first to last byte, without going back.
///
/// Unlike in the tar inside the artifact, streams that were stored in parts are one file again. Every content hash is checked,
/// and in a tar of everything every header, too: also those of directories and links. When a check fails the output stops there and is recognisably not whole: a tar lacks its
/// closing zero blocks, a `tar.zst` its frame's end, a zip its directory.
///
/// A zip holds hard links as copies, and names that every system can have. Each component is UTF-8; what Windows
/// forbids in it (`<>:"\|?*`, control characters, bytes that are no UTF-8, a dot or space at the end, the first letter
/// of a device's name such as `NUL.txt`) stands as `%` and two hexadecimal digits for each byte, and so does a `%` that
/// could be taken for one of these. Of names that some system takes for one (they differ by case, by how an
/// accent is written, or by characters that nobody sees) the later ones get `%~1`, `%~2`… before their
/// extension; a component that would be longer than 255 bytes is cut and ends in `%~~` and a hash. No entry lies below a
/// link, so that nothing can leave the directory it is unpacked into. Targets of symbolic links stay as they are.
///
/// Memory: as [`ArchiveReader`] and, for a zip, about 60 bytes for each entry and 300 for each file with hard links.
///
/// # Errors
/// A damaged archive, [`Error::NotFound`], or `out` does not take it. A zip also refuses entries that appear twice or
/// lie below something that is no directory.
pub fn export<A, I, W>(
    reader: &mut ArchiveReader<A, I>,
    format: ExportFormat,
    paths: &[EntryPath],
    out: &mut W,
    watch: &Watch,
) -> Result<Exported, Error>
where
    A: Read + Seek,
    I: Read + Seek,
    W: Write,
{
    let total = if paths.is_empty() { Some(reader.totals()?.content.bytes) } else { None };
    watch.progress.phase(Phase::Restore, total);
    let (index, mut bodies) = reader.split()?;
    let mut chosen = Chosen { selection: Selection::new(paths, index)?, index, watch };
    bodies.frames.expect_all(chosen.selection.is_everything());
    let mut out = Output::new(out);
    let mut exported = match format {
        ExportFormat::Tar => tar::write(&mut chosen, &mut bodies, &mut out)?,
        ExportFormat::TarZst => tar_zst(&mut chosen, &mut bodies, &mut out)?,
        ExportFormat::Zip => zip::write(&mut chosen, &mut bodies, &mut out)?,
    };
    out.flush()?;
    exported.bytes = out.bytes();
    Ok(exported)
}

fn tar_zst<A: Read + Seek, I: Read + Seek, W: Write>(
    chosen: &mut Chosen<'_, I>,
    bodies: &mut Bodies<'_, A>,
    out: &mut Output<'_, W>,
) -> Result<Exported, Error> {
    let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL).map_err(Error::Output)?;
    encoder.include_checksum(true).map_err(Error::Output)?;
    let exported = tar::write(chosen, bodies, &mut Output::new(&mut encoder))?;
    encoder.finish().map_err(Error::Output)?;
    Ok(exported)
}
