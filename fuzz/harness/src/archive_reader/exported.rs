//! What export gives out: a whole tar stream of what the index promised, or one that says it is not whole.

use bytes::Bytes;
use xvault_archive::{ArchiveEntry, Watch, export};
use xvault_core::tar::{Event, TarEntry, TarKind, TarParser};
use xvault_core::{EntryKind, EntryPath, ExportFormat};

use super::{Reader, assert_is_promised};
use crate::Verdict;

/// Exports everything, and reads the tar stream again.
pub(super) fn check(reader: &mut Reader, entries: &[ArchiveEntry]) -> Verdict {
    let mut tar = Vec::new();
    let exported = export(reader, ExportFormat::Tar, &[], &mut tar, &Watch::default());
    let (found, whole) = parse(Bytes::from(tar));
    assert_eq!(whole, exported.is_ok(), "a broken-off export must be told from a whole one");
    for ((header, body), entry) in found.iter().zip(entries) {
        assert_is_same(header, entry);
        if matches!(entry.entry.kind, EntryKind::File { .. }) && body.len() as u64 == header.size && whole {
            assert_is_promised(entry, body);
        }
    }
    assert!(!whole || found.len() == entries.len(), "{} of {} entries", found.len(), entries.len());
    Verdict::of(&exported)
}

/// The entries of a tar stream with their bodies, and whether it has its end.
fn parse(mut tar: Bytes) -> (Vec<(TarEntry, Vec<u8>)>, bool) {
    let (mut parser, mut entries) = (TarParser::new(), Vec::<(TarEntry, Vec<u8>)>::new());
    loop {
        match parser.next(&mut tar) {
            Ok(Some(Event::Header(entry))) => entries.push((*entry, Vec::new())),
            Ok(Some(Event::Data(data))) => {
                if let Some((_, body)) = entries.last_mut() {
                    body.extend_from_slice(&data);
                }
            }
            Ok(Some(Event::EntryEnd | Event::ArchiveEnd)) => {}
            Ok(None) => return (entries, parser.is_ended()),
            Err(error) => assert_eq!(error.to_string(), "", "export wrote what is no tar stream"),
        }
    }
}

fn assert_is_same(header: &TarEntry, entry: &ArchiveEntry) {
    let path = EntryPath::from_source(&header.path).ok().flatten();
    assert_eq!(path.as_ref(), Some(&entry.entry.path));
    assert_eq!(header.size, entry.size());
    assert_eq!(header.metadata, entry.entry.metadata, "{path:?}");
    let kinds_agree = match (&header.kind, &entry.entry.kind) {
        (TarKind::File, EntryKind::File { .. }) | (TarKind::Directory, EntryKind::Directory) => true,
        (TarKind::Symlink { target }, EntryKind::Symlink { target: promised }) => target == promised,
        (TarKind::Hardlink { target }, EntryKind::Hardlink { target: promised }) => {
            target == promised.as_bytes()
        }
        _ => false,
    };
    assert!(kinds_agree, "{:?} instead of {:?}", header.kind, entry.entry.kind);
}
