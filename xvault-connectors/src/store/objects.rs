//! Objects through opendal: what every store that rests on it shares.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use opendal::{ErrorKind, Metadata, Operator, Writer};
use xvault_core::secret::SecretString;
use xvault_core::{Dispose, Disposition};

use super::s3::explained;
use super::{Staging, StoreWriter};
use crate::Error;

/// An operator with errors that name the operation and the key.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    operator: Operator,
    /// Who has them, when it is somebody else.
    server: Option<Arc<str>>,
}

impl Objects {
    pub(super) fn new(operator: Operator) -> Self {
        Self { operator, server: None }
    }

    /// Those of an S3 server, whose errors are told in its words.
    pub(super) fn of_server(operator: Operator, server: Arc<str>) -> Self {
        Self { operator, server: Some(server) }
    }

    fn failed(&self, verb: &str, key: &str, error: opendal::Error) -> Error {
        match &self.server {
            Some(server) => explained(server, verb, key, &error),
            None => failed(verb, key, error),
        }
    }

    pub(super) async fn writer(&self, key: &str) -> Result<Box<dyn StoreWriter>, Error> {
        let writer = self.operator.writer(key).await.map_err(|error| self.failed("write", key, error))?;
        let (objects, key) = (self.clone(), key.to_owned());
        Ok(Box::new(ObjectWriter { writer, objects, key }))
    }

    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        match self.operator.read_with(key).range(range.clone()).await {
            Ok(buffer) => Ok(buffer.to_bytes()),
            // The object ends before the range does: what there is of it is the answer.
            Err(error) if error.kind() == ErrorKind::RangeNotSatisfied => self.read_tail(key, range).await,
            Err(error) => Err(self.failed("read", key, error)),
        }
    }

    async fn read_tail(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let size = self.size(key).await?.ok_or_else(|| Error::NotFound(key.to_owned()))?;
        if range.start >= size {
            return Ok(Bytes::new());
        }
        let clamped = range.start..range.end.min(size);
        let read = self.operator.read_with(key).range(clamped).await;
        Ok(read.map_err(|error| self.failed("read", key, error))?.to_bytes())
    }

    pub(super) async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.look_at(key).await?.map(|(size, _)| size))
    }

    /// Length of an object, and its tag where the store gives one; `None` when there is no such object.
    pub(super) async fn look_at(&self, key: &str) -> Result<Option<(u64, Option<String>)>, Error> {
        match self.operator.stat(key).await {
            Ok(metadata) => Ok(Some((metadata.content_length(), metadata.etag().map(str::to_owned)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("look at", key, error)),
        }
    }

    /// The keys of the objects below `prefix`; directories are not among them.
    pub(super) async fn list(
        &self,
        prefix: &str,
    ) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        Ok(self.entries(prefix, None).await?.map_ok(|(key, _)| key).boxed())
    }

    /// The same with the time of each, where the store tells it; those behind key `after`, where the store lists in order.
    pub(super) async fn entries(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<BoxStream<'static, Result<(String, Option<Timestamp>), Error>>, Error> {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        let listing = self.operator.lister_with(&prefix).recursive(true);
        let listing = match after {
            Some(after) => listing.start_after(after),
            None => listing,
        };
        let lister = listing.await.map_err(|error| self.failed("list", &prefix, error))?;
        let objects = self.clone();
        let entries = lister.filter_map(move |entry| {
            std::future::ready(match entry {
                Ok(entry) if !entry.metadata().is_file() => None,
                Ok(entry) => Some(Ok((entry.path().to_owned(), last_modified(entry.metadata())))),
                Err(error) => Some(Err(objects.failed("list", &prefix, error))),
            })
        });
        Ok(entries.boxed())
    }

    /// A link to an object, with the right to read it in it.
    pub(super) async fn presign_read(&self, key: &str, expires_in: Duration) -> Result<SecretString, Error> {
        let presigned = self.operator.presign_read(key, expires_in).await;
        Ok(presigned.map_err(|error| self.failed("presign", key, error))?.uri().to_string().into())
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Error> {
        self.operator.delete(key).await.map_err(|error| self.failed("delete", key, error))
    }

    pub(super) async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        let deleted = self.operator.delete_with(&prefix).recursive(true).await;
        deleted.map_err(|error| self.failed("delete", &prefix, error))
    }
}

/// opendal's clock is of another version than ours.
fn last_modified(metadata: &Metadata) -> Option<Timestamp> {
    Timestamp::try_from(SystemTime::from(metadata.last_modified()?)).ok()
}

/// The objects of one staging, by their names in it.
#[derive(Debug)]
pub(super) struct StagedObjects {
    objects: Objects,
    prefix: String,
}

impl StagedObjects {
    pub(super) fn new(objects: Objects, prefix: String) -> Self {
        Self { objects, prefix }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    pub(super) async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error> {
        self.objects.writer(&self.key(name)).await
    }

    pub(super) async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.objects.read(&self.key(name), range).await
    }

    pub(super) async fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        self.objects.size(&self.key(name)).await
    }

    pub(super) async fn delete_all(&self) -> Result<(), Error> {
        self.objects.delete_all(&self.prefix).await
    }
}

/// Stages a whole object.
pub(super) async fn put(staging: &dyn Staging, name: &str, bytes: Bytes) -> Result<(), Error> {
    let mut writer = staging.writer(name).await?;
    writer.write(bytes).await?;
    writer.close().await
}

struct ObjectWriter {
    writer: Writer,
    objects: Objects,
    key: String,
}

#[async_trait]
impl StoreWriter for ObjectWriter {
    fn expect(&mut self, _: u64) {}

    async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.writer.write(chunk).await.map_err(|error| self.objects.failed("write", &self.key, error))
    }

    async fn close(mut self: Box<Self>) -> Result<(), Error> {
        self.writer.close().await.map_err(|error| self.objects.failed("finish", &self.key, error))?;
        Ok(())
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        match self.writer.abort().await {
            Ok(()) => Ok(()),
            // A file that was begun is a file: it goes as one.
            Err(error) if error.kind() == ErrorKind::Unsupported => self.objects.delete(&self.key).await,
            Err(error) => Err(self.objects.failed("give up", &self.key, error)),
        }
    }
}

/// Names the operation and the key, and finds out whether time heals.
pub(super) fn failed(verb: &str, key: &str, error: opendal::Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::NotFound(key.to_owned());
    }
    let action = format!("{verb} {key}");
    match io_cause(&error) {
        // The operating system's words are shorter than the library's, and say the same.
        Some((disposition, source)) => Error::Store { action, disposition, source },
        None => {
            let temporary = error.is_temporary() || error.kind() == ErrorKind::RateLimited;
            let disposition = if temporary { Disposition::Transient } else { Disposition::Permanent };
            Error::Store { action, disposition, source: Box::new(error) }
        }
    }
}

fn io_cause(error: &opendal::Error) -> Option<(Disposition, Box<dyn std::error::Error + Send + Sync>)> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            let copy = match io.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(io.kind(), io.to_string()),
            };
            return Some((io.disposition(), Box::new(copy)));
        }
        next = cause.source();
    }
    None
}
