//! What `/metrics` shows, in the text format of OpenMetrics.
//!
//! Counters and histograms grow as things happen in this hub; gauges are looked up when somebody asks, and are those of
//! the whole fleet. No label names a tenant, a source or a path.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use xvault_core::{JobKind, JobStatus};

/// The type of the format, for the answer's `Content-Type`.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    r#type: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    /// The route's pattern, never the path that was asked for.
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    worker: String,
    status: String,
}

/// Of a gauge that is not always there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabels {}

type Seconds = Family<KindLabel, Histogram, fn() -> Histogram>;

/// Counts, and shows.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histogram,
    finished: Family<JobLabels, Counter>,
    job_seconds: Seconds,
    backup_bytes: Counter,
    lease_expiries: Counter,
    retention_deletions: Counter,
    retention_failures: Counter,
    retention_seconds: Histogram,
    damage_found: Counter,
    gauges: Mutex<Gauges>,
}

#[derive(Debug, Clone, Default)]
struct Gauges {
    jobs: Family<JobLabels, Gauge>,
    queue_depth: Family<QueueLabel, Gauge>,
    worker_age: Family<WorkerLabels, Gauge>,
    sources_overdue: Family<NoLabels, Gauge>,
    snapshots_damaged: Family<NoLabels, Gauge>,
    database_reachable: Gauge,
    queue_reachable: Gauge,
}

/// The fleet as it is right now.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// What the database says; none when it does not answer.
    pub(crate) rows: Option<Rows>,
    /// Waiting messages by queue; absent where the queue can't say.
    pub(crate) queues: Vec<(String, i64)>,
}

/// The fleet as the database knows it.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Unfinished jobs.
    pub(crate) jobs: Vec<(JobKind, JobStatus, i64)>,
    /// Worker, its status, and the seconds since it was last seen.
    pub(crate) workers: Vec<(String, String, i64)>,
    /// Sources without a whole snapshot for too long.
    pub(crate) sources_overdue: i64,
    /// Snapshots that are known to be damaged.
    pub(crate) snapshots_damaged: i64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("xvault");
        let (gauges, requests, finished) = (Gauges::default(), Family::default(), Family::default());
        let request_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let job_seconds: Seconds =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.1, 3.0, 13)));
        let (backup_bytes, lease_expiries) = (Counter::default(), Counter::default());
        let (retention_deletions, retention_failures) = (Counter::default(), Counter::default());
        let damage_found = Counter::default();
        let retention_seconds = Histogram::new(exponential_buckets(0.01, 4.0, 9));
        registry.register("http_requests", "Requests answered by this hub", requests.clone());
        registry.register("http_request_seconds", "Time to answer a request", request_seconds.clone());
        registry.register("jobs_finished", "Jobs that ended, as told to this hub", finished.clone());
        registry.register("job_seconds", "Time from claim to end of completed jobs", job_seconds.clone());
        registry.register(
            "backup_bytes",
            "Bytes of the artifacts of completed backups",
            backup_bytes.clone(),
        );
        registry.register("lease_expiries", "Leases that ran out", lease_expiries.clone());
        registry.register(
            "retention_deletions",
            "Deletions of snapshots that retention queued",
            retention_deletions.clone(),
        );
        registry.register(
            "retention_failures",
            "Sources whose retention policy could not be applied",
            retention_failures.clone(),
        );
        registry.register(
            "retention_pass_seconds",
            "Time to apply the policies of all sources",
            retention_seconds.clone(),
        );
        registry.register(
            "damage_found",
            "Verifications that found a snapshot damaged, as told to this hub",
            damage_found.clone(),
        );
        registry.register("jobs", "Unfinished jobs", gauges.jobs.clone());
        registry.register("queue_depth", "Messages that wait in a queue", gauges.queue_depth.clone());
        registry.register(
            "worker_age_seconds",
            "Time since a worker was last seen",
            gauges.worker_age.clone(),
        );
        registry.register(
            "sources_overdue",
            "Sources that have gone without a whole snapshot for longer than their schedule allows",
            gauges.sources_overdue.clone(),
        );
        registry.register(
            "snapshots_damaged",
            "Snapshots that are known to be damaged",
            gauges.snapshots_damaged.clone(),
        );
        registry.register(
            "database_reachable",
            "1 when the database answers this hub",
            gauges.database_reachable.clone(),
        );
        registry.register(
            "queue_reachable",
            "1 when the queue answers this hub",
            gauges.queue_reachable.clone(),
        );
        let gauges = Mutex::new(gauges);
        Self {
            registry,
            requests,
            request_seconds,
            finished,
            job_seconds,
            backup_bytes,
            lease_expiries,
            retention_deletions,
            retention_failures,
            retention_seconds,
            damage_found,
            gauges,
        }
    }
}

