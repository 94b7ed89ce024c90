//! The walk over FTP: fetches ahead, hands on in order.

use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use xvault_core::{Entry, EntryKind, WarningCode};

use super::fetch::{Ending, Piece};
use super::lane::Job;
use super::line::{Line, Slot};
use super::pool::Pool;
use super::scope::Scope;
use super::tree::Tree;
use crate::ftp::{Session, Shared};
use crate::source::Emitter;
use crate::source::sftp::scope::closed_root;
use crate::source::sftp::walk::Walked;
use crate::{Control, Error};

/// Hands everything in `scope` to `emitter`: over `session`, and over more connections.
///
/// # Errors
/// When a configured path can't be read at all, a listing fails half-way, connections are lost for good, or the server breaks the protocol.
pub(super) async fn walk(
    shared: &Arc<Shared>,
    session: Session,
    scope: Scope,
    emitter: &mut Emitter<'_>,
) -> Result<Walked, Error> {
    let now = xvault_core::clock::now().as_second();
    let control = emitter.control().clone();
    let pool = Pool::new(shared, session, &control, now);
    let mut walk = Walk { scope, now, tree: Tree::new(now), line: Line::default(), pool, emitter, files: 0 };
    walk.run(&control).await?;
    let walked = Walked { directories: walk.tree.finished, files: walk.files };
    walk.pool.close().await;
    Ok(walked)
}

struct Walk<'w, 'e> {
    scope: Scope,
    now: i64,
    tree: Tree,
    line: Line,
    pool: Pool,
    emitter: &'w mut Emitter<'e>,
    files: u64,
}

impl Walk<'_, '_> {
    async fn run(&mut self, control: &Control) -> Result<(), Error> {
        loop {
            control.check()?;
            let walked = self.tree.advance(&self.scope, &mut self.line)?;
            if walked && self.line.is_empty() {
                return Ok(());
            }
            self.feed();
            if !self.hand_on().await? {
                control.run(self.wait()).await?;
            }
        }
    }

    /// Gives the lanes enough to do. Listings come first while there are few files to fetch.
    fn feed(&mut self) {
        self.pool.resume();
        while self.pool.has_room() {
            let Some(job) = self.next_job() else { break };
            self.pool.send(job);
        }
        self.pool.staff();
    }

    fn next_job(&mut self) -> Option<Job> {
        let hungry = self.tree.needs_listing() || self.line.unfetched() < 4 * self.pool.most();
        let listing = |tree: &mut Tree| tree.next_job().map(Job::List);
        let file = |line: &mut Line| line.next_job().map(|job| Job::Fetch(Box::new(job)));
        match hungry {
            true => listing(&mut self.tree).or_else(|| file(&mut self.line)),
            false => file(&mut self.line).or_else(|| listing(&mut self.tree)),
        }
    }

    /// Hands on what is ready at the head of the line. `false` when nothing is.
    async fn hand_on(&mut self) -> Result<bool, Error> {
        let piece = match self.line.front() {
            None => return Ok(false),
            Some(Slot::File(file)) => match file.pieces.as_mut().map(Receiver::try_recv) {
                Some(Ok(piece)) => piece,
                _ => return Ok(false),
            },
            Some(_) => {
                self.hand_on_whole().await?;
                return Ok(true);
            }
        };
        self.hand_on_piece(piece).await?;
        Ok(true)
    }

    async fn hand_on_whole(&mut self) -> Result<(), Error> {
        match self.line.pop() {
            Some(Slot::Whole(entry)) => self.emitter.whole(entry).await,
            Some(Slot::Warning(path, code, message)) => self.emitter.warn(path, code, message).await,
            Some(Slot::Special) => {
                self.emitter.skip_special();
                Ok(())
            }
            Some(Slot::File(_)) | None => Ok(()),
        }
    }

    async fn hand_on_piece(&mut self, piece: Piece) -> Result<(), Error> {
        let Some(Slot::File(file)) = self.line.front() else { return Ok(()) };
        match piece {
            Piece::Start { size, mtime } => {
                file.begun = true;
                let mut metadata = file.listed.metadata(self.now);
                metadata.mtime = mtime.unwrap_or(metadata.mtime);
                let (path, kind) = (file.path.clone(), EntryKind::File { size });
                self.emitter.begin(Entry { path, kind, metadata }).await
            }
            Piece::Data(bytes) => self.emitter.data(bytes).await,
            Piece::End(ending) => self.end_file(ending).await,
        }
    }

    async fn end_file(&mut self, ending: Ending) -> Result<(), Error> {
        let Some(Slot::File(file)) = self.line.pop() else { return Ok(()) };
        if file.begun {
            self.emitter.end().await?;
        }
        match ending {
            Ending::Failed(code, message) if !file.begun && self.scope.is_root(Some(&file.path)) => {
                Err(closed_root(Some(&file.path), code, &message))
            }
            Ending::Failed(code, message) => self.emitter.warn(file.path, code, message).await,
            Ending::Changed => {
                self.files += 1;
                let message = "was changed while the connection was lost; parts of it may be of two versions";
                self.emitter.warn(file.path, WarningCode::Other, message).await
            }
            Ending::Whole => {
                self.files += 1;
                Ok(())
            }
        }
    }

    /// Waits for what the head of the line needs, or for anything else that happens.
    async fn wait(&mut self) -> Result<(), Error> {
        if self.pool.is_idle() {
            return Err(Error::Incomplete("the walk waits for nothing; this is a defect of xVault".into()));
        }
        let pieces = match self.line.front() {
            Some(Slot::File(file)) => file.pieces.as_mut(),
            _ => None,
        };
        let mut got = None;
        tokio::select! {
            biased;
            event = self.pool.event(self.emitter.content()) => {
                if let Some((dir, outcome)) = event? {
                    self.tree.listed(&dir, outcome, &self.scope);
                }
            }
            piece = async { match pieces { Some(pieces) => pieces.recv().await, None => std::future::pending().await } } => {
                got = Some(piece);
            }
        }
        match got {
            None => Ok(()),
            Some(Some(piece)) => self.hand_on_piece(piece).await,
            // Whoever fetched it has stopped, and says why.
            Some(None) => self.take_event().await,
        }
    }

    async fn take_event(&mut self) -> Result<(), Error> {
        if let Some((dir, outcome)) = self.pool.event(self.emitter.content()).await? {
            self.tree.listed(&dir, outcome, &self.scope);
        }
        Ok(())
    }
}
