//! The first few of many, by key.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use super::{MAX_ITEMS, MAX_PAGE_BYTES, Page, Range};

/// Keeps those items with the smallest keys from the beginning of a page on, as many as a page holds, in whatever order
/// they come.
pub(super) struct Window<T> {
    from: Vec<u8>,
    /// The smallest key that had to go: nothing from here on is kept.
    end: Option<Vec<u8>>,
    limit: usize,
    kept: BTreeMap<Vec<u8>, (T, usize)>,
    bytes: usize,
}

impl<T> Window<T> {
    pub(super) fn new(range: &Range) -> Self {
        let limit = range.limit.clamp(1, MAX_ITEMS);
        Self { from: range.from.clone(), end: None, limit, kept: BTreeMap::new(), bytes: 0 }
    }

    /// Whether an item of this key belongs to the page, as far as is known.
    pub(super) fn wants(&self, key: &[u8]) -> bool {
        key >= self.from.as_slice() && self.end.as_deref().is_none_or(|end| key < end)
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&T> {
        self.kept.get(key).map(|(item, _)| item)
    }

    /// Puts an item of about `bytes` bytes in the place of its key; what is too much goes.
    pub(super) fn put(&mut self, key: &[u8], item: T, bytes: usize) {
        if !self.wants(key) {
            return;
        }
        let bytes = bytes.saturating_add(super::weight(key));
        self.bytes = self.bytes.saturating_add(bytes);
        match self.kept.entry(key.to_vec()) {
            Slot::Vacant(slot) => drop(slot.insert((item, bytes))),
            Slot::Occupied(mut slot) => {
                let (_, before) = slot.insert((item, bytes));
                self.bytes = self.bytes.saturating_sub(before);
            }
        }
        while self.kept.len() > self.limit || (self.bytes > MAX_PAGE_BYTES && self.kept.len() > 1) {
            let Some((key, (_, bytes))) = self.kept.pop_last() else { return };
            self.bytes = self.bytes.saturating_sub(bytes);
            self.end = Some(key);
        }
    }

    /// What turned out to be none of the results.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some((_, bytes)) = self.kept.remove(key) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    /// The page; `finish` makes its items, or leaves some out.
    pub(super) fn finish<U>(self, mut finish: impl FnMut(Vec<u8>, T) -> Option<U>) -> Page<U> {
        let items = self.kept.into_iter().filter_map(|(key, (item, _))| finish(key, item)).collect();
        Page { items, next: self.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_are_all_keys_once_and_in_order(
            keys in proptest::collection::vec("[ab/]{1,5}", 0..60),
            limit in 1usize..6,
            bytes in prop_oneof![Just(0), Just(MAX_PAGE_BYTES / 2), Just(2 * MAX_PAGE_BYTES)],
        ) {
            let (mut all, mut range) = (Vec::new(), Range::first(limit));
            loop {
                let mut window = Window::new(&range);
                for key in &keys {
                    window.put(key.as_bytes(), (), bytes);
                }
                let page = window.finish(|key, ()| Some(key));
                prop_assert!(page.items.len() <= limit && !(page.items.is_empty() && page.next.is_some()));
                all.extend(page.items);
                let Some(next) = page.next else { break };
                range.from = next;
            }
            let expected: std::collections::BTreeSet<_> = keys.iter().map(|key| key.clone().into_bytes()).collect();
            prop_assert_eq!(all, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
