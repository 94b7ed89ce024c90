//! A hub in this process, and workers that really write and remove small snapshots, by a clock that a test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{AnyPool, Row};
use tempfile::TempDir;
use tower::ServiceExt;
use xvault::connectors::{FsStore, Store, snapshot};
use xvault_core::protocol::{Assignment, BackupTask, ClaimAnswer, Task};
use xvault_core::snapshot::{ARTIFACT_NAME, Completeness, MANIFEST_NAME, META_NAME};
use xvault_core::{Identity, Meta, SnapshotKey};
use xvault_hub::queue::LocalQueue;
use xvault_hub::{Clock, Db, Hub, HubParts, Keys, Settings};
use xvault_testkit::samples;

use crate::fleet::text;

const OPERATOR: (&str, &str) = ("root@platform.example", "correct horse battery staple");

/// A hub with a tenant, and two workers.
pub(crate) struct House {
    pub(crate) clock: Clock,
    pub(crate) tenant: String,
    pub(crate) workers: Vec<Worker>,
    /// Snapshots that a worker has begun to remove.
    pub(crate) begun: BTreeSet<String>,
    router: Router,
    operator: String,
    sql: AnyPool,
    _dir: TempDir,
}

/// A worker with a disk of its own.
pub(crate) struct Worker {
    id: String,
    token: String,
    pub(crate) store: FsStore,
    root: PathBuf,
    /// It is there today.
    pub(crate) online: bool,
    /// So many of its next deletions break off after the manifest is gone.
    pub(crate) breaks: u32,
}

/// How a backup goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Luck {
    Whole,
    Partial,
    Failed,
}

impl House {
    pub(crate) async fn build(database_url: Option<String>, start: Timestamp) -> Self {
        let dir = tempfile::Builder::new().prefix("xvt-story").tempdir().unwrap();
        let url = database_url.unwrap_or_else(|| format!("sqlite:{}", dir.path().join("hub.db").display()));
        let db = Db::connect(&url, 6).await.unwrap();
        db.migrate().await.unwrap();
        let mut settings = Settings::with_jwt_secret(b"at least thirty-two bytes of secret").unwrap();
        settings.access_token = Duration::from_secs(10 * 365 * 24 * 3600);
        let clock = Clock::manual(start);
        let parts = HubParts {
            db,
            clock: clock.clone(),
            keys: Keys::generate(),
            queue: Arc::new(LocalQueue::default()),
            settings,
        };
        let hub = Hub::new(parts).await.unwrap();
        hub.ensure_first_operator(Some(OPERATOR.0), Some(OPERATOR.1.into())).await.unwrap();
        let mut workers = Vec::new();
        for id in ["store-a", "store-b"] {
            let root = dir.path().join(id);
            let token = hub.issue_worker_token(&id.parse().unwrap()).await.unwrap();
            let token = xvault_core::secret::ExposeSecret::expose_secret(&token).to_owned();
            let store = FsStore::open(&root).unwrap();
            workers.push(Worker { id: id.to_owned(), token, store, root, online: true, breaks: 0 });
        }
        sqlx::any::install_default_drivers();
        let sql = AnyPool::connect(&url).await.unwrap();
        let mut house = Self {
            clock,
            tenant: String::new(),
            workers,
            begun: BTreeSet::new(),
            router: hub.router(),
            operator: String::new(),
            sql,
            _dir: dir,
        };
        house.move_in().await;
        house
    }

    async fn move_in(&mut self) {
        let login = json!({"email": OPERATOR.0, "password": OPERATOR.1});
        self.operator =
            text(&self.ask("", Method::POST, "/api/v1/auth/login", Some(login)).await["access_token"]);
        self.tenant = text(&self.post("/api/v1/tenants", json!({"name": "story"})).await["id"]);
        for worker in &self.workers {
            let body = json!({
                "worker_id": worker.id, "recipient": Identity::generate().recipient(), "version": "0",
                "capabilities": ["sftp"], "storage_base_path": worker.root, "concurrency": 1,
            });
            self.ask(&worker.token, Method::POST, "/internal/workers/register", Some(body)).await;
        }
    }

