//! Objects of a store, and staged ones, as what the bridge reads from.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use xvault_connectors::{Control, Error as ConnectorError, Staging, Store};
use xvault_core::SnapshotKey;
use xvault_core::snapshot::FileDigest;

use crate::Error;
use crate::bridge::Object;

/// An object of a snapshot that exists.
pub(crate) struct Stored<'a> {
    store: &'a dyn Store,
    key: String,
    size: u64,
}

impl<'a> Stored<'a> {
    /// Looks the object up; its length must be what the manifest says.
    pub(crate) async fn open(
        store: &'a dyn Store,
        snapshot: &SnapshotKey,
        name: &'static str,
        expected: &FileDigest,
        control: &Control,
    ) -> Result<Self, Error> {
        let key = format!("{}/{name}", snapshot.prefix());
        let size = same_size(&key, control.run(store.size(&key)).await, expected.size_bytes)?;
        Ok(Self { store, key, size })
    }
}

/// An object that was written for a snapshot that does not exist yet.
pub(crate) struct Staged<'a> {
    staging: &'a dyn Staging,
    name: &'static str,
    size: u64,
}

impl<'a> Staged<'a> {
    /// Looks the object up; its length must be what was written.
    pub(crate) async fn open(
        staging: &'a dyn Staging,
        name: &'static str,
        expected: &FileDigest,
        control: &Control,
    ) -> Result<Self, Error> {
        let size = same_size(name, control.run(staging.size(name)).await, expected.size_bytes)?;
        Ok(Self { staging, name, size })
    }
}

/// That an object is there and as long as `expected`.
pub(crate) fn same_size(
    name: &str,
    found: Result<Option<u64>, ConnectorError>,
    expected: u64,
) -> Result<u64, Error> {
    let damaged = |reason| Error::Store(ConnectorError::Damaged { file: name.to_owned(), reason });
    match found.map_err(Error::Store)? {
        None => Err(damaged("it is missing".to_owned())),
        Some(size) if size == expected => Ok(size),
        Some(size) => Err(damaged(format!("it has {size} bytes instead of {expected}"))),
    }
}

#[async_trait]
impl Object for Stored<'_> {
    fn name(&self) -> &str {
        &self.key
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        self.store.read(&self.key, range).await
    }
}

#[async_trait]
impl Object for Staged<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, ConnectorError> {
        self.staging.read(self.name, range).await
    }
}
