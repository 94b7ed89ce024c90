//! From a synchronous `Write` into an object of a store.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use xvault_connectors::{Control, Error, StoreWriter};

use super::buffer::Buffer;

/// What is gathered before it is sent on.
const CHUNK: usize = 512 * 1024;
/// How many chunks may wait: with the one being filled and the one being written, 2 MiB an outlet.
const WAITING: usize = 2;
/// How long a store that failed, or hangs, may take to give an object up.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// The synchronous end: a `Write` that fails as soon as the store does.
///
/// [`Outlet::finish`] says that all was written; dropping it earlier aborts the object.
#[derive(Debug)]
pub struct Outlet {
    buffer: Buffer,
    chunks: mpsc::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Chunk(Bytes),
    Finish,
}

/// An [`Outlet`], and the future that carries what it takes to `writer`.
///
/// The future ends with the object closed when the outlet was finished, and with the object
/// aborted when it was dropped, or failed, or `control` was cancelled: then it waits for no store.
pub fn outlet(
    writer: Box<dyn StoreWriter>,
    control: &Control,
) -> (Outlet, impl Future<Output = Result<(), Error>> + Send) {
    let (chunks, received) = mpsc::channel(WAITING);
    (Outlet { buffer: Buffer::new(CHUNK), chunks }, carry(received, writer, control.clone()))
}

async fn carry(
    mut received: mpsc::Receiver<Message>,
    mut writer: Box<dyn StoreWriter>,
    control: Control,
) -> Result<(), Error> {
    match control.run(write_all(&mut received, &mut *writer)).await {
        Ok(()) => control.run(writer.close()).await,
        Err(error) => {
            // The first error is the one to tell; what is left behind is for the sweep.
            drop(tokio::time::timeout(ABORT_PATIENCE, writer.abort()).await);
            Err(error)
        }
    }
}

async fn write_all(
    received: &mut mpsc::Receiver<Message>,
    writer: &mut dyn StoreWriter,
) -> Result<(), Error> {
    while let Some(message) = received.recv().await {
        match message {
            Message::Chunk(chunk) => writer.write(chunk).await?,
            Message::Finish => return Ok(()),
        }
    }
    Err(Error::Cancelled)
}

impl Outlet {
    fn send(&mut self, message: Message) -> io::Result<()> {
        self.chunks
            .blocking_send(message)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the store failed"))
    }

    fn send_buffer(&mut self) -> io::Result<()> {
        self.buffer.take().map_or(Ok(()), |chunk| self.send(Message::Chunk(chunk)))
    }

    /// Everything is written: close the object.
    ///
    /// # Errors
    /// When the store failed meanwhile; its own error comes from the carrying future.
    pub fn finish(mut self) -> io::Result<()> {
        self.send_buffer()?;
        self.send(Message::Finish)
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.is_full() {
            self.send_buffer()?;
        }
        Ok(self.buffer.fill(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_buffer()
    }
}
