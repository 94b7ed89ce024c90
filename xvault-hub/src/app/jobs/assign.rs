//! What a worker is told about the job it holds: the only place where a secret leaves the database, sealed to that worker.

mod browse;
mod restore;
mod verify;

use serde_json::json;
use sqlx::AnyConnection;
use xvault_core::error::{Disposition, chain};
use xvault_core::job::JobError;
use xvault_core::protocol::{Assignment, BackupTask, ClaimAnswer, Outcome, Sealed, StoreAccess, Task};
use xvault_core::secret::ExposeSecret;
use xvault_core::{JobKind, Recipient, SnapshotKey, SourceId};
use zeroize::Zeroizing;

use super::copies::Copies;
use super::enqueue::check_enabled;
use super::{access, cleaned, complete, copies, millis, stores};
use crate::api::error::Result;
use crate::app::audit::{Deed, record_by_worker};
use crate::app::stores::keys::KeysError;
use crate::app::stores::service;
use crate::db::credentials::StoredSecret;
use crate::db::needs::{self, Needs};
use crate::db::workers::Worker;
use crate::db::{Scope, jobs, jobs::JobRow, snapshots, tenant_keys};
use crate::{DbError, Hub, KeyError};

/// Why a job that was claimed can't be done: its needs are not met, and won't be by trying again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmet {
    #[error("the source is gone")]
    NoSource,
    #[error("the source is no server of the kind that the restore needs")]
    NoServer,
    #[error("{0}")]
    Disabled(&'static str),
    #[error("a secret that the job needs can't be opened")]
    Credential(#[source] KeyError),
    #[error("the snapshot is gone")]
    NoSnapshot,
    #[error("the store is gone, or has no credential")]
    NoStore,
    #[error("the store's credential is none: give it another one")]
    BadCredential,
    #[error("no credentials of its own could be had for the job")]
    Service(#[from] service::Error),
    #[error("the tenant has no active key to encrypt to")]
    NoKey,
    #[error("the tenant's identity is not here: only the tenant can decrypt")]
    NoIdentity,
    #[error("this kind of job can't be run by this hub")]
    Kind,
    /// Time may heal it.
    #[error("read what the job needs")]
    Db(#[from] DbError),
}

impl From<KeysError> for Unmet {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Service(error) => Self::Service(error),
            KeysError::Db(error) => Self::Db(error),
        }
    }
}

impl Unmet {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSource => "source_gone",
            Self::NoServer => "no_server",
            Self::Disabled(_) => "disabled",
            Self::Credential(_) => "credential_unreadable",
            Self::NoSnapshot => "snapshot_gone",
            Self::NoStore => "store_gone",
            Self::BadCredential => "bad_credential",
            Self::Service(error) => error.code,
            Self::NoKey => "no_key",
            Self::NoIdentity => "no_identity",
            Self::Kind => "unsupported",
            Self::Db(_) => "hub_database",
        }
    }
}

/// Tells the worker that holds `job` what to do. A job whose needs can't be met fails here, with the reason.
pub(crate) async fn assign(hub: &Hub, worker: &Worker, job: &JobRow) -> Result<ClaimAnswer> {
    match assignment(hub, worker, job).await {
        Ok(assignment) => Ok(ClaimAnswer::Claimed(Box::new(assignment))),
        Err(unmet) => {
            fail(hub, job, &unmet).await?;
            Ok(ClaimAnswer::Nothing { reason: unmet.to_string() })
        }
    }
}

async fn assignment(hub: &Hub, worker: &Worker, job: &JobRow) -> std::result::Result<Assignment, Unmet> {
    let store = access::of_job(hub, worker, job).await?;
    let copies = copies::of_job(hub, worker, job).await?;
    let task = match job.kind {
        JobKind::Browse => browse::task(hub, worker, job, store).await?,
        JobKind::DeleteSnapshot => {
            let Copies { accesses: copies, kept: copies_kept } = copies;
            Task::DeleteSnapshot { snapshot: key(job)?, store, copies, copies_kept }
        }
        JobKind::Replicate => copies::task(job, store, copies.accesses)?,
        _ => task(hub, worker, job, store).await?,
    };
    let lease = job.life.lease().ok_or(Unmet::Kind)?;
    Ok(Assignment {
        job_id: job.id.clone(),
        tenant_id: job.tenant_id.clone(),
        attempt: job.life.attempt,
        lease_token: lease.token.clone(),
        lease_ms: millis(hub.settings().lease),
        task,
    })
}

