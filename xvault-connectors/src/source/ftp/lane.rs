//! One connection at work: takes jobs, one after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fetch::{FileJob, Trouble};
use super::list::{Dir, Outcome, list};
use super::queue::{Patience, Queue, Task};
use crate::ftp::{Session, Shared};
use crate::source::link::is_of_connection;
use crate::{Control, Error};

/// What a lane does.
pub(super) enum Job {
    List(Dir),
    Fetch(Box<FileJob>),
}

/// What a lane tells.
pub(super) enum Event {
    /// A directory was listed.
    Listed(Dir, Outcome),
    /// A file's last piece is on its way.
    Fetched,
    /// Nobody takes what was fetched of a file, so it is given back until there is room: no lane waits for that.
    Parked(Task),
    /// The lane has no connection any more, and gives its task back.
    Retired { task: Task, error: Error, was_connected: bool },
    /// Nothing helps.
    Failed(Error),
}

/// What all lanes share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// What all listings weigh.
    pub(super) held: Arc<AtomicUsize>,
    pub(super) control: Control,
    /// Seconds since 1970 when the walk began.
    pub(super) now: i64,
}

/// One connection, made when there is something to do.
pub(super) struct Lane {
    common: Common,
    session: Option<Session>,
    was_connected: bool,
    /// What it gave way to.
    next: Option<Task>,
}

impl Lane {
    pub(super) fn new(common: Common, session: Option<Session>) -> Self {
        Self { common, was_connected: session.is_some(), session, next: None }
    }

    /// Works until there are no more tasks.
    pub(super) async fn work(mut self) {
        while let Some(task) = self.next().await {
            let event = self.perform(task).await;
            let is_last = matches!(event, Event::Retired { .. } | Event::Failed(_));
            if self.common.events.send(event).is_err() || is_last {
                break;
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// The next task; meanwhile the connection is kept alive.
    async fn next(&mut self) -> Option<Task> {
        if let Some(task) = self.next.take() {
            return Some(task);
        }
        let keepalive = self.common.shared.options.timeouts.keepalive;
        loop {
            if let Ok(task) = timeout(keepalive, self.common.queue.take()).await {
                return task;
            }
            if let Some(session) = &mut self.session
                && session.keep_alive().await.is_err()
            {
                self.session = None;
            }
        }
    }

    /// Does it, over new connections when one breaks.
    async fn perform(&mut self, mut task: Task) -> Event {
        let mut attempts = 0;
        loop {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => match Session::connect(&self.common.shared).await {
                    Ok(session) => session,
                    Err(error) => return Event::Retired { task, error, was_connected: self.was_connected },
                },
            };
            self.was_connected = true;
            let before = task.job.progress();
            let stall = self.common.shared.options.timeouts.stall;
            let mut patience = Patience::new(&self.common.queue, task.rank, stall);
            let error = match self.attempt(&mut session, &mut task.job, &mut patience).await {
                Ok(event) => {
                    self.session = Some(session);
                    return event;
                }
                Err(Trouble::LetGo) => {
                    self.next = patience.instead;
                    return if task.job.is_over() { Event::Fetched } else { Event::Parked(task) };
                }
                Err(Trouble::Error(error)) => error,
            };
            drop(session);
            if task.job.progress() > before {
                attempts = 0;
            }
            let timeouts = &self.common.shared.options.timeouts;
            if !is_of_connection(&error) || attempts >= timeouts.reconnects {
                return Event::Failed(error);
            }
            attempts += 1;
            let text = xvault_core::error::chain(&error);
            self.common.control.progress().note(&format!("{text}; connecting again (attempt {attempts})"));
            tokio::time::sleep(timeouts.pause(attempts)).await;
        }
    }

    async fn attempt(
        &self,
        session: &mut Session,
        job: &mut Job,
        patience: &mut Patience,
    ) -> Result<Event, Trouble> {
        match job {
            Job::List(dir) => {
                let outcome = list(session, dir, &self.common.held, self.common.now).await?;
                Ok(Event::Listed(dir.clone(), outcome))
            }
            Job::Fetch(file) => file.run(session, patience).await.map(|()| Event::Fetched),
        }
    }
}

impl Job {
    /// How far it came.
    fn progress(&self) -> u64 {
        match self {
            Self::List(_) => 0,
            Self::Fetch(file) => file.progress(),
        }
    }

    /// Whether all that it brings is on its way.
    fn is_over(&self) -> bool {
        matches!(self, Self::Fetch(file) if file.is_over())
    }

    /// Whether what it brings next would be taken.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Fetch(file) => file.has_room(),
        }
    }
}
