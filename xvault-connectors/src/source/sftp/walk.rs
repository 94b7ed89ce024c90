//! The walk over SFTP: asks ahead, hands on in order, and goes on after a lost connection.

use xvault_core::{Entry, EntryKind, Metadata, WarningCode};

use super::cursor::Cursor;
use super::file::{File, Next};
use super::line::{Line, Slot, Target};
use super::listing::Listings;
use super::requests::{Purpose, Requests};
use super::scope::{Scope, closed_root};
use crate::source::Emitter;
use crate::source::link::Link;
use crate::ssh::sftp::{Reply, Sftp};
use crate::{Control, Error};

/// Content handed on before new requests are sent.
const TURN_LEN: u64 = 1 << 20;

/// What the walk brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Listings that came to their end.
    pub(crate) directories: u64,
    /// Bodies that came to their end.
    pub(crate) files: u64,
}

/// Hands everything in `scope` to `emitter`: over `sftp`, and over new connections of `link` when it breaks.
///
/// # Errors
/// When a configured path can't be read at all, a listing fails half-way, the connection is lost for good, or the server breaks the protocol.
pub(crate) async fn walk(
    link: &mut Link,
    sftp: Sftp,
    scope: Scope,
    emitter: &mut Emitter<'_>,
) -> Result<Walked, Error> {
    let now = xvault_core::clock::now().as_second();
    let mut line = Line::default();
    if let Some(body) = scope.delivered.as_ref().and_then(|delivered| delivered.open_body.clone()) {
        line.push(Slot::File(Box::new(File::resume(body, emitter.delivered()))));
    }
    let control = emitter.control().clone();
    let requests = Requests::new(sftp);
    let cursor = Cursor::new(now);
    let mut walk =
        Walk { scope, now, cursor, line, listings: Listings::default(), requests, emitter, files: 0 };
    loop {
        match walk.run(&control).await {
            Ok(()) => return Ok(Walked { directories: walk.listings.finished, files: walk.files }),
            Err(error) => walk.reconnect(link, error, &control).await?,
        }
    }
}

struct Walk<'w, 'e> {
    scope: Scope,
    now: i64,
    cursor: Cursor,
    line: Line,
    listings: Listings,
    requests: Requests,
    emitter: &'w mut Emitter<'e>,
    files: u64,
}

impl Walk<'_, '_> {
    async fn run(&mut self, control: &Control) -> Result<(), Error> {
        loop {
            control.check()?;
            let walked = self.cursor.advance(&self.scope, &mut self.listings, &mut self.line)?;
            if walked && self.line.is_empty() {
                return Ok(());
            }
            self.listings.start(&mut self.requests, self.cursor.awaited().as_ref());
            self.line.fetch(&mut self.requests);
            self.requests.flush();
            let handed_on = self.hand_on().await?;
            let received = self.take_what_is_here()?;
            if !handed_on && !received {
                self.await_reply(control).await?;
            }
        }
    }

    async fn await_reply(&mut self, control: &Control) -> Result<(), Error> {
        if self.requests.is_idle() {
            return Err(Error::Incomplete("the walk waits for nothing; this is a defect of xVault".into()));
        }
        let (purpose, reply) = control.run(self.requests.recv()).await?;
        self.dispatch(purpose, reply)
    }

    fn take_what_is_here(&mut self) -> Result<bool, Error> {
        let mut received = false;
        while let Some((purpose, reply)) = self.requests.try_recv()? {
            self.dispatch(purpose, reply)?;
            received = true;
        }
        Ok(received)
    }

    fn dispatch(&mut self, purpose: Purpose, reply: Reply) -> Result<(), Error> {
        let requests = &mut self.requests;
        match purpose {
            Purpose::OpenDir(dir) => self.listings.opened(dir, reply, requests),
            Purpose::ReadDir(dir) => self.listings.read(dir, reply, requests, &self.scope),
            Purpose::LstatChild(dir, child) => {
                self.listings.lstat(dir, child, reply, &self.scope);
                Ok(())
            }
            Purpose::Open(slot) => self.line.opened(slot, reply, requests),
            Purpose::Fstat(slot) => {
                self.line.looked(slot, &reply, self.now, requests);
                Ok(())
            }
            Purpose::Read(slot, offset) => self.line.read(slot, offset, reply, requests),
            Purpose::ReadLink(slot) => self.line.linked(slot, reply, requests),
            Purpose::Close => Ok(()),
        }
    }