async fn task(
    hub: &Hub,
    worker: &Worker,
    job: &JobRow,
    store: StoreAccess,
) -> std::result::Result<Task, Unmet> {
    let mut conn = hub.db().conn().await?;
    Ok(match job.kind {
        JobKind::Backup => backup(hub, &mut conn, worker, job, store).await?,
        JobKind::Probe => probe(hub, &mut conn, worker, job).await?,
        JobKind::Verify => verify::verify(hub, &mut conn, worker, job, store).await?,
        JobKind::Restore => restore::task(hub, &mut conn, worker, job, store).await?,
        JobKind::TestStore | JobKind::SweepStore => stores::task(hub, &mut conn, job, store).await?,
        _ => return Err(Unmet::Kind),
    })
}

pub(super) fn key(job: &JobRow) -> std::result::Result<SnapshotKey, Unmet> {
    Ok(SnapshotKey {
        tenant_id: job.tenant_id.clone(),
        source_id: job.source_id.clone().ok_or(Unmet::NoSource)?,
        snapshot_id: job.snapshot_id.clone().ok_or(Unmet::Kind)?,
    })
}

async fn needs_of(conn: &mut AnyConnection, job: &JobRow) -> std::result::Result<Needs, Unmet> {
    needs_from(conn, job, job.source_id.as_ref().ok_or(Unmet::NoSource)?).await
}

/// What the job needs of a source of its tenant.
async fn needs_from(
    conn: &mut AnyConnection,
    job: &JobRow,
    source: &SourceId,
) -> std::result::Result<Needs, Unmet> {
    let needs = match needs::of_source(conn, &Scope::Tenant(job.tenant_id.clone()), source).await {
        Err(DbError::NotFound) => return Err(Unmet::NoSource),
        needs => needs?,
    };
    check_enabled(&needs, job.kind)
        .map_err(|_| Unmet::Disabled("the source or its tenant was disabled meanwhile"))?;
    Ok(needs)
}

async fn backup(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    store: StoreAccess,
) -> std::result::Result<Task, Unmet> {
    let needs = needs_of(conn, job).await?;
    let keys = tenant_keys::active(conn, &job.tenant_id).await?;
    let key = key(job)?;
    let expected_bytes = snapshots::last_content_bytes(conn, &key.source_id).await?;
    Ok(Task::Backup(Box::new(BackupTask {
        source_id: key.source_id,
        snapshot_id: key.snapshot_id,
        credential: release(hub, conn, worker, job, &needs).await?,
        source: needs.settings,
        recipients: recipients(hub, &keys, "data")?,
        index_recipients: recipients(hub, &keys, "index")?,
        store,
        read_back: needs.read_back,
        expected_bytes,
    })))
}

async fn probe(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
) -> std::result::Result<Task, Unmet> {
    let needs = needs_of(conn, job).await?;
    let credential = release(hub, conn, worker, job, &needs).await?;
    Ok(Task::Probe { source: Box::new(needs.settings), credential })
}

/// The tenant's keys for this purpose, and the recovery key.
fn recipients(
    hub: &Hub,
    keys: &[tenant_keys::TenantKey],
    purpose: &str,
) -> std::result::Result<Vec<Recipient>, Unmet> {
    let fits = |key: &&tenant_keys::TenantKey| key.purpose == "all" || key.purpose == purpose;
    let mut recipients: Vec<_> = keys.iter().filter(fits).map(|key| key.public_key.clone()).collect();
    if recipients.is_empty() {
        return Err(Unmet::NoKey);
    }
    recipients.extend(hub.settings().recovery_recipient.clone());
    Ok(recipients)
}

/// The source's credential, for this worker alone. That it has it is written down before it has it.
async fn release(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    needs: &Needs,
) -> std::result::Result<Option<Sealed>, Unmet> {
    release_of(hub, conn, worker, (job, job.source_id.as_ref()), needs).await
}

/// The same of another source than the job's.
async fn release_of(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    (job, source): (&JobRow, Option<&SourceId>),
    needs: &Needs,
) -> std::result::Result<Option<Sealed>, Unmet> {
    let sealed = sealed(hub, worker, needs.credential.as_ref())?;
    if let (Some(_), Some(id)) = (&sealed, &needs.credential_id) {
        let deed = Deed {
            action: "credential.release",
            target_type: "credential",
            target_id: id.as_str(),
            tenant_id: Some(&job.tenant_id),
            details: json!({
                "job_id": job.id,
                "source_id": source,
                "target": crate::app::sources::target(&needs.settings, Some(id)),
            }),
        };
        record_by_worker(conn, &worker.id, deed, hub.clock().now()).await?;
    }
    Ok(sealed)
}

