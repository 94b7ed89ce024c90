//! One file on its way: what was asked for, what came, what was handed on.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;
use xvault_core::{Entry, EntryKind, EntryPath, Metadata, WarningCode};

use super::scope::OpenBody;
use crate::ssh::sftp::{Attrs, FileType};

/// A part of a file that was asked for with one READ.
#[derive(Debug)]
struct Piece {
    offset: u64,
    asked: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Unsent,
    Sent,
    Got(Vec<Bytes>),
}

/// Whether the server holds the file open for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handle {
    Closed,
    Asked,
    Open(Bytes),
}

/// What a file had when it was opened: how much will be kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Promise {
    size: u64,
    mtime: Option<u32>,
}

/// What can be done next with the file at the head of the line.
#[derive(Debug)]
pub(super) enum Next {
    /// Hand these on; so many bytes of the budget are free again.
    Pieces(Vec<Bytes>, u64),
    /// Wait for replies.
    Wait,
    /// All was handed on that can be had.
    End,
}

/// One file on its way.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: EntryPath,
    metadata: Metadata,
    listed_size: u64,
    pub(super) handle: Handle,
    promise: Option<Promise>,
    /// Whether the sink has its entry.
    pub(super) begun: bool,
    resumed: bool,
    /// Whether it was found changed when it was opened again after a lost connection.
    pub(super) changed: bool,
    next_read: u64,
    pieces: VecDeque<Piece>,
    ended: Option<u64>,
    failed: Option<(u64, WarningCode, String)>,
    delivered: u64,
    /// When its fetching began, while it counts as being fetched.
    pub(super) fetching_since: Option<Instant>,
}

/// What the server says about one READ.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// More than was asked for, or nothing where there should be something.
    Lie(String),
}

impl File {
    pub(super) fn new(path: EntryPath, attrs: &Attrs, now: i64) -> Self {
        Self {
            path,
            metadata: attrs.metadata(now),
            listed_size: attrs.size.unwrap_or(0),
            handle: Handle::Closed,
            promise: None,
            begun: false,
            resumed: false,
            changed: false,
            next_read: 0,
            pieces: VecDeque::new(),
            ended: None,
            failed: None,
            delivered: 0,
            fetching_since: None,
        }
    }

    /// A file whose first `delivered` bytes the sink has already.
    pub(super) fn resume(body: OpenBody, delivered: u64) -> Self {
        let attrs = Attrs { size: Some(body.size), ..Attrs::default() };
        // SFTP has only these bits of a time, so only they can be compared.
        let mtime = u32::try_from(body.mtime.secs.rem_euclid(1 << 32)).ok();
        Self {
            begun: true,
            resumed: true,
            delivered,
            next_read: delivered,
            promise: Some(Promise { size: body.size, mtime }),
            ..Self::new(body.path, &attrs, 0)
        }
    }

    /// What the archive gets.
    pub(super) fn entry(&self) -> Entry {
        let size = self.promise.map_or(self.listed_size, |promise| promise.size);
        Entry { path: self.path.clone(), kind: EntryKind::File { size }, metadata: self.metadata.clone() }
    }

    /// Reading goes one byte beyond the promised size, to see whether the file grew.
    fn goal(&self) -> u64 {
        self.promise.map_or(self.listed_size, |promise| promise.size).saturating_add(1)
    }

    /// The bytes of budget to fetch it with one READ; `None` when it takes more than one.
    pub(super) fn one_read(&self, read_len: u64) -> Option<u64> {
        (self.next_read == 0 && self.pieces.is_empty() && self.goal() <= read_len).then(|| self.goal())
    }

    /// Will be fetched with one READ of `len` bytes as soon as it is open.
    pub(super) fn plan(&mut self, len: u64) {
        self.pieces.push_back(Piece { offset: 0, asked: len, state: State::Unsent });
        self.next_read = len;
    }

    /// Whether all that is asked for was planned before it was open, so that it can be closed right behind.
    pub(super) fn is_planned(&self) -> bool {
        !self.begun && self.next_read >= self.goal() && self.pieces.len() == 1
    }

    /// The next READ to send: offset, length, and whether it takes new budget.
    pub(super) fn next_request(&self, read_len: u64) -> Option<(u64, u64, bool)> {
        if let Some(piece) = self.pieces.iter().find(|piece| matches!(piece.state, State::Unsent)) {
            return Some((piece.offset, piece.asked, false));
        }
        let left = self.goal().saturating_sub(self.next_read);
        (left > 0 && self.ended.is_none() && self.failed.is_none())
            .then(|| (self.next_read, left.min(read_len), true))
    }

