//! One frozen archive for each format version: what was written once is read for ever.

use std::fs;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use xvault_archive::{ArchiveReader, Watch, verify};
use xvault_core::Identity;
use xvault_core::snapshot::FORMAT_VERSION;

use crate::support::{path, write};

fn place(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

/// What the archive of version 1 holds: its listing, a line for each entry.
const V1: &str = include_str!("../golden/v1/listing.txt");

fn open(version: u32) -> ArchiveReader<Cursor<Vec<u8>>, Cursor<Vec<u8>>> {
    let read =
        |name: &str| fs::read(place(version).join(name)).unwrap_or_else(|e| panic!("v{version}/{name}: {e}"));
    let identity = String::from_utf8(read("identity.txt")).unwrap();
    let identities = Identity::parse_file(&identity.into()).unwrap();
    ArchiveReader::open(
        Cursor::new(read("backup.tar.zst.enc")),
        Cursor::new(read("index.zst.enc")),
        &identities,
    )
    .unwrap()
}

/// A line for each entry, with everything the index keeps of it.
fn listing(reader: &mut ArchiveReader<Cursor<Vec<u8>>, Cursor<Vec<u8>>>) -> String {
    let line = |entry: Result<xvault_archive::ArchiveEntry, _>| {
        let xvault_archive::ArchiveEntry { entry, blake3, offset, end, parts } = entry.unwrap();
        let blake3 = blake3.map(|digest| blake3::Hash::from(digest).to_hex().to_string());
        format!("{entry:?} {blake3:?} {offset}..{end} parts {parts}\n")
    };
    reader.entries().unwrap().map(line).collect()
}

#[test]
fn every_version_has_a_frozen_archive_and_opens() {
    for version in 1..=FORMAT_VERSION {
        let mut reader = open(version);
        let report = verify::deep(&mut reader, &Watch::default()).unwrap();
        assert!(report.entries > 10, "version {version}");
    }
}

#[test]
fn version_1_reads_as_it_was_frozen() {
    let mut reader = open(1);
    assert_eq!(listing(&mut reader), V1);
    let mut hello = String::new();
    reader.read(&path("srv/second-name")).unwrap().read_to_string(&mut hello).unwrap();
    assert_eq!(hello, "hello\n");
    let warnings: Vec<_> = reader.index().warnings().unwrap().map(Result::unwrap).collect();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].message, "permission denied");
}

/// With `XVAULT_FREEZE=1` writes the archive anew; for a new format version only.
#[test]
fn freezing_is_asked_for() {
    let small = |(_, body): &crate::support::Item| body.len() < 60_000;
    let items: Vec<_> = crate::support::oddities().into_iter().filter(small).collect();
    if std::env::var_os("XVAULT_FREEZE").is_none() {
        // What would be frozen is still writable.
        assert_eq!(write(&items).stats.content.hardlinks, 1);
        return;
    }
    freeze(&items);
}

fn freeze(items: &[crate::support::Item]) {
    use xvault_core::secret::ExposeSecret;
    let identity = Identity::generate();
    let options = crate::support::small(&identity);
    let mut writer = xvault_archive::ArchiveWriter::new(Vec::new(), Vec::new(), options).unwrap();
    crate::support::push(&mut writer, items);
    let (path, message) = (path("srv/secret"), "permission denied".to_owned());
    let code = xvault_core::WarningCode::Unreadable;
    writer.warning(&xvault_core::Warning { path, code, message }).unwrap();
    let finished = writer.finish().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(place(FORMAT_VERSION).join(name), bytes).unwrap();
    put("backup.tar.zst.enc", &finished.artifact);
    put("index.zst.enc", &finished.index);
    put("identity.txt", identity.to_secret().expose_secret().as_bytes());
    put("listing.txt", listing(&mut open(FORMAT_VERSION)).as_bytes());
}
