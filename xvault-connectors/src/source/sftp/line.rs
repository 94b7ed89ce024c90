//! The entries ahead of the sink, in order, and the fetching of their content.
//!
//! What limits it is bytes: content that was asked for and not yet handed on. How many small
//! files are fetched at once follows the round-trip time ([`Pace`]).

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;
use xvault_core::{Entry, EntryPath, Metadata, WarningCode};

use super::file::{File, Handle, ReadFault};
use super::listing::refusal;
use super::pace::Pace;
use super::requests::{Purpose, Requests};
use super::scope::remote_path;
use crate::Error;
use crate::ssh::sftp::{Reply, Request, StatusCode};

/// Content asked for and not yet handed on: 320 MB/s on a way of 50 ms.
const BUDGET: u64 = 16 << 20;

/// What even an empty file costs of the budget.
const MIN_COST: u64 = 1024;

/// Entries ahead of the sink.
const MAX_AHEAD: usize = 4096;

/// One entry ahead of the sink.
pub(super) enum Slot {
    /// Nothing is to be fetched.
    Whole(Entry),
    /// A symbolic link, and its target when it is known.
    Link { path: EntryPath, metadata: Metadata, target: Option<Target> },
    /// A file.
    File(Box<File>),
    /// Something that can't be read.
    Warning(EntryPath, WarningCode, String),
    /// A socket, pipe or device.
    Special,
}

/// Where a link points, or why that can't be told.
pub(super) type Target = Result<Vec<u8>, (WarningCode, String)>;

