//! One object, uploaded in parts while it is made.
//!
//! opendal can write objects, too, but tells nobody when the answer to the finishing request is lost: what was uploaded for
//! hours would be given up. And it can neither list nor end uploads that nobody finished.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;
use xvault_core::Disposition;
use xvault_core::store::ObjectLock;

use super::body::{Body, Gathered};
use super::client::{Call, Client};
use super::lock;
use super::multipart::{self, Part};
use super::parts::{MAX_PARTS, part_len};
use super::reader::Reader;
use super::written::Written;
use crate::Error;
use crate::store::StoreWriter;

/// Parts on their way at a time. With the one that is gathered, an upload holds three parts in memory.
const IN_FLIGHT: usize = 2;
/// How long an upload that is dropped may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Where an upload goes, and who can say afterwards what became of it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) client: Client,
    pub(super) reader: Reader,
    pub(super) written: Written,
    pub(super) name: String,
    pub(super) key: String,
    /// What the object is locked with.
    pub(super) lock: Option<ObjectLock>,
}

/// An object that is being written.
pub(super) struct Upload {
    target: Arc<Target>,
    gathered: Gathered,
    /// The upload's id; without one nothing was sent yet.
    id: Option<Arc<str>>,
    /// Parts that were begun.
    begun: u32,
    sent: u64,
    in_flight: JoinSet<Result<Part, Error>>,
    parts: Vec<Part>,
}

impl Upload {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            gathered: Gathered::default(),
            id: None,
            begun: 0,
            sent: 0,
            in_flight: JoinSet::new(),
            parts: Vec::new(),
        }
    }

    async fn id(&mut self) -> Result<Arc<str>, Error> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let Target { client, key, lock, .. } = &*self.target;
        let id: Arc<str> = multipart::create(client, key, lock.as_ref()).await?.into();
        self.id = Some(id.clone());
        Ok(id)
    }

    /// Sends what was gathered on its way, once there is room.
    async fn send_part(&mut self) -> Result<(), Error> {
        if self.begun >= MAX_PARTS {
            return Err(too_long(&self.target.key));
        }
        let id = self.id().await?;
        while self.in_flight.len() >= IN_FLIGHT {
            self.join_one().await?;
        }
        let body = std::mem::take(&mut self.gathered).into_body();
        self.begun += 1;
        self.sent += body.len();
        let (target, number) = (self.target.clone(), self.begun);
        self.in_flight.spawn(async move {
            let Target { client, key, lock, .. } = &*target;
            multipart::put_part(client, (key, lock.is_some()), &id, number, body).await
        });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), Error> {
        if let Some(joined) = self.in_flight.join_next().await {
            let part = joined.map_err(|error| Error::io("upload a part")(std::io::Error::other(error)))?;
            self.parts.push(part?);
        }
        Ok(())
    }

    /// All at once: most objects are small.
    async fn put(&mut self) -> Result<(), Error> {
        let body = std::mem::take(&mut self.gathered).into_body();
        let Target { client, key, lock, .. } = &*self.target;
        let etag = put(client, key, &body, lock.as_ref()).await?;
        self.target.written.record(&self.target.name, body.len(), etag);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        if self.gathered.len() > 0 {
            self.send_part().await?;
        }
        while !self.in_flight.is_empty() {
            self.join_one().await?;
        }
        self.parts.sort_by_key(|part| part.number);
        let id = self.id().await?;
        let Target { client, reader, written, name, key, .. } = &*self.target;
        let etag = multipart::complete(client, reader, key, (&id, self.sent), &self.parts).await?;
        written.record(name, self.sent, etag);
        Ok(())
    }
}

fn too_long(key: &str) -> Error {
    Error::Store {
        action: format!("write {key}"),
        disposition: Disposition::Permanent,
        source: "it is longer than an S3 server takes: back the source up in several snapshots".into(),
    }
}

/// Writes a whole object; gives its tag.
pub(super) async fn put(
    client: &Client,
    key: &str,
    body: &Body,
    lock: Option<&ObjectLock>,
) -> Result<Option<String>, Error> {
    let call = Call::new("write", Method::PUT, Some(key), body).headers(lock::whole(lock, body));
    Ok(client.ask(&call).await?.header("etag").map(str::to_owned))
}

#[async_trait]
impl StoreWriter for Upload {
    async fn write(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        while !chunk.is_empty() {
            let room = part_len(self.begun + 1) - self.gathered.len();
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(chunk.len());
            self.gathered.push(chunk.split_to(room));
            if self.gathered.len() >= part_len(self.begun + 1) {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<(), Error> {
        if self.id.is_none() {
            return self.put().await;
        }
        self.finish().await?;
        self.id = None;
        Ok(())
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        // A part that arrives after the end would be kept for nobody.
        self.in_flight.shutdown().await;
        let Some(id) = self.id.take() else { return Ok(()) };
        multipart::end(&self.target.client, &self.target.key, &id).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.in_flight.abort_all();
        let Some(id) = self.id.take() else { return };
        // Dropped in mid-backup, or failed in finishing: what can't be ended now is for the sweep.
        let target = self.target.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let end = multipart::end(&target.client, &target.key, &id);
                drop(tokio::time::timeout(END_PATIENCE, end).await);
            });
        }
    }
}
