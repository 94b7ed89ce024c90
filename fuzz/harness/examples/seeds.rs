//! Makes the seeds of `index_line` and `archive_reader` with the real writer: `seeds fuzz/corpus`.
//!
//! To be run once for each format version; what it wrote is committed.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};

use xvault_archive::{ArchiveWriter, WriterOptions};
use xvault_core::{
    Entry, EntryKind, EntryPath, Identity, Metadata, Mtime, SnapshotId, SnapshotKey, SourceId, TenantId,
    Warning, WarningCode,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The smallest that the writer takes: seeds stay small and have several frames.
const FRAME_SIZE: usize = 4096;

fn main() -> Result<()> {
    let corpus = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: seeds CORPUS_DIR")?);
    write(&corpus, "ok-empty", &[])?;
    write(&corpus, "ok-tree", &tree()?)?;
    write(&corpus, "bad-link-then-through", &through_a_link()?)?;
    write(&corpus, "bad-hardlink-to-nothing", &[(dangling()?, Vec::new())])?;
    write(&corpus, "ok-stream", &[(entry(b"dump.sql", EntryKind::Stream)?, vec![b'x'; 1500])])
}

fn write(corpus: &Path, name: &str, entries: &[(Entry, Vec<u8>)]) -> Result<()> {
    let (index, tar) = plain(entries)?;
    if name.starts_with("ok-") {
        std::fs::write(corpus.join("index_line").join(name), &index)?;
    }
    // What is wrong with the others shows only when an index is followed.
    std::fs::write(corpus.join("archive_reader").join(name), [&index[..], &[0], &tar[..]].concat())?;
    Ok(())
}

/// The lines of the index and the tar stream.
fn plain(entries: &[(Entry, Vec<u8>)]) -> Result<(Vec<u8>, Vec<u8>)> {
    let identity = Identity::generate();
    let key = SnapshotKey {
        tenant_id: TenantId::local(),
        source_id: SourceId::derive("seed"),
        snapshot_id: SnapshotId::generate(),
    };
    let options = WriterOptions::new(key, vec![identity.recipient()]);
    let options = WriterOptions { frame_size: FRAME_SIZE, segment_size: 600, ..options };
    let mut writer = ArchiveWriter::new(Vec::new(), Vec::new(), options)?;
    for (entry, body) in entries {
        writer.begin(entry)?;
        if entry.has_body() {
            writer.write(body)?;
            writer.end()?;
        }
    }
    if let Some((entry, _)) = entries.first() {
        let (path, code) = (entry.path.clone(), WarningCode::Grew);
        writer.warning(&Warning { path, code, message: "it grew".into() })?;
    }
    let finished = writer.finish()?;
    Ok((opened(&identity, &finished.index)?, opened(&identity, &finished.artifact)?))
}

fn opened(identity: &Identity, sealed: &[u8]) -> Result<Vec<u8>> {
    let keys = std::iter::once(identity.as_age() as &dyn age::Identity);
    let mut compressed = Vec::new();
    age::Decryptor::new(sealed)?.decrypt(keys)?.read_to_end(&mut compressed)?;
    Ok(zstd::stream::decode_all(compressed.as_slice())?)
}

fn entry(path: &[u8], kind: EntryKind) -> Result<Entry> {
    let mtime = Mtime { secs: 1_700_000_000, nanos: 0 };
    let metadata =
        Metadata { mode: 0o750, uid: 1000, gid: 1000, user: Some(b"web".to_vec()), group: None, mtime };
    Ok(Entry { path: EntryPath::new(path)?, kind, metadata })
}

/// A link that leads beside the target, and a file behind it.
fn through_a_link() -> Result<Vec<(Entry, Vec<u8>)>> {
    let link = EntryKind::Symlink { target: b"../empty".to_vec() };
    Ok(vec![
        (entry(b"link", link)?, Vec::new()),
        (entry(b"link/evil", EntryKind::File { size: 4 })?, b"evil".to_vec()),
    ])
}

fn dangling() -> Result<Entry> {
    entry(b"second", EntryKind::Hardlink { target: EntryPath::new(*b"secret")? })
}

fn tree() -> Result<Vec<(Entry, Vec<u8>)>> {
    let file = |path: &[u8], body: &[u8]| -> Result<(Entry, Vec<u8>)> {
        Ok((entry(path, EntryKind::File { size: body.len() as u64 })?, body.to_vec()))
    };
    let long = [&b"srv/"[..], &[b'n'; 120]].concat();
    let mut early = file(b"srv/caf\xe9", b"content\n")?;
    early.0.metadata.mtime = Mtime { secs: -2, nanos: 250_000_000 };
    Ok(vec![
        (entry(b"srv", EntryKind::Directory)?, Vec::new()),
        early,
        file(&long, &[b'y'; 3000])?,
        file(b"srv/empty", b"")?,
        (entry(b"srv/link", EntryKind::Symlink { target: b"../../etc/passwd".to_vec() })?, Vec::new()),
        (entry(b"srv/second", EntryKind::Hardlink { target: EntryPath::new(*b"srv/caf\xe9")? })?, Vec::new()),
    ])
}
