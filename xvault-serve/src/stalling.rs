//! A connection that ends when its peer does not read.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::Pace;

/// Writes fail once none has got on for a while, or too little while they waited for long: the peer is gone without a word, or
/// holds the connection for nothing.
#[derive(Debug)]
pub(crate) struct Stalling<S> {
    stream: S,
    span: Duration,
    pace: Option<Pace>,
    /// While a write waits.
    wait: Option<Wait>,
    window: Window,
}

#[derive(Debug)]
struct Wait {
    begun: Instant,
    /// From here on it is not in the window's time yet.
    counted: Instant,
    timer: Pin<Box<Sleep>>,
}

/// What the pace is kept in: time in which nothing waits for the peer is not the peer's.
#[derive(Debug, Default)]
struct Window {
    waited: Duration,
    taken: u64,
}

impl<S> Stalling<S> {
    pub(crate) fn new(stream: S, span: Duration, pace: Option<Pace>) -> Self {
        Self { stream, span, pace, wait: None, window: Window::default() }
    }

    /// What came of a write, or an error in its place when it has waited for too long.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(wait) = self.wait.take() {
                    self.window.waited += wait.counted.elapsed();
                }
                self.window.taken = self.window.taken.saturating_add(bytes as u64);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.lose_patience(cx).map(Err),
        }
    }

    fn lose_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let now = Instant::now();
            let (span, left) =
                (self.span, self.pace.map(|pace| pace.within.saturating_sub(self.window.waited)));
            let wait = self.wait.get_or_insert_with(|| Wait {
                begun: now,
                counted: now,
                timer: Box::pin(tokio::time::sleep(span)),
            });
            let stalled = wait.begun + span;
            let over = left.map_or(stalled, |left| stalled.min(wait.counted + left));
            if wait.timer.deadline() != over {
                wait.timer.as_mut().reset(over);
            }
            ready!(wait.timer.as_mut().poll(cx));
            if over == stalled {
                return Poll::Ready(timed_out("the peer does not read"));
            }
            if self.pace.is_some_and(|pace| self.window.taken < pace.bytes) {
                return Poll::Ready(timed_out("the peer reads too slowly"));
            }
            (wait.counted, self.window) = (over, Window::default());
        }
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_for_a_slow_reader_and_not_for_one_that_has_stopped() {
        let (stream, mut peer) = tokio::io::duplex(4);
        let mut stream = Stalling::new(stream, Duration::from_secs(60), None);
        let reader = tokio::spawn(async move {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                peer.read_exact(&mut [0; 4]).await.unwrap();
            }
            // Open, and unread.
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(peer);
        });
        stream.write_all(b"0123456789ab").await.unwrap();
        let begun = Instant::now();
        let error = stream.write_all(b"c").await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 60));
        reader.abort();
    }

    /// Reads one byte a second for so long, then none. Gives the seconds until the writer gave up, and what it said.
    async fn read_slowly(pace: Pace, reads: u32) -> (u64, String) {
        let (stream, mut peer) = tokio::io::duplex(4);
        let mut stream = Stalling::new(stream, Duration::from_secs(60), Some(pace));
        let reader = tokio::spawn(async move {
            for _ in 0..reads {
                tokio::time::sleep(Duration::from_secs(1)).await;
                peer.read_exact(&mut [0; 1]).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(peer);
        });
        let begun = Instant::now();
        let error = stream.write_all(&[7; 1000]).await.unwrap_err();
        reader.abort();
        (begun.elapsed().as_secs(), error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_trickles_is_given_up_when_the_window_is_over() {
        let pace = |bytes| Pace { bytes, within: Duration::from_secs(100) };
        let slow = "the peer reads too slowly".to_owned();
        // Four bytes more than it reads are in between.
        assert_eq!(read_slowly(pace(105), 900).await, (100, slow.clone()));
        // Enough in the first window, thanks to these, and not in the second.
        assert_eq!(read_slowly(pace(102), 900).await, (200, slow));
        // As fast as it must be, for five windows; then it stops.
        assert_eq!(read_slowly(pace(99), 500).await, (560, "the peer does not read".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_not_blamed_while_there_is_nothing_to_read() {
        let (stream, mut peer) = tokio::io::duplex(4);
        let pace = Pace { bytes: 10, within: Duration::from_secs(10) };
        let mut stream = Stalling::new(stream, Duration::from_secs(60), Some(pace));
        let reader = tokio::spawn(async move { peer.read_to_end(&mut Vec::new()).await.unwrap() });
        for _ in 0..100 {
            stream.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        drop(stream);
        assert_eq!(reader.await.unwrap(), 100);
    }
}
