//! The archive without a runtime, a store or a server: two files, written once, then one file read out of them by seeking.
//!
//! `artifact_alone ARTIFACT INDEX IDENTITY_FILE` writes the first two for the identity in the third.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::fs::File;
use std::io::Read;

use anyhow::Context;
use xvault::archive::{ArchiveReader, ArchiveWriter, WriterOptions};
use xvault::core::{
    Entry, EntryKind, EntryPath, Identity, Metadata, SnapshotId, SnapshotKey, SourceId, TenantId,
};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: artifact_alone ARTIFACT INDEX IDENTITY_FILE");
    let (artifact, index, identity) = (next()?, next()?, next()?);
    let identities = Identity::parse_file(&std::fs::read_to_string(identity)?.into())?;

    let key = SnapshotKey {
        tenant_id: TenantId::local(),
        source_id: SourceId::derive("artifact_alone"),
        snapshot_id: SnapshotId::generate(),
    };
    let recipients = identities.iter().map(Identity::recipient).collect();
    let options = WriterOptions::new(key, recipients);
    let mut writer = ArchiveWriter::new(File::create_new(&artifact)?, File::create_new(&index)?, options)?;
    for number in 0..1000 {
        let (path, body) = note(number)?;
        let kind = EntryKind::File { size: body.len() as u64 };
        writer.begin(&Entry { path, kind, metadata: Metadata { mode: 0o600, ..Metadata::default() } })?;
        writer.write(body.as_bytes())?;
        writer.end()?;
    }
    let finished = writer.finish()?;
    // Flushed is not yet durable: that is for whoever owns the files.
    finished.artifact.sync_all()?;
    finished.index.sync_all()?;
    println!("{} files, {} bytes of tar", finished.stats.content.files, finished.stats.tar_size_bytes);

    let mut reader = ArchiveReader::open(File::open(artifact)?, File::open(index)?, &identities)?;
    let (path, _) = note(500)?;
    let mut text = String::new();
    // Whoever reads to the end has also seen length and content hash compared.
    reader.read(&path)?.read_to_string(&mut text)?;
    print!("{path}: {text}");
    Ok(())
}

fn note(number: u32) -> anyhow::Result<(EntryPath, String)> {
    let path = EntryPath::new(format!("notes/{number:04}.txt"))?;
    Ok((path, format!("this is note {number}\n")))
}
