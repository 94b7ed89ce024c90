//! Many workers, people and hubs at the same jobs at once, on both engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use xvault_core::error::Disposition;
use xvault_core::job::JobError;
use xvault_core::protocol::{Assignment, Complete, Outcome, Renew, Task};
use xvault_core::{JobId, JobStatus, LeaseToken, WorkerId};

use super::{cancel, complete, expire_due, renew, retry};
use crate::app::bench::{Bench, on_both_engines};
use crate::db::{Scope, jobs};

/// 8 claimers at 200 jobs: each is claimed once, and a second report of the same end changes nothing.
async fn each_job_goes_to_one_worker(bench: Bench) {
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(bench.backup().await);
    }
    let bench = Arc::new(bench);
    let claimers = (0..8).map(|n| {
        let bench = bench.clone();
        tokio::spawn(async move {
            let worker = bench.worker(&format!("worker-{n}")).await;
            let mut won = Vec::new();
            while let Some(job) = bench.claim(&worker, None).await {
                // Its answer was lost, so it says so again, at the same time.
                let (first, second) =
                    tokio::join!(bench.complete(&worker, &job), bench.complete(&worker, &job));
                assert!(first && second, "the same report is answered the same");
                won.push(job.job_id);
            }
            won
        })
    });
    let mut won = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        won.extend(claimer.await.unwrap());
    }
    won.sort();
    ids.sort();
    assert_eq!(won, ids);
    let snapshots = bench.snapshots().await;
    assert!(snapshots.len() == 200 && snapshots.values().all(|&count| count == 1), "{snapshots:?}");
}

/// What the tasks of a race share.
struct Race {
    bench: Bench,
    ids: Vec<JobId>,
    seed: AtomicU64,
    /// How often a report of a dead attempt was taken as the job's end.
    stale: AtomicU32,
}

impl Race {
    /// The next number of a well-known sequence (SplitMix64): the same acts each time, in whatever order.
    fn dice(&self, sides: u64) -> u64 {
        let mut z = self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    async fn act(&self, worker: &WorkerId, held: &mut Vec<Assignment>) {
        let hub = &self.bench.hub;
        let at = usize::try_from(self.dice(self.ids.len() as u64)).unwrap();
        match self.dice(12) {
            0..=3 => held.extend(self.bench.claim(worker, Some(self.ids[at].clone())).await),
            4 => drop(expire_due(hub, 10).await.unwrap()),
            5 => hub.clock().advance(Duration::from_secs(self.dice(90))),
            6 => drop(cancel(hub, &self.bench.who, &Scope::All, &self.ids[at]).await),
            7 => drop(retry(hub, &self.bench.who, &Scope::All, &self.ids[at]).await),
            _ => self.report(worker, held).await,
        }
    }

    /// Says something about a job that this worker holds, or once held.
    async fn report(&self, worker: &WorkerId, held: &[Assignment]) {
        if held.is_empty() {
            return;
        }
        let job = &held[usize::try_from(self.dice(held.len() as u64)).unwrap()];
        let lease_token = job.lease_token.clone();
        match self.dice(4) {
            0 => drop(renew(&self.bench.hub, worker, &job.job_id, Renew { lease_token }).await),
            1 => {
                let error = JobError { code: "dropped".into(), message: "the connection dropped".into() };
                let outcome = Outcome::Failed { error, disposition: Disposition::Transient };
                drop(complete(&self.bench.hub, worker, &job.job_id, Complete { lease_token, outcome }).await);
            }
            _ => {
                let stale = self.bench.complete(worker, job).await && self.is_stale(job).await;
                self.stale.fetch_add(u32::from(stale), Ordering::Relaxed);
            }
        }
    }

    /// Whether the job is completed by another attempt than this one.
    async fn is_stale(&self, job: &Assignment) -> bool {
        let row = self.row(&job.job_id).await;
        let Task::Backup(task) = &job.task else { panic!("{job:?}") };
        row.status() == JobStatus::Completed && row.snapshot_id.as_ref() != Some(&task.snapshot_id)
    }

    async fn row(&self, id: &JobId) -> jobs::JobRow {
        jobs::get(&mut self.bench.hub.db().conn().await.unwrap(), &Scope::All, id).await.unwrap()
    }
}

/// Workers, people and the reaper do what they like with three jobs. At the end each job still goes on, or is over; and it
/// has a snapshot exactly when it is completed: the one of the attempt that the job names.
async fn whatever_they_do_a_job_is_completed_once(bench: Bench) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.backup().await);
    }
    let race = Arc::new(Race { bench, ids, seed: AtomicU64::new(20_261_124), stale: AtomicU32::new(0) });
    let workers = (0..6).map(|n| {
        let race = race.clone();
        tokio::spawn(async move {
            let worker = race.bench.worker(&format!("worker-{n}")).await;
            let mut held = Vec::new();
            for _ in 0..60 {
                race.act(&worker, &mut held).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert_eq!(race.stale.load(Ordering::Relaxed), 0, "a stale report was taken as a completion");
    let snapshots = race.bench.snapshots().await;
    for id in &race.ids {
        let row = race.row(id).await;
        let count = snapshots.get(id).copied().unwrap_or(0);
        assert_eq!(count, u32::from(row.status() == JobStatus::Completed), "{row:?}");
        finish(&race, &row).await;
    }
}

/// A job that is not over yet can still be done.
async fn finish(race: &Race, row: &jobs::JobRow) {
    if row.status().is_finished() {
        return;
    }
    let hub = &race.bench.hub;
    hub.clock().advance(Duration::from_secs(7200));
    expire_due(hub, 10).await.unwrap();
    let worker = race.bench.worker("late").await;
    if race.row(&row.id).await.status() == JobStatus::Queued {
        let job = race.bench.claim(&worker, Some(row.id.clone())).await.expect("a queued job can be claimed");
        assert!(race.bench.complete(&worker, &job).await);
    }
    assert!(race.row(&row.id).await.status().is_finished());
}

/// An invented token is refused even while the job is held.
async fn an_invented_token_is_refused(bench: Bench) {
    let (id, worker) = (bench.backup().await, bench.worker("worker").await);
    let job = bench.claim(&worker, Some(id.clone())).await.unwrap();
    let forged = Assignment { lease_token: LeaseToken::generate(), ..job.clone() };
    assert!(!bench.complete(&worker, &forged).await);
    assert!(bench.complete(&worker, &job).await);
}

on_both_engines!(
    each_job_goes_to_one_worker,
    whatever_they_do_a_job_is_completed_once,
    an_invented_token_is_refused,
);
