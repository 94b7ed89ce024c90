//! Table `stores`: buckets that operators save for all tenants, and tenants for themselves. Secrets only where they are asked for.

mod lock;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::snapshot::hex;
use xvault_core::{CredentialId, S3Settings, SnapshotId, StoreId, TenantId};

use super::credentials::StoredSecret;
use super::jobs::JobRow;
use super::status::Status;
use super::{Error, Page, Result, Scope, instant, instant_opt, json, json_opt, parsed, parsed_opt, touched};

pub(crate) use lock::StoreLock;

/// How credentials that reach no further than a job needs are made of those of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Scoping {
    /// `AssumeRole` with a session policy.
    Sts {
        /// The role that is taken on: it must be allowed what jobs need, and the store's credential must be allowed to take it on.
        #[schema(min_length = 1, max_length = 2048)]
        role_arn: String,
        /// Address of the service; that of the store when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// How long a job's credentials are good, in seconds: no job may take longer. The role must allow as much.
        #[serde(default = "Scoping::default_session")]
        #[schema(minimum = 900, maximum = 43200, default = 43200)]
        session_seconds: u32,
    },
    /// A bucket for each tenant, and for each job a key of Garage that reaches that bucket alone. The store's own secret is the token
    /// of Garage's administration.
    Garage {
        /// Address of Garage's administration API (version 2).
        #[schema(max_length = 255)]
        admin_endpoint: String,
        /// How long a job's key is good at most, in seconds: no job may take longer. It is deleted when the job is over.
        #[serde(default = "Scoping::default_key")]
        #[schema(minimum = 900, maximum = 2592000, default = 86400)]
        key_seconds: u32,
    },
}

impl Scoping {
    /// The longest session that Amazon's service gives: backups may take hours.
    fn default_session() -> u32 {
        12 * 3600
    }

    /// A day.
    fn default_key() -> u32 {
        24 * 3600
    }

    /// How long a job's credentials are good.
    pub(crate) fn lifetime(&self) -> SignedDuration {
        let (Self::Sts { session_seconds: seconds, .. } | Self::Garage { key_seconds: seconds, .. }) = self;
        SignedDuration::from_secs(i64::from(*seconds))
    }
}

/// A row without its secret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Store {
    pub(crate) id: StoreId,
    /// None: the platform's.
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) name: String,
    /// Column `config`.
    pub(crate) settings: S3Settings,
    /// None: its secret is its own.
    pub(crate) credential_id: Option<CredentialId>,
    pub(crate) scoping: Option<Scoping>,
    pub(crate) is_default: bool,
    /// Where the snapshots in it are copied to.
    pub(crate) replica_id: Option<StoreId>,
    /// What snapshots are locked with that are written into it: proven to hold.
    pub(crate) object_lock: Option<StoreLock>,
    /// Whether its credential may delete. None: nobody has tried.
    pub(crate) may_delete: Option<bool>,
    pub(crate) status: Status,
    /// What its last test saw: `xvault_core::protocol::StoreReport`.
    pub(crate) last_test: Option<serde_json::Value>,
    pub(crate) tested_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Store {
    /// As one tenant uses it: where its snapshots lie in a bucket of its own, the settings name that.
    pub(crate) fn for_tenant(self, tenant: &TenantId) -> Self {
        let settings = self.place(tenant);
        Self { settings, ..self }
    }

    /// Where a tenant's snapshots lie in it.
    pub(crate) fn place(&self, tenant: &TenantId) -> S3Settings {
        let mut settings = self.settings.clone();
        if self.has_bucket_per_tenant() {
            settings.bucket = format!("{}-{}", settings.bucket, bucket_suffix(tenant));
        }
        settings
    }

    /// Whether snapshots of this store lie there, of whichever tenant.
    pub(crate) fn is_at(&self, bucket: &str, prefix: &str) -> bool {
        let S3Settings { bucket: own, prefix: own_prefix, .. } = &self.settings;
        let suffix = bucket.strip_prefix(own.as_str()).and_then(|rest| rest.strip_prefix('-'));
        let is_tenants = suffix.is_some_and(|suffix| suffix.len() == BUCKET_SUFFIX - 1);
        own_prefix == prefix && if self.has_bucket_per_tenant() { is_tenants } else { own == bucket }
    }

    pub(crate) fn has_bucket_per_tenant(&self) -> bool {
        matches!(self.scoping, Some(Scoping::Garage { .. }))
    }
}

