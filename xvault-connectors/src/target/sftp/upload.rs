//! One file on its way: from its first request to its name.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use xvault_core::Entry;

use super::place::{Root, mode_and_time, owner};
use crate::Error;
use crate::ssh::sftp::{Reply, Request, StatusCode};

/// Files from here on are written to disk before they get their name; for small ones that would cost more than they do.
const SYNCED: u64 = 1 << 20;

/// What a reply confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    /// What a run before has left, if it has, is gone.
    Clear,
    Write,
    Owner,
    Attrs,
    Sync,
    Close,
    /// What it replaces is gone.
    Replace,
    Rename,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    /// Something stood at the temporary name.
    Cleared,
    Writing,
    Closing,
    Renaming,
    Done,
}

/// One file on its way.
pub(super) struct Upload {
    pub(super) entry: Entry,
    pub(super) temporary: Vec<u8>,
    pub(super) handle: Option<Bytes>,
    /// Content that was not sent yet.
    pub(super) queue: VecDeque<Bytes>,
    /// Nothing follows, and its content was right.
    pub(super) is_whole: bool,
    pub(super) failed: bool,
    place: Vec<u8>,
    replaces: bool,
    state: State,
    sent: u64,
    /// Requests without a reply.
    awaited: usize,
}

impl Upload {
    pub(super) fn new(entry: Entry, root: &Root, replaces: bool) -> Self {
        Self {
            temporary: root.temporary(&entry.path),
            place: root.place(&entry.path),
            entry,
            handle: None,
            queue: VecDeque::new(),
            is_whole: false,
            failed: false,
            replaces,
            state: State::Opening,
            sent: 0,
            awaited: 1,
        }
    }

    pub(super) fn open(&self) -> Request<'_> {
        Request::Create(&self.temporary)
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes a reply in. `Err(None)`: it is none of those that the request may have.
    pub(super) fn replied(&mut self, step: Step, reply: Reply, root: &Root) -> Result<(), Option<Error>> {
        self.awaited -= 1;
        let (op, status) = match (step, reply) {
            (Step::Open, Reply::Handle(handle)) => {
                self.handle = Some(handle);
                self.state = State::Writing;
                return Ok(());
            }
            (_, Reply::Status(status)) if status.code == StatusCode::Ok && step != Step::Open => {
                return Ok(());
            }
            // It was not there; what is wrong otherwise is told by the next attempt to open.
            (Step::Clear | Step::Replace, Reply::Status(_)) => return Ok(()),
            (Step::Open, Reply::Status(_)) if self.state == State::Opening => {
                self.state = State::Cleared;
                return Ok(());
            }
            (Step::Open, Reply::Status(status)) => ("create", status),
            (Step::Write | Step::Sync | Step::Close, Reply::Status(status)) => ("write", status),
            (Step::Owner, Reply::Status(status)) => ("set the owner of", status),
            (Step::Attrs, Reply::Status(status)) => ("set the mode and time of", status),
            (Step::Rename, Reply::Status(status)) => ("give its name to", status),
            _ => return Err(None),
        };
        self.failed = true;
        Err(Some(root.failed(op, &self.entry.path, &status)))
    }

    /// Asks for what comes next.
    pub(super) fn go_on(
        &mut self,
        write_len: usize,
        with_owner: bool,
        fsync: bool,
        posix_rename: bool,
        ask: &mut impl FnMut(Step, u64, &Request<'_>),
    ) {
        match self.state {
            State::Cleared if self.awaited == 0 => {
                ask(Step::Clear, 0, &Request::Remove(&self.temporary));
                ask(Step::Open, 0, &Request::Create(&self.temporary));
                self.awaited = 2;
            }
            State::Writing => {
                self.write(write_len, ask);
                if self.is_whole && self.awaited == 0 {
                    self.close(with_owner, fsync, ask);
                }
            }
            State::Closing if self.awaited == 0 => self.rename(posix_rename, ask),
            State::Renaming if self.awaited == 0 => self.state = State::Done,
            _ => {}
        }
    }

    fn write(&mut self, write_len: usize, ask: &mut impl FnMut(Step, u64, &Request<'_>)) {
        let Some(handle) = &self.handle else { return };
        while let Some(chunk) = self.queue.front_mut() {
            let data = chunk.split_to(chunk.len().min(write_len.max(1)));
            if !chunk.has_remaining() {
                self.queue.pop_front();
            }
            let len = data.len() as u64;
            ask(Step::Write, len, &Request::Write { handle, offset: self.sent, data: &data });
            self.sent += len;
            self.awaited += 1;
        }
    }

    fn close(&mut self, with_owner: bool, fsync: bool, ask: &mut impl FnMut(Step, u64, &Request<'_>)) {
        let Some(handle) = self.handle.take() else { return };
        let owner = owner(&self.entry);
        // The owner first, as changing it clears set-id bits.
        if with_owner && owner.owner.is_some() {
            ask(Step::Owner, 0, &Request::FSetStat(&handle, owner));
            self.awaited += 1;
        }
        ask(Step::Attrs, 0, &Request::FSetStat(&handle, mode_and_time(&self.entry, with_owner)));
        if fsync && self.sent >= SYNCED {
            ask(Step::Sync, 0, &Request::Fsync(&handle));
            self.awaited += 1;
        }
        ask(Step::Close, 0, &Request::Close(&handle));
        self.awaited += 2;
        self.state = State::Closing;
    }

    fn rename(&mut self, posix_rename: bool, ask: &mut impl FnMut(Step, u64, &Request<'_>)) {
        self.state = State::Renaming;
        self.awaited = 1;
        if self.replaces && posix_rename {
            return ask(Step::Rename, 0, &Request::PosixRename(&self.temporary, &self.place));
        }
        if self.replaces {
            ask(Step::Replace, 0, &Request::Remove(&self.place));
            self.awaited += 1;
        }
        ask(Step::Rename, 0, &Request::Rename(&self.temporary, &self.place));
    }
}
