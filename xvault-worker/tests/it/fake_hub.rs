//! A hub of one process and no database: the real state machine of jobs behind the real protocol, with faults on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use xvault::core::job::{Life, Refusal};
use xvault::core::protocol::{
    Assignment, Claim, ClaimAnswer, Complete, CompleteAnswer, DownloadBody, Heartbeat, HeartbeatAnswer,
    JOB_FINISHED, JobProgress, LEASE_LOST, LeaseAnswer, LogLine, Logs, OpenDownload, OpenedDownload, Outcome,
    Reconcile, ReconcileAnswer, Register, Registered, Renew, Report, RestoreTarget, StoreAccess, StoredFile,
    Task,
};
use xvault::core::{ClaimNonce, JobId, JobStatus, LeaseToken, SnapshotKey, TenantId, WorkerId, clock};

pub(crate) const TOKEN: &str = "xvw_the-token-of-the-tests";

/// What is wrong with the hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Every call gets a 503.
    Down,
    /// Every call gets a 401.
    Unauthorized,
    /// Every call about a completion is done, and its answer lost.
    LosesCompletions,
    /// Every call about a completion is done, and gets a 503 for it.
    DropsCompletions,
    /// Completions get a 503 and nothing happens.
    RefusesCompletions,
    /// Results get a 422; failures are taken.
    RejectsResults,
    /// No answer ever comes.
    Silent,
}

/// What a link gives.
#[derive(Debug, Clone)]
pub(crate) enum Linked {
    Restore { task: Task, single_use: bool },
    Stored { snapshot: SnapshotKey, file: StoredFile, single_use: bool },
}

#[derive(Debug)]
pub(crate) struct FakeJob {
    pub(crate) task: Task,
    pub(crate) life: Life,
    pub(crate) claims: u32,
    /// Of the claim that was given the job last.
    pub(crate) nonce: Option<ClaimNonce>,
    pub(crate) renewals: u32,
    pub(crate) completions: u32,
    pub(crate) progress: Vec<JobProgress>,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) outcome: Option<Outcome>,
}

impl FakeJob {
    fn new(task: Task) -> Self {
        Self {
            task,
            life: Life::queued(clock::now(), 3),
            claims: 0,
            nonce: None,
            renewals: 0,
            completions: 0,
            progress: Vec::new(),
            logs: Vec::new(),
            outcome: None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) jobs: HashMap<JobId, FakeJob>,
    pub(crate) registered: Vec<Register>,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) reconciled: Vec<Reconcile>,
    /// What a reconciliation calls superseded, and unknown.
    pub(crate) superseded: Vec<SnapshotKey>,
    pub(crate) unknown: Vec<SnapshotKey>,
    pub(crate) fault: Fault,
    pub(crate) drain: bool,
    pub(crate) forget_worker: bool,
    pub(crate) calls: u64,
    /// The paths of calls that got a 503 and nothing else.
    pub(crate) in_vain: Vec<String>,
    /// Paths of calls that were refused for their token.
    pub(crate) refused: Vec<String>,
    pub(crate) heartbeat_ms: u64,
    pub(crate) lease: Duration,
    /// Tokens of links, and what they give.
    pub(crate) links: HashMap<String, Linked>,
    /// The jobs of links that were opened.
    pub(crate) opened: Vec<JobId>,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeHub {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    _server: Arc<Server>,
}

#[derive(Debug)]
struct Server(tokio::task::JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FakeHub {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            lease: Duration::from_secs(60),
            heartbeat_ms: 200,
            ..Inner::default()
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router(inner.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inner, _server: Arc::new(Server(server)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// How many calls whose path ends so got a 503 and nothing else.
    pub(crate) fn in_vain(&self, end: &str) -> usize {
        self.state().in_vain.iter().filter(|path| path.ends_with(end)).count()
    }

    pub(crate) fn add(&self, task: Task) -> JobId {
        let job_id = JobId::generate();
        self.state().jobs.insert(job_id.clone(), FakeJob::new(task));
        job_id
    }

    pub(crate) fn job<T>(&self, job_id: &JobId, look: impl FnOnce(&FakeJob) -> T) -> T {
        look(&self.state().jobs[job_id])
    }

    pub(crate) fn status(&self, job_id: &JobId) -> JobStatus {
        self.job(job_id, |job| job.life.status())
    }

    pub(crate) fn cancel(&self, job_id: &JobId) {
        let mut state = self.state();
        let job = state.jobs.get_mut(job_id).unwrap();
        job.life = job.life.cancel().unwrap();
    }

    /// Gives the job to somebody else, as after an expiry.
    pub(crate) fn give_away(&self, job_id: &JobId) {
        let mut state = self.state();
        let job = state.jobs.get_mut(job_id).unwrap();
        let later = clock::now() + Duration::from_secs(3600);
        job.life = job.life.expire(later).unwrap();
        let other: WorkerId = "other".parse().unwrap();
        job.life = job.life.claim(later, &other, LeaseToken::generate(), Duration::from_secs(7200)).unwrap();
    }
}

type Shared = State<Arc<Mutex<Inner>>>;

fn router(inner: Arc<Mutex<Inner>>) -> Router {
    Router::new()
        .route("/internal/workers/register", post(register))
        .route("/internal/workers/heartbeat", post(heartbeat))
        .route("/internal/workers/reconcile", post(reconcile))
        .route("/internal/downloads/open", post(open))
        .route("/internal/jobs/claim", post(claim))
        .route("/internal/jobs/{id}/renew", post(renew))
        .route("/internal/jobs/{id}/progress", post(progress))
        .route("/internal/jobs/{id}/logs", post(logs))
        .route("/internal/jobs/{id}/complete", post(complete))
        .layer(middleware::from_fn_with_state(inner.clone(), faults))
        .with_state(inner)
}

async fn faults(State(inner): Shared, request: Request, next: Next) -> Response {
    let fault = {
        let mut inner = inner.lock().unwrap();
        inner.calls += 1;
        inner.fault
    };
    let bearer = request.headers().get(header::AUTHORIZATION).cloned();
    let is_unknown = bearer.is_none_or(|bearer| bearer != format!("Bearer {TOKEN}"));
    if is_unknown || fault == Fault::Unauthorized {
        inner.lock().unwrap().refused.push(request.uri().path().to_owned());
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "who?", "code": "unauthorized"})))
            .into_response();
    }
    let completes = request.uri().path().ends_with("/complete");
    match fault {
        Fault::Down => refuse_service(&inner, &request),
        Fault::RefusesCompletions if completes => refuse_service(&inner, &request),
        Fault::Silent => std::future::pending().await,
        Fault::LosesCompletions if completes => {
            drop(next.run(request).await);
            hang_up()
        }
        Fault::DropsCompletions if completes => {
            drop(next.run(request).await);
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        _ => next.run(request).await,
    }
}

fn refuse_service(inner: &Mutex<Inner>, request: &Request) -> Response {
    inner.lock().unwrap().in_vain.push(request.uri().path().to_owned());
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

/// An answer that breaks off.
fn hang_up() -> Response {
    let broken = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("lost"))]);
    Response::new(Body::from_stream(broken))
}