    async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let answer = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 1 << 24).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// What the hub answers to the holder of a token, which must be a success.
    async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.send(token, method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(&self.operator, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(&self.operator, Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Value {
        self.ask(&self.operator, Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        self.ask(&self.operator, Method::DELETE, path, None).await
    }

    pub(crate) async fn source(&self, name: &str) -> String {
        let config = json!({"host": "h.example", "username": "u", "paths": ["/srv"], "use_password": false});
        let body = json!({"tenant_id": self.tenant, "type": "sftp", "name": name, "config": config});
        text(&self.post("/api/v1/sources", body).await["id"])
    }

    /// Gives the source a zone, as a schedule does.
    pub(crate) async fn set_zone(&self, source: &str, zone: &str) {
        let body = json!({
            "tenant_id": self.tenant, "source_id": source, "cron": "30 2 * * *", "timezone": zone,
        });
        self.post("/api/v1/schedules", body).await;
    }

    /// Backs a source up to the disk of worker number `number`. Gives the snapshot's id.
    pub(crate) async fn back_up(&self, source: &str, number: usize, luck: Luck) -> Option<String> {
        let path = format!("/api/v1/jobs?tenant_id={}", self.tenant);
        let job = self.post(&path, json!({"source_id": source})).await;
        let worker = &self.workers[number];
        let assignment = self.claim(worker, Some(&text(&job["id"]))).await.unwrap();
        let Task::Backup(task) = &assignment.task else { panic!("{assignment:?}") };
        let outcome = match luck {
            Luck::Failed => failed("the server was away", "permanent"),
            luck => self.store(worker, &assignment, task, luck).await,
        };
        self.complete(worker, &assignment, outcome).await;
        (luck != Luck::Failed).then(|| task.snapshot_id.to_string())
    }

    async fn store(&self, worker: &Worker, assignment: &Assignment, task: &BackupTask, luck: Luck) -> Value {
        let key = SnapshotKey {
            tenant_id: assignment.tenant_id.clone(),
            source_id: task.source_id.clone(),
            snapshot_id: task.snapshot_id.clone(),
        };
        let mut manifest = samples::manifest(&key);
        (manifest.started_at, manifest.finished_at) = (self.clock.now(), self.clock.now());
        (manifest.job_id, manifest.worker_id) = (assignment.job_id.clone(), worker.id.parse().unwrap());
        if luck == Luck::Partial {
            manifest.completeness = Completeness::Partial;
            manifest.content_summary.warnings = 2;
        }
        let meta = Meta {
            job_id: manifest.job_id.clone(),
            worker_id: manifest.worker_id.clone(),
            ..samples::meta(&key)
        };
        let staging = worker.store.stage(&key.prefix()).await.unwrap();
        for (name, body) in [(ARTIFACT_NAME, b"artifact".to_vec()), (META_NAME, meta.to_json().unwrap())] {
            let mut writer = staging.writer(name).await.unwrap();
            writer.write(body.into()).await.unwrap();
            writer.close().await.unwrap();
        }
        staging.commit(MANIFEST_NAME, manifest.to_json().unwrap().into()).await.unwrap();
        let locator = worker.store.locator(&manifest.worker_id, &key.prefix());
        json!({"status": "completed", "result": {"type": "backup", "manifest": manifest, "locator": locator}})
    }

    async fn claim(&self, worker: &Worker, job: Option<&str>) -> Option<Assignment> {
        let answer =
            self.ask(&worker.token, Method::POST, "/internal/jobs/claim", Some(json!({"job_id": job}))).await;
        match serde_json::from_value(answer).unwrap() {
            ClaimAnswer::Claimed(assignment) => Some(*assignment),
            ClaimAnswer::Nothing { .. } => None,
        }
    }

    async fn complete(&self, worker: &Worker, job: &Assignment, outcome: Value) {
        let path = format!("/internal/jobs/{}/complete", job.job_id);
        let body = json!({"lease_token": job.lease_token, "outcome": outcome});
        self.ask(&worker.token, Method::POST, &path, Some(body)).await;
    }

    /// Every worker that is there does all deletions that it finds.
    pub(crate) async fn clean_up(&mut self) {
        for number in 0..self.workers.len() {
            while self.workers[number].online {
                let Some(job) = self.claim(&self.workers[number], None).await else { break };
                let Task::DeleteSnapshot { snapshot: key, .. } = &job.task else { panic!("{job:?}") };
                self.begun.insert(key.snapshot_id.to_string());
                let breaks = self.workers[number].breaks > 0;
                let worker = &self.workers[number];
                let outcome = if breaks {
                    worker.store.delete(&format!("{}/{MANIFEST_NAME}", key.prefix())).await.unwrap();
                    failed("the power was cut", "transient")
                } else {
                    snapshot::delete(&worker.store, key).await.unwrap();
                    json!({"status": "completed", "result": {"type": "delete_snapshot"}})
                };
                self.complete(worker, &job, outcome).await;
                self.workers[number].breaks -= u32::from(breaks);
            }
        }
    }

    /// The rows of a source: snapshot → its status.
    pub(crate) async fn rows(&self, source: &str) -> BTreeMap<String, String> {
        let rows =
            sqlx::query("SELECT id, status FROM snapshots WHERE source_id = $1").bind(source.to_owned());
        let rows = rows.fetch_all(&self.sql).await.unwrap();
        rows.iter().map(|row| (row.get("id"), row.get("status"))).collect()
    }

    /// The snapshots of a source that lie on any disk: snapshot → whether it has its manifest.
    pub(crate) fn on_disk(&self, source: &str) -> BTreeMap<String, bool> {
        let place = format!("tenants/{}/sources/{source}/snapshots", self.tenant);
        let dirs = self.workers.iter().filter_map(|worker| std::fs::read_dir(worker.root.join(&place)).ok());
        let entries = dirs.flatten().map(Result::unwrap);
        entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), entry.path().join(MANIFEST_NAME).exists())
            })
            .collect()
    }

    /// What the plan says of a source: those that are kept, and those that are to go.
    pub(crate) async fn plan(&self, source: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let plan = self.get(&format!("/api/v1/sources/{source}/retention/plan")).await;
        let decisions = plan["decisions"].as_array().unwrap();
        assert!(decisions.iter().all(|one| !one["reasons"].as_array().unwrap().is_empty()), "{plan}");
        let (kept, gone): (Vec<_>, Vec<_>) = decisions.iter().partition(|one| one["keep"] == true);
        let ids = |list: Vec<&Value>| list.into_iter().map(|one| text(&one["id"])).collect();
        (ids(kept), ids(gone))
    }
}

fn failed(message: &str, disposition: &str) -> Value {
    json!({"status": "failed", "error": {"code": "trouble", "message": message}, "disposition": disposition})
}
