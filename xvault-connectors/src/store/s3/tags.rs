//! The tags of artifacts that were stored just now, for their locators.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are remembered: a locator is asked for when its snapshot was made.
const REMEMBERED: usize = 64;

/// The newest ones, by their snapshot's prefix; clones share.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags(Arc<Mutex<VecDeque<(String, String)>>>);

impl Tags {
    fn tags(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember(&self, prefix: &str, etag: Option<String>) {
        let Some(etag) = etag else { return };
        let mut tags = self.tags();
        tags.truncate(REMEMBERED - 1);
        tags.push_front((prefix.to_owned(), etag));
    }

    pub(super) fn of(&self, prefix: &str) -> Option<String> {
        self.tags().iter().find(|(known, _)| known == prefix).map(|(_, etag)| etag.clone())
    }
}