    /// The READ that [`File::next_request`] named was sent.
    pub(super) fn sent(&mut self, offset: u64, asked: u64) {
        match self.pieces.iter_mut().find(|piece| piece.offset == offset) {
            Some(piece) => piece.state = State::Sent,
            None => {
                self.pieces.push_back(Piece { offset, asked, state: State::Sent });
                self.next_read = offset.saturating_add(asked);
            }
        }
    }

    /// Whether nothing at all is asked for at the moment.
    pub(super) fn is_waiting_for_budget(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether more must be read than was asked for.
    pub(super) fn needs_reading(&self, read_len: u64) -> bool {
        self.failed.is_none() && self.next_request(read_len).is_some()
    }

    /// Whether every reply is here that can be had without more requests.
    pub(super) fn is_fetched(&self) -> bool {
        let all_here = self.pieces.iter().all(|piece| matches!(piece.state, State::Got(_)));
        let asked_all = self.next_read >= self.goal() || self.ended.is_some();
        self.failed.is_some() || (all_here && asked_all && self.promise.is_some())
    }

    /// Attributes of the open file, or `None` when the server would not tell.
    pub(super) fn opened(&mut self, attrs: Option<&Attrs>, now: i64) {
        let Some(attrs) = attrs else {
            self.promise.get_or_insert(Promise { size: self.listed_size, mtime: None });
            return;
        };
        if attrs.file_type().is_some_and(|kind| kind != FileType::File) {
            self.fail(self.delivered, WarningCode::Other, "is no file any more".into());
        }
        let found = Promise { size: attrs.size.unwrap_or(self.listed_size), mtime: attrs.mtime };
        if !self.begun {
            self.promise = Some(found);
            self.metadata = attrs.metadata(now);
        } else if self.resumed {
            self.changed |= self.promise != Some(found);
        }
    }

    /// What a READ brought.
    pub(super) fn got(&mut self, offset: u64, parts: Vec<Bytes>) -> Result<(), ReadFault> {
        let goal = self.goal();
        let Some(index) = self.pieces.iter().position(|piece| piece.offset == offset) else { return Ok(()) };
        let Some(piece) = self.pieces.get_mut(index) else { return Ok(()) };
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if len == 0 || len > piece.asked {
            return Err(ReadFault::Lie(format!("{len} bytes where {} were asked for", piece.asked)));
        }
        let missing = piece.asked - len;
        piece.state = State::Got(parts);
        let end = offset + len;
        if missing > 0 && end + 1 < goal && self.ended.is_none_or(|ended| end < ended) {
            piece.asked = len;
            self.pieces.insert(index + 1, Piece { offset: end, asked: missing, state: State::Unsent });
        }
        Ok(())
    }

    /// A READ at `offset` found the end of the file.
    pub(super) fn end_at(&mut self, offset: u64) {
        self.ended = Some(self.ended.map_or(offset, |ended| ended.min(offset)));
        if let Some(piece) = self.pieces.iter_mut().find(|piece| piece.offset == offset) {
            piece.state = State::Got(Vec::new());
        }
    }

    /// Nothing can be read from `offset` on.
    pub(super) fn fail(&mut self, offset: u64, code: WarningCode, message: String) {
        if self.failed.as_ref().is_none_or(|(earlier, _, _)| offset < *earlier) {
            self.failed = Some((offset, code, message));
        }
    }

    /// Nothing more can be read than is here.
    pub(super) fn fail_from_here(&mut self, code: WarningCode, message: String) {
        let here = self.pieces.iter().take_while(|piece| matches!(piece.state, State::Got(_)));
        let offset =
            here.map(|piece| piece.offset.saturating_add(piece.asked)).last().unwrap_or(self.delivered);
        self.fail(offset, code, message);
    }

    /// Why it can't be read, if the sink has come that far.
    pub(super) fn failure(&self) -> Option<(WarningCode, String)> {
        let (offset, code, message) = self.failed.as_ref()?;
        (*offset <= self.delivered).then(|| (*code, message.clone()))
    }

    /// Whether its entry can be begun: its size is known, and its content can be read.
    pub(super) fn can_begin(&self) -> bool {
        let first = self.pieces.front().is_some_and(|piece| matches!(piece.state, State::Got(_)));
        self.promise.is_some() && (first || self.ended.is_some())
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        let at_end = self.ended.is_some_and(|ended| ended <= self.delivered);
        let asked_all = self.next_read >= self.goal();
        if at_end || self.failure().is_some() || self.delivered >= self.goal() {
            return Next::End;
        }
        match self.pieces.front_mut() {
            Some(Piece { offset, asked, state: State::Got(parts) }) if *offset == self.delivered => {
                let (parts, asked) = (std::mem::take(parts), *asked);
                self.delivered += parts.iter().map(|part| part.len() as u64).sum::<u64>();
                self.pieces.pop_front();
                Next::Pieces(parts, asked)
            }
            None if asked_all => Next::End,
            _ => Next::Wait,
        }
    }

    /// Bytes of budget its pieces hold.
    pub(super) fn reserved(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.asked).sum()
    }

