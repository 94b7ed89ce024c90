//! One job from its assignment to its end: does it, reports, and cleans up where it may not count.

mod backup;
mod browse;
mod delete;
pub(crate) mod fault;
pub(crate) mod place;
mod probe;
mod replicate;
mod restore;
pub(crate) mod source;
mod stores;
mod verify;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use xvault::FsStore;
use xvault::connectors::Control;
use xvault::core::error::chain;
use xvault::core::job::JobError;
use xvault::core::protocol::{
    Assignment, LogLevel, Outcome, ReconcileAnswer, StoreAccess, StoredSnapshot, Task, TaskResult,
};
use xvault::core::{Disposition, JobId, JobKind, JobStatus, SnapshotKey, TenantId, WorkerId};

use crate::downloads::Outflow;
use crate::hub::{self, Backoff, Hub};
use crate::lease::{self, Lease, Stop};
use crate::metrics::Metrics;
use crate::report::{self, Report, Wire};
use crate::scratch::ScratchServers;
use fault::Fault;
use place::Place;
use source::Doors;

/// How long the hub may take to say what is to become of a snapshot it may have heard of.
const VERDICT: Duration = Duration::from_secs(30);
/// No database is put back from a dump so soon after a completion was sent: what the hub says of it is true.
const SAME_DATABASE: Duration = Duration::from_secs(600);
/// The code of a job whose result the hub does not take.
const REFUSED: &str = "refused_by_hub";
/// How long a hub that is away is told how a job ended. What was stored stays in any case.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long it is told once running jobs are handed back.
const LAST_CALL: Duration = Duration::from_secs(10);
/// How long a snapshot is tried to be announced against what time seldom heals: a refusal of the lease's renewal by who knows whom,
/// a store that can't be changed.
const STUBBORN: Duration = Duration::from_secs(300);

/// What every job of a worker uses.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) worker_id: WorkerId,
    pub(crate) hub: Hub,
    pub(crate) store: FsStore,
    pub(crate) doors: Doors,
    pub(crate) scratch: ScratchServers,
    /// Where long parts of uploads wait.
    pub(crate) upload_dir: PathBuf,
    pub(crate) min_free: u64,
    /// How long a sweep may take.
    pub(crate) sweep_limit: Duration,
    /// The same of a deletion, in each place.
    pub(crate) deletion_limit: Duration,
    pub(crate) metrics: Metrics,
    /// Cancelled when running jobs are to be handed back.
    pub(crate) give_up: CancellationToken,
}

/// Runs a job that was asked for at `asked_at`, to its end.
pub(crate) async fn run(tools: Arc<Tools>, assignment: Assignment, asked_at: Instant) {
    let span = span(&tools, &assignment);
    let job = Job::new(tools, assignment, asked_at);
    let (tools, assignment, report, control) = job.parts();
    let work = async move { perform(&tools, &assignment, control, &report).await };
    job.run(work.boxed()).instrument(span).await;
}

/// Runs the job of a download that somebody opened at `asked_at`, to its end, into `out`.
pub(crate) async fn run_download(
    tools: Arc<Tools>,
    assignment: Assignment,
    asked_at: Instant,
    mut out: Outflow,
) {
    let span = span(&tools, &assignment);
    let job = Job::new(tools, assignment, asked_at);
    let (tools, assignment, report, control) = job.parts();
    let work = async move {
        match &assignment.task {
            Task::Restore(task) => restore::download(&tools, task, (control, &report), &mut out).await,
            _ => Err(Fault::permanent("unknown_task", "this worker is too old for the job")),
        }
    };
    job.run(work.boxed()).instrument(span).await;
}

fn span(tools: &Tools, assignment: &Assignment) -> tracing::Span {
    tracing::info_span!(
        "job",
        job_id = %assignment.job_id,
        tenant_id = %assignment.tenant_id,
        worker_id = %tools.worker_id,
        kind = kind(&assignment.task).as_str(),
    )
}

fn kind(task: &Task) -> JobKind {
    match task {
        Task::DeleteSnapshot { .. } => JobKind::DeleteSnapshot,
        Task::Replicate { .. } => JobKind::Replicate,
        Task::Probe { .. } => JobKind::Probe,
        Task::Verify(_) => JobKind::Verify,
        Task::Restore(_) => JobKind::Restore,
        Task::TestStore(_) => JobKind::TestStore,
        Task::SweepStore(_) => JobKind::SweepStore,
        Task::Browse(_) => JobKind::Browse,
        _ => JobKind::Backup,
    }
}

