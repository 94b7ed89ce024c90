//! What the hub does by itself: loops that each do one thing, at their own pace, until they are told to stop.
//!
//! A loop outlives whatever goes wrong in it. It waits longer while things fail, tells when they begin to fail and when
//! they work again, and is silent otherwise.

mod grace;
mod pace;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use xvault_core::protocol::QueueName;

use crate::app::observe::queues_of;
use crate::app::stores::keys;
use crate::app::{copies, jobs, overdue, retention, scheduler, verify, wake, workers};
use crate::db::{self, downloads, job_logs, recipient_challenges, refresh_tokens};
use crate::{Hub, queue::QueueError};
use grace::Grace;
use pace::{Failure, repeat};

/// When the first pass of retention begins, after the start.
const RETAIN_FIRST: Duration = Duration::from_secs(30);
/// How often a loop that has nothing to do looks whether that is still so.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Rows that a loop handles in one go.
const BATCH: u32 = 200;
/// How often messages are looked after at least.
const RECONCILE: Duration = Duration::from_secs(15);
/// How often a queue that is away is tried.
const AWAY: Duration = Duration::from_secs(5);
/// The longest pause between two looks for expired leases.
const REAP: Duration = Duration::from_secs(15);
/// The pause while leases may not be ended yet.
const REAP_SOON: Duration = Duration::from_millis(250);
/// How often it is looked for verifications that are due.
const PROVE: Duration = Duration::from_secs(300);
/// The same while there are some.
const PROVE_SOON: Duration = Duration::from_secs(30);
/// How often snapshots without their copy are looked for.
const COPY: Duration = Duration::from_secs(60);
/// How often what is old is removed.
const TIDY: Duration = Duration::from_secs(3600);
/// The same for looks into snapshots: a deletion waits for those that are not over.
const TIDY_BROWSES: Duration = Duration::from_secs(60);
/// The same for keys of jobs that are over.
const TIDY_KEYS: Duration = Duration::from_secs(60);
/// How long download links are remembered after their end.
const ENDED_LINKS: Duration = Duration::from_secs(30 * 24 * 3600);
/// Lines that are removed in one statement: SQLite has one writer, and it must not be held up.
const LOG_LINES: u32 = 1000;

/// The loops of a hub, at work. When this is dropped they are told to end; [`Background::stop`] also waits until they have.
#[derive(Debug)]
#[must_use = "the loops end when it is dropped"]
pub struct Background {
    stop: DropGuard,
    loops: JoinHandle<()>,
}

impl Background {
    /// Ends the loops, and waits for it. What they had begun in the database is rolled back.
    pub async fn stop(self) {
        drop(self.stop);
        // A loop outlives its panics.
        let _done = self.loops.await;
    }
}

impl Hub {
    /// Starts the loops that keep jobs moving, on the present tokio runtime. Several hubs on one database may run them at once.
    pub fn start_background(&self) -> Background {
        let (hub, stop) = (self.clone(), CancellationToken::new());
        let guard = stop.clone().drop_guard();
        Background { stop: guard, loops: tokio::spawn(async move { hub.run_background(stop).await }) }
    }

    /// As [`Hub::start_background`], until `stop`.
    pub async fn run_background(&self, stop: CancellationToken) {
        let grace = Mutex::default();
        tokio::join!(
            repeat("reaper", &stop, || reap(self, &grace)),
            repeat("scheduler", &stop, || schedule(self)),
            repeat("overdue watch", &stop, || look_after(self)),
            repeat("reconciler", &stop, || send(self)),
            repeat("worker watch", &stop, || watch(self)),
            repeat("session janitor", &stop, || tidy_sessions(self)),
            repeat("log janitor", &stop, || tidy_logs(self)),
            repeat("verifier", &stop, || prove(self)),
            repeat("download janitor", &stop, || tidy_downloads(self)),
            repeat("store sweeper", &stop, || sweep_stores(self)),
            repeat("copier", &stop, || copy(self)),
            repeat("queue janitor", &stop, || tidy_queues(self)),
            repeat("browse janitor", &stop, || tidy_browses(self)),
            repeat("key janitor", &stop, || tidy_keys(self)),
            retention_passes(&stop, || retain(self)),
        );
    }
}

/// Not with everything else that a start brings; and a policy that was a mistake can still be mended.
async fn retention_passes<F: Future<Output = Result<Duration, Failure>>>(
    stop: &CancellationToken,
    pass: impl Fn() -> F,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = tokio::time::sleep(RETAIN_FIRST) => {}
    }
    repeat("retention", stop, pass).await;
}

