//! What the server said it has: lengths and tags of the objects of one staging.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Object by name; clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Written(Arc<Mutex<BTreeMap<String, Object>>>);

#[derive(Debug, Clone)]
struct Object {
    size: u64,
    etag: Option<String>,
}

impl Written {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, name: &str, size: u64, etag: Option<String>) {
        self.objects().insert(name.to_owned(), Object { size, etag });
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.objects().get(name).map(|object| object.size)
    }

    /// Without its quotes.
    pub(super) fn etag(&self, name: &str) -> Option<String> {
        let etag = self.objects().get(name)?.etag.clone()?;
        Some(etag.trim_matches('"').to_owned())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.objects().keys().cloned().collect()
    }
}
