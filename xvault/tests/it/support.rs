//! What the tests share: sources made of a closure or of a list, and looks into stores.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use xvault::connectors::{Emitter, Error as ConnectorError, Probe, PullSummary};
use xvault::core::monitor::{Phase, Progress};
use xvault::core::snapshot::Evidence;
use xvault::core::{Entry, EntryKind, EntryPath, EntrySink, Identity, Manifest, Metadata, SourceId, Warning};
use xvault::{BackupOptions, Control, Error, Source, Store};
use xvault_testkit::trees::Xorshift;

pub(crate) type Pulled = Result<PullSummary, ConnectorError>;

/// A source that does what its closure does.
pub(crate) struct Scripted<F>(F);

/// Helps the compiler to see the closure's lifetimes.
pub(crate) fn scripted<F>(pull: F) -> Scripted<F>
where
    F: for<'a> FnMut(&'a mut dyn EntrySink, &'a Control) -> BoxFuture<'a, Pulled> + Send,
{
    Scripted(pull)
}

#[async_trait]
impl<F> Source for Scripted<F>
where
    F: for<'a> FnMut(&'a mut dyn EntrySink, &'a Control) -> BoxFuture<'a, Pulled> + Send,
{
    fn kind(&self) -> &'static str {
        "scripted"
    }

    async fn probe(&mut self) -> Result<Probe, ConnectorError> {
        Ok(Probe { server: None, host_key: None, paths: Vec::new(), notes: Vec::new() })
    }

    async fn pull(&mut self, sink: &mut dyn EntrySink, control: &Control) -> Pulled {
        (self.0)(sink, control).await
    }
}

/// An honest source of these files, each in chunks of at most 64 KiB.
pub(crate) fn files(list: &[(&str, Bytes)]) -> impl Source + use<> {
    let list: Vec<_> = list.iter().map(|(name, body)| (path(name), body.clone())).collect();
    scripted(move |sink, control| {
        let list = list.clone();
        Box::pin(async move {
            let mut emitter = Emitter::new(sink, control);
            let count = list.len() as u64;
            for (path, body) in list {
                emitter.begin(file(path, body.len())).await?;
                push(&mut emitter, body).await?;
                emitter.end().await?;
            }
            Ok(emitter.finish(walked(count)))
        })
    })
}

/// A source of one body whose length is not told.
pub(crate) fn stream(name: &str, body: Bytes) -> impl Source + use<> {
    let path = path(name);
    scripted(move |sink, control| {
        let (path, body) = (path.clone(), body.clone());
        Box::pin(async move {
            let mut emitter = Emitter::new(sink, control);
            emitter.begin(Entry { path, kind: EntryKind::Stream, metadata: Metadata::default() }).await?;
            push(&mut emitter, body).await?;
            emitter.end().await?;
            Ok(emitter.finish(walked(1)))
        })
    })
}

async fn push(emitter: &mut Emitter<'_>, mut body: Bytes) -> Result<(), ConnectorError> {
    while !body.is_empty() {
        emitter.data(body.split_to(body.len().min(64 << 10))).await?;
    }
    Ok(())
}

pub(crate) fn walked(files: u64) -> Evidence {
    Evidence::Walk { directories: 0, files }
}

pub(crate) fn path(name: &str) -> EntryPath {
    EntryPath::new(name).unwrap()
}

pub(crate) fn file(path: EntryPath, size: usize) -> Entry {
    let metadata = Metadata { mode: 0o644, ..Metadata::default() };
    Entry { path, kind: EntryKind::File { size: size as u64 }, metadata }
}

/// Bytes that do not compress.
pub(crate) fn random(len: usize, seed: u64) -> Bytes {
    Xorshift::new(seed).bytes(len).into()
}

pub(crate) fn options(identity: &Identity) -> BackupOptions {
    BackupOptions::to(vec![identity.recipient()], SourceId::derive("test")).unwrap()
}

/// A backup that must not hang.
pub(crate) async fn backup(
    source: &mut dyn Source,
    store: &dyn Store,
    options: &BackupOptions,
) -> Result<Manifest, Error> {
    timely(xvault::backup(source, store, options)).await
}

/// Whatever is tested here takes seconds at most, also on a busy machine.
pub(crate) async fn timely<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.unwrap_or_else(|_| panic!("it hangs"))
}

/// Every file in a directory, staged ones too.
pub(crate) fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Every key of a store.
pub(crate) async fn keys(store: &dyn Store) -> Vec<String> {
    store.list("tenants").await.unwrap().try_collect().await.unwrap()
}

/// The one file of that name in a directory.
pub(crate) fn only_file(dir: &Path, name: &str) -> PathBuf {
    let found: Vec<_> = files_in(dir).into_iter().filter(|path| path.ends_with(name)).collect();
    let [file] = found.as_slice() else { panic!("{found:?}") };
    file.clone()
}

/// What a [`Hook`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Phase(Phase),
    Entry,
    Bytes,
}

/// Does something while a job runs.
pub(crate) struct Hook<F>(pub(crate) F);

impl<F: Fn(Seen) + Send + Sync> Progress for Hook<F> {
    fn phase(&self, phase: Phase, _: Option<u64>) {
        (self.0)(Seen::Phase(phase));
    }
    fn entry(&self, _: &EntryPath) {
        (self.0)(Seen::Entry);
    }
    fn bytes(&self, _: u64) {
        (self.0)(Seen::Bytes);
    }
    fn warning(&self, _: &Warning) {}
    fn note(&self, _: &str) {}
}