/// What a job does. It is large, and would lie several times on the stack of a thread on its way into a task of its own, which it
/// has overflowed.
type Work = BoxFuture<'static, Result<TaskResult, Fault>>;

/// A job that runs.
struct Job {
    tools: Arc<Tools>,
    assignment: Arc<Assignment>,
    lease: Lease,
    report: Arc<Report>,
}

/// What the hub made of a completion.
#[derive(Debug, PartialEq)]
enum Settled {
    /// It has it.
    Taken(JobStatus),
    /// It does not want it. `sent` is when the first attempt at telling was, if there was one before that may have arrived: then
    /// the hub may refuse what it has already.
    Refused { sent: Option<Instant> },
    /// This account of the job's end won't do, and would not tomorrow: the attempt is to be reported as failed, so.
    Rejected { failed: Outcome, sent: Instant },
    /// Nobody knows.
    Unknown,
}

impl Settled {
    /// A refusal counts as the hub's word about a result only where the hub did not do what it was asked for.
    fn rejected(error: &hub::Error, sent: Instant) -> Self {
        match error {
            hub::Error::Refused { status: 400..=499, .. } => {
                let error = JobError { code: REFUSED.to_owned(), message: error.to_string() };
                Self::Rejected {
                    failed: Outcome::Failed { error, disposition: Disposition::Permanent },
                    sent,
                }
            }
            _ => Self::Unknown,
        }
    }
}

/// Why a snapshot is not announced yet.
#[derive(Debug)]
enum Unannounced {
    /// The hub did not renew the lease.
    Hub(hub::Error),
    /// The mark can't be taken away.
    Store(xvault::connectors::Error),
}

impl Unannounced {
    /// What comes of it `after` so long a time of trying; None to try on. Nothing was sent, so nothing was taken: the snapshot
    /// still has its mark, and may go once the hub says so.
    fn end(&self, after: Duration, now: Instant) -> Option<Settled> {
        match self {
            Self::Hub(hub::Error::LeaseLost | hub::Error::JobFinished) => {
                Some(Settled::Refused { sent: None })
            }
            Self::Hub(hub::Error::Refused { .. }) if after >= STUBBORN => Some(Settled::Unknown),
            Self::Store(error) if after >= STUBBORN => {
                let message = format!("the snapshot could not be completed in the store: {}", chain(error));
                let error = JobError { code: "store".to_owned(), message };
                let failed = Outcome::Failed { error, disposition: Disposition::Transient };
                Some(Settled::Rejected { failed, sent: now })
            }
            _ => None,
        }
    }

    /// The pause before the next try; tells what is no outage, and so is told nowhere else, at the `first`.
    fn pause(&self, backoff: &mut Backoff, first: bool) -> Duration {
        match self {
            Self::Hub(error @ hub::Error::Unreachable { .. }) => backoff.after(error),
            Self::Hub(error) => {
                if first {
                    tracing::warn!(%error, "the hub did not renew the lease of a job that has ended");
                }
                backoff.pause()
            }
            Self::Store(error) => {
                if first {
                    tracing::warn!(error = chain(error), "a snapshot could not be completed in the store");
                }
                backoff.pause()
            }
        }
    }
}

impl Job {
    fn new(tools: Arc<Tools>, assignment: Assignment, asked_at: Instant) -> Self {
        let cancel = tools.give_up.child_token();
        let lease = Lease::new(assignment.lease_token.clone(), assignment.lease_ms, asked_at, cancel);
        Self { tools, assignment: Arc::new(assignment), lease, report: Arc::default() }
    }

    /// What its work needs.
    fn parts(&self) -> (Arc<Tools>, Arc<Assignment>, Arc<Report>, Control) {
        let control =
            Control::default().with_progress(self.report.clone()).with_cancel(self.lease.cancel().clone());
        (self.tools.clone(), self.assignment.clone(), self.report.clone(), control)
    }

    async fn run(self, work: Work) {
        let began = Instant::now();
        self.tools.metrics.job_began();
        tracing::info!(attempt = self.assignment.attempt, "job begins");
        let outcome = self.while_kept(async { self.settle(self.work(work).await).await }).await;
        self.tools.metrics.job_ended(kind(&self.assignment.task), outcome, began.elapsed());
        tracing::info!(outcome, seconds = began.elapsed().as_secs_f64(), "job ended");
    }

