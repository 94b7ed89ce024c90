//! What a worker needs to reach the store that its job is about: sealed to that worker, for that job.

mod lock;
mod policy;
mod sts;

use serde_json::json;
use xvault_core::protocol::{Sealed, StoreAccess};
use xvault_core::secret::{ExposeSecret, SecretBytes, SecretString};
use xvault_core::{JobKind, Recipient, S3Credential, S3Settings, StoreId};

use sts::Ask;

use super::assign::{Unmet, key};
use crate::app::audit::{Deed, record_by_worker};
use crate::app::egress;
use crate::app::stores::garage::Reach;
use crate::app::stores::{keys, service, target};
use crate::db::jobs::JobRow;
use crate::db::snapshots::{Snapshot, SnapshotStatus};
use crate::db::status::Status;
use crate::db::stores::{Scoping, Store};
use crate::db::workers::Worker;
use crate::db::{Scope, snapshots, stores};
use crate::{DbError, Hub, KeyError};

/// What a job does below its prefix in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Puts new objects.
    Write,
    /// Reads what it has put.
    ReadBack,
    /// Reads.
    Read,
    /// Lists and deletes.
    Delete,
    /// Looks for what nobody wants, and deletes that.
    Sweep,
    /// Everything, with objects made for it.
    Test,
}

impl Purpose {
    /// As near as Garage lets keys come to it.
    fn reach(self) -> Reach {
        match self {
            Self::ReadBack | Self::Read => Reach::Read,
            Self::Write | Self::Delete | Self::Sweep | Self::Test => Reach::ReadAndWrite,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ReadBack => "read_back",
            Self::Read => "read",
            Self::Delete => "delete",
            Self::Sweep => "sweep",
            Self::Test => "test",
        }
    }
}

type Result<T> = std::result::Result<T, Unmet>;

/// Where the job's snapshot lies or shall lie, with what the job needs to reach it. No connection to the database may be held: a
/// store's own service may be asked, and take its time.
pub(super) async fn of_job(hub: &Hub, worker: &Worker, job: &JobRow) -> Result<StoreAccess> {
    let (purpose, store_id) = match job.kind {
        JobKind::Backup => (Purpose::Write, job.store_id.clone()),
        JobKind::DeleteSnapshot => (Purpose::Delete, store_of_snapshot(hub, job).await?),
        JobKind::TestStore | JobKind::SweepStore => return of_store_job(hub, worker, job).await,
        JobKind::Replicate => (Purpose::Read, store_of_snapshot(hub, job).await?),
        kind if JobKind::READING.contains(&kind) => (Purpose::Read, read_from(hub, job).await?),
        _ => return Ok(StoreAccess::LocalFs),
    };
    match store_id {
        Some(id) => access_for(hub, worker, job, &id, &key(job)?.prefix(), purpose).await,
        None => Ok(StoreAccess::LocalFs),
    }
}

/// A job about a store itself: below the tenant's prefix, or one of its own there.
async fn of_store_job(hub: &Hub, worker: &Worker, job: &JobRow) -> Result<StoreAccess> {
    let id = job.store_id.as_ref().ok_or(Unmet::NoStore)?;
    let (prefix, purpose) = match job.kind {
        JobKind::TestStore => (super::stores::test_prefix(&job.tenant_id, &job.id), Purpose::Test),
        _ => (super::stores::prefix(&job.tenant_id), Purpose::Sweep),
    };
    access_for(hub, worker, job, id, &prefix, purpose).await
}

/// The store of the copy that the job was sent to, or that of the snapshot.
async fn read_from(hub: &Hub, job: &JobRow) -> Result<Option<StoreId>> {
    match &job.store_id {
        Some(id) => Ok(Some(id.clone())),
        None => store_of_snapshot(hub, job).await,
    }
}

async fn store_of_snapshot(hub: &Hub, job: &JobRow) -> Result<Option<StoreId>> {
    let id = job.snapshot_id.as_ref().ok_or(Unmet::Kind)?;
    let own = Scope::Tenant(job.tenant_id.clone());
    match snapshots::get(&mut *hub.db().conn().await?, &own, id).await {
        Err(DbError::NotFound) => Err(Unmet::NoSnapshot),
        // Its deletion did not wait for a copying that no worker had.
        Ok(Snapshot { status: SnapshotStatus::Deleting, .. }) if job.kind == JobKind::Replicate => {
            Err(Unmet::NoSnapshot)
        }
        snapshot => Ok(snapshot?.store_id),
    }
}

/// What it takes to do this below `prefix` in a store. That the worker has it is written down before it has it.
pub(super) async fn access_for(
    hub: &Hub,
    worker: &Worker,
    job: &JobRow,
    store_id: &StoreId,
    prefix: &str,
    purpose: Purpose,
) -> Result<StoreAccess> {
    let recipient = worker.recipient.as_ref().ok_or(Unmet::Kind)?;
    let (store, secret) = opened(hub, job, store_id, purpose).await?;
    let lock = match purpose {
        Purpose::Write => lock::of_job(hub, job, &store).await?,
        _ => None,
    };
    let granted = granted(hub, job, (&store, &secret), prefix, purpose).await?;
    let access = StoreAccess::S3 {
        credential: sealed(recipient, &granted.credential)?,
        read_credential: granted.read.map(|read| sealed(recipient, &read)).transpose()?,
        settings: Box::new(store.settings.clone()),
        lock,
        all_versions: store.object_lock.is_some()
            || (purpose == Purpose::Delete && lock::was_set(hub, job, &store.id).await?),
        anywhere: egress::is_vouched_for(hub, &store),
    };
    note(hub, worker, job, (&store, prefix, purpose)).await?;
    Ok(access)
}