/// How long the names of tenants' buckets are behind that of the store.
pub(crate) const BUCKET_SUFFIX: usize = 37;

/// The tenant's id, as every tenant has it whom this hub made; of others, whose ids no bucket may be named by, a digest.
fn bucket_suffix(tenant: &TenantId) -> String {
    let id = tenant.as_str();
    if is_uuid(id) {
        return id.to_owned();
    }
    hex(&Sha256::digest(id)).chars().take(BUCKET_SUFFIX - 1).collect()
}

fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    text.len() == BUCKET_SUFFIX - 1 && text.bytes().enumerate().all(fits)
}

/// All columns but the secret.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, name, config, credential_id, scoping, is_default, replica_id, object_lock, may_delete,
                 status, last_test, tested_at, created_at, updated_at FROM stores ",
            $rest
        )
    };
}

fn from_row(row: &AnyRow) -> Result<Store> {
    Ok(Store {
        id: parsed(row, "id")?,
        tenant_id: parsed_opt(row, "tenant_id")?,
        name: row.try_get("name")?,
        settings: json(row, "config")?,
        credential_id: parsed_opt(row, "credential_id")?,
        scoping: json_opt(row, "scoping")?,
        is_default: row.try_get::<i64, _>("is_default")? != 0,
        replica_id: parsed_opt(row, "replica_id")?,
        object_lock: json_opt(row, "object_lock")?,
        may_delete: row.try_get::<Option<i64>, _>("may_delete")?.map(|may| may != 0),
        status: parsed(row, "status")?,
        last_test: json_opt(row, "last_test")?,
        tested_at: instant_opt(row, "tested_at")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

fn text<T: Serialize>(value: &T, column: &'static str) -> Result<String> {
    serde_json::to_string(value).map_err(|_| Error::Corrupt { column })
}

fn scoping(store: &Store) -> Result<Option<String>> {
    store.scoping.as_ref().map(|scoping| text(scoping, "scoping")).transpose()
}

/// Adds a store, with its secret unless it has a `credential_id`.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    store: &Store,
    secret: Option<&StoredSecret>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO stores (id, tenant_id, name, kind, config, credential_id, ciphertext, kek_id, scoping, is_default,
             status, created_at, updated_at, replica_id)
         VALUES ($1, $2, $3, 's3', $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)",
    )
    .bind(store.id.as_str())
    .bind(store.tenant_id.as_ref().map(TenantId::as_str))
    .bind(&store.name)
    .bind(text(&store.settings, "config")?)
    .bind(store.credential_id.as_ref().map(CredentialId::as_str))
    .bind(secret.map(|secret| secret.ciphertext.clone()))
    .bind(secret.map(|secret| secret.kek_id.clone()))
    .bind(scoping(store)?)
    .bind(i64::from(store.is_default))
    .bind(store.status.as_str())
    .bind(store.created_at.as_millisecond())
    .bind(store.replica_id.as_ref().map(StoreId::as_str))
    .execute(conn)
    .await?;
    Ok(())
}

/// Of one's own or of the platform; operators see all.
pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &StoreId) -> Result<Store> {
    let row = sqlx::query(select!("WHERE id = $1")).bind(id.as_str()).fetch_one(conn).await?;
    admitted(scope, from_row(&row)?)
}

/// As [`get`]; nobody else changes it, deletes it, or begins to use it until the transaction ends.
pub(crate) async fn lock(conn: &mut AnyConnection, scope: &Scope, id: &StoreId) -> Result<Store> {
    let done = sqlx::query("UPDATE stores SET updated_at = updated_at WHERE id = $1").bind(id.as_str());
    touched(&done.execute(&mut *conn).await?)?;
    get(conn, scope, id).await
}

fn admitted(scope: &Scope, store: Store) -> Result<Store> {
    if store.tenant_id.as_ref().is_none_or(|tenant| scope.admits(tenant)) {
        Ok(store)
    } else {
        Err(Error::NotFound)
    }
}

/// The store of sources that name none.
pub(crate) async fn default(conn: &mut AnyConnection) -> Result<Option<Store>> {
    let row = sqlx::query(select!("WHERE is_default = 1")).fetch_optional(conn).await?;
    row.as_ref().map(from_row).transpose()
}

