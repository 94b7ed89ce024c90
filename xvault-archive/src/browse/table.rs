//! What the entries of one snapshot are like, in sixteen bytes each.

use std::hash::{BuildHasher, RandomState};

use super::skim::Found;
use crate::error::Error;
use crate::listing::ArchiveEntry;

/// The most entries that are held at a time: 64 MiB.
pub(super) const MAX_ENTRIES: usize = 4 << 20;

/// How an entry of the other snapshot compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is none of its path, as far as is known.
    Alone,
    Same,
    Different,
}

/// Paths and what is said of them, as hashes under a key that nobody knows.
///
/// Two paths are taken for one with odds of n²/2⁶⁵ among n: 1 in two million for four million.
pub(super) struct Table {
    key: RandomState,
    /// By the first.
    rows: Vec<(u64, u64)>,
    states: Vec<State>,
}

/// A path's hash.
pub(super) type Place = u64;

/// Some of all paths, by the low bits of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    bits: u32,
    of: u64,
}

impl Share {
    pub(super) const ALL: Self = Self { bits: 0, of: 0 };

    pub(super) fn holds(self, place: Place) -> bool {
        let mask = 1u64.checked_shl(self.bits).map_or(u64::MAX, |end| end - 1);
        place & mask == self.of
    }

    /// Its two halves.
    pub(super) fn halves(self) -> (Self, Self) {
        let bits = self.bits + 1;
        (Self { bits, of: self.of }, Self { bits, of: self.of | 1 << self.bits })
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self { key: RandomState::new(), rows: Vec::new(), states: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.states.clear();
    }

    pub(super) fn place(&self, path: &[u8]) -> Place {
        self.key.hash_one(path)
    }

    /// Whether it holds more entries than that. What comes again and again is no reason to say so.
    pub(super) fn is_fuller_than(&mut self, most: usize) -> bool {
        if self.rows.len() <= most {
            return false;
        }
        self.sort();
        // Not `most`: it would be sorted again with the next entry.
        self.rows.len() > most / 2
    }

    pub(super) fn push(&mut self, place: Place, found: &Found<'_>) -> Result<(), Error> {
        let likeness = self.likeness(found)?;
        self.rows.push((place, likeness));
        Ok(())
    }

    /// Lets go of what is not of this share.
    pub(super) fn keep(&mut self, share: Share) {
        self.rows.retain(|(place, _)| share.holds(*place));
    }

    /// Makes it ready to be looked into. Of entries of the same path one counts.
    pub(super) fn settle(&mut self) {
        self.sort();
        self.states.clear();
        self.states.resize(self.rows.len(), State::Alone);
    }

    fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|(place, _)| *place);
        self.rows.dedup_by_key(|(place, _)| *place);
    }

    /// Takes note of an entry of the other snapshot: how it compares, or that it is the only one of its path.
    pub(super) fn meet(&mut self, place: Place, found: &Found<'_>) -> Result<State, Error> {
        let likeness = self.likeness(found)?;
        let Ok(at) = self.rows.binary_search_by_key(&place, |(place, _)| *place) else {
            return Ok(State::Alone);
        };
        let same = self.rows.get(at).is_some_and(|(_, own)| *own == likeness);
        let state = if same { State::Same } else { State::Different };
        if let Some(own) = self.states.get_mut(at) {
            *own = state;
        }
        Ok(state)
    }

    /// What was noted of an entry's path.
    pub(super) fn state(&self, place: Place) -> State {
        let at = self.rows.binary_search_by_key(&place, |(place, _)| *place).ok();
        at.and_then(|at| self.states.get(at)).copied().unwrap_or(State::Same)
    }

    /// Whether anything was not the same.
    pub(super) fn has_differences(&self) -> bool {
        self.states.iter().any(|state| *state != State::Same)
    }

    fn likeness(&self, found: &Found<'_>) -> Result<u64, Error> {
        match found.said() {
            Some(said) => Ok(self.key.hash_one(said)),
            None => found.entry().map(|entry| self.key.hash_one(essence(&entry))),
        }
    }
}

/// What an entry is, without where it lies.
fn essence(entry: &ArchiveEntry) -> Vec<u8> {
    format!("{:?}{:?}{:?}", entry.entry.kind, entry.entry.metadata, entry.blake3).into_bytes()
}
