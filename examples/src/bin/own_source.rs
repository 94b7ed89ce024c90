//! A source of your own: pushes a dump whose length nobody knows beforehand.
//!
//! `own_source STORE` backs up a table of squares, and prints its last line from the snapshot.
#![expect(clippy::print_stdout, reason = "a program for people")]

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use xvault::connectors::{Control, Emitter, Error, Probe, PullSummary, Source};
use xvault::core::snapshot::Evidence;
use xvault::core::{Entry, EntryKind, EntryPath, EntrySink, Identity, Metadata, SourceId};
use xvault::{BackupOptions, FsStore, Snapshot};

const NAME: &str = "squares/dump.csv";

/// Something that can be asked for rows, and says itself when there are no more.
struct Squares {
    rows: u64,
}

#[async_trait]
impl Source for Squares {
    fn kind(&self) -> &'static str {
        "squares"
    }

    async fn probe(&mut self) -> Result<Probe, Error> {
        Ok(Probe { server: Some("squares 1.0".into()), host_key: None, paths: vec![], notes: vec![] })
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Result<PullSummary, Error> {
        let path = EntryPath::new(NAME).map_err(|error| Error::Incomplete(error.to_string()))?;
        let metadata = Metadata { mode: 0o600, ..Metadata::default() };
        // The emitter counts, throttles, reports progress and notices cancellation.
        let mut emitter = Emitter::new(sink, control);
        emitter.begin(Entry { path, kind: EntryKind::Stream, metadata }).await?;
        for row in 0..self.rows {
            emitter.data(Bytes::from(format!("{row},{}\n", row * row))).await?;
        }
        // The trailer is the proof: a dump without it would be an error, not a snapshot.
        emitter.data(Bytes::from_static(b"-- complete\n")).await?;
        emitter.end().await?;
        Ok(emitter.finish(Evidence::Walk { directories: 0, files: 1 }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = FsStore::open(std::env::args().nth(1).context("usage: own_source STORE")?)?;
    let identity = Identity::generate();
    let options = BackupOptions::to(vec![identity.recipient()], SourceId::derive("squares"))?;
    let manifest = xvault::backup(&mut Squares { rows: 1_000_000 }, &store, &options).await?;

    // 20 MB are three segments in the artifact; they read as one file.
    let snapshot = Snapshot::open(&store, &manifest.key(), vec![identity]).await?;
    let dump = snapshot.read_to_vec(&EntryPath::new(NAME)?, 64 << 20).await?;
    let last = String::from_utf8_lossy(&dump).lines().last().unwrap_or_default().to_owned();
    println!("{} bytes, last line: {last}", dump.len());
    Ok(())
}
