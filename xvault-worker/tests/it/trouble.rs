//! Leases that are lost, hubs that vanish, and what then may and may not stay in the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xvault::FsStore;
use xvault::core::protocol::{JobMessage, Outcome, Task};
use xvault::core::snapshot::UNREPORTED_NAME;
use xvault::core::{JobId, JobStatus, SnapshotKey, SourceSettings};
use xvault_testkit::{FaultProxy, Sshd};

use crate::fake_hub::Fault;
use crate::support::{Bench, eventually, key_of, password, remains, ssh};

const NOTHING: [PathBuf; 0] = [];

/// A source whose content comes only as far as the test lets it.
struct SlowSource {
    sshd: Sshd,
    proxy: FaultProxy,
}

impl SlowSource {
    fn start() -> Self {
        let sshd = Sshd::builder().start();
        fs::write(sshd.home.join("big"), vec![1; 4 << 20]).unwrap();
        let proxy = FaultProxy::start(sshd.port);
        proxy.stall_after(1 << 20);
        Self { sshd, proxy }
    }

    fn task(&self, bench: &Bench) -> Task {
        let settings = ssh(&self.sshd, self.proxy.port, ".");
        bench.backup_of(SourceSettings::Sftp(settings), password(&self.sshd, &bench.recipient))
    }

    /// Starts a backup and waits until it hangs in the middle.
    async fn begin(&self, bench: &Bench) -> JobId {
        let job_id = bench.submit(self.task(bench));
        self.hangs().await;
        job_id
    }

    async fn hangs(&self) {
        assert!(eventually(|| self.proxy.bytes_to_client() >= 1 << 20).await, "the backup begins");
    }
}

async fn is_idle(bench: &Bench) -> bool {
    let beats = bench.hub.state().heartbeats.len();
    eventually(|| {
        let state = bench.hub.state();
        state.heartbeats.len() > beats + 1 && state.heartbeats.last().unwrap().metrics.active_jobs == 0
    })
    .await
}

#[tokio::test]
async fn a_job_given_to_somebody_else_stops_and_leaves_nothing() {
    let (bench, slow) = (Bench::start().await, SlowSource::start());
    bench.hub.state().lease = Duration::from_secs(3);
    let job_id = slow.begin(&bench).await;
    bench.hub.give_away(&job_id);
    assert!(is_idle(&bench).await);
    assert_eq!(remains(&bench.storage()), NOTHING);
    assert_eq!(bench.hub.job(&job_id, |job| job.completions), 0);
    // The worker is none the worse for it.
    slow.proxy.heal();
    let next = bench.submit(slow.task(&bench));
    bench.reaches(&next, JobStatus::Completed).await;
}

#[tokio::test]
async fn a_canceled_job_stops_and_leaves_nothing() {
    let (bench, slow) = (Bench::start().await, SlowSource::start());
    bench.hub.state().lease = Duration::from_secs(3);
    let job_id = slow.begin(&bench).await;
    bench.hub.cancel(&job_id);
    assert!(is_idle(&bench).await);
    assert_eq!(remains(&bench.storage()), NOTHING);
    assert_eq!(bench.hub.status(&job_id), JobStatus::Canceled);
}

