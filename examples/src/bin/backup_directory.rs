//! Backs up a directory, lists the store, and restores the snapshot beside it.
//!
//! `backup_directory DIR STORE TARGET`
#![expect(clippy::print_stdout, reason = "a program for people")]

use anyhow::Context;
use xvault::core::{Identity, LocalSettings, SourceId};
use xvault::{BackupOptions, Filter, FsStore, LocalSource, RestoreOptions, Snapshot};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: backup_directory DIR STORE TARGET");
    let (dir, store, target) = (next()?, next()?, next()?);

    // A real program keeps the identity in a safe place and gives the machine only the recipient.
    let identity = Identity::generate();
    let store = FsStore::open(store)?;
    let mut source =
        LocalSource::new(&LocalSettings { paths: vec![dir.clone()], excludes: vec!["*.tmp".into()] })?;
    let options = BackupOptions::to(vec![identity.recipient()], SourceId::derive(&dir))?;

    let manifest = xvault::backup(&mut source, &store, &options).await?;
    println!("snapshot {} holds {} files", manifest.snapshot_id, manifest.content_summary.files);

    for listed in xvault::list(&store, &Filter::default()).await? {
        let manifest = listed.manifest?;
        println!("{}  {} bytes stored", manifest.snapshot_id, manifest.size_bytes);
    }

    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await?;
    let restored = snapshot.restore(&target, RestoreOptions::default()).await?;
    println!("restored {} files", restored.files);
    Ok(())
}
