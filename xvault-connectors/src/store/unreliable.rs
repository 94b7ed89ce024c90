//! A store that fails when it is told to: for the tests of whatever stands on stores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use xvault_core::Disposition;

use super::Store;
pub use super::hooked::Call;
use super::hooked::{Hook, HookedStore};
use crate::Error;

const CALLS: usize = Call::Abort as usize + 1;

/// Wraps a store: fails its first calls of a kind, or silently changes a byte of what is written.
pub type UnreliableStore = HookedStore<Faults>;

/// What [`UnreliableStore`] was told.
#[derive(Debug, Default)]
pub struct Faults {
    remaining: [AtomicU64; CALLS],
    flip: Mutex<Option<Flip>>,
}

#[derive(Debug, Clone)]
struct Flip {
    object: String,
    offset: u64,
}

impl UnreliableStore {
    /// As reliable as `inner`, until told otherwise.
    pub fn new(inner: impl Store + 'static) -> Self {
        Self::with_hook(inner, Faults::default())
    }

    /// Lets the next `count` calls of this kind fail with a transient error. [`Call::Read`] stands for
    /// [`Call::StagedRead`], too.
    #[must_use]
    pub fn failing(self, call: Call, count: u64) -> Self {
        if let Some(remaining) = self.hook().remaining.get(call as usize) {
            remaining.store(count, Ordering::SeqCst);
        }
        self
    }

    /// Silently flips a bit of the byte at `offset` of each staged object `name` as it is written.
    #[must_use]
    pub fn corrupting(self, name: &str, offset: u64) -> Self {
        let flip = Flip { object: name.to_owned(), offset };
        *self.hook().flip.lock().unwrap_or_else(PoisonError::into_inner) = Some(flip);
        self
    }
}

impl Faults {
    fn flip_of(&self, object: &str) -> Option<u64> {
        let flip = self.flip.lock().unwrap_or_else(PoisonError::into_inner);
        flip.as_ref().filter(|flip| flip.object == object).map(|flip| flip.offset)
    }
}

#[async_trait]
impl Hook for Faults {
    async fn before(&self, call: Call, object: &str) -> Result<(), Error> {
        let call = if call == Call::StagedRead { Call::Read } else { call };
        let Some(remaining) = self.remaining.get(call as usize) else { return Ok(()) };
        let took = remaining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match took {
            Err(_) => Ok(()),
            Ok(_) => Err(Error::Store {
                action: format!("{call:?} {object}"),
                disposition: Disposition::Transient,
                source: "the store was told to fail".into(),
            }),
        }
    }

    fn written(&self, name: &str, offset: u64, chunk: Bytes) -> Bytes {
        let ahead = self.flip_of(name).and_then(|flip| flip.checked_sub(offset));
        let Some(at) = ahead.and_then(|ahead| usize::try_from(ahead).ok()) else { return chunk };
        if at >= chunk.len() {
            return chunk;
        }
        let mut changed = BytesMut::from(&chunk[..]);
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        changed.freeze()
    }
}