/// Sources that name none get another store from now on, or none.
pub(crate) async fn clear_default(conn: &mut AnyConnection) -> Result<()> {
    sqlx::query("UPDATE stores SET is_default = 0 WHERE is_default = 1").execute(conn).await?;
    Ok(())
}

/// A tenant's and the platform's, or all; newest first; one more than the page holds.
pub(crate) async fn list(conn: &mut AnyConnection, scope: &Scope, page: &Page) -> Result<Vec<Store>> {
    let query = match scope {
        Scope::Tenant(tenant) => sqlx::query(select!(
            "WHERE id < $1 AND (tenant_id = $3 OR tenant_id IS NULL) ORDER BY id DESC LIMIT $2"
        ))
        .bind(page.before())
        .bind(page.probe_limit())
        .bind(tenant.as_str()),
        Scope::All => sqlx::query(select!("WHERE id < $1 ORDER BY id DESC LIMIT $2"))
            .bind(page.before())
            .bind(page.probe_limit()),
    };
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// Writes back everything that people change.
pub(crate) async fn update(conn: &mut AnyConnection, store: &Store) -> Result<()> {
    let done = sqlx::query(
        "UPDATE stores SET name = $2, config = $3, credential_id = $4, scoping = $5, is_default = $6, status = $7,
             updated_at = $8, replica_id = $9, object_lock = $10, may_delete = $11
         WHERE id = $1",
    )
    .bind(store.id.as_str())
    .bind(&store.name)
    .bind(text(&store.settings, "config")?)
    .bind(store.credential_id.as_ref().map(CredentialId::as_str))
    .bind(scoping(store)?)
    .bind(i64::from(store.is_default))
    .bind(store.status.as_str())
    .bind(store.updated_at.as_millisecond())
    .bind(store.replica_id.as_ref().map(StoreId::as_str))
    .bind(store.object_lock.as_ref().map(|lock| text(lock, "object_lock")).transpose()?)
    .bind(store.may_delete.map(i64::from))
    .execute(conn)
    .await?;
    touched(&done)
}

/// Gives it a secret of its own in the place of the one before, or takes that away.
pub(crate) async fn set_secret(
    conn: &mut AnyConnection,
    id: &StoreId,
    secret: Option<&StoredSecret>,
) -> Result<()> {
    let done = sqlx::query("UPDATE stores SET ciphertext = $2, kek_id = $3 WHERE id = $1")
        .bind(id.as_str())
        .bind(secret.map(|secret| secret.ciphertext.clone()))
        .bind(secret.map(|secret| secret.kek_id.clone()))
        .execute(conn)
        .await?;
    touched(&done)
}

/// The stores that a job reaches, at most: its own, and those where its snapshot lies.
pub(crate) async fn of_job(conn: &mut AnyConnection, job: &JobRow) -> Result<Vec<Store>> {
    let query = sqlx::query(
        "SELECT * FROM stores WHERE id = $1 OR id IN (SELECT store_id FROM snapshots WHERE id = $2)
             OR id IN (SELECT store_id FROM snapshot_copies WHERE snapshot_id = $2)",
    )
    .bind(job.store_id.as_ref().map(StoreId::as_str))
    .bind(job.snapshot_id.as_ref().map(SnapshotId::as_str));
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// What a test of that time saw, and whether that means that the credential may delete: that of then, which may be another one by now.
pub(crate) async fn set_test(
    conn: &mut AnyConnection,
    id: &StoreId,
    (report, may_delete, begun_at): (&serde_json::Value, Option<bool>, Timestamp),
    now: Timestamp,
) -> Result<()> {
    // A store that was deleted meanwhile needs none.
    sqlx::query(
        "UPDATE stores SET last_test = $2, tested_at = $3,
             may_delete = CASE WHEN updated_at <= $5 THEN $4 ELSE may_delete END WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(report.to_string())
    .bind(now.as_millisecond())
    .bind(may_delete.map(i64::from))
    .bind(begun_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

/// It did what it was seen not to do, or the other way round: that is to be found out anew.
pub(crate) async fn doubt(conn: &mut AnyConnection, id: &StoreId, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE stores SET may_delete = NULL, updated_at = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// What the stores with this credential may do is to be found out anew.
pub(crate) async fn forget_rights(
    conn: &mut AnyConnection,
    credential: &CredentialId,
    now: Timestamp,
) -> Result<()> {
    sqlx::query("UPDATE stores SET may_delete = NULL, updated_at = $2 WHERE credential_id = $1")
        .bind(credential.as_str())
        .bind(now.as_millisecond())
        .execute(conn)
        .await?;
    Ok(())
}

/// A store of which somebody should know whether it lets delete, and a tenant that it is tested for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Untested {
    pub(crate) store_id: StoreId,
    pub(crate) tenant_id: TenantId,
}

/// Second stores of which nobody knows whether they let delete, and any others where a deletion failed; but for those that are
/// being tested, and those that were in vain since `tried_since`: unless they were changed after that.
pub(crate) async fn untested(
    conn: &mut AnyConnection,
    tried_since: Timestamp,
    limit: u32,
) -> Result<Vec<Untested>> {
    let rows = sqlx::query(
        "SELECT u.store_id, MIN(u.tenant_id) AS tenant_id FROM (
             SELECT r.id AS store_id, COALESCE(r.tenant_id, s.tenant_id) AS tenant_id
             FROM stores r JOIN sources s ON s.replica_store_id = r.id AND s.status <> 'deleted'
             UNION ALL
             SELECT r.id, COALESCE(r.tenant_id, own.tenant_id, s.tenant_id)
             FROM stores r JOIN stores own ON own.replica_id = r.id
                 LEFT JOIN sources s ON s.store_id = own.id AND s.status <> 'deleted'
             UNION ALL
             SELECT c.store_id, c.tenant_id FROM snapshot_copies c JOIN jobs d ON d.snapshot_id = c.snapshot_id
             WHERE d.type = 'delete_snapshot' AND (d.status = 'failed' OR (d.status = 'queued' AND d.attempt > 0))
             UNION ALL
             SELECT n.store_id, n.tenant_id FROM snapshots n JOIN jobs d ON d.snapshot_id = n.id
             WHERE d.type = 'delete_snapshot' AND (d.status = 'failed' OR (d.status = 'queued' AND d.attempt > 0))) u
             JOIN stores r ON r.id = u.store_id JOIN tenants t ON t.id = u.tenant_id
         WHERE r.may_delete IS NULL AND r.status = 'active' AND t.status = 'active'
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.store_id = r.id AND j.type = 'test_store'
                 AND (j.status IN ('queued', 'running', 'finalizing')
                     OR (j.finished_at > $1 AND (j.status <> 'completed' OR j.created_at >= r.updated_at))))
         GROUP BY u.store_id ORDER BY u.store_id LIMIT $2",
    )
    .bind(tried_since.as_millisecond())
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    let untested = |row: &AnyRow| {
        Ok(Untested { store_id: parsed(row, "store_id")?, tenant_id: parsed(row, "tenant_id")? })
    };
    rows.iter().map(untested).collect()
}

/// What its requests are signed with, still encrypted.
pub(crate) async fn secret(conn: &mut AnyConnection, id: &StoreId) -> Result<StoredSecret> {
    let row = sqlx::query(
        "SELECT COALESCE(c.ciphertext, s.ciphertext) AS ciphertext, COALESCE(c.key_id, s.kek_id) AS kek_id
         FROM stores s LEFT JOIN credentials c ON c.id = s.credential_id AND c.tenant_id = s.tenant_id
         WHERE s.id = $1 AND COALESCE(c.ciphertext, s.ciphertext) IS NOT NULL",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    Ok(StoredSecret { ciphertext: row.try_get("ciphertext")?, kek_id: row.try_get("kek_id")? })
}

/// What refers to a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Uses {
    /// Sources that are backed up into it, or copied.
    pub(crate) sources: i64,
    /// Snapshots that lie in it, copies among them.
    pub(crate) snapshots: i64,
    /// Unfinished jobs.
    pub(crate) jobs: i64,
    /// Stores that are copied into it.
    pub(crate) replicas_of: i64,
}

impl Uses {
    /// Whether something lies in it, or is being written.
    pub(crate) fn holds_something(self) -> bool {
        self.snapshots > 0 || self.jobs > 0
    }

    /// Whether it can't go.
    pub(crate) fn any(self) -> bool {
        self.holds_something() || self.sources > 0 || self.replicas_of > 0
    }
}

/// What refers to it now.
pub(crate) async fn uses(conn: &mut AnyConnection, id: &StoreId) -> Result<Uses> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM sources WHERE (store_id = $1 OR replica_store_id = $1) AND status <> 'deleted')
                 AS sources,
             (SELECT COUNT(*) FROM snapshots WHERE store_id = $1)
                 + (SELECT COUNT(*) FROM snapshot_copies WHERE store_id = $1 AND status = 'copied') AS snapshots,
             (SELECT COUNT(*) FROM jobs WHERE store_id = $1 AND status IN ('queued', 'running', 'finalizing')) AS jobs,
             (SELECT COUNT(*) FROM stores WHERE replica_id = $1) AS replicas_of",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    Ok(Uses {
        sources: row.try_get("sources")?,
        snapshots: row.try_get("snapshots")?,
        jobs: row.try_get("jobs")?,
        replicas_of: row.try_get("replicas_of")?,
    })
}

