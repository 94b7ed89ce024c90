//! Downloads: `GET /downloads/{token}/{name}`, for whoever has a link that the hub signed.
//!
//! The worker asks the hub what a link gives, each time. What has to be decrypted is a job like any other, whose output is the
//! answer: nothing is made ready, and plain text lies on no disk.

mod answer;
mod outflow;
mod range;
mod refusal;
mod serve;
mod stored;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xvault::core::SnapshotKey;
use xvault::core::protocol::{DownloadBody, OpenDownload, OpenedDownload, StoreAccess, StoredFile};

use crate::config::WorkerConfig;
use crate::jobs::{self, Tools};
use answer::Head;
pub(crate) use outflow::Outflow;
use outflow::{Inflow, outflow};
use refusal::Refusal;
pub(crate) use serve::{limits, run};

/// What serves downloads. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Downloads {
    tools: Arc<Tools>,
    /// Jobs of downloads, which the worker waits for when it stops.
    running: TaskTracker,
    places: Arc<Semaphore>,
    /// How long a client may leave what is sent unread.
    stall: Duration,
    /// From now on nothing is begun.
    stop: CancellationToken,
}

/// What the hub said of a link, and what comes of it.
struct Opened {
    said: OpenedDownload,
    flow: Flow,
}

enum Flow {
    /// Nothing: somebody only looks.
    None,
    /// A job's output.
    Job(Inflow),
    /// A stored file.
    Stored(Stored),
}

/// An encrypted file of a snapshot, and the place that its download takes.
struct Stored {
    snapshot: SnapshotKey,
    store: StoreAccess,
    file: StoredFile,
    place: OwnedSemaphorePermit,
}

impl Downloads {
    /// So many at a time as the settings say.
    pub(crate) fn new(tools: Arc<Tools>, running: TaskTracker, config: &WorkerConfig) -> Self {
        let places = Arc::new(Semaphore::new(config.downloads.get().min(Semaphore::MAX_PERMITS)));
        Self { tools, running, places, stall: config.download_stall, stop: CancellationToken::new() }
    }

    /// From now on nothing is begun.
    pub(crate) fn close(&self) {
        self.stop.cancel();
    }

    /// Where they are served.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/downloads/{token}", get(answer_link))
            .route("/downloads/{token}/{name}", get(answer_named))
            .with_state(self.clone())
    }

    async fn answer(&self, asked: Asked) -> Result<Response, Refusal> {
        if self.stop.is_cancelled() {
            return Err(Refusal::stopping());
        }
        if asked.method == Method::HEAD {
            return self.look(&asked).await;
        }
        if asked.headers.contains_key(axum::http::header::RANGE) {
            self.check_range(&asked).await?;
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| Refusal::busy())?;
        let opened = self.open(&asked, place).await?;
        let head = Head::of(&opened.said);
        match opened.flow {
            Flow::Job(inflow) => Ok(inflow.answer(head).await?),
            Flow::Stored(stored) => stored::answer(&self.tools, head, stored, &asked.headers).await,
            Flow::None => Err(Refusal::odd_hub()),
        }
    }

    /// What a download would be. Nothing is begun, and a link that is good for one use stays so.
    async fn look(&self, asked: &Asked) -> Result<Response, Refusal> {
        let said = self.peek(asked).await?;
        let head = Head::of(&said);
        match said.body {
            DownloadBody::Stored { snapshot, store, file } => {
                let length = stored::length(&self.tools, &snapshot, &store, file).await?;
                Ok(head.ranged(length).into_response())
            }
            _ => Ok(head.into_response()),
        }
    }

    /// What is made while it is sent is made from its beginning: found out before a link that is good for one use is used up.
    async fn check_range(&self, asked: &Asked) -> Result<(), Refusal> {
        match self.peek(asked).await?.body {
            DownloadBody::Peek if !range::is_all(&asked.headers) => Err(Refusal::no_ranges()),
            _ => Ok(()),
        }
    }

    async fn peek(&self, asked: &Asked) -> Result<OpenedDownload, Refusal> {
        Ok(self.tools.hub.open_download(&asked.question(true)).await?)
    }

    /// In a task of its own: a client that goes away takes neither the answer of the hub nor the job with it.
    async fn open(&self, asked: &Asked, place: OwnedSemaphorePermit) -> Result<Opened, Refusal> {
        let (told, heard) = oneshot::channel();
        let (tools, question, stall) = (self.tools.clone(), asked.question(false), self.stall);
        self.running.spawn(async move {
            let asked_at = Instant::now();
            let said = match tools.hub.open_download(&question).await {
                Ok(said) => said,
                Err(error) => return drop(told.send(Err(error.into()))),
            };
            match said.body.clone() {
                DownloadBody::Restore { assignment } => {
                    let (out, inflow) = outflow(stall);
                    // A client that is gone already is found out by the job, which ends for it.
                    drop(told.send(Ok(Opened { said, flow: Flow::Job(inflow) })));
                    jobs::run_download(tools, *assignment, asked_at, out).await;
                    drop(place);
                }
                DownloadBody::Stored { snapshot, store, file } => {
                    let flow = Flow::Stored(Stored { snapshot, store, file, place });
                    drop(told.send(Ok(Opened { said, flow })));
                }
                _ => drop(told.send(Ok(Opened { said, flow: Flow::None }))),
            }
        });
        heard.await.unwrap_or_else(|_| Err(Refusal::odd_hub()))
    }
}

/// What somebody asks for. Its token is a secret: it is written into no log.
struct Asked {
    method: Method,
    headers: HeaderMap,
    token: String,
    client: Option<IpAddr>,
}

impl Asked {
    fn question(&self, peek: bool) -> OpenDownload {
        OpenDownload { token: self.token.clone(), peek, client: self.client }
    }
}

type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

async fn answer_link(
    State(downloads): State<Downloads>,
    method: Method,
    peer: Peer,
    headers: HeaderMap,
    Path(token): Path<String>,
) -> Response {
    let client = peer.map(|Extension(ConnectInfo(address))| address.ip());
    let asked = Asked { method, headers, token, client };
    downloads.answer(asked).await.unwrap_or_else(IntoResponse::into_response)
}

/// The name is for whoever sees the link; it changes nothing.
async fn answer_named(
    downloads: State<Downloads>,
    method: Method,
    peer: Peer,
    headers: HeaderMap,
    Path((token, _name)): Path<(String, String)>,
) -> Response {
    answer_link(downloads, method, peer, headers, Path(token)).await
}
