//! One object, uploaded in parts while it is made.
//!
//! opendal can write objects, too, but tells nobody when the answer to the finishing request is lost: what was uploaded for
//! hours would be given up. And it can neither list nor end uploads that nobody finished.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;
use xvault_core::Disposition;
use xvault_core::store::ObjectLock;

use super::answer;
use super::body::{Body, Content, Gathered};
use super::client::{Call, Client};
use super::lock;
use super::multipart::{self, Part};
use super::parts::{MAX_PARTS, Plan};
use super::reader::Reader;
use super::scratch::Scratch;
use super::written::Written;
use crate::Error;
use crate::store::StoreWriter;

/// Parts on their way at a time. With the one that is gathered, an upload holds three parts, in memory or on the disk.
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

/// Where parts wait until the server has them.
#[derive(Debug, Clone)]
pub(super) struct Room {
    /// The longest that wait in memory.
    pub(super) in_memory: u64,
    /// The directory that the others wait in.
    pub(super) scratch_dir: Arc<Path>,
}

/// An object that is being written.
pub(super) struct Upload {
    target: Arc<Target>,
    room: Room,
    plan: Plan,
    gathered: Option<Gathered>,
    /// The upload's id; without one nothing was sent yet.
    id: Option<Arc<str>>,
    /// Parts that were begun.
    begun: u32,
    sent: u64,
    in_flight: JoinSet<Result<Part, Error>>,
    parts: Vec<Part>,
}

impl Upload {
    pub(super) fn new(target: Target, room: Room) -> Self {
        Self {
            target: Arc::new(target),
            room,
            plan: Plan::expecting(0),
            gathered: None,
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

    /// Gathers as much of `chunk` as the part takes that follows those that were begun. True when it is whole.
    async fn gather(&mut self, chunk: &mut Bytes) -> Result<bool, Error> {
        let length = self.plan.part_len(self.sent);
        if self.gathered.is_none() {
            self.gathered = Some(Gathered::within(self.room.for_part(length).await?));
        }
        let Some(gathered) = &mut self.gathered else { return Ok(false) };
        let room = usize::try_from(length - gathered.len()).unwrap_or(usize::MAX);
        gathered.push(chunk.split_to(room.min(chunk.len()))).await?;
        Ok(gathered.len() >= length)
    }

    /// What was gathered, if that is anything.
    fn take_gathered(&mut self) -> Option<Body> {
        self.gathered.take().map(Gathered::into_body)
    }

    /// Sends what was gathered on its way, once others have made room.
    async fn send_part(&mut self, body: Body) -> Result<(), Error> {
        if self.begun >= MAX_PARTS {
            return Err(too_long(&self.target.key));
        }
        let id = self.id().await?;
        while self.in_flight.len() >= IN_FLIGHT {
            self.join_one().await?;
        }
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
            self.parts.push(part.map_err(answer::begin_anew)?);
        }
        Ok(())
    }

    /// All at once: most objects are small.
    async fn put(&mut self) -> Result<(), Error> {
        let body = self.take_gathered().unwrap_or_else(Body::empty);
        let Target { client, key, lock, .. } = &*self.target;
        let etag = put(client, key, &body, lock.as_ref()).await?;
        self.target.written.record(&self.target.name, body.len(), etag);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        if let Some(body) = self.take_gathered() {
            self.send_part(body).await?;
        }
        while !self.in_flight.is_empty() {
            self.join_one().await?;
        }
        self.parts.sort_by_key(|part| part.number);
        let id = self.id().await?;
        let Target { client, reader, written, name, key, .. } = &*self.target;
        let completed = multipart::complete(client, reader, key, (&id, self.sent), &self.parts).await;
        let etag = completed.map_err(answer::begin_anew)?;
        written.record(name, self.sent, etag);
        Ok(())
    }
}

impl Room {
    async fn for_part(&self, length: u64) -> Result<Content, Error> {
        if length <= self.in_memory {
            return Ok(Content::Memory(Vec::new()));
        }
        Ok(Content::Scratch(Scratch::new(&self.scratch_dir).await?))
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
    fn expect(&mut self, bytes: u64) {
        // A part that was begun stays as it is.
        if self.gathered.is_none() {
            self.plan = Plan::expecting(bytes);
        }
    }

    async fn write(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        while !chunk.is_empty() {
            if self.gather(&mut chunk).await?
                && let Some(body) = self.take_gathered()
            {
                self.send_part(body).await?;
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