async fn register(State(inner): Shared, Json(register): Json<Register>) -> Json<Registered> {
    let mut inner = inner.lock().unwrap();
    inner.registered.push(register);
    Json(Registered { heartbeat_ms: inner.heartbeat_ms })
}

async fn heartbeat(State(inner): Shared, Json(heartbeat): Json<Heartbeat>) -> Json<HeartbeatAnswer> {
    let mut inner = inner.lock().unwrap();
    inner.heartbeats.push(heartbeat);
    let register = std::mem::take(&mut inner.forget_worker);
    Json(HeartbeatAnswer { drain: inner.drain, register })
}

async fn reconcile(State(inner): Shared, Json(question): Json<Reconcile>) -> Json<ReconcileAnswer> {
    let mut inner = inner.lock().unwrap();
    inner.reconciled.push(question);
    Json(ReconcileAnswer { superseded: inner.superseded.clone(), unknown: inner.unknown.clone() })
}

async fn claim(State(inner): Shared, Json(claim): Json<Claim>) -> Json<ClaimAnswer> {
    let mut inner = inner.lock().unwrap();
    let (lease, job_id) = (inner.lease, claim.job_id.unwrap());
    let Some(job) = inner.jobs.get_mut(&job_id) else {
        return Json(ClaimAnswer::Nothing { reason: "no such job".into() });
    };
    job.claims += 1;
    let again = job.life.lease().filter(|_| claim.nonce.is_some() && claim.nonce == job.nonce);
    let lease_token = again.map_or_else(LeaseToken::generate, |lease| lease.token.clone());
    let worker: WorkerId = "worker-1".parse().unwrap();
    let claimed = match again {
        Some(_) => job.life.renew(&lease_token, clock::now(), lease),
        None => job.life.claim(clock::now(), &worker, lease_token.clone(), lease),
    };
    match claimed {
        Ok(life) => (job.life, job.nonce) = (life, claim.nonce),
        Err(refusal) => return Json(ClaimAnswer::Nothing { reason: refusal.to_string() }),
    }
    Json(ClaimAnswer::Claimed(Box::new(Assignment {
        job_id,
        tenant_id: tenant(),
        attempt: job.life.attempt,
        lease_token,
        lease_ms: u64::try_from(lease.as_millis()).unwrap(),
        task: job.task.clone(),
    })))
}

