//! The entries ahead of the sink, in order.
//!
//! What limits it is bytes: content that is being fetched or was, and not yet handed on.

use std::collections::VecDeque;

use tokio::sync::mpsc::Receiver;
use xvault_core::{Entry, EntryPath, WarningCode};

use super::fetch::{FileJob, Piece, SMALL};
use crate::ftp::Listed;

/// Content that is fetched ahead.
const BUDGET: u64 = 16 << 20;

/// What even an empty file costs of the budget.
const MIN_COST: u64 = 2048;

/// Entries ahead of the sink.
const MAX_AHEAD: usize = 4096;

/// One entry ahead of the sink.
pub(super) enum Slot {
    /// Nothing is to be fetched.
    Whole(Entry),
    File(Box<File>),
    /// Something that can't be read.
    Warning(EntryPath, WarningCode, String),
    /// A socket, pipe or device.
    Special,
}

/// A file ahead of the sink.
pub(super) struct File {
    pub(super) path: EntryPath,
    pub(super) listed: Listed,
    /// Its pieces, once it is being fetched.
    pub(super) pieces: Option<Receiver<Piece>>,
    /// Whether the sink has its entry.
    pub(super) begun: bool,
}

impl File {
    /// Of a large file no more waits than this.
    fn cost(&self) -> u64 {
        self.listed.size.unwrap_or(SMALL).min(SMALL) + MIN_COST
    }
}

/// The entries ahead of the sink. Slots are numbered by their place in the whole walk.
#[derive(Default)]
pub(super) struct Line {
    slots: VecDeque<Slot>,
    first: u64,
    reserved: u64,
    to_fetch: VecDeque<u64>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < MAX_AHEAD
    }

    /// Files that nobody fetches yet.
    pub(super) fn unfetched(&self) -> usize {
        self.to_fetch.len()
    }

    pub(super) fn push(&mut self, slot: Slot) {
        if matches!(slot, Slot::File(_)) {
            self.to_fetch.push_back(self.first + self.slots.len() as u64);
        }
        self.slots.push_back(slot);
    }

    pub(super) fn front(&mut self) -> Option<&mut Slot> {
        self.slots.front_mut()
    }

    /// Takes the first slot off and frees what it holds.
    pub(super) fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        if let Slot::File(file) = &slot
            && file.pieces.is_some()
        {
            self.reserved -= file.cost();
        }
        self.first += 1;
        Some(slot)
    }

    /// The next file to fetch, as far as the budget reaches. The head of the line is never kept waiting.
    pub(super) fn next_job(&mut self) -> Option<FileJob> {
        let number = *self.to_fetch.front()?;
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let Slot::File(file) = self.slots.get_mut(index)? else { return None };
        if index > 0 && self.reserved + file.cost() > BUDGET {
            return None;
        }
        self.reserved += file.cost();
        let (job, pieces) = FileJob::new(&file.path, &file.listed);
        file.pieces = Some(pieces);
        self.to_fetch.pop_front();
        Some(job)
    }
}