/// A store that holds the copies of another one, or whose copies that one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paired {
    pub(crate) store_id: StoreId,
    /// Of whom. None: of everybody who uses it.
    pub(crate) tenant_id: Option<TenantId>,
}

/// The stores that this one is so paired with, by either's settings or by sources.
pub(crate) async fn paired(conn: &mut AnyConnection, id: &StoreId) -> Result<Vec<Paired>> {
    let rows = sqlx::query(
        "SELECT id AS store_id, tenant_id FROM stores WHERE replica_id = $1
         UNION SELECT replica_id, tenant_id FROM stores WHERE id = $1 AND replica_id IS NOT NULL
         UNION SELECT store_id, tenant_id FROM sources
             WHERE replica_store_id = $1 AND store_id IS NOT NULL AND status <> 'deleted'
         UNION SELECT replica_store_id, tenant_id FROM sources
             WHERE store_id = $1 AND replica_store_id IS NOT NULL AND status <> 'deleted'",
    )
    .bind(id.as_str())
    .fetch_all(conn)
    .await?;
    let paired = |row: &AnyRow| {
        Ok(Paired { store_id: parsed(row, "store_id")?, tenant_id: parsed_opt(row, "tenant_id")? })
    };
    rows.iter().map(paired).collect()
}

/// [`Error::InUse`] while something refers to it.
pub(crate) async fn delete(conn: &mut AnyConnection, id: &StoreId) -> Result<()> {
    let done = sqlx::query("DELETE FROM stores WHERE id = $1").bind(id.as_str()).execute(conn).await?;
    touched(&done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(scoping: serde_json::Value) -> Store {
        Store {
            id: StoreId::generate(),
            tenant_id: None,
            name: "x".into(),
            settings: serde_json::from_value(serde_json::json!({ "bucket": "backups", "prefix": "p" }))
                .unwrap(),
            credential_id: None,
            scoping: serde_json::from_value(scoping).unwrap(),
            is_default: false,
            replica_id: None,
            object_lock: None,
            may_delete: None,
            status: Status::Active,
            last_test: None,
            tested_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_tenant_has_a_bucket_of_its_own_where_the_store_is_garages() {
        let garage = store(serde_json::json!({ "kind": "garage", "admin_endpoint": "http://g:3903" }));
        let plain = store(serde_json::Value::Null);
        let tenants: [TenantId; 4] = [
            TenantId::generate(),
            "Acme_1".parse().unwrap(),
            "acme_1".parse().unwrap(),
            "0".repeat(64).parse().unwrap(),
        ];
        let mut names = std::collections::BTreeSet::new();
        for tenant in &tenants {
            let place = garage.place(tenant);
            place.validate().unwrap();
            assert!(place.bucket.starts_with("backups-") && place.prefix == "p", "{place}");
            assert_eq!(place.bucket.len(), "backups".len() + BUCKET_SUFFIX);
            names.insert(place.bucket);
            assert_eq!(plain.place(tenant), plain.settings);
            let at = |store: &Store, bucket: &str| store.is_at(bucket, "p") && !store.is_at(bucket, "q");
            assert!(at(&garage, names.last().unwrap()) && !at(&plain, names.last().unwrap()));
            assert!(at(&plain, "backups") && !at(&garage, "backups"));
        }
        assert_eq!(names.len(), tenants.len());
        assert!(names.contains(&format!("backups-{}", tenants[0])));
        // A tenant whose id is the digest of another's is no UUID either.
        let digest: TenantId = bucket_suffix(&tenants[1]).parse().unwrap();
        assert_ne!(bucket_suffix(&digest), bucket_suffix(&tenants[1]));
    }
}
