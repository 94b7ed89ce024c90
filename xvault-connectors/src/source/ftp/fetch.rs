//! Fetches one file: from its beginning, or from where it broke off.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use xvault_core::{EntryPath, Mtime, WarningCode};

use super::queue::Patience;
use super::scope::{is_denied, refusal};
use super::seam::Tail;
use crate::Error;
use crate::ftp::{Begun, Data, Listed, Reply, Session};
use crate::source::sftp::scope::remote_path;

/// Content is handed on in pieces of about this size.
const PIECE: usize = 128 << 10;

/// A file up to this size is fetched whole before its entry is begun, so that its size is known for sure. Of larger ones this much waits
/// for the archive to take it.
pub(super) const SMALL: u64 = 1 << 20;

/// Pieces that wait: those of a small file with its beginning and its end.
const PIECES: usize = 12;

/// Of these as many are kept free as may follow a large file's content: the byte that shows that it grew, and its end.
const LAST: usize = 2;

/// How often a transfer that ends before the size that the server names is begun again where it ended.
const SHORT_TRIES: u32 = 2;

/// A part of a file on its way to the archive.
#[derive(Debug)]
pub(super) enum Piece {
    /// Its entry can be begun, with this size and time.
    Start { size: u64, mtime: Option<Mtime> },
    /// The next bytes.
    Data(Bytes),
    /// There is no more.
    End(Ending),
}

/// How a file ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was read to its end.
    Whole,
    /// It was, in two goes, and changed in between.
    Changed,
    /// It could not be read, or not to its end.
    Failed(WarningCode, String),
}

/// Why a file was not fetched to its end.
pub(super) enum Trouble {
    Error(Error),
    /// The server is let go in the middle: nobody took what was fetched for too long, or the rest of it is not wanted.
    LetGo,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What a file had when it was begun: how much will be kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Promise {
    size: u64,
    mtime: Option<Mtime>,
}

/// A transfer that began.
struct Transfer {
    data: Data,
    /// So many bytes are still to come that the archive has.
    skip: u64,
    /// Whether it was asked to begin in the middle.
    restarted: bool,
}

/// A file to be fetched, and how far that came.
#[derive(Debug)]
pub(super) struct FileJob {
    path: Vec<u8>,
    listed: Promise,
    /// What the server told of its size with its name.
    listed_size: Option<u64>,
    /// Whether the server told its time to the second.
    is_exact: bool,
    out: mpsc::Sender<Piece>,
    promise: Option<Promise>,
    delivered: u64,
    tail: Tail,
    changed: bool,
    /// Whether it is fetched in pieces, as it was found to be larger than it was listed.
    is_large: bool,
    short_tries: u32,
    is_over: bool,
}

impl FileJob {
    /// Fetches `path`; its pieces come out of the receiver.
    pub(super) fn new(path: &EntryPath, listed: &Listed) -> (Self, mpsc::Receiver<Piece>) {
        let (out, pieces) = mpsc::channel(PIECES);
        let promise = Promise { size: listed.size.unwrap_or(0), mtime: listed.mtime };
        let job = Self {
            path: remote_path(Some(path)),
            listed: promise,
            listed_size: listed.size,
            is_exact: listed.is_exact,
            out,
            promise: None,
            delivered: 0,
            tail: Tail::default(),
            changed: false,
            is_large: promise.size > SMALL,
            short_tries: 0,
            is_over: false,
        };
        (job, pieces)
    }

    /// How far it came: more each time that something was achieved.
    pub(super) fn progress(&self) -> u64 {
        self.delivered
    }

    /// Whether its last piece is on its way.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether more of its content would be taken.
    pub(super) fn has_room(&self) -> bool {
        self.out.capacity() > LAST
    }

    /// Fetches what is missing. Waits for whoever takes it as long as `patience` lasts.
    pub(super) async fn run(
        &mut self,
        session: &mut Session,
        patience: &mut Patience,
    ) -> Result<(), Trouble> {
        if !self.is_large && self.whole(session).await? {
            return Ok(());
        }
        self.is_large = true;
        self.in_pieces(session, patience).await
    }

