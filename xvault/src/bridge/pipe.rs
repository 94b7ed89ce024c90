//! From a synchronous `Write` on a thread into a stream of `Bytes` for whoever awaits it.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use xvault_connectors::{Control, Error as ConnectorError};

use super::buffer::Buffer;
use crate::Error;

/// What is gathered before it is sent on.
const CHUNK: usize = 256 << 10;
/// How many chunks may wait: with the one being filled 1 MiB, however slow the reader.
const WAITING: usize = 3;

/// What goes through a pipe.
enum Message<T> {
    Chunk(Bytes),
    /// The writer is done; or why it is not.
    End(Result<T, Error>),
}

/// The end that is awaited: chunks of at most 256 KiB, then `None`; or an error as its last item.
///
/// It ends well only when the writer said that it was done. Dropping it cancels the work at the other end.
#[derive(Debug)]
pub struct ByteStream<T> {
    messages: mpsc::Receiver<Message<T>>,
    control: Control,
    outcome: Outcome<T>,
}

#[derive(Debug)]
enum Outcome<T> {
    Open,
    Done(T),
    Failed,
}

impl<T> std::fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chunk(chunk) => write!(f, "Chunk({} bytes)", chunk.len()),
            Self::End(_) => f.write_str("End"),
        }
    }
}

impl<T> ByteStream<T> {
    /// What the writer gave at its end; `None` until the stream has ended well.
    pub fn outcome(&self) -> Option<&T> {
        match &self.outcome {
            Outcome::Done(outcome) => Some(outcome),
            _ => None,
        }
    }
}

impl<T: Unpin> Stream for ByteStream<T> {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !matches!(self.outcome, Outcome::Open) {
            return Poll::Ready(None);
        }
        let message = std::task::ready!(self.messages.poll_recv(cx));
        // A channel that closes without a last word: the thread broke off.
        let end = match message {
            Some(Message::Chunk(chunk)) => return Poll::Ready(Some(Ok(chunk))),
            Some(Message::End(end)) => end,
            None => Err(Error::Abandoned),
        };
        Poll::Ready(match end {
            Ok(outcome) => {
                self.outcome = Outcome::Done(outcome);
                None
            }
            Err(error) => {
                self.outcome = Outcome::Failed;
                Some(Err(error))
            }
        })
    }
}

impl<T> Drop for ByteStream<T> {
    fn drop(&mut self) {
        self.control.cancel_token().cancel();
    }
}

/// The synchronous end: a `Write` that waits while the reader has 1 MiB to read, and fails when that is gone or the
/// job is cancelled.
pub(crate) struct Pipe<T> {
    buffer: Buffer,
    messages: mpsc::Sender<Message<T>>,
    control: Control,
    runtime: Handle,
}

impl<T: Send + 'static> Pipe<T> {
    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        let sent =
            async { self.messages.send(Message::Chunk(chunk)).await.map_err(|_| ConnectorError::Cancelled) };
        let sent = self.runtime.block_on(self.control.run(sent));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more"))
    }

    fn send_buffer(&mut self) -> io::Result<()> {
        self.buffer.take().map_or(Ok(()), |chunk| self.send(chunk))
    }
}

impl<T: Send + 'static> Write for Pipe<T> {
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

/// Runs `work` in a task; it gets the writing end, and a control that is cancelled when the stream is dropped or `control`
/// is cancelled. What it gives is the stream's outcome; an error comes as the stream's last item.
pub(crate) fn stream<T, F>(
    control: &Control,
    work: impl FnOnce(Pipe<T>, Control) -> F + Send + 'static,
) -> ByteStream<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send,
{
    let control = control.clone().with_cancel(control.cancel_token().child_token());
    let (sender, messages) = mpsc::channel(WAITING);
    let stream = ByteStream { messages, control: control.clone(), outcome: Outcome::Open };
    tokio::spawn(async move {
        let buffer = Buffer::new(CHUNK);
        let (runtime, end) = (Handle::current(), sender.clone());
        let pipe = Pipe { buffer, messages: sender, control: control.clone(), runtime };
        let done = work(pipe, control.clone()).await;
        // What a cancelled thread says is that its pipe broke.
        let done = done.map_err(|error| control.check().map_or_else(Error::Source, |()| error));
        // Nobody is left to be told when the stream was dropped.
        drop(end.send(Message::End(done)).await);
    });
    stream
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    /// As when the thread at the other end dies: what came before must not look whole.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_whose_work_breaks_off_does_not_end_well() {
        let mut stream = stream::<(), _>(&Control::default(), |mut pipe, _| async move {
            let written = tokio::task::spawn_blocking(move || {
                pipe.write_all(b"half of it")?;
                pipe.flush()
            });
            written.await.unwrap().unwrap();
            if true {
                panic!("the work breaks off");
            }
            Ok(())
        });
        assert_eq!(stream.next().await.unwrap().unwrap(), "half of it");
        assert!(matches!(stream.next().await, Some(Err(Error::Abandoned))));
        assert!(stream.next().await.is_none() && stream.outcome().is_none());
    }
}