/// Applies the retention policies of all sources.
async fn retain(hub: &Hub) -> Result<Duration, Failure> {
    let interval = hub.settings().retention_interval;
    if interval.is_zero() {
        return Ok(NEVER);
    }
    retention::run_all(hub).await?;
    Ok(interval)
}

/// Gives jobs of silent workers to others, once these could have been heard.
async fn reap(hub: &Hub, grace: &Mutex<Grace>) -> Result<Duration, Failure> {
    if hub.has_missed_renewals() {
        grace.lock().unwrap_or_else(PoisonError::into_inner).interrupt();
    }
    let judged = judge(hub, grace).await;
    if judged.is_err() {
        grace.lock().unwrap_or_else(PoisonError::into_inner).interrupt();
    }
    judged
}

/// Takes over the database's time before it judges.
async fn judge(hub: &Hub, grace: &Mutex<Grace>) -> Result<Duration, Failure> {
    hub.clock().correct(hub.db().now_millis()).await?;
    let (now, lease) = (hub.clock().now(), hub.settings().lease);
    if !grace.lock().unwrap_or_else(PoisonError::into_inner).is_over(now, lease) {
        return Ok(REAP_SOON);
    }
    let ended = jobs::expire_due(hub, BATCH).await?;
    Ok(if ended >= BATCH { Duration::ZERO } else { (lease / 4).min(REAP) })
}

/// Makes the jobs of schedules that are due.
async fn schedule(hub: &Hub) -> Result<Duration, Failure> {
    let due = scheduler::run_due(hub, BATCH).await?;
    Ok(if due >= BATCH { Duration::ZERO } else { hub.settings().scheduler_interval })
}

/// Tells which sources are overdue.
async fn look_after(hub: &Hub) -> Result<Duration, Failure> {
    let seen = overdue::watch(hub, BATCH).await?;
    Ok(if seen >= BATCH { Duration::ZERO } else { hub.settings().scheduler_interval })
}

/// Makes the jobs that test second stores, and those that copy what has no copy yet.
async fn copy(hub: &Hub) -> Result<Duration, Failure> {
    if let Err(error) = jobs::test_seconds(hub, BATCH).await {
        return Err(Failure(error.message().to_owned()));
    }
    match copies::make_missing(hub, None, BATCH).await {
        Ok(seen) if seen >= BATCH => Ok(Duration::ZERO),
        Ok(_) => Ok(COPY),
        Err(error) => Err(Failure(error.message().to_owned())),
    }
}

/// Makes the verifications that are due.
async fn prove(hub: &Hub) -> Result<Duration, Failure> {
    match verify::run_due(hub).await {
        Ok(0) => Ok(PROVE),
        Ok(made) => {
            tracing::debug!(made, "verifications are due");
            Ok(PROVE_SOON)
        }
        Err(error) => Err(Failure(error.message().to_owned())),
    }
}

/// Makes the sweeps of stores that are due.
async fn sweep_stores(hub: &Hub) -> Result<Duration, Failure> {
    let looked_at = jobs::sweep_due(hub, BATCH).await?;
    Ok(if looked_at >= BATCH { Duration::ZERO } else { jobs::until_next_sweep(hub).await? })
}

/// Sends the messages that are due.
async fn send(hub: &Hub) -> Result<Duration, Failure> {
    let pushed = wake::push_due(hub, BATCH).await?;
    if pushed.sent > 0 {
        tracing::debug!(messages = pushed.sent, "sent messages of waiting jobs");
    }
    Ok(match pushed {
        _ if pushed.more => Duration::ZERO,
        _ if pushed.unreachable => AWAY,
        _ if pushed.full => Duration::from_secs(1),
        _ => until_next(hub).await?,
    })
}

/// Until the next message is due: a job that waits after a failed attempt goes on when its pause ends.
async fn until_next(hub: &Hub) -> db::Result<Duration> {
    let next = db::jobs::next_push_at(&mut *hub.db().conn().await?).await?;
    let wait = next.map_or(RECONCILE, |at| {
        let millis = at.as_millisecond().saturating_sub(hub.clock().millis());
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    });
    Ok(wait.clamp(Duration::from_millis(250), RECONCILE))
}