    /// Keeps the lease for as long as `doing` takes.
    async fn while_kept<T>(&self, doing: impl Future<Output = T>) -> T {
        let mut doing = pin!(doing);
        let keeping = lease::keep(&self.tools.hub, &self.assignment.job_id, &self.lease);
        tokio::select! {
            biased;
            done = &mut doing => return done,
            // What ended the lease has cancelled the work, too.
            () = keeping => {}
        }
        doing.await
    }

    /// Does the work while progress is told. A task of its own makes its panic an answer.
    async fn work(&self, task: Work) -> Result<TaskResult, Fault> {
        let task = tokio::spawn(task.in_current_span());
        let closing = CancellationToken::new();
        let working = async {
            let done = task.await;
            closing.cancel();
            done
        };
        let telling = report::send(self.wire(), &self.report, &closing);
        let (done, ()) = tokio::join!(working, telling);
        done.unwrap_or_else(|error| Err(panicked(&error)))
    }

    fn wire(&self) -> Wire<'_> {
        Wire { hub: &self.tools.hub, job_id: &self.assignment.job_id, lease: &self.lease }
    }

    /// Tells the hub how it ended, and removes what may not count. Gives the word for it.
    async fn settle(&self, done: Result<TaskResult, Fault>) -> &'static str {
        if let Some(stop) = self.lease.stop() {
            return self.abandon(stop, done).await;
        }
        let (outcome, stored) = match done {
            Ok(result) => {
                let stored = stored(&result);
                (Outcome::Completed { result }, stored)
            }
            Err(fault) => (self.ended_by(&fault), None),
        };
        let told = async {
            self.say_last_words().await;
            if let Some((key, _)) = &stored
                && let Err(settled) = self.announce(key).await
            {
                return settled;
            }
            self.complete(&outcome).await
        };
        let settled = self.in_time(told).await;
        match (settled, stored) {
            (Settled::Taken(status), _) => taken(&outcome, status),
            (Settled::Refused { sent }, Some(snapshot)) => {
                self.ask_about(snapshot, sent.unwrap_or_else(Instant::now)).await
            }
            (Settled::Refused { .. }, None) => "refused",
            (Settled::Rejected { failed, sent }, stored) => self.rejected(failed, stored, sent).await,
            (Settled::Unknown, _) => {
                // What was stored stays: the hub may have taken note. The hourly reconciliation asks.
                tracing::warn!("the hub could not be told how the job ended");
                "unknown"
            }
        }
    }

    /// Waits for what the hub is told, however long it is away: a day at most, and not for long when the worker is to stop.
    async fn in_time(&self, told: impl Future<Output = Settled>) -> Settled {
        let hurried = async {
            self.tools.give_up.cancelled().await;
            tokio::time::sleep(LAST_CALL).await;
        };
        tokio::select! {
            biased;
            told = told => told,
            () = hurried => Settled::Unknown,
            () = tokio::time::sleep(PATIENCE) => Settled::Unknown,
        }
    }

    /// Sends the last lines of the log, for which a hub that is away is waited for: with the completion the log is closed.
    async fn say_last_words(&self) {
        if report::finish(self.wire(), &self.report).await {
            return;
        }
        self.lease.heard().await;
        if !report::finish(self.wire(), &self.report).await {
            tracing::warn!("the last lines of the job's log did not reach the hub");
        }
    }

    /// What a failure is called, and a stop that is no failure.
    fn ended_by(&self, fault: &Fault) -> Outcome {
        if fault.disposition == Disposition::Cancelled && self.tools.give_up.is_cancelled() {
            return Outcome::Released { reason: "the worker is being stopped".to_owned() };
        }
        let (code, reason) = (fault.code, fault.message.as_str());
        tracing::warn!(code, reason, "job failed");
        self.report.line(LogLevel::Error, &format!("{code}: {reason}"));
        // Nobody else stops a job that holds its lease: what calls itself cancelled is worth another attempt.
        let disposition = match fault.disposition {
            Disposition::Cancelled => Disposition::Transient,
            other => other,
        };
        Outcome::Failed { error: fault.job_error(), disposition }
    }

    /// The job may not go on: nothing is reported. No completion was sent, so nothing of it stays unless it came on record by itself.
    async fn abandon(&self, stop: Stop, done: Result<TaskResult, Fault>) -> &'static str {
        tracing::warn!(reason = stop.reason(), "job stopped");
        if let Ok(result) = done
            && let Some(snapshot) = stored(&result)
        {
            self.ask_about(snapshot, Instant::now()).await;
        }
        "stopped"
    }

    /// Tells the hub until it answers. A lease that has run out is no reason to stop: it is this worker's until somebody else has it.
    async fn complete(&self, outcome: &Outcome) -> Settled {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut sent = None;
        loop {
            let asked_at = Instant::now();
            let told = self.tools.hub.complete(&self.assignment.job_id, self.lease.token(), outcome).await;
            let pause = match told {
                Ok(answer) => return Settled::Taken(answer.status),
                Err(hub::Error::LeaseLost | hub::Error::JobFinished) => return Settled::Refused { sent },
                Err(error @ hub::Error::Refused { .. }) => {
                    tracing::error!(%error, "the hub does not understand how the job ended");
                    return Settled::rejected(&error, sent.unwrap_or(asked_at));
                }
                Err(error) => {
                    if matches!(error, hub::Error::Unreachable { sent: true, .. }) {
                        sent.get_or_insert(asked_at);
                    }
                    backoff.after(&error)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes the mark from a snapshot that the hub is about to be told of, once the hub is known to listen. Later, whoever finds
    /// the snapshot with its mark may remove it, and nobody may remove it without.
    async fn announce(&self, key: &SnapshotKey) -> Result<(), Settled> {
        let (began, mut first) = (Instant::now(), true);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while let Err(unannounced) = self.try_to_announce(key).await {
            if let Some(settled) = unannounced.end(began.elapsed(), Instant::now()) {
                return Err(settled);
            }
            tokio::time::sleep(unannounced.pause(&mut backoff, first)).await;
            first = matches!(unannounced, Unannounced::Hub(hub::Error::Unreachable { .. })) && first;
        }
        Ok(())
    }

    async fn try_to_announce(&self, key: &SnapshotKey) -> Result<(), Unannounced> {
        let asked_at = Instant::now();
        let answer = self.tools.hub.renew(&self.assignment.job_id, self.lease.token()).await;
        self.lease.heed(asked_at, &answer);
        answer.map_err(Unannounced::Hub)?;
        let place = self.place().map_err(Unannounced::Store)?;
        place.announce(key).await.map_err(Unannounced::Store)
    }

    /// Where this job's snapshot lies.
    fn place(&self) -> Result<Place, xvault::connectors::Error> {
        let access = match &self.assignment.task {
            Task::Backup(task) => &task.store,
            _ => &StoreAccess::LocalFs,
        };
        self.tools.place(access).map_err(|fault| xvault::connectors::Error::Credential(fault.message))
    }

    /// The result won't do: the attempt has `failed`, and the hub is told so. An attempt ends once, so when the hub has taken that,
    /// it has not taken the snapshot; whether it has it from elsewhere, it is asked.
    async fn rejected(
        &self,
        failed: Outcome,
        stored: Option<(SnapshotKey, JobId)>,
        sent: Instant,
    ) -> &'static str {
        match (self.in_time(self.complete(&failed)).await, stored) {
            // It had taken the result before, and the refusal was somebody else's.
            (Settled::Taken(JobStatus::Completed), _) => JobStatus::Completed.as_str(),
            (Settled::Taken(status), stored) => {
                if let Some(snapshot) = stored {
                    self.ask_about(snapshot, sent).await;
                }
                taken(&failed, status)
            }
            (Settled::Refused { .. }, Some(snapshot)) => self.ask_about(snapshot, sent).await,
            (Settled::Refused { .. }, None) => "refused",
            (Settled::Rejected { .. } | Settled::Unknown, _) => "unknown",
        }
    }

    /// The hub refuses a completion that it may have taken before, at `sent` or later, or a snapshot that somebody may have put on
    /// record by hand (`xvault-hub rebuild`): it is asked, and the snapshot stays unless nobody wants it.
    async fn ask_about(&self, (key, job_id): (SnapshotKey, JobId), sent: Instant) -> &'static str {
        let question = self.tools.hub.reconcile(vec![StoredSnapshot { key: key.clone(), job_id }]);
        match tokio::time::timeout(VERDICT, question).await {
            Ok(Ok(answer)) if is_unwanted(&answer, &key, sent.elapsed()) => {
                tracing::warn!("the hub does not take the snapshot: it is removed");
                self.discard(&key).await;
                "refused"
            }
            // On record, or reported by each reconciliation.
            _ => "unknown",
        }
    }

    async fn discard(&self, key: &SnapshotKey) {
        let discarded = async { self.place()?.discard(key).await };
        if let Err(error) = discarded.await {
            tracing::warn!(
                snapshot_id = %key.snapshot_id,
                error = chain(&error),
                "a snapshot that nobody wants could not be removed"
            );
        }
    }
}

async fn perform(
    tools: &Tools,
    assignment: &Assignment,
    control: Control,
    report: &Arc<Report>,
) -> Result<TaskResult, Fault> {
    match &assignment.task {
        Task::Backup(task) => {
            let ids: (&JobId, &TenantId) = (&assignment.job_id, &assignment.tenant_id);
            let done = backup::run(tools, ids, task, (control, report)).await;
            let stored = match &done {
                Ok(TaskResult::Backup { manifest, .. }) => manifest.size_bytes,
                _ => 0,
            };
            tools.metrics.moved(report.pulled_bytes(), stored);
            done
        }
        Task::DeleteSnapshot { snapshot, store, copies, copies_kept } => {
            delete::run(tools, snapshot, (store, copies, copies_kept), &control).await
        }
        Task::Probe { source, credential } => probe::run(tools, source, credential.as_ref(), &control).await,
        Task::Verify(task) => verify::run(tools, task, &control).await,
        Task::Restore(task) => restore::run(tools, task, (control, report)).await,
        Task::TestStore(task) => stores::test(tools, task, &control).await,
        Task::SweepStore(task) => stores::sweep(tools, task, &control).await,
        Task::Browse(task) => browse::run(tools, task, &control).await,
        Task::Replicate { snapshot, from, to } => replicate::run(tools, snapshot, (from, to), &control).await,
        _ => Err(Fault::permanent("unknown_task", "this worker is too old for the job")),
    }
}

/// Whether a snapshot that the hub was told of so long ago may go: later the answer may come from a database that was put back.
fn is_unwanted(answer: &ReconcileAnswer, key: &SnapshotKey, ago: Duration) -> bool {
    answer.superseded.contains(key) && ago < SAME_DATABASE
}

/// The snapshot that a result speaks of, with the job that made it.
fn stored(result: &TaskResult) -> Option<(SnapshotKey, JobId)> {
    match result {
        TaskResult::Backup { manifest, .. } => Some((manifest.key(), manifest.job_id.clone())),
        _ => None,
    }
}

fn panicked(error: &JoinError) -> Fault {
    tracing::error!(%error, "the job broke off: this is a defect of xVault");
    Fault::transient(
        "worker_panicked",
        "the worker's program broke off in this job; this is a defect of xVault",
    )
}

/// The word for an outcome that the hub took.
fn taken(outcome: &Outcome, status: JobStatus) -> &'static str {
    match outcome {
        Outcome::Released { .. } => "released",
        _ if status == JobStatus::Queued => "retried",
        _ => status.as_str(),
    }
}

