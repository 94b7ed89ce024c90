//! What the worker counts, for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use xvault::core::JobKind;
use xvault::core::protocol::{QueueName, WorkerMetrics};

/// Upper bounds of job durations, in seconds.
const DURATIONS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

/// All that is counted. Clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    jobs: Family<JobLabels, Counter>,
    durations: Family<KindLabel, Histogram>,
    active: Gauge,
    pulled: Counter,
    stored: Counter,
    sent: Counter,
    consumers: Family<QueueLabel, Counter>,
    bad_messages: Family<QueueLabel, Counter>,
    hub_reached: Gauge,
    token_refused: Gauge,
    memory: Gauge,
    disk_free: Gauge,
    disk_total: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The queue's kind: its name would be a label value for each worker.
fn queue_label(queue: &QueueName) -> QueueLabel {
    let queue = match queue {
        QueueName::Shared => "shared",
        QueueName::Worker(_) => "own",
        QueueName::Quick(_) => "quick",
    };
    QueueLabel { queue }
}

impl Metrics {
    /// Counts from 0.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("xvault_worker");
        let jobs = Family::<JobLabels, Counter>::default();
        let durations = Family::<KindLabel, Histogram>::new_with_constructor(|| Histogram::new(DURATIONS));
        let [pulled, stored, sent] = [(); 3].map(|()| Counter::default());
        let (consumers, bad_messages) = (Family::<QueueLabel, Counter>::default(), Family::default());
        let [active, hub_reached, token_refused] = [(); 3].map(|()| Gauge::default());
        let [memory, disk_free, disk_total] = [(); 3].map(|()| Gauge::default());
        registry.register("jobs", "Jobs that ended, by kind and outcome", jobs.clone());
        registry.register_with_unit("job_duration", "How long jobs took", Unit::Seconds, durations.clone());
        registry.register("active_jobs", "Jobs that run", active.clone());
        registry.register_with_unit("pulled", "Content read from sources", Unit::Bytes, pulled.clone());
        registry.register_with_unit("stored", "Artifacts written", Unit::Bytes, stored.clone());
        registry.register_with_unit("downloaded", "Content sent to clients", Unit::Bytes, sent.clone());
        registry.register("consumer_restarts", "Consumers of a queue that broke off", consumers.clone());
        registry.register("bad_messages", "Queue messages that could not be read", bad_messages.clone());
        registry.register("hub_reached", "1 when the last heartbeat was answered", hub_reached.clone());
        registry.register(
            "token_refused",
            "1 while the hub refuses the worker's token",
            token_refused.clone(),
        );
        registry.register_with_unit("resident_memory", "Memory of the worker", Unit::Bytes, memory.clone());
        registry.register_with_unit(
            "storage_free",
            "Free room for snapshots",
            Unit::Bytes,
            disk_free.clone(),
        );
        registry.register_with_unit(
            "storage_total",
            "All room for snapshots",
            Unit::Bytes,
            disk_total.clone(),
        );
        let registry = Arc::new(registry);
        Self {
            registry,
            jobs,
            durations,
            active,
            pulled,
            stored,
            sent,
            consumers,
            bad_messages,
            hub_reached,
            token_refused,
            memory,
            disk_free,
            disk_total,
        }
    }

    /// A job began.
    pub(crate) fn job_began(&self) {
        self.active.inc();
    }

    /// A job ended as `outcome` says.
    pub(crate) fn job_ended(&self, kind: JobKind, outcome: &'static str, took: Duration) {
        self.active.dec();
        self.jobs.get_or_create(&JobLabels { kind: kind.as_str(), outcome }).inc();
        self.durations.get_or_create(&KindLabel { kind: kind.as_str() }).observe(took.as_secs_f64());
    }

    /// So much content went to a client.
    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    /// A backup read and wrote so many bytes.
    pub(crate) fn moved(&self, pulled_bytes: u64, stored_bytes: u64) {
        self.pulled.inc_by(pulled_bytes);
        self.stored.inc_by(stored_bytes);
    }

    /// A consumer broke off.
    pub(crate) fn consumer_ended(&self, queue: &QueueName) {
        self.consumers.get_or_create(&queue_label(queue)).inc();
    }

    /// So many messages could not be read.
    pub(crate) fn bad_messages(&self, queue: &QueueName, count: u64) {
        self.bad_messages.get_or_create(&queue_label(queue)).inc_by(count);
    }

    /// A heartbeat was answered, or not.
    pub(crate) fn hub_reached(&self, reached: bool) {
        self.hub_reached.set(i64::from(reached));
    }

    /// Whether the hub refuses the worker's token.
    pub(crate) fn token_refused(&self, refused: bool) {
        self.token_refused.set(i64::from(refused));
    }

    /// Whether the last heartbeat was answered.
    pub(crate) fn is_hub_reached(&self) -> bool {
        self.hub_reached.get() == 1
    }

    /// Jobs that run.
    pub(crate) fn active_jobs(&self) -> u32 {
        u32::try_from(self.active.get()).unwrap_or_default()
    }

    /// What was measured for the hub.
    pub(crate) fn vitals(&self, vitals: &WorkerMetrics) {
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.memory.set(gauge(vitals.memory_bytes));
        self.disk_free.set(gauge(vitals.disk_free_bytes));
        self.disk_total.set(gauge(vitals.disk_total_bytes));
    }

    /// All of it in Prometheus's text format.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.job_began();
        metrics.job_began();
        metrics.job_ended(JobKind::Backup, "completed", Duration::from_secs(2));
        metrics.moved(1000, 100);
        metrics.bad_messages(&QueueName::Worker("w1".parse().unwrap()), 1);
        let text = metrics.text().unwrap();
        for line in [
            "xvault_worker_jobs_total{kind=\"backup\",outcome=\"completed\"} 1",
            "xvault_worker_job_duration_seconds_count{kind=\"backup\"} 1",
            "xvault_worker_active_jobs 1",
            "xvault_worker_pulled_bytes_total 1000",
            "xvault_worker_stored_bytes_total 100",
            "xvault_worker_bad_messages_total{queue=\"own\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
