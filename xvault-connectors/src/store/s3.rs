//! Snapshots in a bucket of an S3-compatible server.
//!
//! Objects lie where they stay from the first byte on, and the manifest, written last, makes a snapshot of them. Reads and
//! listings go through opendal (`reader`); uploads in parts (`upload`, `multipart`) are requests of our own, whose digest is
//! part of their signature: a server stores what we sent, or nothing.
//!
//! **Memory**: an object that is written holds three parts of 8 MiB at most, whatever its size. The parts of objects above 39
//! GiB are longer, because there may be 10,000 of them: they wait on the disk, as the ciphertext that they are.

mod answer;
mod body;
mod client;
mod examine;
mod http;
mod lock;
mod multipart;
mod page;
mod parts;
mod patience;
mod reader;
mod scratch;
mod staging;
mod sweep;
mod tags;
mod transport;
mod upload;
mod versions;
mod written;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use xvault_core::secret::SecretString;
use xvault_core::snapshot::Locator;
use xvault_core::store::{LockMode, ObjectLock, S3Credential, S3Settings};
use xvault_core::{SnapshotKey, WorkerId};

use self::body::Body;
use self::client::Client;
use self::http::Http;
use self::patience::Patience;
use self::reader::Reader;
use self::staging::S3Staging;
use self::tags::Tags;
use self::upload::Room;
use super::{Staging, Store, Swept};
use crate::{Error, Network};

pub(super) use answer::explained;

/// How a server is treated.
#[derive(Debug, Clone)]
pub struct S3Options {
    retry_for: Duration,
    stall: Duration,
    for_an_entry: Duration,
    in_memory: u64,
    scratch_dir: Option<PathBuf>,
    network: Network,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            retry_for: Duration::from_secs(120),
            stall: Duration::from_secs(60),
            for_an_entry: Duration::from_secs(300),
            in_memory: parts::SHORT,
            scratch_dir: None,
            network: Network::default(),
        }
    }
}

impl S3Options {
    /// How long a request is repeated while its failures are of a kind that time heals: 2 minutes. Before the server has
    /// answered for the first time it is 3 seconds, so that a wrong address is told soon.
    #[must_use]
    pub fn retry_for(self, retry_for: Duration) -> Self {
        Self { retry_for, ..self }
    }

    /// The longest part of an object that waits in memory until the server has it, in bytes; three at a time do. 8 MiB, which
    /// the parts of objects up to 39 GiB have.
    #[must_use]
    pub fn in_memory(self, in_memory: u64) -> Self {
        Self { in_memory, ..self }
    }

    /// The directory that longer parts wait in, encrypted as they are sent, in files without names. It needs room for three:
    /// 1.5 % of the object, and 15 GiB at most. By default what `TMPDIR` says, or else `/var/tmp`.
    #[must_use]
    pub fn scratch_dir(self, scratch_dir: impl Into<PathBuf>) -> Self {
        Self { scratch_dir: Some(scratch_dir.into()), ..self }
    }

    /// What may be connected to. Where that is not everything, no proxy is used: it would be the one who connects.
    #[must_use]
    pub fn network(self, network: Network) -> Self {
        Self { network, ..self }
    }

    fn room(self) -> Room {
        let scratch_dir = self.scratch_dir.unwrap_or_else(scratch::default_dir).into();
        Room { in_memory: self.in_memory, scratch_dir }
    }

    /// After how long a request in which nothing moves, or in whose answer less than 1 KiB a second does, is given up: a minute.
    #[must_use]
    pub fn stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// How long a listing may take to come to its next entry, while the server answers: 5 minutes. A page may hold none that is
    /// wanted, and the server be slow. [`S3Options::retry_for`] says how long it is begun again then.
    #[must_use]
    pub fn for_an_entry(self, for_an_entry: Duration) -> Self {
        Self { for_an_entry, ..self }
    }
}

/// A store in a bucket.
///
/// Credentials that may only put objects can make snapshots: what they may not do (look whether a snapshot is there
/// already, remove what a failure left) is left out. Reading back takes the right to read, or another credential for it
/// ([`S3Store::reading_with`]).
#[derive(Clone)]
pub struct S3Store {
    settings: S3Settings,
    client: Client,
    reader: Reader,
    /// Deletes with the credential that writes.
    remover: Reader,
    tags: Tags,
    http: Http,
    /// What objects are locked with that are written.
    lock: Option<ObjectLock>,
    /// Whether what is deleted goes with all of its versions.
    all_versions: bool,
    room: Room,
}

impl S3Store {
    /// A store in the bucket that `settings` name, for one credential. Asks the server nothing yet.
    ///
    /// # Errors
    /// When the settings can't be, or their CA certificate is none.
    pub fn new(settings: &S3Settings, credential: &S3Credential, options: S3Options) -> Result<Self, Error> {
        settings.validate()?;
        let bounds = (options.stall, options.network.clone());
        let http = Http::new(&client::server(settings), settings.ca_certificate.as_deref(), bounds)?;
        let patience = Patience::new(options.retry_for, options.for_an_entry);
        let reader = Reader::new(settings, credential, &http, patience.clone())?;
        Ok(Self {
            client: Client::new(settings, credential, http.clone(), patience),
            remover: reader.clone(),
            reader,
            settings: settings.clone(),
            tags: Tags::default(),
            http,
            lock: None,
            all_versions: false,
            room: options.room(),
        })
    }

