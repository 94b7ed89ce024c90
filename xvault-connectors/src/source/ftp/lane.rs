//! One connection at work: takes jobs, one after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::fetch::{FileJob, Trouble};
use super::list::{Dir, Outcome, list};
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
    /// The lane has no connection any more, and gives its job back.
    Retired { job: Job, error: Error, was_connected: bool },
    /// Nothing helps.
    Failed(Error),
}

/// What all lanes share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Arc<Mutex<mpsc::UnboundedReceiver<Job>>>,
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
}

impl Lane {
    pub(super) fn new(common: Common, session: Option<Session>) -> Self {
        Self { common, was_connected: session.is_some(), session }
    }

    /// Works until there are no more jobs.
    pub(super) async fn work(mut self) {
        while let Some(job) = self.next().await {
            let event = self.perform(job).await;
            let is_last = matches!(event, Event::Retired { .. } | Event::Failed(_));
            if self.common.events.send(event).is_err() || is_last {
                break;
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// The next job; meanwhile the connection is kept alive.
    async fn next(&mut self) -> Option<Job> {
        let keepalive = self.common.shared.options.timeouts.keepalive;
        loop {
            let next = async { self.common.jobs.lock().await.recv().await };
            if let Ok(job) = timeout(keepalive, next).await {
                return job;
            }
            if let Some(session) = &mut self.session
                && session.keep_alive().await.is_err()
            {
                self.session = None;
            }
        }
    }

    /// Does it, over new connections when one breaks.
    async fn perform(&mut self, mut job: Job) -> Event {
        let mut attempts = 0;
        loop {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => match Session::connect(&self.common.shared).await {
                    Ok(session) => session,
                    Err(error) => return Event::Retired { job, error, was_connected: self.was_connected },
                },
            };
            self.was_connected = true;
            let before = job.progress();
            let error = match self.attempt(&mut session, &mut job).await {
                Ok(event) => {
                    self.session = Some(session);
                    return event;
                }
                Err(Trouble::LetGo) => {
                    drop(session);
                    match job.is_over().await {
                        Ok(true) => return Event::Fetched,
                        Ok(false) => continue,
                        Err(error) => return Event::Failed(error),
                    }
                }
                Err(Trouble::Error(error)) => error,
            };
            drop(session);
            if job.progress() > before {
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

    async fn attempt(&self, session: &mut Session, job: &mut Job) -> Result<Event, Trouble> {
        match job {
            Job::List(dir) => {
                let outcome = list(session, dir, &self.common.held, self.common.now).await?;
                Ok(Event::Listed(dir.clone(), outcome))
            }
            Job::Fetch(file) => file.run(session).await.map(|()| Event::Fetched),
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

    /// After the server was let go: whether that was the end, or waits until there is room again.
    async fn is_over(&self) -> Result<bool, Error> {
        match self {
            Self::List(_) => Ok(false),
            Self::Fetch(file) if file.is_over() => Ok(true),
            Self::Fetch(file) => file.taken().await.map(|()| false),
        }
    }
}
