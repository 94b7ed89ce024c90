//! A worker that says whatever a test wants.

use serde_json::{Value, json};
use xvault_core::protocol::{Assignment, ClaimAnswer, Task};
use xvault_core::{Identity, Manifest, SnapshotKey};
use xvault_testkit::samples;

use crate::world::{Answer, Caller, Tenant, World, text};

pub(crate) struct FakeWorker {
    pub(crate) id: String,
    pub(crate) caller: Caller,
    pub(crate) identity: Identity,
}

impl FakeWorker {
    /// Made by the operator, and registered.
    pub(crate) async fn join(world: &World, id: &str, capabilities: &[&str]) -> Self {
        let made = world.operator.post("/api/v1/workers", json!({ "id": id })).await.expect(201);
        let caller = world.nobody().with_token(&text(&made["token"]));
        let worker = Self { id: id.to_owned(), caller, identity: Identity::generate() };
        let body = json!({
            "worker_id": id,
            "recipient": worker.identity.recipient(),
            "version": "0.1.0",
            "capabilities": capabilities,
            "storage_base_path": "/var/lib/xvault/backups",
            "concurrency": 2,
            "download_url": format!("http://{id}.example:8081"),
        });
        worker.caller.post("/internal/workers/register", body).await.expect(200);
        worker
    }

    /// Takes the job, which must work.
    pub(crate) async fn claim(&self, job_id: &str) -> Assignment {
        let answer = self.caller.post("/internal/jobs/claim", json!({ "job_id": job_id })).await.expect(200);
        match serde_json::from_value(answer.clone()).unwrap() {
            ClaimAnswer::Claimed(assignment) => *assignment,
            ClaimAnswer::Nothing { .. } => panic!("not claimed: {answer}"),
        }
    }

    /// A call about a job, with its lease token.
    pub(crate) async fn say(&self, job: &Assignment, what: &str, mut body: Value) -> Answer {
        body["lease_token"] = json!(job.lease_token);
        self.caller.post(&format!("/internal/jobs/{}/{what}", job.job_id), body).await
    }

    pub(crate) async fn log(&self, job: &Assignment, seqs: std::ops::Range<u64>) {
        let line = |seq| {
            let level = ["debug", "info", "warn", "error"][usize::try_from(seq % 4).unwrap()];
            json!({ "seq": seq, "time": "2026-11-24T10:00:00Z", "level": level, "message": format!("line {seq}") })
        };
        let lines: Vec<_> = seqs.map(line).collect();
        self.say(job, "logs", json!({ "lines": lines })).await.expect(200);
    }

    pub(crate) async fn progress(&self, job: &Assignment, phase: &str, bytes: u64) {
        let progress =
            json!({ "phase": phase, "bytes": bytes, "total_bytes": 100, "entries": 1, "warnings": 0 });
        self.say(job, "progress", json!({ "progress": progress })).await.expect(200);
    }

    pub(crate) async fn complete(&self, job: &Assignment, result: Value) {
        let outcome = json!({ "status": "completed", "result": result });
        self.say(job, "complete", json!({ "outcome": outcome })).await.expect(200);
    }

    pub(crate) async fn fail(&self, job: &Assignment, code: &str, message: &str) {
        let error = json!({ "code": code, "message": message });
        let outcome = json!({ "status": "failed", "error": error, "disposition": "permanent" });
        self.say(job, "complete", json!({ "outcome": outcome })).await.expect(200);
    }

    /// What it would write for a backup that it has claimed.
    pub(crate) fn manifest(&self, job: &Assignment) -> Manifest {
        let Task::Backup(task) = &job.task else { panic!("{job:?}") };
        Manifest {
            job_id: job.job_id.clone(),
            worker_id: self.id.parse().unwrap(),
            encryption_recipient: task.recipients[0].clone(),
            ..samples::manifest(&key(job))
        }
    }

    /// Claims a backup and reports a snapshot. Gives its id.
    pub(crate) async fn back_up(&self, job_id: &str) -> String {
        self.back_up_as(job_id, |_| {}).await
    }

    /// As [`FakeWorker::back_up`], with a manifest that is changed before.
    pub(crate) async fn back_up_as(&self, job_id: &str, change: impl FnOnce(&mut Manifest)) -> String {
        let job = self.claim(job_id).await;
        let mut manifest = self.manifest(&job);
        change(&mut manifest);
        let key = manifest.key();
        let locator = json!({
            "storage_backend": "local_fs",
            "worker_id": self.id,
            "local_path": format!("/var/lib/xvault/backups/{}", key.prefix()),
        });
        let result = json!({ "type": "backup", "manifest": manifest, "locator": locator });
        self.complete(&job, result).await;
        key.snapshot_id.to_string()
    }
}

/// The snapshot that a backup is to make.
pub(crate) fn key(job: &Assignment) -> SnapshotKey {
    let Task::Backup(task) = &job.task else { panic!("{job:?}") };
    SnapshotKey {
        tenant_id: job.tenant_id.clone(),
        source_id: task.source_id.clone(),
        snapshot_id: task.snapshot_id.clone(),
    }
}

/// A source over SSH, with a password. Gives the ids of credential and source.
pub(crate) async fn ssh_source(admin: &Caller) -> (String, String) {
    let credential = json!({ "kind": "source", "name": "web", "plaintext": "dGVzdC1wYXNz" });
    let credential = text(&admin.post("/api/v1/credentials", credential).await.expect(201)["id"]);
    let source = json!({
        "type": "ssh",
        "name": "server",
        "credential_id": credential,
        "config": { "host": "h.example", "port": 22, "username": "web", "paths": ["/home/web"], "use_password": true },
    });
    let source = text(&admin.post("/api/v1/sources", source).await.expect(201)["id"]);
    (credential, source)
}

/// A `local` source of a tenant, as operators make them. Gives its id.
pub(crate) async fn local_source(world: &World, tenant: &Tenant) -> String {
    let config = json!({ "paths": ["/srv"] });
    let body = json!({ "tenant_id": tenant.id, "type": "local", "name": "disk", "config": config });
    text(&world.operator.post("/api/v1/sources", body).await.expect(201)["id"])
}

/// Asks for a backup. Gives the job's id.
pub(crate) async fn enqueue(member: &Caller, source_id: &str) -> String {
    text(&member.post("/api/v1/jobs", json!({ "source_id": source_id })).await.expect(201)["id"])
}
