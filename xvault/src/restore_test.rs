//! Can a snapshot be restored? It is, into a tar stream that goes nowhere.

use std::io::{self, Write};

use bytes::Bytes;
use xvault_archive::{Watch, export};
use xvault_connectors::{Control, Error as ConnectorError, Store};
use xvault_core::snapshot::{ARTIFACT_NAME, ContentSummary};
use xvault_core::tar::{Event, TarKind, TarParser};
use xvault_core::{ExportFormat, Identity, Phase, SnapshotKey};

use crate::bridge::stoppable;
use crate::verify::checked_meta;
use crate::{Depth, Error, Snapshot, VerifyReport};

/// Restores all of a snapshot as a plain tar, streams in one piece, reads that tar as whoever unpacks it would, and compares
/// the files, directories, links and bytes that come out with what the manifest promises. Nothing of it touches a disk: plain text of a backup
/// has no business on the machine that tests it.
///
/// # Errors
/// Names what is missing or damaged, or which count differs.
pub async fn restore_test(
    store: &dyn Store,
    key: &SnapshotKey,
    identities: Vec<Identity>,
    control: &Control,
) -> Result<VerifyReport, Error> {
    let snapshot = Snapshot::open(store, key, identities).await?;
    checked_meta(store, snapshot.manifest(), control).await?;
    let promised = snapshot.manifest().content_summary;
    control.progress().phase(Phase::Verify, Some(promised.bytes));
    let watch = Watch::new(control.progress().clone());
    let watching = watch.clone();
    let work = snapshot.with_reader(control, move |mut reader, _| {
        let mut unpacked = Unpacked::default();
        export(&mut reader, ExportFormat::Tar, &[], &mut unpacked, &watching)?;
        Ok(unpacked)
    });
    let unpacked = stoppable(control, &watch, work).await?;
    unpacked.compare(&promised).map_err(|reason| {
        let file = format!("{}/{ARTIFACT_NAME}", key.prefix());
        Error::Store(ConnectorError::Damaged { file, reason })
    })?;
    let bytes = unpacked.counted.bytes;
    Ok(VerifyReport { depth: Depth::RestoreTest, entries: unpacked.entries, bytes })
}

/// Unpacks a tar into numbers.
#[derive(Default)]
struct Unpacked {
    parser: TarParser,
    counted: ContentSummary,
    entries: u64,
}

impl Unpacked {
    fn count(&mut self, event: Event) {
        match event {
            Event::Header(entry) => {
                self.entries += 1;
                match entry.kind {
                    TarKind::Directory => self.counted.directories += 1,
                    TarKind::Symlink { .. } => self.counted.symlinks += 1,
                    TarKind::Hardlink { .. } => self.counted.hardlinks += 1,
                    _ => self.counted.files += 1,
                }
            }
            Event::Data(data) => self.counted.bytes += data.len() as u64,
            Event::EntryEnd | Event::ArchiveEnd => {}
        }
    }

    /// Whether it is what the manifest promises, and else what differs.
    fn compare(&self, promised: &ContentSummary) -> Result<(), String> {
        self.parser.finish().map_err(|error| error.to_string())?;
        let numbers = |of: &ContentSummary| {
            let ContentSummary { files, directories, symlinks, hardlinks, bytes, .. } = *of;
            [
                ("files", files),
                ("directories", directories),
                ("symbolic links", symlinks),
                ("hard links", hardlinks),
                ("bytes of content", bytes),
            ]
        };
        let pairs = numbers(promised).into_iter().zip(numbers(&self.counted));
        match pairs.into_iter().find(|((_, promised), (_, found))| promised != found) {
            None => Ok(()),
            Some(((what, promised), (_, found))) => {
                Err(format!("restoring it gives {found} {what}, and its manifest promises {promised}"))
            }
        }
    }
}

impl Write for Unpacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = Bytes::copy_from_slice(bytes);
        while let Some(event) = self.parser.next(&mut rest).map_err(io::Error::other)? {
            self.count(event);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use xvault_testkit::forge::header_block;

    use super::*;

    /// A tar with one file of three bytes.
    fn tar() -> Vec<u8> {
        let mut tar = header_block("a", b'0', 3, "");
        tar.extend_from_slice(b"abc");
        tar.resize(4 * 512, 0);
        tar
    }

    #[test]
    fn what_comes_out_is_compared_number_by_number() {
        let mut unpacked = Unpacked::default();
        unpacked.write_all(&tar()).unwrap();
        let right = ContentSummary { files: 1, bytes: 3, ..ContentSummary::default() };
        unpacked.compare(&right).unwrap();
        let wrongs = [
            ContentSummary { files: 2, ..right },
            ContentSummary { directories: 1, ..right },
            ContentSummary { symlinks: 1, ..right },
            ContentSummary { hardlinks: 1, ..right },
        ];
        for wrong in wrongs {
            assert!(unpacked.compare(&wrong).is_err(), "{wrong:?}");
        }
        let told = unpacked.compare(&ContentSummary { bytes: 4, ..right }).unwrap_err();
        assert_eq!(told, "restoring it gives 3 bytes of content, and its manifest promises 4");
    }

    #[test]
    fn a_tar_that_stops_early_is_not_enough() {
        let (mut unpacked, tar) = (Unpacked::default(), tar());
        unpacked.write_all(&tar[..1024]).unwrap();
        let right = ContentSummary { files: 1, bytes: 3, ..ContentSummary::default() };
        let told = unpacked.compare(&right).unwrap_err();
        assert!(told.contains("ends at byte 1024"), "{told}");
    }
}
