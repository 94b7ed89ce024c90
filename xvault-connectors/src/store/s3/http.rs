//! HTTP to one server: connections, certificates, and an end to waiting for one that hangs.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use http_body::{Frame, SizeHint};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use xvault_core::egress::Denied;
use xvault_core::error::chain;

use super::body::{Body, Content};
use crate::{Error, Network, Unreachable};

const CONNECT: Duration = Duration::from_secs(10);
/// What is sent at a time, to see that it is taken.
const STEP: usize = 64 * 1024;
/// Bytes per second below which an answer does not move: a server that sends one now and then would keep a job waiting for ever.
const LEAST_RATE: u64 = 1024;
/// For how long a server may say that it is still at work. Amazon and Ceph answer at once to whoever finishes an upload, and send a
/// blank now and then until they have put thousands of parts together, "several minutes" by Amazon's word:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>.
const AT_WORK: Duration = Duration::from_secs(15 * 60);

/// A client for one server.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    /// `host:port`, for errors.
    server: Arc<str>,
    stall: Duration,
    network: Network,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Unanswered {
    /// No connection, or it broke.
    #[error("{reason}")]
    Broken {
        /// In one sentence.
        reason: String,
    },
    /// The server is none to be connected to.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The server's certificate is not to be trusted.
    #[error("{reason}")]
    Untrusted {
        /// In one sentence.
        reason: String,
    },
    /// More came than was asked for.
    #[error("the answer is longer than {longest} bytes")]
    TooLong {
        /// How much would have done.
        longest: u64,
    },
    /// A listing holds what was not asked for.
    #[error("it lists `{}`, which was not asked for", key.escape_debug())]
    Astray {
        /// One such key.
        key: String,
    },
    /// Nothing moved for too long, or next to nothing.
    #[error("nothing came for {after:?}, or less than 1 KiB a second")]
    Stalled {
        /// How long was waited.
        after: Duration,
    },
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Http {
    /// `ca_certificate` is the PEM of the only authorities to trust, where there is one.
    pub(super) fn new(
        server: &str,
        ca_certificate: Option<&str>,
        (stall, network): (Duration, Network),
    ) -> Result<Self, Error> {
        // Somebody else may have chosen a provider for the whole program: that one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("xvault/", env!("CARGO_PKG_VERSION")))
            // A signature is good for one address.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .dns_resolver(Names(network.clone()));
        if network.is_limited() {
            // A proxy would look the name up, and connect to what it likes.
            client = client.no_proxy();
        }
        if let Some(pem) = ca_certificate {
            let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
            let authorities = authorities
                .map_err(|error| Error::Credential(format!("CA certificate: {}", chain(&error))))?;
            client = client.tls_certs_only(authorities);
        }
        let client = client
            .build()
            .map_err(|error| Error::Credential(format!("CA certificates: {}", chain(&error))))?;
        Ok(Self { client, server: server.into(), stall, network })
    }

    /// `host:port`.
    pub(super) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Sends `body` after `head` and reads the answer to its end, which takes as long as it takes while something moves: while
    /// no [`Http::stall`] goes by in which less came than [`LEAST_RATE`] makes of it. To a POST, blanks are an answer that moves, for [`AT_WORK`].
    pub(super) async fn exchange(
        &self,
        head: http::request::Parts,
        body: &Body,
        longest: u64,
    ) -> Result<Answer, Unanswered> {
        let progress = Progress::within(self.stall);
        let at_work = if head.method == http::Method::POST { AT_WORK } else { Duration::ZERO };
        let exchanged = async {
            let request = request(head, Watched::new(body, &progress)).map_err(unanswered)?;
            check_literal(&self.network, request.url())?;
            let mut response = self.client.execute(request).await.map_err(unanswered)?;
            progress.step();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = collected(&mut response, longest, (&progress, at_work)).await?;
            Ok(Answer { status, headers, body })
        };
        let answer = unless_stalled(exchanged, &progress, self.stall).await;
        answer.unwrap_or(Err(Unanswered::Stalled { after: self.stall }))
    }
}

async fn collected(
    response: &mut reqwest::Response,
    longest: u64,
    (progress, at_work): (&Progress, Duration),
) -> Result<Bytes, Unanswered> {
    let expected = response.content_length().unwrap_or(0).min(longest);
    let mut body = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
    let begun = Instant::now();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        match is_blank(&chunk) && begun.elapsed() < at_work {
            true => progress.step(),
            false => progress.came(chunk.len()),
        }
        if (body.len() + chunk.len()) as u64 > longest {
            return Err(Unanswered::TooLong { longest });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Whether it says only that more will come: blanks, or the line that every XML begins with.
fn is_blank(chunk: &[u8]) -> bool {
    let said = chunk.trim_ascii();
    said.is_empty() || said.starts_with(b"<?xml") && said.ends_with(b"?>")
}

fn request(head: http::request::Parts, body: Watched) -> Result<reqwest::Request, reqwest::Error> {
    http::Request::from_parts(head, reqwest::Body::wrap(body)).try_into()
}

fn unanswered(error: reqwest::Error) -> Unanswered {
    if let Some(denied) = denial(&error) {
        return denied.into();
    }
    // The address holds the key, and a presigned one a signature.
    let reason = chain(&error.without_url());
    // The library's own error for it is private to it.
    if reason.contains("certificate") {
        return Unanswered::Untrusted { reason };
    }
    Unanswered::Broken { reason }
}

impl Unanswered {
    /// With what was being done, and by whom.
    pub(super) fn into_error(self, server: &str, action: &str) -> Error {
        match self {
            Self::Broken { reason } => Error::Connection {
                server: server.to_owned(),
                reason: format!("{action}: {reason}"),
                source: None,
            },
            Self::Denied(denied) => denied.into(),
            Self::Untrusted { reason } => Error::Untrusted { server: server.to_owned(), reason },
            Self::TooLong { .. } | Self::Astray { .. } => {
                Error::Protocol { server: server.to_owned(), detail: format!("{action}: {self}") }
            }
            Self::Stalled { after } => Error::Timeout { what: format!("{server} ({action})"), after },
        }
    }
}

/// That enough moves.
#[derive(Debug, Clone)]
struct Progress {
    bytes: Arc<AtomicU64>,
    /// How many are enough for one span of time in which a stall is looked for.
    least: u64,
}

impl Progress {
    fn within(stall: Duration) -> Self {
        let least = u128::from(LEAST_RATE) * stall.as_millis() / 1000;
        Self { bytes: Arc::default(), least: u64::try_from(least).unwrap_or(u64::MAX).max(1) }
    }

    /// One that is enough by itself.
    fn step(&self) {
        self.bytes.fetch_add(self.least, Ordering::Relaxed);
    }

    /// So many bytes of an answer.
    fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether enough came since there were `before`.
    fn is_enough_since(&self, before: u64) -> bool {
        self.bytes().wrapping_sub(before) >= self.least
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Awaits `work`, unless too little moved for `stall`: `None` then.
async fn unless_stalled<T>(work: impl Future<Output = T>, progress: &Progress, stall: Duration) -> Option<T> {
    tokio::pin!(work);
    loop {
        let before = progress.bytes();
        match tokio::time::timeout(stall, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if progress.is_enough_since(before) => {}
            Err(_) => return None,
        }
    }
}

/// A body of known length that is handed out in small steps.
struct Watched {
    /// Of what was handed over already, and what is to follow.
    chunks: VecDeque<Bytes>,
    pieces: Option<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>>,
    left: u64,
    progress: Progress,
}

impl Watched {
    fn new(body: &Body, progress: &Progress) -> Self {
        let (left, progress) = (body.len(), progress.clone());
        match body.content() {
            Content::Memory(chunks) => {
                Self { chunks: chunks.iter().cloned().collect(), pieces: None, left, progress }
            }
            Content::Scratch(scratch) => {
                Self { chunks: VecDeque::new(), pieces: Some(Box::pin(scratch.read(left))), left, progress }
            }
        }
    }

    /// Makes `chunks` begin with something that can be handed out, if there is any.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunks.front().is_some_and(|front| !front.has_remaining()) {
            self.chunks.pop_front();
        }
        if let (true, Some(pieces)) = (self.chunks.is_empty(), &mut self.pieces) {
            let piece = ready!(pieces.as_mut().poll_next(cx)).transpose()?;
            self.chunks.extend(piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        ready!(this.poll_chunk(cx))?;
        let Some(front) = this.chunks.front_mut() else { return Poll::Ready(None) };
        let step = front.split_to(front.len().min(STEP));
        this.left -= step.len() as u64;
        this.progress.step();
        Poll::Ready(Some(Ok(Frame::data(step))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Names are looked up by what also decides about their addresses.
struct Names(Network);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let network = self.0.clone();
        Box::pin(async move {
            let found = network.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// An address in a URL is no name, and so nobody looks it up.
fn check_literal(network: &Network, url: &reqwest::Url) -> Result<(), Denied> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse().map_or(Ok(()), |address| network.check(host, address))
}

/// Why the way there was refused, if it was.
fn denial(error: &(dyn std::error::Error + 'static)) -> Option<Denied> {
    let mut next = Some(error);
    while let Some(error) = next {
        match (error.downcast_ref::<Denied>(), error.downcast_ref::<Unreachable>()) {
            (Some(denied), _) | (_, Some(Unreachable::Denied(denied))) => return Some(denied.clone()),
            _ => next = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const STALL: Duration = Duration::from_millis(200);

    /// Whether an answer comes to its end that moves ten times, each time after a good part of what a stall takes.
    async fn comes(step: impl Fn(&Progress)) -> bool {
        let progress = Progress::within(STALL);
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(STALL * 3 / 10).await;
                step(&progress);
            }
        };
        unless_stalled(slow, &progress, STALL).await.is_some()
    }

    #[tokio::test]
    async fn slow_is_no_stall_and_a_trickle_is() {
        assert!(comes(Progress::step).await);
        assert!(comes(|progress| progress.came(1000)).await);
        assert!(!comes(|progress| progress.came(10)).await);
        assert!(!comes(|_| {}).await);
    }

    /// What comes of an answer that takes ten times a good part of a stall, a `piece` each time.
    async fn answered(method: http::Method, piece: &'static [u8]) -> Result<Bytes, Unanswered> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(client.read_u8().await?);
            }
            client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<?xml version='1.0'?>\n").await?;
            for _ in 0..10 {
                tokio::time::sleep(STALL * 3 / 10).await;
                client.write_all(piece).await?;
            }
            client.write_all(b"<done/>").await
        };
        let server = tokio::spawn(server);
        let http = Http::new("server", None, (STALL, Network::default())).unwrap();
        let request = http::Request::builder().method(method).uri(format!("http://{address}/"));
        let (head, ()) = request.body(()).unwrap().into_parts();
        let answer = http.exchange(head, &Body::empty(), 1000).await;
        server.abort();
        answer.map(|answer| answer.body)
    }

    #[tokio::test]
    async fn a_server_that_says_with_blanks_that_it_is_at_work_is_waited_for() {
        let done = answered(http::Method::POST, b" \n").await.unwrap();
        assert!(done.ends_with(b"<done/>"), "{done:?}");
        for (method, piece) in [(http::Method::POST, &b"x "[..]), (http::Method::GET, b" \n")] {
            let stalled = answered(method, piece).await.unwrap_err();
            assert!(matches!(stalled, Unanswered::Stalled { after: STALL }), "{stalled}");
        }
    }

    #[test]
    fn only_what_says_nothing_is_blank() {
        for (chunk, blank) in [
            (&b" "[..], true),
            (b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n \n", true),
            (b"<?xml version=\"1.0\"?><Error", false),
            (b"a", false),
        ] {
            assert_eq!(is_blank(chunk), blank, "{}", String::from_utf8_lossy(chunk));
        }
    }
}