    /// Fetches a small file; `false` when it turns out to be none.
    async fn whole(&mut self, session: &mut Session) -> Result<bool, Trouble> {
        let mut mtime = self.listed.mtime;
        if !self.is_exact {
            mtime = session.modified(&self.path).await?.or(mtime);
        }
        let mut data = match session.begin("RETR", Some(&self.path), 0).await? {
            Begun::Data(data) => data,
            Begun::Refused(reply) | Begun::NoRestart(reply) => {
                self.refused(session, &reply).await?;
                return Ok(true);
            }
        };
        let Some(mut content) = small(&mut data, self.listed.size).await? else {
            return Err(Trouble::Error(self.outgrown(session)));
        };
        let len = content.len() as u64;
        data.close().await;
        let reply = session.finish().await?;
        if let Some(ending) = ending_of(session, &reply)? {
            // Nothing of it was begun yet: it is as one that can't be opened.
            self.send(Piece::End(ending))?;
            return Ok(true);
        }
        let mut size = len;
        if self.listed_size != Some(len) {
            size = session.size(&self.path).await?.or(self.listed_size).unwrap_or(len);
            mtime = session.modified(&self.path).await?.or(mtime);
        }
        if len < size && self.short_tries < SHORT_TRIES {
            self.short_tries += 1;
            return Err(Trouble::Error(cut_short(session, &self.path, len, size)));
        }
        self.send(Piece::Start { size, mtime })?;
        while !content.is_empty() {
            let piece = content.split_to(content.len().min(PIECE));
            self.send(Piece::Data(piece.freeze()))?;
        }
        self.send(Piece::End(Ending::Whole))?;
        Ok(true)
    }

    /// What the server sends of it beyond the measure of a small file can't be stopped in a way that all servers understand.
    fn outgrown(&mut self, session: &Session) -> Error {
        self.is_large = true;
        let reason = "a file is larger than it was listed".to_owned();
        Error::Connection { server: session.server(), reason, source: None }
    }

    /// Fetches a large file from where the archive has it.
    async fn in_pieces(&mut self, session: &mut Session, patience: &mut Patience) -> Result<(), Trouble> {
        let found = self.look(session).await?;
        let promise = self.promise.unwrap_or(found);
        self.changed |= self.delivered > 0 && found != promise;
        if self.delivered > promise.size {
            let ending = if found.size > promise.size { self.at_end() } else { not_in_the_middle(session) };
            return self.send(Piece::End(ending));
        }
        let mut begun = match self.begin(session).await? {
            Some(begun) => begun,
            None => return Ok(()),
        };
        if self.promise.is_none() {
            // Once, also when the connection breaks before the first byte.
            self.promise = Some(found);
            self.send(Piece::Start { size: found.size, mtime: found.mtime })?;
        }
        let promised = promise.size;
        let restarted = begun.restarted;
        if !self.hand_on(session, &mut begun, promised, patience).await? {
            if restarted {
                // Either it grows, or it did not begin where it should: its size, asked for over another connection, tells.
                return Err(Trouble::LetGo);
            }
            // It grows while it is read: what the server still sends is left to it.
            self.send(Piece::End(self.at_end()))?;
            self.is_over = true;
            return Err(Trouble::LetGo);
        }
        begun.data.close().await;
        let reply = session.finish().await?;
        let ending = ending_of(session, &reply)?;
        if ending.is_none() && self.delivered < promised {
            let size = session.size(&self.path).await?.unwrap_or(promised);
            if self.delivered < size && self.short_tries < SHORT_TRIES {
                self.short_tries += 1;
                return Err(Trouble::Error(cut_short(session, &self.path, self.delivered, size)));
            }
        }
        if ending.is_none() && session.size(&self.path).await?.is_some_and(|size| size > promised) {
            // Some servers send no more than there was when they began. One byte beyond it shows that there is more by now.
            self.send(Piece::Data(Bytes::from_static(&[0])))?;
        }
        self.send(Piece::End(ending.unwrap_or_else(|| self.at_end())))
    }

    fn at_end(&self) -> Ending {
        if self.changed { Ending::Changed } else { Ending::Whole }
    }

    async fn look(&self, session: &mut Session) -> Result<Promise, Error> {
        let size = session.size(&self.path).await?;
        let mtime = session.modified(&self.path).await?;
        Ok(Promise { size: size.unwrap_or(self.listed.size), mtime: mtime.or(self.listed.mtime) })
    }

    /// The transfer, a little before where the archive has it. `None` when it was refused, which is told.
    async fn begin(&mut self, session: &mut Session) -> Result<Option<Transfer>, Trouble> {
        let mut skip = if session.shared().restarts() { self.tail.len() } else { self.delivered };
        let mut begun = session.begin("RETR", Some(&self.path), self.delivered - skip).await?;
        if let Begun::NoRestart(_) = begun {
            session.shared().give_up_restarts();
            skip = self.delivered;
            begun = session.begin("RETR", Some(&self.path), 0).await?;
        }
        match begun {
            Begun::Data(data) => Ok(Some(Transfer { data, skip, restarted: skip < self.delivered })),
            Begun::Refused(reply) | Begun::NoRestart(reply) => {
                self.refused(session, &reply).await?;
                Ok(None)
            }
        }
    }