/// The tenant's place in the store, with the store's own secret, if the job may use it.
async fn opened(hub: &Hub, job: &JobRow, id: &StoreId, purpose: Purpose) -> Result<(Store, SecretBytes)> {
    let mut conn = hub.db().conn().await?;
    let own = Scope::Tenant(job.tenant_id.clone());
    let store = match stores::get(&mut conn, &own, id).await {
        Err(DbError::NotFound) => return Err(Unmet::NoStore),
        store => store?,
    };
    if store.status == Status::Disabled && purpose == Purpose::Write {
        return Err(Unmet::Disabled("the store is disabled"));
    }
    let secret = match stores::secret(&mut conn, id).await {
        Err(DbError::NotFound) => return Err(Unmet::NoStore),
        secret => secret?,
    };
    let plain = hub.keys().open(&secret.ciphertext, &secret.kek_id).map_err(Unmet::Credential)?;
    Ok((store.for_tenant(&job.tenant_id), plain))
}

/// What a job gets.
struct Granted {
    credential: S3Credential,
    /// For reading back what `credential` may only write.
    read: Option<S3Credential>,
}

/// As little as the purpose needs, where the store has a service for that; else the store's own credential.
async fn granted(
    hub: &Hub,
    job: &JobRow,
    (store, secret): (&Store, &SecretBytes),
    prefix: &str,
    purpose: Purpose,
) -> Result<Granted> {
    let own = || S3Credential::from_json(secret.expose_secret()).map_err(|_| Unmet::BadCredential);
    match &store.scoping {
        None => Ok(Granted { credential: own()?, read: None }),
        Some(Scoping::Sts { role_arn, endpoint, session_seconds }) => {
            let session = format!("xvault-{}", job.id.as_str().chars().take(57).collect::<String>());
            let (settings, endpoint) = (&store.settings, endpoint.as_deref());
            let ask = Ask { settings, endpoint, role_arn, seconds: *session_seconds, session: &session };
            by_sts(&ask, &own()?, prefix, (purpose, store.object_lock.is_some())).await
        }
        Some(Scoping::Garage { admin_endpoint, key_seconds }) => {
            let token = keys::token(secret).ok_or(Unmet::BadCredential)?;
            by_garage(hub, job, store, (admin_endpoint.as_str(), &token, *key_seconds), purpose).await
        }
    }
}

/// A key for this run of the job, which reaches the tenant's bucket.
async fn by_garage(
    hub: &Hub,
    job: &JobRow,
    store: &Store,
    (endpoint, token, seconds): (&str, &SecretString, u32),
    purpose: Purpose,
) -> Result<Granted> {
    let wanted = keys::Wanted {
        store,
        name: &format!("xvault job {}", job.id),
        reach: purpose.reach(),
        makes_bucket: matches!(purpose, Purpose::Write | Purpose::Test),
        run: Some((&job.id, job.runs)),
        expires_at: keys::end(hub, seconds),
    };
    Ok(Granted { credential: keys::issue(hub, endpoint, token, wanted).await?, read: None })
}

/// A session for this job, which does no more than the purpose needs.
async fn by_sts(
    ask: &Ask<'_>,
    credential: &S3Credential,
    prefix: &str,
    (purpose, locks): (Purpose, bool),
) -> Result<Granted> {
    let scoped = async |purpose| {
        let policy = policy::of(ask.settings, prefix, purpose, locks);
        sts::assume_role(ask, credential, &policy).await
    };
    let read = match purpose {
        Purpose::Write => Some(scoped(Purpose::ReadBack).await?),
        _ => None,
    };
    Ok(Granted { credential: scoped(purpose).await?, read })
}

/// Of a store with an STS: a credential that reads one object, for so many seconds.
pub(crate) struct Reading<'a> {
    pub(crate) settings: &'a S3Settings,
    pub(crate) role_arn: &'a str,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) object: &'a str,
    pub(crate) seconds: u32,
    /// Shows in the service's own records.
    pub(crate) session: &'a str,
}

impl Reading<'_> {
    /// The credential. No connection to the database may be held.
    pub(crate) async fn granted(
        &self,
        own: &S3Credential,
    ) -> std::result::Result<S3Credential, service::Error> {
        let Self { settings, role_arn, endpoint, seconds, session, .. } = *self;
        let ask = Ask { settings, endpoint, role_arn, seconds, session };
        sts::assume_role(&ask, own, &policy::of_link(settings, self.object)).await
    }
}

fn sealed(recipient: &Recipient, credential: &S3Credential) -> Result<Sealed> {
    let sealed = Sealed::to(recipient, credential.to_json().expose_secret());
    sealed.map_err(|error| Unmet::Credential(KeyError::Seal(error)))
}

async fn note(
    hub: &Hub,
    worker: &Worker,
    job: &JobRow,
    (store, prefix, purpose): (&Store, &str, Purpose),
) -> Result<()> {
    let deed = Deed {
        action: "credential.release",
        target_type: "store",
        target_id: store.id.as_str(),
        tenant_id: Some(&job.tenant_id),
        details: json!({
            "job_id": job.id,
            "snapshot_id": job.snapshot_id,
            "purpose": purpose.as_str(),
            "scoped": store.scoping.is_some(),
            "prefix": prefix,
            "target": target(store),
        }),
    };
    let mut conn = hub.db().conn().await?;
    Ok(record_by_worker(&mut conn, &worker.id, deed, hub.clock().now()).await?)
}
