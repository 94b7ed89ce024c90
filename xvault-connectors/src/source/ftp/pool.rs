//! The connections: as many as there is work for, as the settings allow, and as the server takes.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use xvault_core::snapshot::ContentSummary;

use super::lane::{Common, Event, Job, Lane};
use super::list::{Dir, Outcome};
use super::queue::{Queue, Task};
use crate::ftp::{Session, Shared};
use crate::source::link::is_of_connection;
use crate::{Control, Error};

/// Lanes at work, and what waits for them.
pub(super) struct Pool {
    common: Common,
    from_lanes: mpsc::UnboundedReceiver<Event>,
    lanes: JoinSet<()>,
    alive: usize,
    /// How many lanes there may be.
    most: usize,
    /// Jobs that were ever given out.
    given: u64,
    /// Tasks that are with the lanes, or wait for one.
    outstanding: usize,
    /// Files of which so much was fetched that nobody takes. They wait without a lane.
    parked: Vec<Task>,
    /// Connections that failed without any progress in between.
    attempts: u32,
    progress: u64,
    /// Whether new lanes may be tried: not right after one has failed.
    may_grow: bool,
}

impl Pool {
    /// With one connection that stands.
    pub(super) fn new(shared: &Arc<Shared>, session: Session, control: &Control, now: i64) -> Self {
        let (events, from_lanes) = mpsc::unbounded_channel();
        let common = Common {
            shared: Arc::clone(shared),
            queue: Arc::new(Queue::default()),
            events,
            held: Arc::new(AtomicUsize::new(0)),
            control: control.clone(),
            now,
        };
        let mut pool = Self {
            most: shared.options.max_connections.max(1),
            common,
            from_lanes,
            lanes: JoinSet::new(),
            alive: 0,
            given: 0,
            outstanding: 0,
            parked: Vec::new(),
            attempts: 0,
            progress: 0,
            may_grow: true,
        };
        pool.spawn(Some(session));
        pool
    }

    fn spawn(&mut self, session: Option<Session>) {
        self.alive += 1;
        self.lanes.spawn(Lane::new(self.common.clone(), session).work());
    }

    /// Whether one more job keeps lanes from running dry.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding < 2 * self.most
    }

    /// How many connections there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Gives a job to whichever lane is free first.
    pub(super) fn send(&mut self, job: Job) {
        self.given += 1;
        self.queue(Task { rank: self.given, job });
    }

    fn queue(&mut self, task: Task) {
        self.outstanding += 1;
        self.common.queue.push(task);
    }

    /// Lets files go on of which something was taken meanwhile.
    pub(super) fn resume(&mut self) {
        for task in self.parked.extract_if(.., |task| task.job.has_room()).collect::<Vec<_>>() {
            self.queue(task);
        }
    }

    /// Brings in lanes while there is more to do than there are lanes. Where something is to be done there is always one.
    pub(super) fn staff(&mut self) {
        while self.outstanding > self.alive && self.alive < self.most && (self.may_grow || self.alive == 0) {
            self.spawn(None);
        }
    }

    /// Whether no lane has anything to do, so that nothing will happen.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// A listing that came, if that is what happened.
    ///
    /// # Errors
    /// When a job failed for good, or no connection can be made any more; `content` shows whether there was progress.
    pub(super) async fn event(&mut self, content: &ContentSummary) -> Result<Option<(Dir, Outcome)>, Error> {
        let Some(event) = self.from_lanes.recv().await else { return Err(Error::Cancelled) };
        self.take(event, content).await
    }

    async fn take(
        &mut self,
        event: Event,
        content: &ContentSummary,
    ) -> Result<Option<(Dir, Outcome)>, Error> {
        self.outstanding -= 1;
        match event {
            Event::Listed(dir, outcome) => {
                self.may_grow = true;
                return Ok(Some((dir, outcome)));
            }
            Event::Fetched => self.may_grow = true,
            Event::Parked(task) => self.parked.push(task),
            Event::Failed(error) => return Err(error),
            Event::Retired { task, error, was_connected } => {
                self.alive -= 1;
                self.may_grow = false;
                self.queue(task);
                if self.alive == 0 {
                    self.be_patient(error, content).await?;
                } else if !was_connected && self.alive < self.most {
                    self.settle_for_less(&error);
                }
            }
        }
        Ok(None)
    }

    /// The server does not want more connections from us.
    fn settle_for_less(&mut self, error: &Error) {
        self.most = self.alive;
        let text = xvault_core::error::chain(error);
        let note = format!("going on with {} connections, as one more was not to be had: {text}", self.alive);
        self.common.control.progress().note(&note);
    }

    /// No connection is left: another try, or the end.
    async fn be_patient(&mut self, error: Error, content: &ContentSummary) -> Result<(), Error> {
        let progress = content.bytes + content.files + content.directories + content.symlinks;
        if progress > self.progress {
            (self.attempts, self.progress) = (0, progress);
        }
        let timeouts = &self.common.shared.options.timeouts;
        // We were let in before: a server that counts dropped connections refuses new ones for a while.
        let may_help = is_of_connection(&error) || matches!(error, Error::Auth { .. });
        if !may_help || self.attempts >= timeouts.reconnects {
            return Err(error);
        }
        self.attempts += 1;
        let text = xvault_core::error::chain(&error);
        let progress = self.common.control.progress();
        progress.note(&format!("{text}; connecting again (attempt {})", self.attempts));
        let pause = timeouts.pause(self.attempts);
        let control = self.common.control.clone();
        let waited = async {
            tokio::time::sleep(pause).await;
            Ok(())
        };
        control.run(waited).await
    }

    /// Says goodbye: lanes end when there is nothing to do any more.
    pub(super) async fn close(self) {
        let Self { common, mut lanes, .. } = self;
        common.queue.close();
        while lanes.join_next().await.is_some() {}
    }
}