    /// Locks every object that it writes. Whoever writes must be allowed to (`s3:PutObjectRetention`), and the bucket must have
    /// been made with object lock: what a server does about the lock is found out by [`S3Store::examine`].
    #[must_use]
    pub fn locking(mut self, lock: ObjectLock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Deletes objects with all of their versions, which takes the rights to list and to delete these. Without, a bucket that
    /// keeps versions hides what is deleted, and keeps it. A version that is locked is refused, and stays.
    #[must_use]
    pub fn deleting_all_versions(mut self) -> Self {
        self.all_versions = true;
        self
    }

    /// Reads and lists with another credential than the one that writes, which then needs no right but to put.
    ///
    /// # Errors
    /// As [`S3Store::new`].
    pub fn reading_with(mut self, credential: &S3Credential) -> Result<Self, Error> {
        self.reader = Reader::new(&self.settings, credential, &self.http, self.client.patience().clone())?;
        Ok(self)
    }

    /// As [`Store::sweep`], of what lies below `prefix` (`tenants/…`) alone. The snapshots `running` stay in any case.
    ///
    /// # Errors
    /// As [`Store::sweep`].
    pub async fn sweep_below(
        &self,
        prefix: &str,
        older_than: Duration,
        running: &BTreeSet<SnapshotKey>,
    ) -> Result<Swept, Error> {
        sweep::sweep(self, prefix, older_than, running).await
    }

    /// Writes a small object beside those that are staged.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        upload::put(&self.client, key, &Body::of(bytes), self.lock.as_ref()).await.map(drop)
    }

    /// Locks an object that is there as [`S3Store::locking`] says; nothing without.
    ///
    /// # Errors
    /// When it has a longer lock already, or the server refuses.
    pub async fn lock(&self, key: &str) -> Result<(), Error> {
        match &self.lock {
            Some(lock) => lock::retain(&self.client, key, None, lock).await.map(drop),
            None => Ok(()),
        }
    }

    /// The end of an object's lock, if whoever can't go past the lock that this store gives can't go past that one either.
    ///
    /// # Errors
    /// When there is no object, or the server refuses.
    pub async fn held_until(&self, key: &str) -> Result<Option<Timestamp>, Error> {
        let given = self.lock.map(|lock| lock.mode);
        let found = self.reader.lock_of(key).await?;
        let holds =
            |lock: &ObjectLock| lock.mode == LockMode::Compliance || given != Some(LockMode::Compliance);
        Ok(found.filter(holds).map(|lock| lock.until))
    }

    /// A link with which anybody can read one object until it expires: a secret until then. Nobody is asked, not even
    /// whether the object is there.
    ///
    /// # Errors
    /// When it can't be signed.
    pub async fn presign_read(&self, key: &str, expires_in: Duration) -> Result<SecretString, Error> {
        self.reader.presign(key, expires_in).await
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Store").field(&self.describe()).finish()
    }
}

#[async_trait]
impl Store for S3Store {
    fn describe(&self) -> String {
        self.settings.to_string()
    }

    fn locator(&self, _: &WorkerId, prefix: &str) -> Locator {
        Locator::S3 {
            bucket: self.settings.bucket.clone(),
            object_key: self.client.full_key(prefix),
            etag: self.tags.of(prefix),
        }
    }

    fn lists_staged(&self) -> bool {
        true
    }

    async fn stage(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        match self.reader.is_taken(prefix).await {
            Ok(true) => {
                let source =
                    std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the snapshot exists already");
                Err(Error::io(format!("stage {prefix}"))(source))
            }
            // Whoever may only write can't look. Ids are unique, so that nothing is written over in practice.
            Ok(false) | Err(Error::Denied { .. }) => Ok(Box::new(S3Staging::new(self.clone(), prefix))),
            Err(error) => Err(error),
        }
    }

    async fn stage_again(&self, prefix: &str) -> Result<Box<dyn Staging>, Error> {
        Ok(Box::new(S3Staging::shared(self.clone(), prefix)))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.reader.read(key, range).await
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        Ok(self.reader.look_at(key).await?.map(|(size, _)| size))
    }

    async fn locked_until(&self, key: &str) -> Result<Option<Timestamp>, Error> {
        Ok(self.reader.lock_of(key).await?.map(|lock| lock.until))
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
        Ok(self.reader.entries(prefix).map_ok(|(key, _)| key).boxed())
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        if self.all_versions {
            match versions::delete(&self.client, key).await {
                Err(error) if versions::is_unsupported(&error) => {}
                deleted => return deleted,
            }
        }
        self.remover.delete(key).await
    }

    async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        if self.all_versions {
            match versions::delete_all(&self.client, prefix).await {
                Err(error) if versions::is_unsupported(&error) => {}
                deleted => return deleted,
            }
        }
        self.remover.delete_all(prefix).await
    }

    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error> {
        self.sweep_below(sweep::TENANTS, older_than, &BTreeSet::new()).await
    }
}