impl Metrics {
    /// A request was answered. `route` is the pattern that matched.
    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method: method.to_owned(), route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// A job ended; `ran` is the time since it was claimed.
    pub(crate) fn finished(&self, kind: JobKind, status: JobStatus, ran: Option<Duration>) {
        let labels = JobLabels { r#type: kind.as_str(), status: status.as_str() };
        self.finished.get_or_create(&labels).inc();
        if let (JobStatus::Completed, Some(ran)) = (status, ran) {
            self.job_seconds.get_or_create(&KindLabel { r#type: kind.as_str() }).observe(ran.as_secs_f64());
        }
    }

    /// A backup was completed.
    pub(crate) fn stored(&self, bytes: u64) {
        self.backup_bytes.inc_by(bytes);
    }

    /// A lease ran out.
    pub(crate) fn lease_expired(&self) {
        self.lease_expiries.inc();
    }

    /// Retention queued so many deletions.
    pub(crate) fn retention_queued(&self, deletions: usize) {
        self.retention_deletions.inc_by(u64::try_from(deletions).unwrap_or(u64::MAX));
    }

    /// The policy of a source could not be applied.
    pub(crate) fn retention_failed(&self) {
        self.retention_failures.inc();
    }

    /// The policies of all sources were applied.
    pub(crate) fn retention_pass(&self, took: Duration) {
        self.retention_seconds.observe(took.as_secs_f64());
    }

    /// A verification found a snapshot damaged.
    pub(crate) fn damage_found(&self) {
        self.damage_found.inc();
    }

    /// The page.
    pub(crate) async fn page(&self, observed: Observed) -> Result<String, std::fmt::Error> {
        // Two readers at once must not see each other's half-set gauges.
        let gauges = self.gauges.lock().await;
        gauges.set(observed);
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl Gauges {
    fn set(&self, observed: Observed) {
        self.database_reachable.set(i64::from(observed.rows.is_some()));
        self.queue_reachable.set(i64::from(!observed.queues.is_empty()));
        let sources_overdue = observed.rows.as_ref().map(|rows| rows.sources_overdue);
        let snapshots_damaged = observed.rows.as_ref().map(|rows| rows.snapshots_damaged);
        let rows = observed.rows.unwrap_or_default();
        self.jobs.clear();
        for (kind, status, count) in rows.jobs {
            self.jobs.get_or_create(&JobLabels { r#type: kind.as_str(), status: status.as_str() }).set(count);
        }
        self.queue_depth.clear();
        for (queue, depth) in observed.queues {
            self.queue_depth.get_or_create(&QueueLabel { queue }).set(depth);
        }
        self.worker_age.clear();
        for (worker, status, age) in rows.workers {
            self.worker_age.get_or_create(&WorkerLabels { worker, status }).set(age);
        }
        self.sources_overdue.clear();
        if let Some(overdue) = sources_overdue {
            self.sources_overdue.get_or_create(&NoLabels {}).set(overdue);
        }
        self.snapshots_damaged.clear();
        if let Some(damaged) = snapshots_damaged {
            self.snapshots_damaged.get_or_create(&NoLabels {}).set(damaged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_shows_what_happened_and_what_is() {
        let metrics = Metrics::default();
        metrics.answered("GET", "/api/v1/jobs/{id}", 200, Duration::from_millis(3));
        metrics.finished(JobKind::Backup, JobStatus::Completed, Some(Duration::from_secs(2)));
        metrics.stored(1234);
        metrics.lease_expired();
        metrics.retention_queued(3);
        metrics.retention_failed();
        metrics.damage_found();
        metrics.retention_pass(Duration::from_millis(20));
        let rows = Rows {
            jobs: vec![(JobKind::Backup, JobStatus::Queued, 7)],
            workers: vec![("w1".into(), "online".into(), 4)],
            sources_overdue: 5,
            snapshots_damaged: 6,
        };
        let observed = Observed { rows: Some(rows), queues: vec![("xvault:jobs".into(), 3)] };
        let page = metrics.page(observed).await.unwrap();
        for line in [
            r#"xvault_http_requests_total{method="GET",route="/api/v1/jobs/{id}",status="200"} 1"#,
            r#"xvault_jobs_finished_total{type="backup",status="completed"} 1"#,
            r#"xvault_jobs{type="backup",status="queued"} 7"#,
            r#"xvault_queue_depth{queue="xvault:jobs"} 3"#,
            r#"xvault_worker_age_seconds{worker="w1",status="online"} 4"#,
            "xvault_sources_overdue 5",
            "xvault_snapshots_damaged 6",
            "xvault_damage_found_total 1",
            "xvault_backup_bytes_total 1234",
            "xvault_lease_expiries_total 1",
            "xvault_database_reachable 1",
            "xvault_queue_reachable 1",
            "xvault_retention_deletions_total 3",
            "xvault_retention_failures_total 1",
            "xvault_retention_pass_seconds_count 1",
        ] {
            assert!(page.contains(line), "{line} is missing in:\n{page}");
        }
        // What can't be had is not shown, and what was counted is.
        let page = metrics.page(Observed::default()).await.unwrap();
        assert!(!page.contains("xvault_queue_depth{") && !page.contains("xvault_jobs{"), "{page}");
        assert!(!page.contains("xvault_sources_overdue "), "{page}");
        assert!(!page.contains("xvault_snapshots_damaged "), "{page}");
        for line in
            ["xvault_database_reachable 0", "xvault_queue_reachable 0", "xvault_lease_expiries_total 1"]
        {
            assert!(page.contains(line), "{line} is missing in:\n{page}");
        }
    }
}