/// Tells which workers are gone, and has others do the restores that waited for them where they can.
async fn watch(hub: &Hub) -> Result<Duration, Failure> {
    let gone = workers::mark_offline(hub).await?;
    if gone > 0 {
        tracing::warn!(workers = gone, "workers are offline");
    }
    jobs::reroute(hub, BATCH).await.map_err(|error| Failure(error.message().to_owned()))?;
    Ok(hub.settings().heartbeat)
}

/// Removes refresh tokens and challenges that have run out.
async fn tidy_sessions(hub: &Hub) -> Result<Duration, Failure> {
    refresh_tokens::delete_expired(&mut *hub.db().conn().await?, hub.clock().now()).await?;
    recipient_challenges::delete_expired(&mut *hub.db().conn().await?, hub.clock().now()).await?;
    Ok(TIDY)
}

/// Removes old job logs.
async fn tidy_logs(hub: &Hub) -> Result<Duration, Failure> {
    let age = Duration::from_secs(u64::from(hub.settings().job_log_days) * 24 * 3600);
    let before = hub.clock().now().checked_sub(age).unwrap_or(jiff::Timestamp::MIN);
    let removed = job_logs::delete_older(&mut *hub.db().conn().await?, before, LOG_LINES).await?;
    Ok(if removed >= u64::from(LOG_LINES) { Duration::from_millis(100) } else { TIDY })
}

/// Forgets download links that ended a while ago: until then they can say so.
async fn tidy_downloads(hub: &Hub) -> Result<Duration, Failure> {
    let before = hub.clock().now().checked_sub(ENDED_LINKS).unwrap_or(jiff::Timestamp::MIN);
    downloads::delete_ended(&mut *hub.db().conn().await?, before).await?;
    Ok(TIDY)
}

/// Removes looks into snapshots that nobody waits for.
async fn tidy_browses(hub: &Hub) -> Result<Duration, Failure> {
    jobs::tidy_browses(hub, BATCH).await.map_err(|error| Failure(error.message().to_owned()))?;
    Ok(TIDY_BROWSES)
}

/// Has Garage delete the keys of jobs that are over.
async fn tidy_keys(hub: &Hub) -> Result<Duration, Failure> {
    let removed = keys::remove_useless(hub, BATCH).await.map_err(|error| Failure(error.to_string()))?;
    Ok(if removed >= BATCH { Duration::ZERO } else { TIDY_KEYS })
}

