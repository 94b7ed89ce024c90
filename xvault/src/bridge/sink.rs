//! From an async source into an archive writer on a thread of its own.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use xvault_archive::{ArchiveStats, ArchiveWriter};
use xvault_connectors::Error as ConnectorError;
use xvault_core::{Entry, EntrySink, SinkError, Warning};

use super::Outlet;
use crate::Error;

/// How many bytes of content may wait for the archive.
const WAITING_BYTES: usize = 8 << 20;
/// What a message costs beside its content: entries without a body are bounded too.
const MESSAGE_BYTES: usize = 1024;

enum Message {
    Begin(Entry),
    Data(Bytes),
    End,
    Warning(Warning),
    Finish { skipped: u64 },
}

/// An [`EntrySink`] whose archive writer runs on its own thread.
///
/// At most 8 MiB wait between the two. When the writer fails, the next call here fails with
/// [`SinkError::closed`], and [`ArchiveSink::finish`] tells why. A call whose future was dropped
/// has lost its message: every later one fails, and nothing can be finished.
#[derive(Debug)]
pub struct ArchiveSink {
    /// Taken while a call is under way, so that a dropped call leaves none behind.
    messages: Option<mpsc::UnboundedSender<(Message, OwnedSemaphorePermit)>>,
    room: Arc<Semaphore>,
    result: oneshot::Receiver<Result<ArchiveStats, Error>>,
}

type Received = mpsc::UnboundedReceiver<(Message, OwnedSemaphorePermit)>;

impl ArchiveSink {
    /// Starts the thread that feeds `writer`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn spawn(writer: ArchiveWriter<Outlet, Outlet>) -> Result<Self, Error> {
        let (messages, received) = mpsc::unbounded_channel();
        let (answer, result) = oneshot::channel();
        std::thread::Builder::new()
            .name("xvault-archive".into())
            .spawn(move || drop(answer.send(feed(writer, received))))
            .map_err(Error::Thread)?;
        Ok(Self { messages: Some(messages), room: Arc::new(Semaphore::new(WAITING_BYTES)), result })
    }

    async fn send(&mut self, message: Message) -> Result<(), SinkError> {
        let Some(messages) = self.messages.take() else { return Err(given_up()) };
        let bytes = match &message {
            Message::Data(chunk) => chunk.len() + MESSAGE_BYTES,
            _ => MESSAGE_BYTES,
        };
        // One chunk larger than the whole room passes alone.
        let bytes = u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX);
        let permit =
            Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| SinkError::closed())?;
        let sent = messages.send((message, permit)).map_err(|_| SinkError::closed());
        self.messages = Some(messages);
        sent
    }

    /// Ends the archive and waits until its last byte went to the outlets.
    ///
    /// # Errors
    /// Why the writer failed, now or earlier.
    pub async fn finish(mut self, skipped: u64) -> Result<ArchiveStats, Error> {
        if self.messages.is_none() {
            let error = ConnectorError::from(given_up());
            return Err(self.failure().await.unwrap_or(Error::Source(error)));
        }
        // A closed channel means that the writer failed before: its result says how.
        drop(self.send(Message::Finish { skipped }).await);
        drop(self.messages);
        self.result.await.unwrap_or_else(|_| Err(broken_off()))
    }

    /// Waits for the thread's end and tells why the writer failed, if it did; to be asked after a pull failed.
    pub async fn failure(self) -> Option<Error> {
        let Self { messages, result, .. } = self;
        drop(messages);
        match result.await {
            Ok(Err(Error::Abandoned) | Ok(_)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(broken_off()),
        }
    }
}

fn given_up() -> SinkError {
    SinkError::misuse("a call to the archive was given up before it was done")
}

fn broken_off() -> Error {
    Error::Thread(io::Error::other("the archive thread broke off; this is a defect of xVault"))
}

fn feed(mut writer: ArchiveWriter<Outlet, Outlet>, mut received: Received) -> Result<ArchiveStats, Error> {
    // The permit goes when the writer has taken the bytes, not when it has received them.
    while let Some((message, _permit)) = received.blocking_recv() {
        match message {
            Message::Begin(entry) => writer.begin(&entry)?,
            Message::Data(chunk) => writer.write(&chunk)?,
            Message::End => writer.end()?,
            Message::Warning(warning) => writer.warning(&warning)?,
            Message::Finish { skipped } => {
                writer.skipped(skipped);
                let finished = writer.finish()?;
                finished.artifact.finish().map_err(Error::Outlet)?;
                finished.index.finish().map_err(Error::Outlet)?;
                return Ok(finished.stats);
            }
        }
    }
    Err(Error::Abandoned)
}

#[async_trait]
impl EntrySink for ArchiveSink {
    async fn begin(&mut self, entry: Entry) -> Result<(), SinkError> {
        self.send(Message::Begin(entry)).await
    }

    async fn data(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        self.send(Message::Data(chunk)).await
    }

    async fn end(&mut self) -> Result<(), SinkError> {
        self.send(Message::End).await
    }

    async fn warning(&mut self, warning: Warning) -> Result<(), SinkError> {
        self.send(Message::Warning(warning)).await
    }
}
