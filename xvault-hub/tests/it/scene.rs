//! A tenant whose snapshots grow old.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use xvault_core::Manifest;
use xvault_hub::Settings;

use crate::fake_worker::{FakeWorker, enqueue, ssh_source};
use crate::world::{Dialect, Tenant, World};

/// A tenant with a source, and its worker; the hub's clock stands still.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) acme: Tenant,
    pub(crate) source: String,
    pub(crate) worker: FakeWorker,
}

impl Scene {
    pub(crate) async fn set(dialect: Dialect) -> Self {
        let long = |settings: &mut Settings| settings.access_token = Duration::from_secs(1 << 30);
        let world = World::builder(dialect).manual_clock().settings(long).start().await;
        let acme = world.tenant("acme").await;
        let (_, source) = ssh_source(&acme.admin).await;
        let worker = FakeWorker::join(&world, "w1", &["ssh"]).await;
        Self { world, acme, source, worker }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Backs the source up; the snapshot is so many hours old. Gives its id.
    pub(crate) async fn aged(&self, hours: i64) -> String {
        self.backed_up(hours, |_| {}).await
    }

    /// As [`Scene::aged`], with a manifest of its own.
    pub(crate) async fn backed_up(&self, hours: i64, change: impl FnOnce(&mut Manifest)) -> String {
        self.backed_up_at(&self.source, self.now() - SignedDuration::from_hours(hours), change).await
    }

    pub(crate) async fn backed_up_at(
        &self,
        source: &str,
        at: Timestamp,
        change: impl FnOnce(&mut Manifest),
    ) -> String {
        let job = enqueue(&self.acme.admin, source).await;
        let aged = |manifest: &mut Manifest| {
            (manifest.started_at, manifest.finished_at) = (at, at);
            change(manifest);
        };
        self.worker.back_up_as(&job, aged).await
    }

    /// Where the source's retention is.
    pub(crate) fn path(&self) -> String {
        format!("/api/v1/sources/{}/retention", self.source)
    }

    /// Gives the source this policy; the answer.
    pub(crate) async fn keep(&self, policy: Value) -> Value {
        self.acme.admin.put(&self.path(), json!({ "retention_policy": policy })).await.expect(200)
    }

    /// What retention would do now.
    pub(crate) async fn plan(&self) -> Value {
        self.acme.member.get(&format!("{}/plan", self.path())).await.expect(200)
    }
}