/// The tenant's identities of this purpose (`data+index`: of both), those of earlier keys with them, for this worker alone: one per
/// line. That it has them is written down before it has them.
async fn identities(
    hub: &Hub,
    conn: &mut AnyConnection,
    worker: &Worker,
    job: &JobRow,
    purpose: &str,
) -> std::result::Result<Sealed, Unmet> {
    let mut text = Zeroizing::new(String::new());
    for key in tenant_keys::with_identity(conn, &job.tenant_id).await? {
        let (Some(ciphertext), Some(kek_id)) = (&key.encrypted_private_key, &key.kek_id) else { continue };
        if key.purpose == "all" || purpose.split('+').any(|purpose| key.purpose == purpose) {
            let identity = hub.keys().open(ciphertext, kek_id).map_err(Unmet::Credential)?;
            text.push_str(
                std::str::from_utf8(identity.expose_secret()).map_err(|_| Unmet::NoIdentity)?.trim(),
            );
            text.push('\n');
        }
    }
    let recipient = worker.recipient.as_ref().filter(|_| !text.is_empty()).ok_or(Unmet::NoIdentity)?;
    let deed = Deed {
        action: "identity.release",
        target_type: "tenant",
        target_id: job.tenant_id.as_str(),
        tenant_id: Some(&job.tenant_id),
        details: json!({ "job_id": job.id, "snapshot_id": job.snapshot_id, "purpose": purpose }),
    };
    record_by_worker(conn, &worker.id, deed, hub.clock().now()).await?;
    Sealed::to(recipient, text.as_bytes()).map_err(|error| Unmet::Credential(KeyError::Seal(error)))
}

/// A credential that only this worker can open.
fn sealed(
    hub: &Hub,
    worker: &Worker,
    stored: Option<&StoredSecret>,
) -> std::result::Result<Option<Sealed>, Unmet> {
    let (Some(stored), Some(recipient)) = (stored, &worker.recipient) else {
        return Ok(None);
    };
    let secret = hub.keys().open(&stored.ciphertext, &stored.kek_id).map_err(Unmet::Credential)?;
    let sealed = Sealed::to(recipient, secret.expose_secret());
    sealed.map(Some).map_err(|error| Unmet::Credential(KeyError::Seal(error)))
}

/// What everybody may read who sees the job. Where the service beside a platform's store is stands in the log alone.
fn told(job: &JobRow, unmet: &Unmet) -> String {
    let Unmet::Service(error) = unmet else { return chain(unmet) };
    tracing::warn!(job_id = %job.id, tenant_id = %job.tenant_id, error = %chain(error), "a store gave no credentials for a job");
    format!("{unmet}: {}", error.unaddressed())
}

async fn fail(hub: &Hub, job: &JobRow, unmet: &Unmet) -> Result<()> {
    let Some(lease) = job.life.lease() else { return Ok(()) };
    let now = hub.clock().now();
    let message = cleaned(&told(job, unmet), complete::MAX_ERROR_MESSAGE);
    let error = JobError { code: unmet.code().to_owned(), message };
    let disposition = match unmet {
        Unmet::Db(_) => Disposition::Transient,
        Unmet::Service(error) => error.disposition,
        _ => Disposition::Permanent,
    };
    let life = job.life.fail(&lease.token, now, error.clone(), disposition)?;
    let after = complete::requeued(job.with(life, now), now);
    // When the row has changed, somebody has canceled the job meanwhile.
    if jobs::save(&mut *hub.db().conn().await?, &after, now).await? {
        complete::note(hub, &after, &Outcome::Failed { error, disposition });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use xvault_core::JobStatus;

    use crate::app::bench::{Bench, on_both_engines};
    use crate::app::observe;
    use crate::db::{Scope, jobs};
    use crate::logged::Logged;

    /// As when the key that the tenant's data is encrypted to was taken away: nobody asks, so the log and the metrics must tell.
    async fn a_job_that_fails_in_its_claim_is_told_and_counted(bench: Bench) {
        let (worker, id) = (bench.worker("worker-1").await, bench.backup().await);
        let hub = &bench.hub;
        sqlx::query("UPDATE tenant_keys SET key_status = 'disabled'")
            .execute(&mut *hub.db().conn().await.unwrap())
            .await
            .unwrap();
        let logged = Logged::default();
        let guard = logged.listen();
        assert_eq!(bench.claim(&worker, Some(id.clone())).await, None);
        drop(guard);
        let row = jobs::get(&mut hub.db().conn().await.unwrap(), &Scope::All, &id).await.unwrap();
        assert_eq!((row.status(), row.life.error.unwrap().code.as_str()), (JobStatus::Failed, "no_key"));
        let text = logged.text();
        for part in ["attempt failed", id.as_str(), "worker-1", "no_key", "backup"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let page = hub.metrics().page(observe::fleet(hub).await).await.unwrap();
        assert!(page.contains(r#"xvault_jobs_finished_total{type="backup",status="failed"} 1"#), "{page}");
    }

    on_both_engines!(a_job_that_fails_in_its_claim_is_told_and_counted);
}