#[tokio::test]
async fn a_hub_that_is_away_for_less_than_a_lease_is_not_missed() {
    let (bench, slow) = (Bench::start().await, SlowSource::start());
    bench.hub.state().lease = Duration::from_secs(6);
    let job_id = slow.begin(&bench).await;
    bench.hub.set_fault(Fault::Down);
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.hub.set_fault(Fault::None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(bench.hub.job(&job_id, |job| job.renewals) >= 1);
    slow.proxy.heal();
    bench.reaches(&job_id, JobStatus::Completed).await;
    assert_eq!(bench.hub.job(&job_id, |job| (job.claims, job.completions)), (1, 1));
}

#[tokio::test]
async fn a_hub_that_is_away_for_longer_than_a_lease_costs_nothing() {
    for fault in [Fault::Down, Fault::Silent] {
        let (bench, slow) = (Bench::start().await, SlowSource::start());
        bench.hub.state().lease = Duration::from_secs(2);
        let job_id = slow.begin(&bench).await;
        bench.hub.set_fault(fault);
        tokio::time::sleep(Duration::from_secs(5)).await;
        bench.hub.set_fault(Fault::None);
        let renewals = bench.hub.job(&job_id, |job| job.renewals);
        assert!(eventually(|| bench.hub.job(&job_id, |job| job.renewals) > renewals).await, "{fault:?}");
        slow.proxy.heal();
        bench.reaches(&job_id, JobStatus::Completed).await;
        assert_eq!(bench.hub.job(&job_id, |job| (job.life.attempt, job.completions)), (1, 1), "{fault:?}");
        assert_eq!(bench.snapshots().await.len(), 1);
    }
}

#[tokio::test]
async fn a_backup_that_ends_while_the_hub_is_away_is_told_when_it_is_back() {
    let (bench, slow) = (Bench::start().await, SlowSource::start());
    bench.hub.state().lease = Duration::from_secs(2);
    let job_id = slow.begin(&bench).await;
    bench.hub.set_fault(Fault::Down);
    slow.proxy.heal();
    assert!(eventually(|| futures::executor::block_on(bench.snapshots()).len() == 1).await);
    // Longer than the lease, and than the last lines of the log are tried at once.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(bench.hub.status(&job_id), JobStatus::Running);
    bench.hub.set_fault(Fault::None);
    bench.reaches(&job_id, JobStatus::Completed).await;
    bench.hub.job(&job_id, |job| {
        assert_eq!((job.life.attempt, job.completions), (1, 1));
        // What happened in the outage was told, too.
        assert_eq!(job.progress.last().map(|progress| progress.phase.as_str()), Some("read_back"));
    });
    assert_eq!(bench.snapshots().await.len(), 1);
}

/// A worker with a snapshot that it tried to report, whose job was then given to somebody else.
async fn reported_too_late(called: impl FnOnce(&Bench, SnapshotKey)) -> (Bench, JobId) {
    let bench = Bench::start().await;
    fs::write(bench.data().join("a"), "a").unwrap();
    bench.hub.set_fault(Fault::RefusesCompletions);
    let task = bench.local_backup();
    called(&bench, key_of(&task));
    let job_id = bench.submit(task);
    assert!(
        eventually(
            || bench.hub.status(&job_id) == JobStatus::Finalizing && !remains(&bench.storage()).is_empty()
        )
        .await
    );
    assert!(eventually(|| futures::executor::block_on(bench.snapshots()).len() == 1).await);
    assert!(eventually(|| bench.hub.in_vain("/complete") > 0).await, "it tries to report");
    assert!(!is_marked(&bench.storage()));
    bench.hub.give_away(&job_id);
    bench.hub.set_fault(Fault::None);
    (bench, job_id)
}

/// Whether a snapshot there has the mark of one that the hub was not told of.
fn is_marked(storage: &Path) -> bool {
    remains(storage).iter().any(|dir| dir.join(UNREPORTED_NAME).exists())
}

#[tokio::test]
async fn a_completion_that_is_refused_for_certain_removes_the_snapshot() {
    let superseded = |bench: &Bench, key| bench.hub.state().superseded.push(key);
    let (bench, job_id) = reported_too_late(superseded).await;
    assert!(eventually(|| remains(&bench.storage()).is_empty()).await);
    assert_eq!(bench.hub.job(&job_id, |job| job.completions), 0);
}

#[tokio::test]
async fn a_refusal_after_an_attempt_that_may_have_arrived_is_not_believed_unasked() {
    let (bench, _) = reported_too_late(|bench, key| bench.hub.state().unknown.push(key)).await;
    assert!(is_idle(&bench).await);
    let asked = bench.hub.state().reconciled.last().unwrap().snapshots.len();
    assert_eq!((asked, bench.snapshots().await.len()), (1, 1));
}

#[tokio::test]
async fn a_hub_that_is_away_hears_of_a_snapshot_that_still_has_its_mark() {
    let (bench, slow) = (Bench::start().await, SlowSource::start());
    let job_id = slow.begin(&bench).await;
    bench.hub.set_fault(Fault::Down);
    slow.proxy.heal();
    assert!(eventually(|| futures::executor::block_on(bench.snapshots()).len() == 1).await);
    let before = bench.hub.in_vain("/renew");
    let tries = || bench.hub.in_vain("/renew") > before + 2 || !is_marked(&bench.storage());
    assert!(eventually(tries).await, "it tries to report");
    assert!(is_marked(&bench.storage()), "nothing was sent yet that could have arrived");
    bench.hub.set_fault(Fault::None);
    bench.reaches(&job_id, JobStatus::Completed).await;
    assert!(!is_marked(&bench.storage()));
}

#[tokio::test]
async fn a_result_that_the_hub_does_not_take_fails_the_job_once_and_for_all() {
    let bench = Bench::start().await;
    bench.hub.set_fault(Fault::RejectsResults);
    let task = bench.local_backup();
    bench.hub.state().superseded.push(key_of(&task));
    let job_id = bench.submit(task);
    bench.reaches(&job_id, JobStatus::Failed).await;
    bench.hub.job(&job_id, |job| {
        let error = job.life.error.as_ref().unwrap();
        assert_eq!((error.code.as_str(), job.claims), ("refused_by_hub", 1));
        assert!(error.message.ends_with("422 invalid_field: field `x`: it is wrong"), "{}", error.message);
    });
    assert!(eventually(|| remains(&bench.storage()).is_empty()).await);
}

/// As when `rebuild` put it on record while its worker waited: to the hub it is neither superseded nor unknown.
#[tokio::test]
async fn a_snapshot_that_came_on_record_by_itself_stays_whatever_becomes_of_its_job() {
    let ends: [fn(&Bench, &JobId); 2] =
        [|bench, id| bench.hub.give_away(id), |bench, id| bench.hub.cancel(id)];
    for end in ends {
        let (bench, slow) = (Bench::start().await, SlowSource::start());
        let job_id = slow.begin(&bench).await;
        bench.hub.set_fault(Fault::Down);
        slow.proxy.heal();
        assert!(eventually(|| futures::executor::block_on(bench.snapshots()).len() == 1).await);
        end(&bench, &job_id);
        bench.hub.set_fault(Fault::None);
        assert!(is_idle(&bench).await);
        let asked = bench.hub.state().reconciled.last().unwrap().snapshots.len();
        assert_eq!((asked, bench.snapshots().await.len()), (1, 1));
    }
    let bench = Bench::start().await;
    bench.hub.set_fault(Fault::RejectsResults);
    let job_id = bench.submit(bench.local_backup());
    bench.reaches(&job_id, JobStatus::Failed).await;
    assert!(is_idle(&bench).await);
    assert_eq!(bench.snapshots().await.len(), 1);
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_never_costs_the_snapshot() {
    for fault in [Fault::LosesCompletions, Fault::DropsCompletions] {
        let bench = Bench::start().await;
        fs::write(bench.data().join("a"), "a").unwrap();
        bench.hub.set_fault(fault);
        let task = bench.local_backup();
        let key = key_of(&task);
        let job_id = bench.submit(task);
        // The hub has it, and refuses it when it is told again.
        bench.reaches(&job_id, JobStatus::Completed).await;
        bench.hub.set_fault(Fault::None);
        assert!(is_idle(&bench).await);
        assert_eq!(bench.hub.job(&job_id, |job| job.completions), 1);
        let left: Vec<_> = bench.snapshots().await.iter().map(xvault::core::Manifest::key).collect();
        assert_eq!(left, [key], "{fault:?}");
    }
}

#[tokio::test]
async fn a_worker_that_stops_before_the_hub_could_be_told_keeps_the_snapshot() {
    let mut bench = Bench::with(|config| config.drain = Duration::from_millis(100), None).await;
    bench.hub.state().lease = Duration::from_secs(2);
    bench.hub.set_fault(Fault::RefusesCompletions);
    let job_id = bench.submit(bench.local_backup());
    assert!(eventually(|| bench.hub.status(&job_id) == JobStatus::Finalizing).await);
    assert!(eventually(|| futures::executor::block_on(bench.snapshots()).len() == 1).await);
    let stopping = std::time::Instant::now();
    bench.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(30), "{:?}", stopping.elapsed());
    assert_eq!((bench.snapshots().await.len(), bench.hub.job(&job_id, |job| job.completions)), (1, 0));
}

#[tokio::test]
async fn duplicate_messages_run_a_job_once() {
    let bench = Bench::start().await;
    let job_id = bench.hub.add(bench.local_backup());
    for _ in 0..6 {
        bench.send(&job_id);
        bench.send_own(&job_id);
    }
    bench.reaches(&job_id, JobStatus::Completed).await;
    assert!(eventually(|| bench.hub.job(&job_id, |job| job.claims == 12)).await);
    assert_eq!(bench.hub.job(&job_id, |job| job.completions), 1);
    assert_eq!(bench.snapshots().await.len(), 1);
    // A message about a job that the hub does not know does no harm.
    bench.send(&JobMessage { job_id: JobId::generate() }.job_id);
    let next = bench.submit(bench.local_backup());
    bench.reaches(&next, JobStatus::Completed).await;
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_repeated_and_answered_the_same() {
    let mut line = None;
    let through = |config: &mut xvault_worker::WorkerConfig| {
        let port = config.hub_url.rsplit(':').next().unwrap().parse().unwrap();
        let proxy = line.insert(FaultProxy::start(port));
        config.hub_url = format!("http://127.0.0.1:{}", proxy.port);
    };
    let bench = Bench::with(through, None).await;
    let line = line.unwrap();
    assert!(eventually(|| !bench.hub.state().registered.is_empty()).await);
    line.lose_answer_to("/internal/jobs/claim");
    let job_id = bench.submit(bench.local_backup());
    bench.reaches(&job_id, JobStatus::Completed).await;
    assert_eq!(line.answers_lost(), 1);
    assert_eq!(bench.hub.job(&job_id, |job| (job.claims, job.life.attempt, job.completions)), (2, 1, 1));
}

#[tokio::test]
async fn no_more_jobs_run_at_a_time_than_are_wanted() {
    let slow = SlowSource::start();
    let bench = Bench::with(|config| config.concurrency = std::num::NonZeroUsize::MIN, None).await;
    let first = slow.begin(&bench).await;
    let waiting = [bench.submit(bench.local_backup()), bench.hub.add(bench.local_backup())];
    bench.send_own(&waiting[1]);
    tokio::time::sleep(Duration::from_millis(600)).await;
    for job_id in &waiting {
        assert_eq!(bench.hub.job(job_id, |job| job.claims), 0);
    }
    slow.proxy.heal();
    for job_id in [&first, &waiting[0], &waiting[1]] {
        bench.reaches(job_id, JobStatus::Completed).await;
    }
}

#[tokio::test]
async fn draining_lets_jobs_end_and_takes_no_more() {
    let slow = SlowSource::start();
    let mut bench = Bench::start().await;
    let job_id = slow.begin(&bench).await;
    bench.shutdown.cancel();
    assert!(eventually(|| bench.hub.state().heartbeats.last().is_some_and(|beat| beat.draining)).await);
    let late = bench.submit(bench.local_backup());
    tokio::time::sleep(Duration::from_millis(500)).await;
    slow.proxy.heal();
    bench.stop().await;
    assert_eq!(bench.hub.status(&job_id), JobStatus::Completed);
    assert_eq!(bench.hub.job(&late, |job| job.claims), 0);
    assert_eq!(bench.snapshots().await.len(), 1);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_handed_back_undone() {
    let slow = SlowSource::start();
    let mut bench = Bench::with(|config| config.drain = Duration::from_millis(300), None).await;
    let job_id = slow.begin(&bench).await;
    bench.stop().await;
    bench.hub.job(&job_id, |job| {
        assert!(matches!(job.outcome, Some(Outcome::Released { .. })), "{:?}", job.outcome);
        assert_eq!((job.life.status(), job.life.attempt), (JobStatus::Queued, 0));
    });
    assert_eq!(remains(&bench.storage()), NOTHING);
}

#[tokio::test]
async fn a_worker_that_is_dropped_stops_its_jobs_and_its_heartbeats() {
    let slow = SlowSource::start();
    let mut bench = Bench::start().await;
    let job_id = slow.begin(&bench).await;
    bench.abort();
    assert!(eventually(|| remains(&bench.storage()).is_empty()).await);
    assert!(eventually(|| bench.hub.status(&job_id) == JobStatus::Queued).await);
    let calls = bench.hub.state().calls;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.hub.state().calls, calls);
}

#[tokio::test]
async fn an_operators_drain_stops_the_shared_queue_only() {
    let bench = Bench::start().await;
    bench.hub.state().drain = true;
    let beats = bench.hub.state().heartbeats.len();
    assert!(eventually(|| bench.hub.state().heartbeats.len() > beats + 2).await);
    let shared = bench.submit(bench.local_backup());
    let own = bench.hub.add(bench.local_backup());
    bench.send_own(&own);
    bench.reaches(&own, JobStatus::Completed).await;
    assert_eq!(bench.hub.job(&shared, |job| job.claims), 0);
    bench.hub.state().drain = false;
    bench.reaches(&shared, JobStatus::Completed).await;
}

#[tokio::test]
async fn a_worker_that_the_hub_forgot_registers_again() {
    let bench = Bench::start().await;
    assert!(eventually(|| bench.hub.state().registered.len() == 1).await);
    bench.hub.state().forget_worker = true;
    assert!(eventually(|| bench.hub.state().registered.len() == 2).await);
    let state = bench.hub.state();
    assert_eq!(state.registered[0], state.registered[1]);
    assert_eq!(state.registered[0].recipient, bench.recipient);
}

#[tokio::test]
async fn a_hub_that_comes_late_finds_the_worker_waiting() {
    let bench = Bench::start().await;
    bench.hub.set_fault(Fault::Down);
    let job_id = bench.submit(bench.local_backup());
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.hub.set_fault(Fault::None);
    bench.reaches(&job_id, JobStatus::Completed).await;
}

#[tokio::test]
async fn reconciliation_removes_what_is_superseded_and_was_not_reported_and_nothing_else() {
    let mut bench = Bench::start().await;
    let tasks = [(); 5].map(|()| bench.local_backup());
    let keys = tasks.each_ref().map(key_of);
    for task in tasks {
        let job_id = bench.submit(task);
        bench.reaches(&job_id, JobStatus::Completed).await;
    }
    bench.stop().await;
    assert!(!is_marked(&bench.storage()));
    for unreported in [&keys[0], &keys[1], &keys[2]] {
        fs::write(bench.storage().join(unreported.prefix()).join(UNREPORTED_NAME), "").unwrap();
    }
    // A staging of a run that died.
    let staging = bench.storage().join(keys[0].prefix()).with_file_name(".dead.staging");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("backup.tar.zst.enc"), "half").unwrap();
    {
        let mut state = bench.hub.state();
        // Of the fourth it had taken the completion; then its database was put back to an older one.
        state.superseded = vec![keys[3].clone(), keys[1].clone()];
        state.unknown = vec![keys[2].clone(), keys[4].clone()];
        state.reconciled.clear();
    }
    let hub = bench.hub.clone();
    let config = crate::support::config(&hub, bench.storage().parent().unwrap());
    let (_shared, shared) = tokio::sync::mpsc::channel(1);
    let (_own, own) = tokio::sync::mpsc::channel(1);
    let (_quick, quick) = tokio::sync::mpsc::channel(1);
    let feed = xvault_worker::Feed::Local(xvault_worker::LocalFeed::new(shared, own, quick));
    let again = xvault_worker::Worker::new(config, feed).unwrap();
    let running = tokio::spawn(again.run(tokio_util::sync::CancellationToken::new()));
    assert!(eventually(|| !bench.storage().join(keys[1].prefix()).exists()).await);
    assert!(!staging.exists());
    let mut left: Vec<_> = bench.snapshots().await.iter().map(xvault::core::Manifest::key).collect();
    left.sort();
    let mut expected = vec![keys[0].clone(), keys[2].clone(), keys[3].clone(), keys[4].clone()];
    expected.sort();
    assert_eq!(left, expected);
    let mut asked: Vec<_> =
        hub.state().reconciled[0].snapshots.iter().map(|stored| stored.key.clone()).collect();
    asked.sort();
    let mut all = keys.to_vec();
    all.sort();
    assert_eq!(asked, all);
    running.abort();
    drop(FsStore::open(bench.storage()).unwrap());
}
