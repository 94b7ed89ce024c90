//! The hub as the worker sees it: the calls of `/internal`, and what became of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use xvault::core::error::chain;
use xvault::core::protocol::{
    Assignment, Claim, ClaimAnswer, Complete, CompleteAnswer, Heartbeat, HeartbeatAnswer, JOB_FINISHED,
    JobProgress, LEASE_LOST, LeaseAnswer, LogLine, Logs, OpenDownload, OpenedDownload, Outcome, Reconcile,
    ReconcileAnswer, Register, Registered, Renew, Report, StoredSnapshot,
};
use xvault::core::secret::{ExposeSecret, SecretString};
use xvault::core::{ClaimNonce, JobId, LeaseToken};

use crate::log_buffer::shorten;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer is read whole.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest answer that is read: a claim with two secrets is far below.
const MAX_ANSWER: usize = 8 << 20;
/// The longest piece of a foreign text that is shown.
const MAX_SHOWN: usize = 500;
/// The hub's word for a row that others keep changing.
const CONTENDED: &str = "contended";
/// The longest pause that a hub may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The token of the call holds no living lease.
    #[error("the lease is lost")]
    LeaseLost,
    /// The job of the call is over.
    #[error("the job is over")]
    JobFinished,
    /// The hub does not believe the worker's token.
    #[error("the hub refuses the worker's token: check WORKER_ID and WORKER_TOKEN")]
    Unauthorized,
    /// The hub was not reached, or is in trouble itself. Trying again may help.
    #[error("the hub can't be reached: {reason}")]
    Unreachable {
        /// One sentence.
        reason: String,
        /// Whether the hub may have taken note of the call all the same: whatever it answered.
        sent: bool,
        /// How long the hub wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The hub says no, and will say so again.
    #[error("the hub refuses {call}: {status} {code}: {message}")]
    Refused {
        /// Path of the call.
        call: String,
        /// HTTP status.
        status: u16,
        /// The hub's word for it.
        code: String,
        /// The hub's sentence.
        message: String,
    },
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is none.
    #[error("`{0}` is no address of a hub: http://host:port or https://host is")]
    Address(String),
    /// The token can't stand in a header.
    #[error("the worker's token has characters that no token has")]
    Token,
    /// TLS could not be set up.
    #[error("set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// The file of certificate authorities can't be read.
    #[error("WORKER_HUB_CA_FILE: read {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file of certificate authorities holds something else.
    #[error("WORKER_HUB_CA_FILE: {} holds no certificates in PEM form", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// Calls the hub. Each call is one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    http: reqwest::Client,
    base: Url,
    standing: watch::Sender<Standing>,
}

/// What the hub made of the worker's token when it last said something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing yet.
    Unknown,
    /// The worker is registered.
    Accepted,
    /// Any call was refused for it: it was revoked, replaced, or is another worker's.
    Refused,
}

/// What the hub says when it says no.
#[derive(Debug, Default, Deserialize)]
struct Complaint {
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: String,
}

