//! What the reading thread tells the sink's side, in batches bounded by bytes.

use bytes::Bytes;
use tokio::sync::mpsc::Sender;
use xvault_core::{Entry, EntryKind, Warning};

use crate::Error;

/// A batch is sent once it weighs so much; one chunk of content may come on top.
const BATCH_LEN: usize = 256 * 1024;

/// One step of a pull.
#[derive(Debug)]
pub(super) enum Event {
    /// A directory, link or empty file.
    Whole(Entry),
    /// A file whose body follows.
    Begin(Entry),
    /// A part of the body.
    Data(Bytes),
    /// The body's end.
    End,
    /// Something could not be read.
    Warning(Warning),
    /// A socket, pipe or device node.
    Special,
}

impl Event {
    /// About how much memory it holds.
    fn weight(&self) -> usize {
        let held = match self {
            Self::Whole(entry) | Self::Begin(entry) => entry.path.as_bytes().len() + target_len(&entry.kind),
            Self::Data(chunk) => chunk.len(),
            Self::Warning(warning) => warning.path.as_bytes().len() + warning.message.len(),
            Self::End | Self::Special => 0,
        };
        size_of::<Self>() + held
    }
}

fn target_len(kind: &EntryKind) -> usize {
    match kind {
        EntryKind::Symlink { target } => target.len(),
        EntryKind::Hardlink { target } => target.as_bytes().len(),
        _ => 0,
    }
}

/// Where the reading thread puts events; it waits here while the sink is busy.
#[derive(Debug)]
pub(super) struct Outbox {
    sender: Sender<Vec<Event>>,
    batch: Vec<Event>,
    weight: usize,
}

impl Outbox {
    pub(super) fn new(sender: Sender<Vec<Event>>) -> Self {
        Self { sender, batch: Vec::new(), weight: 0 }
    }

    /// Adds an event.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when nobody listens any more.
    pub(super) fn push(&mut self, event: Event) -> Result<(), Error> {
        self.weight += event.weight();
        self.batch.push(event);
        if self.weight >= BATCH_LEN { self.flush() } else { Ok(()) }
    }

    /// Sends what is there.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.weight = 0;
        let batch = std::mem::take(&mut self.batch);
        self.sender.blocking_send(batch).map_err(|_| Error::Cancelled)
    }
}
