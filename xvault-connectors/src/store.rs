//! Places that snapshots lie in.

mod durable;
mod fs;
pub mod hooked;
mod memory;
mod objects;
mod removal;
mod s3;
mod staging_dir;
mod sweep;
pub mod unreliable;

use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use xvault_core::WorkerId;
use xvault_core::snapshot::Locator;

use crate::Error;

pub use fs::FsStore;
pub use memory::MemoryStore;
pub use s3::{S3Options, S3Store};

/// A place that keeps objects under keys (`tenants/…/manifest.json`; parts separated by `/`).
///
/// Written through [`Store::stage`] only, so that a half-written set of objects never looks whole.
/// Every implementation and every wrapper passes [`crate::conformance::store`].
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// One line for people, without secrets: `/var/lib/xvault/backups`, `s3://bucket/prefix`.
    fn describe(&self) -> String;

    /// Where the objects below `prefix` lie, for the database.
    fn locator(&self, worker: &WorkerId, prefix: &str) -> Locator;

    /// Whether [`Store::list`] shows objects that are staged, as object stores do, which write them in place.
    /// Objects without a manifest may then be of a backup that runs; elsewhere they are remains.
    fn lists_staged(&self) -> bool;

    /// Opens a set of objects that will appear below `prefix`.
    ///
    /// # Errors
    /// When `prefix` is taken, or the store refuses.
    async fn stage(&self, prefix: &str) -> Result<Box<dyn Staging>, Error>;

    /// As [`Store::stage`], for a set whose bytes are known before, as a copy's are: objects that a dead run left of it are
    /// written over, and where objects lie in place another run may be writing the same ones meanwhile. So nothing that
    /// was closed is removed there when the staging is given up: it is for [`Store::sweep`].
    ///
    /// Whoever calls this has seen that the set does not exist.
    ///
    /// # Errors
    /// When a live run stages it elsewhere than in place, or the store refuses.
    async fn stage_again(&self, prefix: &str) -> Result<Box<dyn Staging>, Error>;

    /// The bytes of `range` of an object; fewer only where the object ends before the range does.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such object.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error>;

    /// The length of an object; `None` when there is none.
    ///
    /// # Errors
    /// When the store can't say.
    async fn size(&self, key: &str) -> Result<Option<u64>, Error>;

    /// Until when nobody can delete an object. `None` when it has no lock, or none that the store tells.
    ///
    /// # Errors
    /// When the store can't say.
    async fn locked_until(&self, key: &str) -> Result<Option<Timestamp>, Error>;

    /// The keys below `prefix`, at any depth, in no promised order. Where staged objects have keys
    /// ([`Store::lists_staged`]), they are among them: who looks for snapshots looks for manifests.
    ///
    /// # Errors
    /// When the listing can't begin; items are errors when it breaks off.
    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<String, Error>>, Error>;

    /// Deletes one object, for good: a power failure does not bring it back. Absent ones are fine.
    ///
    /// # Errors
    /// When it may still be there.
    async fn delete(&self, key: &str) -> Result<(), Error>;

    /// Deletes everything below `prefix` and its empty directories. Absent ones are fine.
    ///
    /// # Errors
    /// When something may still be there.
    async fn delete_all(&self, prefix: &str) -> Result<(), Error>;

    /// Removes what crashed runs left staged. Stagings of live runs stay where the store can tell
    /// (local disk: a lock that dies with its process). Elsewhere, on network file systems and on those without
    /// locks, those go in which nothing was written for longer than `older_than`: a live run that is silent for
    /// so long loses its staging, and then fails.
    ///
    /// # Errors
    /// When the store can't be listed. Single stagings that could not be removed are counted.
    async fn sweep(&self, older_than: Duration) -> Result<Swept, Error>;
}

/// What [`Store::sweep`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Stagings removed.
    pub removed: u64,
    /// Stagings left alone because they may be in use.
    pub in_use: u64,
    /// Stagings that could not be removed, and directories that could not be looked into: another user's, say.
    pub failed: u64,
}

/// A set of objects that is not there yet.
///
/// Dropping it without [`Staging::commit`] leaves nothing that looks like a snapshot; what lies
/// around is removed at once where that is possible, else by [`Store::sweep`].
#[async_trait]
pub trait Staging: Debug + Send + Sync {
    /// Writes an object as a stream.
    ///
    /// # Errors
    /// When the store refuses.
    async fn writer(&self, name: &str) -> Result<Box<dyn StoreWriter>, Error>;

    /// Reads back a staged object that was closed; as [`Store::read`], and from the same place:
    /// nothing between store and caller remembers what was written.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it was not written.
    async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error>;

    /// The length of a staged object that was closed.
    ///
    /// # Errors
    /// When the store can't say.
    async fn size(&self, name: &str) -> Result<Option<u64>, Error>;

    /// Makes everything durable, then writes `last` as object `name`: the set now exists, all at once.
    ///
    /// # Errors
    /// After an error the set may exist or not, but never in part.
    async fn commit(self: Box<Self>, name: &str, last: Bytes) -> Result<(), Error>;

    /// Removes what was staged.
    ///
    /// # Errors
    /// When something is left for [`Store::sweep`].
    async fn abandon(self: Box<Self>) -> Result<(), Error>;
}

/// Writes one object, front to back.
#[async_trait]
pub trait StoreWriter: Send {
    /// Says about how many bytes will be written, before the first: so that the store can prepare for very many. More or
    /// fewer may come.
    fn expect(&mut self, bytes: u64);

    /// Appends.
    ///
    /// # Errors
    /// When the store is full or gone.
    async fn write(&mut self, chunk: Bytes) -> Result<(), Error>;

    /// Ends the object; it is durable when this returns.
    ///
    /// # Errors
    /// When it may not be.
    async fn close(self: Box<Self>) -> Result<(), Error>;

    /// Gives the object up.
    ///
    /// # Errors
    /// When something is left for [`Store::sweep`].
    async fn abort(self: Box<Self>) -> Result<(), Error>;
}