impl Hub {
    /// A client for the hub at `base`, whose certificate must be of an authority in `ca_file` when there is one.
    pub(crate) fn new(base: &str, token: &SecretString, ca_file: Option<&Path>) -> Result<Self, ClientError> {
        // Somebody else may have chosen a provider for the whole program: that one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| ClientError::Token)?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, bearer)]);
        let mut client = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("xvault-worker/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER);
        if let Some(path) = ca_file {
            client = client.tls_certs_only(authorities(path)?);
        }
        let http = client.build().map_err(ClientError::Client)?;
        Ok(Self { http, base: address(base)?, standing: watch::Sender::new(Standing::Unknown) })
    }

    /// What the hub makes of the worker's token.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Waits until this is what the hub makes of the worker's token.
    pub(crate) async fn becomes(&self, wanted: Standing) {
        // It lives as long as its sender, which is ours.
        drop(self.standing().wait_for(|standing| *standing == wanted).await);
    }

    fn stands(&self, now: Standing) {
        self.standing.send_if_modified(|was| std::mem::replace(was, now) != now);
    }

    /// `POST /internal/workers/register`.
    pub(crate) async fn register(&self, register: &Register) -> Result<Registered, Error> {
        let answer = self.post("internal/workers/register", register).await?;
        self.stands(Standing::Accepted);
        Ok(answer)
    }

    /// `POST /internal/workers/heartbeat`.
    pub(crate) async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, Error> {
        let answer = self.post("internal/workers/heartbeat", heartbeat).await?;
        self.stands(Standing::Accepted);
        Ok(answer)
    }

    /// `POST /internal/workers/reconcile`.
    pub(crate) async fn reconcile(&self, snapshots: Vec<StoredSnapshot>) -> Result<ReconcileAnswer, Error> {
        self.post("internal/workers/reconcile", &Reconcile { snapshots }).await
    }

    /// `POST /internal/jobs/claim`; `Err` inside when there is nothing to do, with the reason. May be repeated with the same nonce.
    pub(crate) async fn claim(
        &self,
        job_id: &JobId,
        nonce: &ClaimNonce,
    ) -> Result<Result<Box<Assignment>, String>, Error> {
        let claim = Claim { job_id: Some(job_id.clone()), nonce: Some(nonce.clone()) };
        Ok(match self.post("internal/jobs/claim", &claim).await? {
            ClaimAnswer::Claimed(assignment) => Ok(assignment),
            ClaimAnswer::Nothing { reason } => Err(reason),
        })
    }

    /// `POST /internal/jobs/{id}/renew`.
    pub(crate) async fn renew(&self, job_id: &JobId, token: &LeaseToken) -> Result<LeaseAnswer, Error> {
        self.post(&format!("internal/jobs/{job_id}/renew"), &Renew { lease_token: token.clone() }).await
    }

    /// `POST /internal/jobs/{id}/progress`.
    pub(crate) async fn progress(
        &self,
        job_id: &JobId,
        token: &LeaseToken,
        progress: &JobProgress,
    ) -> Result<LeaseAnswer, Error> {
        let report = Report { lease_token: token.clone(), progress: progress.clone() };
        self.post(&format!("internal/jobs/{job_id}/progress"), &report).await
    }

    /// `POST /internal/jobs/{id}/logs`.
    pub(crate) async fn logs(
        &self,
        job_id: &JobId,
        token: &LeaseToken,
        lines: Vec<LogLine>,
    ) -> Result<LeaseAnswer, Error> {
        let logs = Logs { lease_token: token.clone(), lines };
        self.post(&format!("internal/jobs/{job_id}/logs"), &logs).await
    }

    /// `POST /internal/jobs/{id}/complete`.
    pub(crate) async fn complete(
        &self,
        job_id: &JobId,
        token: &LeaseToken,
        outcome: &Outcome,
    ) -> Result<CompleteAnswer, Error> {
        let complete = Complete { lease_token: token.clone(), outcome: outcome.clone() };
        self.post(&format!("internal/jobs/{job_id}/complete"), &complete).await
    }

    /// `POST /internal/downloads/open`.
    pub(crate) async fn open_download(&self, open: &OpenDownload) -> Result<OpenedDownload, Error> {
        self.post("internal/downloads/open", open).await
    }

    async fn post<A: DeserializeOwned>(&self, call: &str, body: &impl Serialize) -> Result<A, Error> {
        let answer = self.send(call, body).await;
        if let Err(Error::Unauthorized) = answer {
            self.stands(Standing::Refused);
        }
        answer
    }

    async fn send<A: DeserializeOwned>(&self, call: &str, body: &impl Serialize) -> Result<A, Error> {
        let url = self.base.join(call).map_err(|error| refused(call, 0, "bad_path", &error.to_string()))?;
        let mut response = self.http.post(url).json(body).send().await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let bytes = read(&mut response).await.map_err(|e| unreachable(&e))?;
        let Some(bytes) = bytes else {
            return Err(refused(call, status.as_u16(), "answer_too_large", "its answer has no end"));
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| {
                refused(
                    call,
                    status.as_u16(),
                    "unknown_answer",
                    &format!("its answer is not understood: {error}"),
                )
            });
        }
        Err(complaint(call, status, retry_after, &bytes))
    }
}