/// Real paths of the directories below which local sources may lie.
///
/// # Errors
/// When one is missing: a misspelt directory would allow nothing, silently.
pub(crate) fn real_roots(allowed: &[std::path::PathBuf]) -> std::io::Result<Vec<std::path::PathBuf>> {
    let named = |path: &Path, error: std::io::Error| {
        std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    allowed.iter().map(|path| path.canonicalize().map_err(|error| named(path, error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::Store as _;
    use xvault::connectors::Network;
    use xvault::connectors::tool::ToolOptions;
    use xvault::core::{Identity, LeaseToken};

    use crate::config::{DELETION_LIMIT, SWEEP_LIMIT};

    fn key(id: &str) -> SnapshotKey {
        SnapshotKey {
            tenant_id: TenantId::local(),
            source_id: "s".parse().unwrap(),
            snapshot_id: id.parse().unwrap(),
        }
    }

    #[test]
    fn what_may_have_been_on_record_goes_soon_or_never() {
        let answer = ReconcileAnswer { superseded: vec![key("x")], unknown: vec![key("y")] };
        assert!(is_unwanted(&answer, &key("x"), Duration::from_secs(599)));
        assert!(
            !is_unwanted(&answer, &key("x"), Duration::from_secs(600)),
            "the database may be an older one"
        );
        for other in ["y", "z"] {
            assert!(!is_unwanted(&answer, &key(other), Duration::ZERO), "{other}");
        }
    }

    #[test]
    fn a_snapshot_is_not_announced_for_ever() {
        let refused = || {
            let (call, code, message) = ("renew".to_owned(), "odd".to_owned(), "a proxy's".to_owned());
            Unannounced::Hub(hub::Error::Refused { call, status: 400, code, message })
        };
        let away = || {
            let reason = "no route".to_owned();
            Unannounced::Hub(hub::Error::Unreachable { reason, sent: false, retry_after: None })
        };
        let broken = || Unannounced::Store(xvault::connectors::Error::Cancelled);
        let now = Instant::now();
        let end = |unannounced: Unannounced, seconds| unannounced.end(Duration::from_secs(seconds), now);
        for passing in [refused(), away(), broken()] {
            assert_eq!(end(passing, 299), None);
        }
        assert_eq!(end(away(), 12 * 3600), None, "an outage is waited for");
        assert_eq!(end(refused(), 300), Some(Settled::Unknown), "of the result it has said nothing");
        let Some(Settled::Rejected { failed: Outcome::Failed { error, disposition }, .. }) =
            end(broken(), 300)
        else {
            panic!("the hub must hear that the attempt failed");
        };
        assert_eq!((error.code.as_str(), disposition), ("store", Disposition::Transient));
        for over in [hub::Error::LeaseLost, hub::Error::JobFinished] {
            assert_eq!(end(Unannounced::Hub(over), 0), Some(Settled::Refused { sent: None }));
        }
    }

    /// A job of a worker whose hub is nowhere.
    fn job(dir: &Path) -> Job {
        let cancel = CancellationToken::new();
        let tools = Tools {
            worker_id: WorkerId::local(),
            hub: Hub::new("http://127.0.0.1:9", &"xvw_token".into(), None).unwrap(),
            store: FsStore::open(dir).unwrap(),
            doors: Doors {
                identity: Identity::generate(),
                local_roots: vec![],
                storage_base: dir.to_owned(),
                database_tools: ToolOptions::default(),
                network: Network::default(),
            },
            scratch: ScratchServers::default(),
            upload_dir: dir.to_owned(),
            min_free: 0,
            sweep_limit: SWEEP_LIMIT,
            deletion_limit: DELETION_LIMIT,
            metrics: Metrics::new(),
            give_up: cancel.clone(),
        };
        let snapshot = key("x");
        let assignment = Assignment {
            job_id: JobId::generate(),
            tenant_id: TenantId::local(),
            attempt: 1,
            lease_token: LeaseToken::generate(),
            lease_ms: 60_000,
            task: Task::DeleteSnapshot {
                snapshot,
                store: StoreAccess::LocalFs,
                copies: Vec::new(),
                copies_kept: Vec::new(),
            },
        };
        let lease = Lease::new(assignment.lease_token.clone(), 60_000, Instant::now(), cancel);
        Job { tools: Arc::new(tools), assignment: Arc::new(assignment), lease, report: Arc::default() }
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt_that_tells_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        let fault = job.work(async { panic!("hunter2") }.boxed()).await.unwrap_err();
        assert_eq!((fault.code, fault.disposition), ("worker_panicked", Disposition::Transient));
        assert!(!fault.message.contains("hunter2"));
        assert!(matches!(job.ended_by(&fault), Outcome::Failed { .. }));
    }

    /// Somebody may have put it on record, and the hub can't be asked.
    #[tokio::test]
    async fn a_snapshot_of_a_job_that_is_stopped_stays_until_the_hub_does_not_want_it() {
        let dir = tempfile::tempdir().unwrap();
        let (job, key) = (job(dir.path()), key("x"));
        let snapshot = dir.path().join(key.prefix());
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(snapshot.join("manifest.json"), "{}").unwrap();
        let locator = job.tools.store.locator(&job.tools.worker_id, &key.prefix());
        let manifest = Box::new(xvault_testkit::samples::manifest(&key));
        let done = TaskResult::Backup { manifest, locator, locked_until: None };
        assert_eq!(job.abandon(Stop::LeaseLost, Ok(done)).await, "stopped");
        assert!(snapshot.join("manifest.json").exists());
    }

    #[tokio::test]
    async fn only_a_worker_that_stops_hands_a_job_back() {
        let dir = tempfile::tempdir().unwrap();
        let job = job(dir.path());
        let cancelled = || Fault::from(xvault::Error::Source(xvault::connectors::Error::Cancelled));
        let Outcome::Failed { disposition, .. } = job.ended_by(&cancelled()) else { panic!() };
        assert_eq!(disposition, Disposition::Transient);
        job.tools.give_up.cancel();
        assert!(matches!(job.ended_by(&cancelled()), Outcome::Released { .. }));
        // What failed by itself while the worker stops has failed.
        let refused = Fault::permanent("auth_failed", "no");
        assert!(matches!(job.ended_by(&refused), Outcome::Failed { .. }));
    }
}
