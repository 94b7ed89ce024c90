//! From a job into the body of an answer, as fast as the client reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::Head;
use super::refusal::Refusal;
use crate::jobs::fault::Fault;

#[derive(Debug)]
enum Message {
    /// What is known of one file; before everything else.
    File {
        length: u64,
        content_type: &'static str,
    },
    Chunk(Bytes),
    End,
    Failed(Fault),
}

/// The job's end. Dropping it without [`Outflow::finish`] breaks the answer off.
///
/// The last chunk stays here until the end: what turns out to be damaged there never looks whole, also where the answer's length
/// was told before.
#[derive(Debug)]
pub(crate) struct Outflow {
    messages: mpsc::Sender<Message>,
    held: Option<Bytes>,
    length: Option<u64>,
    taken: Arc<AtomicU64>,
    /// How long a client may leave what is sent unread.
    stall: Duration,
}

/// The end that the answer is made of.
#[derive(Debug)]
pub(super) struct Inflow {
    messages: mpsc::Receiver<Message>,
    /// Bytes that the server has taken to send.
    taken: Arc<AtomicU64>,
}

/// Both ends: one chunk waits between them.
pub(super) fn outflow(stall: Duration) -> (Outflow, Inflow) {
    let (messages, received) = mpsc::channel(1);
    let taken = Arc::new(AtomicU64::new(0));
    let out = Outflow { messages, held: None, length: None, taken: taken.clone(), stall };
    (out, Inflow { messages: received, taken })
}

impl Outflow {
    /// Says how long the content will be, which it must be then, and of what type.
    pub(crate) async fn file(&mut self, length: u64, content_type: &'static str) -> Result<(), Fault> {
        self.length = Some(length);
        self.send(Message::File { length, content_type }).await
    }

    /// Waits for as long as the client takes to read, but not for ever.
    pub(crate) async fn chunk(&mut self, chunk: Bytes) -> Result<(), Fault> {
        match self.held.replace(chunk) {
            Some(before) => self.send(Message::Chunk(before)).await,
            None => Ok(()),
        }
    }

    /// All was sent.
    pub(crate) async fn finish(&mut self) -> Result<(), Fault> {
        if let Some(last) = self.held.take() {
            self.send(Message::Chunk(last)).await?;
        }
        match self.send(Message::End).await {
            // The server looks for no end of an answer whose length it knows.
            Err(_) if self.length == Some(self.taken.load(Ordering::Relaxed)) => Ok(()),
            ended => ended,
        }
    }

    /// It failed: an answer that has not begun says why, and one that has breaks off.
    pub(crate) async fn fail(&mut self, fault: &Fault) {
        drop(self.send(Message::Failed(fault.clone())).await);
    }

    async fn send(&self, message: Message) -> Result<(), Fault> {
        match timeout(self.stall, self.messages.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                let text = "the client closed the connection before all was sent";
                Err(Fault::permanent("client_gone", text))
            }
            Err(_) => {
                let text =
                    format!("the client read nothing for {} s, and was given up", self.stall.as_secs());
                Err(Fault::permanent("client_stalled", text))
            }
        }
    }
}

impl Inflow {
    /// Waits for the first bytes: until then a failure has a status of its own.
    pub(super) async fn answer(mut self, head: Head) -> Result<Response, Refusal> {
        let mut head = head;
        loop {
            match self.messages.recv().await {
                Some(Message::File { length, content_type }) => head = head.long(length).typed(content_type),
                Some(Message::Chunk(first)) => return Ok(head.with(self.body(first))),
                Some(Message::End) => return Ok(head.with(Body::empty())),
                Some(Message::Failed(fault)) => return Err(Refusal::failed(&fault)),
                None => return Err(Refusal::broke_off()),
            }
        }
    }

    /// The first chunk and all after it. Anything but [`Message::End`] at its end is an error, so that it never looks whole.
    fn body(self, first: Bytes) -> Body {
        self.take(&first);
        let rest = stream::unfold(Some(self), |inflow| async {
            let mut inflow = inflow?;
            match inflow.messages.recv().await {
                Some(Message::Chunk(chunk)) => {
                    inflow.take(&chunk);
                    Some((Ok(chunk), Some(inflow)))
                }
                Some(Message::End) => None,
                Some(Message::File { .. } | Message::Failed(_)) | None => {
                    Some((Err(io::Error::other("the download broke off")), None))
                }
            }
        });
        Body::from_stream(stream::once(async { Ok::<_, io::Error>(first) }).chain(rest))
    }

    fn take(&self, chunk: &Bytes) {
        self.taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    async fn collected(inflow: Inflow) -> Result<Vec<u8>, String> {
        let response = inflow.answer(Head::plain("x")).await.map_err(|_| "refused".to_owned())?;
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        bytes.map(Vec::from).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_an_answer_that_was_finished_ends_well() {
        for end in ["finished", "failed", "dropped"] {
            let (mut out, inflow) = outflow(STALL);
            let reading = tokio::spawn(collected(inflow));
            for chunk in [b"ab", b"cd"] {
                out.chunk(Bytes::from_static(chunk)).await.unwrap();
            }
            match end {
                "finished" => out.finish().await.unwrap(),
                "failed" => out.fail(&Fault::permanent("archive", "damaged")).await,
                _ => {}
            }
            drop(out);
            let read = reading.await.unwrap();
            match end {
                "finished" => assert_eq!(read.unwrap(), b"abcd"),
                _ => assert!(read.unwrap_err().contains("broke off"), "{end}"),
            }
        }
    }

    #[tokio::test]
    async fn what_fails_before_its_first_byte_is_refused() {
        let (mut out, inflow) = outflow(STALL);
        out.fail(&Fault::permanent("path_missing", "no such file")).await;
        assert_eq!(collected(inflow).await.unwrap_err(), "refused");
    }

    /// As hyper does with an answer that has a length.
    #[tokio::test]
    async fn an_answer_whose_length_is_known_needs_nobody_to_wait_for_its_end() {
        for (length, is_whole) in [(4, true), (5, false)] {
            let (mut out, mut inflow) = outflow(STALL);
            out.file(length, "text/plain").await.unwrap();
            let reading = tokio::spawn(async move {
                for _ in 0..3 {
                    if let Some(Message::Chunk(chunk)) = inflow.messages.recv().await {
                        inflow.take(&chunk);
                    }
                }
            });
            for chunk in [b"ab", b"cd"] {
                out.chunk(Bytes::from_static(chunk)).await.unwrap();
            }
            let last = out.held.take().unwrap();
            out.send(Message::Chunk(last)).await.unwrap();
            reading.await.unwrap();
            let fault = out.finish().await.err().map(|fault| fault.code);
            assert_eq!(fault, (!is_whole).then_some("client_gone"), "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_or_does_not_read_ends_the_work() {
        let (mut out, inflow) = outflow(STALL);
        for chunk in [b"a", b"A"] {
            out.chunk(Bytes::from_static(chunk)).await.unwrap();
        }
        assert_eq!(out.chunk(Bytes::from_static(b"b")).await.unwrap_err().code, "client_stalled");
        drop(inflow);
        assert_eq!(out.chunk(Bytes::from_static(b"c")).await.unwrap_err().code, "client_gone");
        assert_eq!(out.finish().await.unwrap_err().code, "client_gone");
    }
}