    /// The connection is gone: asks again for what the sink has not got.
    pub(super) fn restart(&mut self) {
        self.handle = Handle::Closed;
        self.fetching_since = None;
        if !self.is_fetched() {
            self.pieces.clear();
            self.ended = None;
            self.next_read = self.delivered;
            self.resumed = self.begun;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const READ_LEN: u64 = 100;

    fn file(listed: u64) -> File {
        let attrs = Attrs { size: Some(listed), mode: Some(0o100_644), ..Attrs::default() };
        let mut file = File::new(EntryPath::new(*b"f").unwrap(), &attrs, 0);
        file.opened(Some(&attrs), 0);
        file
    }

    /// Plays an honest server that holds `content` and gives at most `most` bytes at once,
    /// replying in the order that `pick` chooses.
    fn fetch(mut file: File, content: &[u8], most: usize, mut pick: impl FnMut(usize) -> usize) -> Vec<u8> {
        let (mut asked, mut out) = (Vec::new(), Vec::new());
        loop {
            while let Some((offset, len, _)) = file.next_request(READ_LEN) {
                file.sent(offset, len);
                asked.push((offset, len));
            }
            match file.next() {
                Next::Pieces(parts, _) => out.extend(parts.concat()),
                Next::End => return out,
                Next::Wait => {
                    let (offset, len) = asked.swap_remove(pick(asked.len()));
                    let from = content.len().min(usize::try_from(offset).unwrap());
                    let len = most.min(usize::try_from(len).unwrap()).min(content.len() - from);
                    match len {
                        0 => file.end_at(offset),
                        _ => file
                            .got(offset, vec![Bytes::copy_from_slice(&content[from..from + len])])
                            .unwrap(),
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_byte_comes_once_and_in_order(
            content in proptest::collection::vec(any::<u8>(), 0..700),
            most in 1_usize..150,
            seed in any::<usize>(),
        ) {
            let mut state = seed;
            let got = fetch(file(content.len() as u64), &content, most, |n| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % n
            });
            prop_assert_eq!(got, content);
        }
    }

    #[test]
    fn growth_shows_by_one_byte_and_shrinking_ends_early() {
        assert_eq!(fetch(file(150), &[7; 400], 100, |_| 0).len(), 151);
        assert_eq!(fetch(file(400), &[7; 150], 100, |_| 0).len(), 150);
    }

    #[test]
    fn more_than_asked_and_nothing_at_all_are_lies() {
        let mut lied_to = file(50);
        lied_to.sent(0, 51);
        assert!(lied_to.got(0, vec![Bytes::from_static(&[0; 52])]).is_err());
        assert!(lied_to.got(0, vec![]).is_err());
    }

    #[test]
    fn a_restart_keeps_what_the_sink_has() {
        let mut cut = file(250);
        for (offset, len) in [(0, 100), (100, 100), (200, 51)] {
            cut.sent(offset, len);
        }
        cut.got(0, vec![Bytes::from_static(&[1; 100])]).unwrap();
        assert!(matches!(cut.next(), Next::Pieces(_, 100)));
        cut.begun = true;
        cut.restart();
        assert_eq!(cut.next_request(READ_LEN), Some((100, 100, true)));
        assert_eq!(cut.reserved(), 0);
        let other = Attrs { size: Some(250), mode: Some(0o100_644), mtime: Some(9), ..Attrs::default() };
        cut.opened(Some(&other), 0);
        assert!(cut.changed);
    }
}
