//! Archives in memory, and trees to put into them.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use xvault_archive::{ArchiveReader, ArchiveStats, ArchiveWriter, Error, WriterOptions};
use xvault_core::snapshot::SnapshotKey;
use xvault_core::{Entry, EntryKind, EntryPath, Identity, Metadata, Mtime, SnapshotId, SourceId};

/// Counts what is read.
pub(crate) struct Counting<R>(pub(crate) R, pub(crate) Arc<AtomicU64>);

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buf)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counting<R> {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.0.seek(pos)
    }
}

/// An archive in memory, and the key to it.
#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) artifact: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) identity: Identity,
    pub(crate) key: SnapshotKey,
    pub(crate) stats: ArchiveStats,
}

pub(crate) type Reader = ArchiveReader<Cursor<Vec<u8>>, Cursor<Vec<u8>>>;

impl Archive {
    pub(crate) fn open(&self) -> Result<Reader, Error> {
        let identities = std::slice::from_ref(&self.identity);
        ArchiveReader::open(Cursor::new(self.artifact.clone()), Cursor::new(self.index.clone()), identities)
    }

    pub(crate) fn reader(&self) -> Reader {
        self.open().unwrap()
    }

    /// As [`Archive::open`], but frames are loaded on a thread.
    pub(crate) fn open_ahead(&self) -> Result<Reader, Error> {
        self.open()?.read_ahead()
    }
}

pub(crate) fn key() -> SnapshotKey {
    SnapshotKey {
        tenant_id: "local".parse().unwrap(),
        source_id: SourceId::derive("local:/srv"),
        snapshot_id: SnapshotId::generate(),
    }
}

/// Options with small frames and segments, so that small trees cross their borders.
pub(crate) fn small(identity: &Identity) -> WriterOptions {
    let mut options = WriterOptions::new(key(), vec![identity.recipient()]);
    options.frame_size = 8192;
    options.segment_size = 20_000;
    options.threads = NonZeroUsize::new(2).unwrap();
    options
}

/// An entry and its content.
pub(crate) type Item = (Entry, Vec<u8>);

pub(crate) fn write(items: &[Item]) -> Archive {
    let identity = Identity::generate();
    write_with(items, small(&identity), identity)
}

pub(crate) fn write_with(items: &[Item], options: WriterOptions, identity: Identity) -> Archive {
    let key = options.key.clone();
    let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), options).unwrap();
    push(&mut writer, items);
    let finished = writer.finish().unwrap();
    Archive { artifact: finished.artifact, index: finished.index, identity, key, stats: finished.stats }
}

pub(crate) fn push(writer: &mut ArchiveWriter<Vec<u8>, Vec<u8>>, items: &[Item]) {
    for (entry, body) in items {
        writer.begin(entry).unwrap();
        if entry.has_body() {
            // Uneven chunks, so that no border coincides with ours.
            for chunk in body.chunks(3001) {
                writer.write(chunk).unwrap();
            }
            writer.end().unwrap();
        }
    }
}

pub(crate) fn path(path: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::new(path.as_ref()).unwrap()
}

pub(crate) fn metadata(mode: u32) -> Metadata {
    let mtime = Mtime { secs: 1_600_000_000, nanos: 123_456_789 };
    Metadata { mode, uid: 1000, gid: 1000, user: Some(b"web".to_vec()), group: Some(b"web".to_vec()), mtime }
}

pub(crate) fn file(name: impl AsRef<[u8]>, body: impl Into<Vec<u8>>) -> Item {
    let body = body.into();
    let kind = EntryKind::File { size: body.len() as u64 };
    (Entry { path: path(name), kind, metadata: metadata(0o644) }, body)
}

pub(crate) fn stream(name: &str, body: impl Into<Vec<u8>>) -> Item {
    (Entry { path: path(name), kind: EntryKind::Stream, metadata: metadata(0o600) }, body.into())
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> Item {
    (Entry { path: path(name), kind: EntryKind::Directory, metadata: metadata(0o755) }, Vec::new())
}

pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl Into<Vec<u8>>) -> Item {
    let kind = EntryKind::Symlink { target: target.into() };
    (Entry { path: path(name), kind, metadata: metadata(0o777) }, Vec::new())
}

