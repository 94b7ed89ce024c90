//! Real Redis in trouble: jobs go on, and the queue comes back by itself.

use std::fs;
use std::time::Duration;

use xvault::core::protocol::QueueName;
use xvault::core::{JobId, JobStatus, SourceSettings};
use xvault_testkit::{FaultProxy, Sshd};

use crate::redis_server::RedisServer;
use crate::support::{Bench, eventually, password, ssh};

/// A worker on Redis with a backup that hangs in the middle.
struct World {
    redis: RedisServer,
    bench: Bench,
    proxy: FaultProxy,
    job_id: JobId,
    _sshd: Sshd,
}

impl World {
    async fn start() -> Self {
        let redis = RedisServer::start();
        let bench = Bench::with(|_| {}, Some(redis.feed())).await;
        let sshd = Sshd::builder().start();
        fs::write(sshd.home.join("big"), vec![1; 4 << 20]).unwrap();
        let proxy = FaultProxy::start(sshd.port);
        proxy.stall_after(1 << 20);
        let source = SourceSettings::Sftp(ssh(&sshd, proxy.port, "."));
        let job_id = bench.hub.add(bench.backup_of(source, password(&sshd, &bench.recipient)));
        redis.push(&QueueName::Shared, &job_id).await;
        assert!(eventually(|| proxy.bytes_to_client() >= 1 << 20).await, "the backup begins");
        Self { redis, bench, proxy, job_id, _sshd: sshd }
    }

    /// The running job ends as if nothing had happened, and both queues are served.
    async fn recovers(&self) {
        self.proxy.heal();
        self.bench.reaches(&self.job_id, JobStatus::Completed).await;
        assert_eq!(self.bench.hub.job(&self.job_id, |job| (job.claims, job.completions)), (1, 1));
        for queue in [QueueName::Shared, QueueName::Worker("worker-1".parse().unwrap())] {
            let next = self.bench.hub.add(self.bench.local_backup());
            self.redis.push(&queue, &next).await;
            self.bench.reaches(&next, JobStatus::Completed).await;
        }
        assert_eq!(self.bench.snapshots().await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_starts_a_job_at_once() {
    let redis = RedisServer::start();
    let bench = Bench::with(|_| {}, Some(redis.feed())).await;
    assert!(eventually(|| !bench.hub.state().heartbeats.is_empty()).await);
    // The consumers are connected by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let job_id = bench.hub.add(bench.local_backup());
        let began = std::time::Instant::now();
        redis.push(&QueueName::Shared, &job_id).await;
        assert!(eventually(|| bench.hub.job(&job_id, |job| job.claims > 0)).await);
        slowest = slowest.max(began.elapsed());
        bench.reaches(&job_id, JobStatus::Completed).await;
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_empty_in_mid_job() {
    let mut world = World::start().await;
    world.redis.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.redis.restart();
    world.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_in_mid_job() {
    let world = World::start().await;
    world.redis.flush_all();
    world.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stalled_for_two_seconds_in_mid_job() {
    let world = World::start().await;
    world.redis.stall(Duration::from_secs(2));
    world.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stalled_for_twenty_seconds_in_mid_job() {
    let world = World::start().await;
    world.redis.stall(Duration::from_secs(20));
    world.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_before_redis_does() {
    let mut redis = RedisServer::start();
    redis.kill();
    let bench = Bench::with(|_| {}, Some(redis.feed())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.restart();
    let job_id = bench.hub.add(bench.local_backup());
    redis.push(&QueueName::Shared, &job_id).await;
    bench.reaches(&job_id, JobStatus::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_can_not_be_read_holds_nothing_up() {
    let redis = RedisServer::start();
    let own = QueueName::Worker("worker-1".parse().unwrap());
    redis.push_any(&QueueName::Shared, serde_json::json!({"of": "another program"})).await;
    redis.push_any(&QueueName::Shared, "words".to_owned()).await;
    // Not even JSON: the bytes of a message are overwritten while nobody consumes.
    redis.push_any(&own, 1_u32).await;
    let (mut connection, data) = (redis.connection().await, format!("{own}:data"));
    let ids: Vec<String> = redis::cmd("HKEYS").arg(&data).query_async(&mut connection).await.unwrap();
    let garbage = &b"\xff\x00{"[..];
    let () =
        redis::cmd("HSET").arg(&data).arg(&ids[0]).arg(garbage).query_async(&mut connection).await.unwrap();
    let bench = Bench::with(|_| {}, Some(redis.feed())).await;
    for queue in [QueueName::Shared, own] {
        let job_id = bench.hub.add(bench.local_backup());
        redis.push(&queue, &job_id).await;
        bench.reaches(&job_id, JobStatus::Completed).await;
    }
}

/// Ids without a message: due later, due now, and held by a consumer that is dead.
const GHOSTS: &str = "for i = 1, 20 do redis.call('ZADD', KEYS[1], 0, 'later-' .. i) end
    for i = 1, 10 do redis.call('RPUSH', KEYS[2], 'now-' .. i); redis.call('SADD', KEYS[3], 'held-' .. i) end
    redis.call('ZADD', KEYS[4], 1000, 'dead')";

#[tokio::test(flavor = "multi_thread")]
async fn ids_whose_message_is_gone_hold_nothing_up() {
    let redis = RedisServer::start();
    let (mut connection, queue) = (redis.connection().await, QueueName::Shared);
    let keys = ["scheduled", "active", "inflight:dead", "workers"].map(|key| format!("{queue}:{key}"));
    let (ghosts, mut bench) = (redis::Script::new(GHOSTS), None);
    // Those that are there at the start, and those that come later, cost one life at most, not one each.
    for _ in 0..2 {
        let mut haunt = ghosts.prepare_invoke();
        haunt.key(&keys[..]);
        let () = haunt.invoke_async(&mut connection).await.unwrap();
        if bench.is_none() {
            bench = Some(Bench::with(|_| {}, Some(redis.feed())).await);
        }
        let bench = bench.as_ref().unwrap();
        let job_id = bench.hub.add(bench.local_backup());
        redis.push(&queue, &job_id).await;
        bench.reaches(&job_id, JobStatus::Completed).await;
        let dump = redis.dump();
        assert!(!["later-", "now-", "held-"].iter().any(|ghost| dump.contains(ghost)), "{dump}");
    }
}