    /// Hands on what comes, but for what the archive has. `false` when there is more than was promised.
    async fn hand_on(
        &mut self,
        session: &Session,
        Transfer { data, skip, restarted }: &mut Transfer,
        promised: u64,
        patience: &mut Patience,
    ) -> Result<bool, Trouble> {
        loop {
            let mut piece = next_piece(data).await?;
            if piece.is_empty() {
                return Ok(true);
            }
            let dropped = usize::try_from(*skip).unwrap_or(piece.len()).min(piece.len());
            let dropped = piece.split_to(dropped);
            if !self.changed && !self.tail.agrees(&dropped, *skip) {
                if *restarted {
                    return Err(Trouble::Error(began_elsewhere(session)));
                }
                self.changed = true;
            }
            *skip -= dropped.len() as u64;
            if piece.is_empty() {
                continue;
            }
            let len = piece.len() as u64;
            let shared = piece.clone();
            self.send_in_time(Piece::Data(piece), patience).await?;
            self.tail.add(&shared);
            self.delivered += len;
            self.short_tries = 0;
            if self.delivered > promised {
                return Ok(false);
            }
        }
    }

    /// For what there is always room for: all of a small file, and of a large one what is not its content.
    fn send(&self, piece: Piece) -> Result<(), Trouble> {
        let sent = self.out.try_send(piece);
        sent.map_err(|error| match error {
            TrySendError::Closed(_) => Trouble::Error(Error::Cancelled),
            TrySendError::Full(_) => Trouble::Error(Error::Incomplete(
                "a file has more pieces than there is room for; this is a defect of xVault".into(),
            )),
        })
    }

    /// For a large file's content, whose server is not kept waiting for ever.
    async fn send_in_time(&self, piece: Piece, patience: &mut Patience) -> Result<(), Trouble> {
        tokio::select! {
            biased;
            room = self.out.reserve_many(1 + LAST) => {
                let mut room = room.map_err(|_| Trouble::Error(Error::Cancelled))?;
                if let Some(permit) = room.next() {
                    permit.send(piece);
                }
                Ok(())
            }
            () = patience.ends() => Err(Trouble::LetGo),
        }
    }

    /// The server does not give it. Many say the same whether it is gone or locked, so its size is asked for.
    async fn refused(&self, session: &mut Session, reply: &Reply) -> Result<(), Trouble> {
        let (mut code, mut message) = refusal(reply, "could not be opened");
        if !is_denied(reply) {
            let exists = session.size(&self.path).await?.is_some();
            (code, message) = match (exists, session.features.size) {
                (true, _) => (WarningCode::Unreadable, format!("could not be opened: {}", reply.shown())),
                (false, true) => (WarningCode::Vanished, "is gone since its directory was listed".into()),
                (false, false) => (code, message),
            };
        }
        self.send(Piece::End(Ending::Failed(code, message)))
    }
}

/// What comes is not what was there: mostly because the server says yes to REST and begins from zero. It is not asked to again.
fn began_elsewhere(session: &Session) -> Error {
    session.shared().give_up_restarts();
    let reason = "a transfer that was to go on in the middle of a file began elsewhere".to_owned();
    Error::Connection { server: session.server(), reason, source: None }
}

/// The same, found out when it was too late for this file.
fn not_in_the_middle(session: &Session) -> Ending {
    session.shared().give_up_restarts();
    let message = "its connection was lost, and the server began it anew where it was asked to go on: what is kept may have parts twice";
    Ending::Failed(WarningCode::Unreadable, message.to_owned())
}

/// A transfer ended with this answer: `None` when all of it came, else what of the file failed.
fn ending_of(session: &Session, reply: &Reply) -> Result<Option<Ending>, Error> {
    if reply.is_done() {
        return Ok(None);
    }
    if matches!(reply.code, 425 | 426 | 522) {
        let reason = format!("a transfer was broken off: {}", reply.shown());
        return Err(Error::Connection { server: session.server(), reason, source: None });
    }
    let message = format!("could not be read to its end: {}", reply.shown());
    Ok(Some(Ending::Failed(WarningCode::Unreadable, message)))
}

fn cut_short(session: &Session, path: &[u8], got: u64, size: u64) -> Error {
    let path = xvault_core::entry::display_name(path);
    let reason = format!("the transfer of `{path}` ended after {got} bytes of {size}");
    Error::Connection { server: session.server(), reason, source: None }
}

/// All of a small file, of which `expected` bytes are to come, as far as is known. `None` when it is none.
async fn small(data: &mut Data, expected: u64) -> Result<Option<BytesMut>, Error> {
    let room = usize::try_from(expected.clamp(512, SMALL)).unwrap_or(PIECE) + 1;
    let mut content = BytesMut::with_capacity(room);
    while data.read(&mut content).await? > 0 {
        if content.len() as u64 > SMALL {
            return Ok(None);
        }
        content.reserve(1);
    }
    Ok(Some(content))
}

/// The next bytes of a large file, as many as make a piece; none at the end.
async fn next_piece(data: &mut Data) -> Result<Bytes, Error> {
    let mut piece = BytesMut::with_capacity(PIECE);
    while piece.len() < PIECE {
        piece.reserve(1);
        if data.read(&mut piece).await? == 0 {
            break;
        }
    }
    Ok(piece.freeze())
}
