//! A socket that ends with its owner.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

type Released = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A socket whose reads fail once the [`DropGuard`] that came with it is dropped.
///
/// russh reads in a task of its own that waits for a stalled server without end; whoever gave up
/// waiting has no handle to stop it with.
pub(super) struct Leashed {
    socket: TcpStream,
    released: Released,
}

impl Leashed {
    pub(super) fn new(socket: TcpStream) -> (Self, DropGuard) {
        let token = CancellationToken::new();
        let released = Box::pin(token.clone().cancelled_owned());
        (Self { socket, released }, token.drop_guard())
    }
}

impl AsyncRead for Leashed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.released.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Leashed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