/// Removes what finished messages leave in the queues.
async fn tidy_queues(hub: &Hub) -> Result<Duration, Failure> {
    let workers = db::workers::all(&mut *hub.db().conn().await?).await?;
    let own = workers.iter().flat_map(|worker| queues_of(&worker.id));
    for queue in std::iter::once(QueueName::Shared).chain(own) {
        hub.queue().clean(&queue).await?;
    }
    Ok(TIDY)
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use xvault_core::protocol::Renew;
    use xvault_core::{JobId, JobStatus};

    use super::*;
    use crate::Settings;
    use crate::app::bench::{Bench, on_both_engines};
    use crate::db::{Scope, jobs as rows};

    #[tokio::test(start_paused = true)]
    async fn the_first_pass_of_retention_comes_half_a_minute_after_the_start() {
        let (stop, start, passes) = (CancellationToken::new(), tokio::time::Instant::now(), Mutex::default());
        let pass = || async {
            let mut passes: std::sync::MutexGuard<'_, Vec<u64>> = passes.lock().unwrap();
            passes.push(start.elapsed().as_secs());
            if passes.len() == 3 {
                stop.cancel();
            }
            Ok(Duration::from_secs(6 * 3600))
        };
        retention_passes(&stop, pass).await;
        assert_eq!(*passes.lock().unwrap(), [30, 30 + 6 * 3600, 30 + 12 * 3600]);
        // A hub that is stopped before does not wait for it.
        let start = tokio::time::Instant::now();
        retention_passes(&stop, || async { panic!("it was stopped") }).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn passes_of_retention_come_as_often_as_is_set() {
        let hours = |hours: u64| Settings {
            retention_interval: Duration::from_secs(hours * 3600),
            ..Settings::with_jwt_secret(b"at least thirty-two bytes of secret").unwrap()
        };
        let bench = Bench::on_sqlite().await;
        assert_eq!(retain(&bench.hub).await.unwrap(), Duration::from_secs(6 * 3600));
        assert_eq!(retain(&bench.hub_with(hours(24)).await).await.unwrap(), Duration::from_secs(24 * 3600));
        assert_eq!(retain(&bench.hub_with(hours(0)).await).await.unwrap(), NEVER);
    }

    async fn status(hub: &Hub, id: &JobId) -> JobStatus {
        rows::get(&mut hub.db().conn().await.unwrap(), &Scope::All, id).await.unwrap().status()
    }

    /// Two workers with a job each, both leases long run out, in a hub that has just come back.
    async fn a_hub_that_was_away_hears_its_workers_before_it_ends_leases(bench: Bench) {
        let mut held = Vec::new();
        for name in ["lives", "dead"] {
            let worker = bench.worker(name).await;
            let id = bench.backup().await;
            held.push((worker.clone(), bench.claim(&worker, Some(id)).await.unwrap()));
        }
        let [(worker, live), (_, lost)] = &held[..] else { panic!() };
        let clock = bench.hub.clock();
        clock.advance(Duration::from_secs(300));
        let (hub, grace) = (bench.another_hub().await, Mutex::default());
        let both = async || (status(&hub, &live.job_id).await, status(&hub, &lost.job_id).await);
        reap(&hub, &grace).await.unwrap();
        assert_eq!(both().await, (JobStatus::Running, JobStatus::Running));
        let renew = Renew { lease_token: live.lease_token.clone() };
        jobs::renew(&hub, worker, &live.job_id, renew).await.unwrap();
        clock.advance(Duration::from_secs(59));
        reap(&hub, &grace).await.unwrap();
        assert_eq!(both().await, (JobStatus::Running, JobStatus::Running));
        clock.advance(Duration::from_millis(999));
        reap(&hub, &grace).await.unwrap();
        assert_eq!(both().await, (JobStatus::Running, JobStatus::Running));
        clock.advance(Duration::from_millis(1));
        jobs::renew(&hub, worker, &live.job_id, Renew { lease_token: live.lease_token.clone() })
            .await
            .unwrap();
        reap(&hub, &grace).await.unwrap();
        assert_eq!(both().await, (JobStatus::Running, JobStatus::Queued));
        assert!(bench.complete(worker, live).await);
    }

    /// The database goes, and comes back.
    async fn an_outage_of_the_database_starts_the_grace_anew(bench: Bench) {
        let (worker, id) = (bench.worker("w").await, bench.backup().await);
        let (away, grace) = (bench.another_hub().await, Mutex::default());
        let clock = bench.hub.clock();
        reap(&bench.hub, &grace).await.unwrap();
        clock.advance(Duration::from_secs(60));
        reap(&bench.hub, &grace).await.unwrap();
        bench.claim(&worker, Some(id.clone())).await.unwrap();
        away.db().close().await;
        reap(&away, &grace).await.unwrap_err();
        clock.advance(Duration::from_secs(60));
        reap(&bench.hub, &grace).await.unwrap();
        assert_eq!(status(&bench.hub, &id).await, JobStatus::Running);
        clock.advance(Duration::from_secs(60));
        reap(&bench.hub, &grace).await.unwrap();
        assert_eq!(status(&bench.hub, &id).await, JobStatus::Queued);
    }

    /// The database can be read but not written, say: the reaper sees nothing of that, the workers do.
    async fn a_worker_that_was_refused_is_heard_first(bench: Bench) {
        let (worker, id) = (bench.worker("w").await, bench.backup().await);
        let (hub, clock, grace) = (bench.another_hub().await, bench.hub.clock(), Mutex::default());
        let held = bench.claim(&worker, Some(id.clone())).await.unwrap();
        reap(&bench.hub, &grace).await.unwrap();
        clock.advance(Duration::from_secs(60));
        hub.db().close().await;
        let renew = Renew { lease_token: held.lease_token };
        assert!(jobs::renew(&hub, &worker, &id, renew).await.unwrap_err().is_ours());
        assert!(hub.has_missed_renewals());
        bench.hub.miss_renewal();
        reap(&bench.hub, &grace).await.unwrap();
        assert_eq!(status(&bench.hub, &id).await, JobStatus::Running);
        clock.advance(Duration::from_secs(60));
        reap(&bench.hub, &grace).await.unwrap();
        assert_eq!(status(&bench.hub, &id).await, JobStatus::Queued);
    }

    on_both_engines!(
        a_worker_that_was_refused_is_heard_first,
        a_hub_that_was_away_hears_its_workers_before_it_ends_leases,
        an_outage_of_the_database_starts_the_grace_anew,
    );
}
