//! The first lines of a connection, timed: they tell how far away the server is.
//!
//! How much a server may send ahead of our reading has to be fixed before russh takes over. Too
//! little bounds throughput on a long way to one window per round trip. Too much is worse on a short
//! one: whenever we are slower than the server, OpenSSH gathers the whole window in one buffer and
//! moves it to the front again and again (64 MiB on loopback: three times the server's CPU time, and
//! 1.7 times the wall time of a whole backup). So the window follows the round trip.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

/// What we call ourselves, as russh is told to send it.
pub(super) const CLIENT_ID: &str = concat!("SSH-2.0-xvault_", env!("CARGO_PKG_VERSION"));

/// What a short way gets: OpenSSH's own window.
const SHORTEST_WINDOW: u32 = 2 << 20;
/// What the longest way gets.
const LONGEST_WINDOW: u32 = 64 << 20;
/// Bytes in flight for each second of a round trip.
const BYTES_PER_SECOND: f64 = 640.0 * 1024.0 * 1024.0;

/// A server that says nothing for so long after its greeting waits for us; russh will find out.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest greeting that is read here: RFC 4253 allows lines of text before the version.
const MAX_GREETING_LEN: usize = 16 << 10;

/// A connection on which both sides have said who they are.
pub(super) struct Greeted<S> {
    stream: S,
    /// What the server sent meanwhile, to be read again.
    replay: Bytes,
    /// How much of what russh will write was sent already.
    sent: usize,
}

/// Exchanges the greetings. `connected` is how long TCP took to connect: the least a round trip can be.
/// Gives the window that fits the way.
pub(super) async fn greet<S>(mut stream: S, connected: Duration) -> io::Result<(Greeted<S>, u32)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = BytesMut::with_capacity(MAX_GREETING_LEN);
    let whole = |received: &BytesMut| version_end(received).is_some() || received.len() >= MAX_GREETING_LEN;
    while !whole(&received) && stream.read_buf(&mut received).await? > 0 {}
    let line = format!("{CLIENT_ID}\r\n");
    stream.write_all(line.as_bytes()).await?;
    stream.flush().await?;
    let answered = time_answer(&mut stream, &mut received).await?;
    let window = window_for(connected.max(answered));
    Ok((Greeted { stream, replay: received.freeze(), sent: line.len() }, window))
}

/// How long the server takes to answer our line with its first packet; zero when that came unasked.
async fn time_answer<S: AsyncRead + Unpin>(stream: &mut S, received: &mut BytesMut) -> io::Result<Duration> {
    if version_end(received).is_none_or(|end| received.len() > end) {
        return Ok(Duration::ZERO);
    }
    let asked = Instant::now();
    match timeout(PATIENCE, stream.read_buf(received)).await {
        Ok(read) => read.map(|_| asked.elapsed()),
        Err(_) => Ok(Duration::ZERO),
    }
}

/// Where the line ends that begins with `SSH-`.
fn version_end(received: &[u8]) -> Option<usize> {
    let mut start = 0;
    while let Some(len) = received.get(start..)?.iter().position(|byte| *byte == b'\n') {
        let line = received.get(start..start + len)?;
        start += len + 1;
        if line.starts_with(b"SSH-") {
            return Some(start);
        }
    }
    None
}

fn window_for(round_trip: Duration) -> u32 {
    let bytes = round_trip.as_secs_f64() * BYTES_PER_SECOND;
    let bytes = bytes.clamp(f64::from(SHORTEST_WINDOW), f64::from(LONGEST_WINDOW));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped between two u32")]
    let window = bytes as u32;
    window
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replay.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.replay.len().min(buf.remaining());
        buf.put_slice(&self.replay.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.sent == 0 {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        let count = self.sent.min(buf.len());
        buf.advance(count);
        self.sent -= count;
        Poll::Ready(Ok(count))
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
    use super::*;

    #[test]
    fn the_window_follows_the_way() {
        assert_eq!(window_for(Duration::from_micros(300)), SHORTEST_WINDOW);
        assert_eq!(window_for(Duration::from_millis(50)), 32 << 20);
        assert_eq!(window_for(Duration::from_secs(3)), LONGEST_WINDOW);
    }

    #[test]
    fn the_version_is_found_behind_other_lines() {
        assert_eq!(version_end(b"hello\r\nSSH-2.0-x\r\nrest"), Some(18));
        assert_eq!(version_end(b"SSH-2.0-x"), None);
        assert_eq!(version_end(b"a\nb\n"), None);
    }

    #[tokio::test]
    async fn nothing_is_lost_and_nothing_is_said_twice() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let server = async {
            theirs.write_all(b"SSH-2.0-x\r\n").await.unwrap();
            let mut line = vec![0; CLIENT_ID.len() + 2];
            theirs.read_exact(&mut line).await.unwrap();
            assert_eq!(line, format!("{CLIENT_ID}\r\n").as_bytes());
            tokio::time::sleep(Duration::from_millis(20)).await;
            theirs.write_all(b"packet").await.unwrap();
            let mut rest = [0; 4];
            theirs.read_exact(&mut rest).await.unwrap();
            rest
        };
        let client = async {
            let (mut greeted, window) = greet(ours, Duration::ZERO).await.unwrap();
            assert!(window > 8 << 20, "20 ms are a long way: {window}");
            greeted.write_all(format!("{CLIENT_ID}\r\nmore").as_bytes()).await.unwrap();
            let mut all = [0; 17];
            greeted.read_exact(&mut all).await.unwrap();
            assert_eq!(&all, b"SSH-2.0-x\r\npacket");
        };
        let (rest, ()) = tokio::join!(server, client);
        assert_eq!(&rest, b"more");
    }
}
