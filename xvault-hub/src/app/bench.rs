//! What tests of use cases stand on: a hub without HTTP on either engine, with a clock that is moved by hand.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use xvault_core::protocol::{Assignment, Claim, ClaimAnswer, Complete, Outcome, Register, Task, TaskResult};
use xvault_core::snapshot::Locator;
use xvault_core::{
    Identity, JobId, ReadBack, S3Credential, SnapshotKey, SourceId, SourceSettings, StoreId, TenantId,
    UserId, WorkerId,
};
use xvault_testkit::{Postgres, samples};

use super::jobs::{NewJob, claim, complete, enqueue};
use super::stores::{self, Key, NewStore};
use crate::api::principal::{Actor, Principal, Role};
use crate::db::sources::{Source, SourceStatus};
use crate::db::{Page, Scope, snapshots, sources, workers};
use crate::queue::LocalQueue;
use crate::{Clock, Db, Hub, HubParts, Keys, Settings};

/// A hub without HTTP, with a tenant and as many workers as needed.
pub(crate) struct Bench {
    pub(crate) hub: Hub,
    pub(crate) who: Principal,
    pub(crate) tenant: TenantId,
    url: String,
    _dir: Option<TempDir>,
}

impl Bench {
    pub(crate) async fn on_sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("hub.db").display());
        Self::make(&url, Some(dir)).await
    }

    pub(crate) async fn on_postgres() -> Self {
        Self::make(&Postgres::shared().create_database(), None).await
    }

    async fn make(url: &str, dir: Option<TempDir>) -> Self {
        let clock = Clock::manual("2030-01-01T00:00:00Z".parse().unwrap());
        let hub = hub(url, clock, Keys::generate(), settings()).await;
        let who = Principal {
            actor: Actor::User(UserId::generate()),
            tenant_id: None,
            role: Role::Operator,
            ip: None,
        };
        let made = crate::app::tenants::create(&hub, &who, "acme".to_owned()).await.unwrap();
        Self { hub, who, tenant: made.tenant.id, url: url.to_owned(), _dir: dir }
    }

    /// Another hub on the same database, with the same clock.
    pub(crate) async fn another_hub(&self) -> Hub {
        self.hub_with(settings()).await
    }

    /// The same, with a clock of its own.
    pub(crate) async fn hub_at(&self, clock: Clock) -> Hub {
        hub(&self.url, clock, self.hub.keys().clone(), settings()).await
    }

    /// The same, with its own settings.
    pub(crate) async fn hub_with(&self, settings: Settings) -> Hub {
        hub(&self.url, self.hub.clock().clone(), self.hub.keys().clone(), settings).await
    }

    pub(crate) async fn worker(&self, name: &str) -> WorkerId {
        self.worker_for(name, &["sftp"]).await
    }

    /// A worker that can do this.
    pub(crate) async fn worker_for(&self, name: &str, capabilities: &[&str]) -> WorkerId {
        let (id, now) = (name.parse::<WorkerId>().unwrap(), self.hub.clock().now());
        let mut conn = self.hub.db().conn().await.unwrap();
        workers::set_token(&mut conn, &id, name, now).await.unwrap();
        let said = Register {
            worker_id: id.clone(),
            name: None,
            recipient: Identity::generate().recipient(),
            version: "0.1.0".into(),
            capabilities: capabilities.iter().map(|&one| one.to_owned()).collect(),
            storage_base_path: "/var/lib/xvault".into(),
            concurrency: 2,
            download_url: Some(format!("http://{name}.example:8081")),
        };
        workers::register(&mut conn, &said, now).await.unwrap();
        id
    }

    pub(crate) async fn source(&self) -> SourceId {
        let now = self.hub.clock().now();
        let config = json!({"type": "sftp", "config": {"host": "h", "username": "u", "paths": ["/srv"]}});
        let settings: SourceSettings = serde_json::from_value(config).unwrap();
        let source = Source {
            id: SourceId::generate(),
            tenant_id: self.tenant.clone(),
            name: "web".into(),
            status: SourceStatus::Active,
            settings,
            credential_id: None,
            store_id: None,
            replica_store_id: None,
            read_back: ReadBack::Full,
            created_at: now,
            updated_at: now,
        };
        sources::insert(&mut self.hub.db().conn().await.unwrap(), &source).await.unwrap();
        source.id
    }

    /// A bucket of the platform, of this name.
    pub(crate) async fn store(&self, bucket: &str) -> StoreId {
        let settings = json!({ "bucket": bucket, "prefix": "x", "endpoint": "https://s3.example" });
        let credential = json!({ "access_key_id": "AK", "secret_access_key": "s" });
        let new = NewStore {
            tenant_id: None,
            name: bucket.to_owned(),
            settings: serde_json::from_value(settings).unwrap(),
            key: Key::Own(S3Credential::from_json(credential.to_string().as_bytes()).unwrap()),
            scoping: None,
            is_default: false,
            replica_id: None,
        };
        stores::create(&self.hub, &self.who, new).await.unwrap().id
    }

    pub(crate) async fn backup(&self) -> JobId {
        let source = self.source().await;
        enqueue(&self.hub, &self.who, &Scope::All, NewJob::Backup(source)).await.unwrap().id
    }

    pub(crate) async fn claim(&self, worker: &WorkerId, job_id: Option<JobId>) -> Option<Assignment> {
        match claim(&self.hub, worker, Claim { job_id, nonce: None }).await.unwrap() {
            ClaimAnswer::Claimed(assignment) => Some(*assignment),
            ClaimAnswer::Nothing { .. } => None,
        }
    }

    pub(crate) async fn complete(&self, worker: &WorkerId, job: &Assignment) -> bool {
        complete(&self.hub, worker, &job.job_id, done(worker, job, 0)).await.is_ok()
    }

    /// Ends a job that the worker holds with this result.
    pub(crate) async fn complete_with(&self, worker: &WorkerId, job: &Assignment, result: TaskResult) {
        let done = Complete { lease_token: job.lease_token.clone(), outcome: Outcome::Completed { result } };
        complete(&self.hub, worker, &job.job_id, done).await.unwrap();
    }

    /// Does a queued backup, with so many things that could not be read.
    pub(crate) async fn back_up(&self, worker: &WorkerId, id: &JobId, warnings: u64) {
        let job = self.claim(worker, Some(id.clone())).await.unwrap();
        complete(&self.hub, worker, id, done(worker, &job, warnings)).await.unwrap();
    }

    /// How many snapshots there are of each job.
    pub(crate) async fn snapshots(&self) -> HashMap<JobId, u32> {
        let page = Page { limit: 10_000, before: None };
        let mut conn = self.hub.db().conn().await.unwrap();
        let all =
            snapshots::list(&mut conn, &Scope::All, &snapshots::Filter::default(), &page).await.unwrap();
        all.into_iter().fold(HashMap::new(), |mut counts, snapshot| {
            *counts.entry(snapshot.job_id).or_default() += 1;
            counts
        })
    }
}

