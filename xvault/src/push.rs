//! From a store to another system.

use std::io;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use xvault_archive::deliver::{Recipient, Wanted, deliver};
use xvault_archive::{ExtractStats, Watch};
use xvault_connectors::target::Plan;
use xvault_connectors::{Control, Error as ConnectorError, Target};
use xvault_core::{Entry, EntryPath};

use crate::bridge::stoppable;
use crate::{Error, Snapshot};

/// The longest piece of content that is passed on: copied, so that none holds a whole frame.
const PIECE: usize = 256 << 10;
/// How many messages may wait: 2 MiB.
const WAITING: usize = 8;

impl Snapshot<'_> {
    /// Restores the entries at or below `paths` (none: all) to another system. Nothing outside the target's directory is
    /// changed, and each file appears whole, with its content hash checked, or not at all.
    ///
    /// What was restored before an error, a cancellation or a crash is whole and stays; running the same restore again
    /// completes it.
    ///
    /// # Errors
    /// [`Error::Target`] when the target can't be reached, is full, or something is in the way there; or when something
    /// is damaged or hostile in the snapshot.
    pub async fn restore_to(
        &self,
        target: &mut dyn Target,
        paths: &[EntryPath],
        control: &Control,
    ) -> Result<ExtractStats, Error> {
        if let Err(error) = control.run(target.connect()).await {
            target.abort().await;
            return Err(Error::Target(error));
        }
        let (messages, received) = mpsc::channel(WAITING);
        let watch = Watch::new(control.progress().clone());
        let (watched, hard_links, paths) = (watch.clone(), target.has_hard_links(), paths.to_vec());
        let work = self.with_reader(control, move |mut reader, _| {
            let mut sender = Sender(messages);
            let stats = deliver(&mut reader, &paths, hard_links, &mut sender, &watched)?;
            sender.send(Message::Finish).map_err(Error::Output)?;
            Ok(stats)
        });
        let pushing = push(target, received, control);
        let (delivered, pushed) = tokio::join!(stoppable(control, &watch, work), pushing);
        // A target that failed is why the delivery broke off.
        pushed.map_err(Error::Target)?;
        delivered
    }
}

enum Message {
    Plan(Vec<Entry>, oneshot::Sender<Vec<Plan>>),
    Begin(Entry),
    Data(Bytes),
    End,
    Directories(Vec<Entry>),
    Finish,
}

/// Passes on what the thread delivers. Without its last word the target is told to give up what is half-done.
async fn push(
    target: &mut dyn Target,
    mut received: mpsc::Receiver<Message>,
    control: &Control,
) -> Result<(), ConnectorError> {
    let pushed = control.run(push_all(target, &mut received, control)).await;
    // The thread must not wait for us while we clean up.
    drop(received);
    match pushed {
        Ok(true) => Ok(()),
        Ok(false) => {
            target.abort().await;
            Ok(())
        }
        Err(error) => {
            target.abort().await;
            Err(error)
        }
    }
}

/// Whether the last word came.
async fn push_all(
    target: &mut dyn Target,
    received: &mut mpsc::Receiver<Message>,
    control: &Control,
) -> Result<bool, ConnectorError> {
    while let Some(message) = received.recv().await {
        match message {
            Message::Plan(entries, reply) => drop(reply.send(target.plan(&entries).await?)),
            Message::Begin(entry) => target.begin(&entry).await?,
            Message::Data(chunk) => {
                control.throttle(chunk.len() as u64).await?;
                target.data(chunk).await?;
            }
            Message::End => target.end().await?,
            Message::Directories(entries) => target.finish_directories(&entries).await?,
            Message::Finish => return target.finish().await.map(|()| true),
        }
    }
    Ok(false)
}

/// The thread's end.
struct Sender(mpsc::Sender<Message>);

impl Sender {
    fn send(&self, message: Message) -> io::Result<()> {
        self.0.blocking_send(message).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the target failed")
}

impl Recipient for Sender {
    fn plan(&mut self, entries: Vec<Entry>) -> io::Result<Vec<Wanted>> {
        let (reply, plans) = oneshot::channel();
        self.send(Message::Plan(entries, reply))?;
        let plans = plans.blocking_recv().map_err(|_| gone())?;
        Ok(plans.into_iter().map(wanted).collect())
    }

    fn begin(&mut self, entry: Entry) -> io::Result<()> {
        self.send(Message::Begin(entry))
    }

    fn data(&mut self, chunk: Bytes) -> io::Result<()> {
        chunk.chunks(PIECE).try_for_each(|piece| self.send(Message::Data(Bytes::copy_from_slice(piece))))
    }

    fn end(&mut self) -> io::Result<()> {
        self.send(Message::End)
    }

    fn directories(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.send(Message::Directories(entries))
    }
}

fn wanted(plan: Plan) -> Wanted {
    match plan {
        Plan::Push => Wanted::Yes,
        Plan::Keep { same } => Wanted::No { same },
    }
}