pub(crate) fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
    let kind = EntryKind::Hardlink { target: path(target) };
    (Entry { path: path(name), kind, metadata: metadata(0o644) }, Vec::new())
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Every kind of entry, names that hurt, bodies around every border of 8 KiB frames and 20,000-byte segments.
pub(crate) fn oddities() -> Vec<Item> {
    let mut items = vec![
        dir("srv"),
        dir("srv/empty"),
        file("srv/empty-file", ""),
        file("srv/hello.txt", "hello\n"),
        file("srv/with\nnewline 'and' \"quotes\"", "q"),
        file(*b"srv/caf\xe9", "latin"),
        file("srv/c".repeat(30), "x".repeat(3)),
        file(format!("srv/{}", "n".repeat(255)), "component"),
        dir(format!("srv/{}/{}", "d".repeat(150), "e".repeat(150))),
        symlink("srv/link", "hello.txt"),
        symlink("srv/absolute", "/etc/passwd"),
        symlink("srv/long-link", "t/".repeat(120)),
        symlink(*b"srv/latin-link", *b"caf\xe9"),
        hardlink("srv/second-name", "srv/hello.txt"),
        stream("srv/short.sql", noise(19_999, 1)),
        stream("srv/exact.sql", noise(20_000, 2)),
        stream("srv/long.sql", noise(50_001, 3)),
        file("srv/long.sql.part-00009", "a user's own file that looks like a part"),
    ];
    for (at, size) in [1, 511, 512, 513, 7680, 8192, 65_536, 200_000].into_iter().enumerate() {
        items.push(file(format!("srv/size-{size}"), noise(size, at.try_into().unwrap_or(0))));
    }
    let times = [(0, 0), (-1, 500_000_000), (-2_000_000_000, 1), (9_000_000_000_000, 0), (5, 120)];
    for (at, (secs, nanos)) in times.into_iter().enumerate() {
        let (mut entry, body) = file(format!("srv/time-{at}"), "t");
        entry.metadata.mtime = Mtime { secs, nanos };
        items.push((entry, body));
    }
    let (mut entry, body) = file("srv/huge-ids", "i");
    (entry.metadata.uid, entry.metadata.gid) = (4_000_000_000, u64::MAX);
    (entry.metadata.user, entry.metadata.group) = (Some(vec![b'u'; 200]), None);
    items.push((entry, body));
    items
}

/// Random trees: unique names below directories that come first.
pub(crate) fn trees() -> impl Strategy<Value = Vec<Item>> {
    let name = prop_oneof!["[a-c]{1,3}", "[a-z]{90,140}", "\\PC{1,10}",];
    let name = name.prop_map(String::into_bytes).boxed();
    let raw = proptest::collection::vec(1u8..=255, 1..12).boxed();
    let names = proptest::collection::vec(prop_oneof![name, raw], 1..4);
    let body = (0usize..60_000, any::<u8>()).prop_map(|(len, seed)| noise(len, seed));
    let item = (names, 0u8..5, body, 0u32..0o10000, any::<i64>(), 0u32..1_000_000_000);
    proptest::collection::vec(item, 0..12).prop_map(|items| {
        let mut tree: Vec<Item> = Vec::new();
        for (names, kind, body, mode, secs, nanos) in items {
            if let Some(item) = item_of(&tree, &names.join(&b'/'), kind, body) {
                let (mut entry, body) = item;
                entry.metadata.mode = mode;
                // What every file system here can hold.
                entry.metadata.mtime = Mtime { secs: secs % (1 << 33), nanos };
                tree.push((entry, body));
            }
        }
        tree
    })
}

fn item_of(tree: &[Item], name: &[u8], kind: u8, body: Vec<u8>) -> Option<Item> {
    let wanted = EntryPath::new(name).ok()?;
    let clashes = |other: &EntryPath| other.is_within(&wanted) || wanted.is_within(other);
    if wanted.components().any(|c| c.len() > 255) || tree.iter().any(|(entry, _)| clashes(&entry.path)) {
        return None;
    }
    let earlier = tree.iter().find(|(entry, _)| matches!(entry.kind, EntryKind::File { .. }));
    Some(match (kind, earlier) {
        (0, _) => dir(name),
        (1, _) => {
            symlink(name, body.into_iter().filter(|b| *b != 0).take(50).chain(*b"x").collect::<Vec<_>>())
        }
        (2, Some((target, _))) => hardlink(name, target.path.as_bytes()),
        (3, _) => (Entry { kind: EntryKind::Stream, ..file(name, "").0 }, body),
        _ => file(name, body),
    })
}