    /// Hands on what is ready at the head of the line, for one turn. `false` when nothing was.
    async fn hand_on(&mut self) -> Result<bool, Error> {
        let mut left = TURN_LEN;
        let mut handed_on = false;
        while left > 0 {
            let ready = match self.line.front() {
                None => return Ok(handed_on),
                Some(Slot::File(_)) => self.hand_on_file(&mut left).await?,
                Some(Slot::Link { target: None, .. }) => false,
                Some(_) => self.hand_on_whole().await?,
            };
            if !ready {
                return Ok(handed_on);
            }
            handed_on = true;
        }
        Ok(handed_on)
    }

    async fn hand_on_whole(&mut self) -> Result<bool, Error> {
        match self.line.pop(&mut self.requests) {
            Some(Slot::Whole(entry)) => self.emitter.whole(entry).await?,
            Some(Slot::Link { path, metadata, target: Some(target) }) => {
                self.hand_on_link(path, metadata, target).await?;
            }
            Some(Slot::Warning(path, code, message)) => self.emitter.warn(path, code, message).await?,
            Some(Slot::Special) => self.emitter.skip_special(),
            _ => {}
        }
        Ok(true)
    }

    async fn hand_on_link(
        &mut self,
        path: xvault_core::EntryPath,
        metadata: Metadata,
        target: Target,
    ) -> Result<(), Error> {
        match target {
            Ok(target) => {
                self.emitter.whole(Entry { path, kind: EntryKind::Symlink { target }, metadata }).await
            }
            Err((code, message)) => self.emitter.warn(path, code, message).await,
        }
    }

    /// Hands on what is here of the first file. `false` when nothing is.
    async fn hand_on_file(&mut self, left: &mut u64) -> Result<bool, Error> {
        let Some(Slot::File(file)) = self.line.front() else { return Ok(false) };
        if !file.begun {
            if let Some((code, message)) = file.failure() {
                let path = file.path.clone();
                if self.scope.is_root(Some(&path)) {
                    return Err(closed_root(Some(&path), code, &message));
                }
                self.line.pop(&mut self.requests);
                self.emitter.warn(path, code, message).await?;
                return Ok(true);
            }
            if !file.can_begin() {
                return Ok(false);
            }
            file.begun = true;
            let entry = file.entry();
            self.emitter.begin(entry).await?;
        }
        let Some(Slot::File(file)) = self.line.front() else { return Ok(false) };
        match file.next() {
            Next::Wait => return Ok(false),
            Next::Pieces(parts, asked) => {
                self.line.release(asked);
                for part in parts {
                    *left = left.saturating_sub(part.len() as u64);
                    self.emitter.data(part).await?;
                }
            }
            Next::End => self.end_file().await?,
        }
        Ok(true)
    }

    async fn end_file(&mut self) -> Result<(), Error> {
        let Some(Slot::File(file)) = self.line.pop(&mut self.requests) else { return Ok(()) };
        self.emitter.end().await?;
        if file.changed {
            let message = "was changed while the connection was lost; parts of it may be of two versions";
            self.emitter.warn(file.path.clone(), WarningCode::Other, message).await?;
        }
        match file.failure() {
            Some((code, message)) => self.emitter.warn(file.path, code, message).await,
            None => {
                self.files += 1;
                Ok(())
            }
        }
    }

    /// Connects again and asks again for what was in flight.
    async fn reconnect(&mut self, link: &mut Link, error: Error, control: &Control) -> Result<(), Error> {
        self.requests = Requests::new(link.again(error, self.emitter.content(), control).await?);
        self.listings.restart();
        self.line.restart();
        Ok(())
    }
}