/// The certificates in a PEM file.
fn authorities(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let bytes =
        std::fs::read(path).map_err(|source| ClientError::CaFile { path: path.to_owned(), source })?;
    let found = Certificate::from_pem_bundle(&bytes).unwrap_or_default();
    // A client without any would trust nobody, and not say why.
    if found.is_empty() { Err(ClientError::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
}

/// The hub's address as a directory, so that paths can be added.
fn address(base: &str) -> Result<Url, ClientError> {
    let wrong = || ClientError::Address(shorten(base, MAX_SHOWN));
    let url: Url = format!("{}/", base.trim_end_matches('/')).parse().map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    // A password in it would come up in errors.
    let bare = url.username().is_empty() && url.password().is_none();
    let bare = bare && url.query().is_none() && url.fragment().is_none();
    if plain && bare { Ok(url) } else { Err(ClientError::Address("what was given".to_owned())) }
}

/// The body, unless it is too long.
async fn read(response: &mut reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

fn unreachable(error: &reqwest::Error) -> Error {
    Error::Unreachable { reason: chain(error), sent: !error.is_connect(), retry_after: None }
}

fn refused(call: &str, status: u16, code: &str, message: &str) -> Error {
    Error::Refused {
        call: call.to_owned(),
        status,
        code: code.to_owned(),
        message: shorten(message, MAX_SHOWN),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn complaint(call: &str, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Error {
    let said: Complaint = serde_json::from_slice(body).unwrap_or_default();
    match (status, said.code.as_str()) {
        (StatusCode::CONFLICT, LEASE_LOST) => Error::LeaseLost,
        (StatusCode::CONFLICT, JOB_FINISHED) => Error::JobFinished,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Error::Unauthorized,
        (status, code) if is_passing(status, code) => Error::Unreachable {
            reason: shorten(&format!("{call}: {status} {}", said.error), MAX_SHOWN),
            sent: true,
            retry_after,
        },
        (status, code) => refused(call, status.as_u16(), &shorten(code, MAX_SHOWN), &said.error),
    }
}

/// Whether time may heal it. A 404 without a code is no hub's: a proxy has none to ask just now.
fn is_passing(status: StatusCode, code: &str) -> bool {
    match (status, code) {
        (StatusCode::CONFLICT, CONTENDED) | (StatusCode::NOT_FOUND, "") => true,
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => true,
        _ => status.is_server_error(),
    }
}

/// Pauses between attempts: doubled with each, from `first` to `longest`.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The pause after `error`, at least as long as the hub asked for.
    pub(crate) fn after(&mut self, error: &Error) -> Duration {
        let asked = match error {
            Error::Unreachable { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.pause().max(asked)
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    /// All is well again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken_and_passwords_are_not_repeated() {
        let join = |base: &str| address(base).map(|url| url.join("internal/x").unwrap().to_string());
        assert_eq!(join("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080/internal/x");
        assert_eq!(join("https://hub.example/base/").unwrap(), "https://hub.example/base/internal/x");
        for bad in ["", "hub:8080", "ftp://hub", "http://", "http://hub/?a=b", "file:///etc"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        let error = address("http://me:hunter2@hub").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_token_never_prints() {
        let hub = Hub::new("http://hub", &SecretString::from("xvw_hunter2"), None).unwrap();
        assert!(!format!("{hub:?}").contains("hunter2"));
        let bad = Hub::new("http://hub", &SecretString::from("a\nb"), None);
        assert!(matches!(bad, Err(ClientError::Token)));
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let said = |status: u16, body: &str| {
            complaint("c", StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
        };
        assert!(matches!(said(409, r#"{"error":"","code":"lease_lost"}"#), Error::LeaseLost));
        assert!(matches!(said(409, r#"{"code":"job_finished"}"#), Error::JobFinished));
        assert!(matches!(said(409, "no json"), Error::Refused { status: 409, .. }));
        assert!(matches!(said(401, ""), Error::Unauthorized));
        assert!(matches!(said(500, ""), Error::Unreachable { sent: true, .. }));
        assert!(matches!(said(502, "<html>"), Error::Unreachable { sent: true, .. }));
        // It may have done what it was asked for before its time was up.
        assert!(matches!(said(503, ""), Error::Unreachable { sent: true, .. }));
        assert!(matches!(said(429, ""), Error::Unreachable { sent: true, .. }));
        assert!(matches!(said(409, r#"{"code":"contended"}"#), Error::Unreachable { sent: true, .. }));
        assert!(matches!(said(404, "404 page not found"), Error::Unreachable { sent: true, .. }));
        assert!(matches!(said(404, r#"{"code":"not_found"}"#), Error::Refused { status: 404, .. }));
        assert!(matches!(said(422, ""), Error::Refused { status: 422, .. }));
    }

    #[test]
    fn a_hub_in_trouble_is_left_alone_for_as_long_as_it_asks() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let error = complaint("c", StatusCode::SERVICE_UNAVAILABLE, retry_after(&headers), b"");
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        assert_eq!(backoff.after(&error), Duration::from_secs(7));
        let pauses: Vec<_> = (0..3).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [2, 4, 4]);
        backoff.reset();
        assert_eq!(backoff.pause().as_secs(), 1);
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("99999999999"))]);
        assert_eq!(retry_after(&headers), Some(MAX_RETRY_AFTER));
    }
}