/// The entries ahead of the sink. Slots are numbered by their place in the whole walk.
#[derive(Default)]
pub(super) struct Line {
    slots: VecDeque<Slot>,
    first: u64,
    reserved: u64,
    fetching: usize,
    to_open: BTreeSet<u64>,
    to_read: BTreeSet<u64>,
    pace: Pace,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < MAX_AHEAD
    }

    pub(super) fn push(&mut self, slot: Slot) {
        if matches!(slot, Slot::File(_) | Slot::Link { .. }) {
            self.to_open.insert(self.first + self.slots.len() as u64);
        }
        self.slots.push_back(slot);
    }

    pub(super) fn front(&mut self) -> Option<&mut Slot> {
        self.slots.front_mut()
    }

    /// Takes the first slot off and frees what it holds.
    pub(super) fn pop(&mut self, requests: &mut Requests) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        if let Slot::File(file) = &slot {
            self.reserved -= file.reserved();
            self.fetching -= usize::from(file.fetching_since.is_some());
            if let Handle::Open(handle) = &file.handle {
                requests.close(handle);
            }
        }
        self.to_open.remove(&self.first);
        self.to_read.remove(&self.first);
        self.first += 1;
        Some(slot)
    }

    /// Content was handed on.
    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }

    fn file(&mut self, number: u64) -> Option<&mut File> {
        match self.slot(number) {
            Some(Slot::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Asks for what comes next, as far as budget, window and handles reach.
    pub(super) fn fetch(&mut self, requests: &mut Requests) {
        while let Some(number) = self.to_open.first().copied() {
            if !self.open(number, requests) {
                break;
            }
            self.to_open.remove(&number);
        }
        while let Some(number) = self.to_read.first().copied() {
            if !self.read_on(number, requests) {
                break;
            }
            self.to_read.remove(&number);
        }
    }

    /// Asks for a link's target or a file's handle. The head of the line is never kept waiting.
    fn open(&mut self, number: u64, requests: &mut Requests) -> bool {
        let is_head = number == self.first;
        let may_wait = self.fetching >= self.pace.window() || !requests.has_free_handle();
        if may_wait && !is_head {
            return false;
        }
        let room = if is_head { u64::MAX } else { BUDGET.saturating_sub(self.reserved) };
        match self.slot(number) {
            Some(Slot::Link { path, .. }) => {
                requests.ask(Purpose::ReadLink(number), &Request::ReadLink(&remote_path(Some(path))));
            }
            Some(Slot::File(file)) => {
                let cost = file.one_read(requests.read_len()).unwrap_or(0).max(MIN_COST);
                if cost > room {
                    return false;
                }
                requests.ask(Purpose::Open(number), &Request::Open(&remote_path(Some(&file.path))));
                file.handle = Handle::Asked;
                let counts = file.fetching_since.replace(Instant::now()).is_none();
                self.fetching += usize::from(counts);
                self.reserve_one_read(number, requests.read_len());
            }
            _ => {}
        }
        true
    }

    /// A small file is read as soon as it is open, so its budget is taken now.
    fn reserve_one_read(&mut self, number: u64, read_len: u64) {
        let Some(file) = self.file(number) else { return };
        if let Some(cost) = file.one_read(read_len) {
            file.plan(cost);
            self.reserved += cost;
        }
    }

    /// Asks for more of an open file; `false` when the budget is used up.
    fn read_on(&mut self, number: u64, requests: &mut Requests) -> bool {
        let is_head = number == self.first;
        let mut room = BUDGET.saturating_sub(self.reserved);
        let Some(file) = self.file(number) else { return true };
        let Handle::Open(handle) = file.handle.clone() else { return true };
        let mut taken = 0;
        let done = loop {
            let Some((offset, len, is_new)) = file.next_request(requests.read_len()) else { break true };
            let must_go_on = is_head && file.is_waiting_for_budget();
            if is_new && len > room && !must_go_on {
                break false;
            }
            ask_read(requests, number, &handle, offset, len);
            file.sent(offset, len);
            if is_new {
                taken += len;
                room = room.saturating_sub(len);
            }
        };
        self.reserved += taken;
        done
    }

    pub(super) fn opened(&mut self, number: u64, reply: Reply, requests: &mut Requests) -> Result<(), Error> {
        match reply {
            Reply::Handle(handle) => {
                let Some(file) = self.file(number) else {
                    requests.close(&handle);
                    return Ok(());
                };
                requests.ask(Purpose::Fstat(number), &Request::Fstat(&handle));
                if file.is_planned() {
                    // One round trip for all: the server answers in order.
                    while let Some((offset, len, false)) = file.next_request(requests.read_len()) {
                        ask_read(requests, number, &handle, offset, len);
                        file.sent(offset, len);
                    }
                    requests.close(&handle);
                    file.handle = Handle::Closed;
                } else {
                    file.handle = Handle::Open(handle);
                    self.to_read.insert(number);
                }
                Ok(())
            }
            Reply::Status(status) if status.code != StatusCode::Ok => {
                requests.forget_handle();
                if let Some(file) = self.file(number) {
                    file.handle = Handle::Closed;
                    let (code, message) = refusal(&status, "could not be opened");
                    file.fail_from_here(code, message);
                }
                self.settle(number, requests);
                Ok(())
            }
            _ => Err(requests.protocol("OPEN was answered with something else")),
        }
    }

    pub(super) fn looked(&mut self, number: u64, reply: &Reply, now: i64, requests: &mut Requests) {
        if let Some(file) = self.file(number) {
            let attrs = if let Reply::Attrs(attrs) = reply { Some(attrs) } else { None };
            file.opened(attrs, now);
        }
        self.settle(number, requests);
    }

    pub(super) fn read(
        &mut self,
        number: u64,
        offset: u64,
        reply: Reply,
        requests: &mut Requests,
    ) -> Result<(), Error> {
        let Some(file) = self.file(number) else { return Ok(()) };
        match reply {
            Reply::Data(parts) => {
                let path = file.path.clone();
                file.got(offset, parts).map_err(|ReadFault::Lie(lie)| {
                    requests.protocol(format!("reading `{path}` it gave {lie}"))
                })?;
            }
            Reply::Status(status) if status.code == StatusCode::Eof => file.end_at(offset),
            Reply::Status(status) if status.code != StatusCode::Ok => {
                let (code, message) = refusal(&status, &format!("could not be read from byte {offset} on"));
                file.fail(offset, code, message);
            }
            _ => return Err(requests.protocol("READ was answered with something else")),
        }
        self.settle(number, requests);
        Ok(())
    }

    /// After a reply about a file: asks on, opens it again, or counts it as fetched.
    fn settle(&mut self, number: u64, requests: &Requests) {
        let Some(file) = self.file(number) else { return };
        if file.is_fetched() {
            if let Some(since) = file.fetching_since.take() {
                self.fetching -= 1;
                self.pace.fetched(since.elapsed());
            }
        } else if file.needs_reading(requests.read_len()) {
            match file.handle {
                Handle::Open(_) => self.to_read.insert(number),
                Handle::Closed => self.to_open.insert(number),
                Handle::Asked => false,
            };
        }
    }

    pub(super) fn linked(&mut self, number: u64, reply: Reply, requests: &Requests) -> Result<(), Error> {
        let Some(Slot::Link { target, .. }) = self.slot(number) else { return Ok(()) };
        *target = Some(match reply {
            Reply::Names(names) => match names.into_iter().next().map(|name| name.name) {
                Some(name) if is_link_target(&name) => Ok(name.to_vec()),
                _ => Err((WarningCode::BadName, "points to what can be no path".into())),
            },
            Reply::Status(status) => Err(refusal(&status, "is a link that could not be read")),
            _ => return Err(requests.protocol("READLINK was answered with something else")),
        });
        Ok(())
    }

    /// The connection is gone: what is not here must be asked for again.
    pub(super) fn restart(&mut self) {
        self.to_open.clear();
        self.to_read.clear();
        self.fetching = 0;
        self.reserved = 0;
        for (number, slot) in (self.first..).zip(&mut self.slots) {
            let ask_again = match slot {
                Slot::File(file) => {
                    file.restart();
                    self.reserved += file.reserved();
                    !file.is_fetched()
                }
                Slot::Link { target, .. } => target.is_none(),
                _ => false,
            };
            if ask_again {
                self.to_open.insert(number);
            }
        }
    }
}

fn ask_read(requests: &mut Requests, number: u64, handle: &[u8], offset: u64, len: u64) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    requests.ask(Purpose::Read(number, offset), &Request::Read { handle, offset, len });
}

fn is_link_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= xvault_core::entry::MAX_PATH_LEN && !target.contains(&0)
}