/// What a worker says that did its job.
fn done(worker: &WorkerId, job: &Assignment, warnings: u64) -> Complete {
    let Task::Backup(task) = &job.task else { panic!("{job:?}") };
    let key = SnapshotKey {
        tenant_id: job.tenant_id.clone(),
        source_id: task.source_id.clone(),
        snapshot_id: task.snapshot_id.clone(),
    };
    let mut manifest = samples::manifest(&key);
    (manifest.job_id, manifest.worker_id) = (job.job_id.clone(), worker.clone());
    manifest.encryption_recipient = task.recipients[0].clone();
    manifest.content_summary.warnings = warnings;
    let locator = Locator::LocalFs { worker_id: worker.clone(), local_path: format!("/{}", key.prefix()) };
    let result = TaskResult::Backup { manifest: Box::new(manifest), locator, locked_until: None };
    Complete { lease_token: job.lease_token.clone(), outcome: Outcome::Completed { result } }
}

fn settings() -> Settings {
    Settings::with_jwt_secret(b"at least thirty-two bytes of secret").unwrap()
}

async fn hub(url: &str, clock: Clock, keys: Keys, settings: Settings) -> Hub {
    let db = Db::connect(url, 10).await.unwrap();
    db.migrate().await.unwrap();
    let queue = Arc::new(LocalQueue::default());
    Hub::new(HubParts { db, clock, keys, queue, settings }).await.unwrap()
}

/// Runs each named `async fn(Bench)` on SQLite and on PostgreSQL.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::app::bench::Bench;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(Bench::on_sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name(Bench::on_postgres().await).await;
            }
        }
    )*};
}

pub(crate) use on_both_engines;