async fn open(State(inner): Shared, Json(open): Json<OpenDownload>) -> Response {
    let linked = inner.lock().unwrap().links.get(&open.token).cloned();
    let (single_use, body) = match linked {
        None => {
            let said = json!({"error": "no such download link", "code": "not_found", "details": null});
            return (StatusCode::NOT_FOUND, Json(said)).into_response();
        }
        Some(Linked::Stored { snapshot, file, single_use }) => {
            (single_use, DownloadBody::Stored { snapshot, store: StoreAccess::LocalFs, file })
        }
        Some(Linked::Restore { single_use, .. }) if open.peek => (single_use, DownloadBody::Peek),
        Some(Linked::Restore { task, single_use }) => {
            (single_use, DownloadBody::Restore { assignment: Box::new(begun(&inner, task)) })
        }
    };
    let content_type = match &body {
        DownloadBody::Restore { assignment } => type_of(&assignment.task),
        _ => Some("application/zip".to_owned()),
    };
    Json(OpenedDownload { file_name: "Zoë.tar".to_owned(), content_type, single_use, body }).into_response()
}

fn type_of(task: &Task) -> Option<String> {
    match task {
        Task::Restore(task) => match task.target {
            RestoreTarget::Archive { format } => Some(format.content_type().to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// A job that its worker has from the beginning.
fn begun(inner: &Mutex<Inner>, task: Task) -> Assignment {
    let mut inner = inner.lock().unwrap();
    let (job_id, lease_token, lease) = (JobId::generate(), LeaseToken::generate(), inner.lease);
    let worker: WorkerId = "worker-1".parse().unwrap();
    let life =
        Life::queued(clock::now(), 1).claim(clock::now(), &worker, lease_token.clone(), lease).unwrap();
    let job = FakeJob { life, ..FakeJob::new(task.clone()) };
    inner.jobs.insert(job_id.clone(), job);
    inner.opened.push(job_id.clone());
    let lease_ms = u64::try_from(lease.as_millis()).unwrap();
    Assignment { job_id, tenant_id: tenant(), attempt: 1, lease_token, lease_ms, task }
}

pub(crate) fn tenant() -> TenantId {
    "tenant-1".parse().unwrap()
}

fn refuse(refusal: &Refusal) -> Response {
    let code = match refusal {
        Refusal::Finished(_) => JOB_FINISHED,
        _ => LEASE_LOST,
    };
    let body: Value = json!({"error": refusal.to_string(), "code": code, "details": null});
    (StatusCode::CONFLICT, Json(body)).into_response()
}

/// Renews the lease and lets `note` remember the call.
fn with_lease(
    inner: &Mutex<Inner>,
    id: &str,
    token: &LeaseToken,
    note: impl FnOnce(&mut FakeJob),
) -> Response {
    let mut inner = inner.lock().unwrap();
    let lease = inner.lease;
    let job = inner.jobs.get_mut(&id.parse::<JobId>().unwrap()).unwrap();
    match job.life.renew(token, clock::now(), lease) {
        Ok(life) => {
            job.life = life;
            note(job);
            Json(LeaseAnswer { lease_ms: u64::try_from(lease.as_millis()).unwrap() }).into_response()
        }
        Err(refusal) => refuse(&refusal),
    }
}

async fn renew(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Renew>) -> Response {
    with_lease(&inner, &id, &body.lease_token, |job| job.renewals += 1)
}

async fn progress(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Report>) -> Response {
    let Report { lease_token, progress } = body;
    with_lease(&inner, &id, &lease_token, |job| {
        if progress.phase == "read_back" {
            job.life = job.life.finalize(&lease_token).unwrap();
        }
        job.progress.push(progress);
    })
}

async fn logs(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Logs>) -> Response {
    with_lease(&inner, &id, &body.lease_token, |job| {
        let known = job.logs.len() as u64;
        job.logs.extend(body.lines.into_iter().filter(|line| line.seq >= known));
    })
}

async fn complete(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Complete>) -> Response {
    let mut inner = inner.lock().unwrap();
    if inner.fault == Fault::RejectsResults && matches!(body.outcome, Outcome::Completed { .. }) {
        let said = json!({"error": "field `x`: it is wrong", "code": "invalid_field", "details": null});
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(said)).into_response();
    }
    let job = inner.jobs.get_mut(&id.parse::<JobId>().unwrap()).unwrap();
    let (token, now) = (&body.lease_token, clock::now());
    let next = match &body.outcome {
        Outcome::Completed { .. } => job.life.complete(token),
        Outcome::Failed { error, disposition } => job.life.fail(token, now, error.clone(), *disposition),
        Outcome::Released { .. } => job.life.release(token, now),
    };
    match next {
        Ok(life) => {
            job.life = life;
            job.completions += 1;
            job.outcome = Some(body.outcome);
            Json(CompleteAnswer { status: job.life.status() }).into_response()
        }
        Err(refusal) => refuse(&refusal),
    }
}
