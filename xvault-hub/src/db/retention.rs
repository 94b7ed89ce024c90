//! What retention looks at: by what a source's snapshots are kept (tables `sources`, `tenants` and `schedules`), and as much
//! of the snapshots as rules look at.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{SourceId, TenantId};
use xvault_retention::{Policy, Snapshot, Status};

use super::snapshots::SnapshotStatus;
use super::sources::SourceStatus;
use super::{Error, Result, instant, instant_opt, json_opt, parsed, touched};

/// The zone of sources without a schedule.
const UTC: &str = "UTC";

/// Why nothing of a source goes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub(crate) enum Pause {
    /// Its tenant is disabled.
    #[serde(rename = "tenant_disabled")]
    Tenant,
    /// Its schedule is.
    #[serde(rename = "schedule_disabled")]
    Schedule,
    /// It is itself, or it is deleted.
    #[serde(rename = "source_disabled")]
    Source,
}

/// By what the snapshots of a source are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) tenant_id: TenantId,
    pub(crate) source_id: SourceId,
    /// None: nothing is deleted.
    pub(crate) policy: Option<Policy>,
    /// The IANA name of the zone whose hours, days and weeks the policy means: that of the source's schedule.
    pub(crate) timezone: String,
    pub(crate) source_status: SourceStatus,
    pub(crate) schedule_disabled: bool,
    pub(crate) tenant_disabled: bool,
}

impl Keeping {
    /// Whether snapshots may go by themselves.
    pub(crate) fn is_active(&self) -> bool {
        self.pause().is_none()
    }

    /// Why snapshots may not go by themselves. The first that is to be mended, where it is more than one.
    pub(crate) fn pause(&self) -> Option<Pause> {
        match self {
            Self { tenant_disabled: true, .. } => Some(Pause::Tenant),
            Self { schedule_disabled: true, .. } => Some(Pause::Schedule),
            Self { source_status: SourceStatus::Active, .. } => None,
            Self { source_status: SourceStatus::Disabled | SourceStatus::Deleted, .. } => Some(Pause::Source),
        }
    }

    /// The zone itself.
    pub(crate) fn zone(&self) -> Result<TimeZone> {
        if self.timezone == UTC {
            return Ok(TimeZone::UTC);
        }
        TimeZone::get(&self.timezone).map_err(|_| Error::Corrupt { column: "timezone" })
    }

    fn read(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            tenant_id: parsed(row, "tenant_id")?,
            source_id: parsed(row, "id")?,
            policy: json_opt(row, "retention_policy")?,
            timezone: row.try_get::<Option<String>, _>("timezone")?.unwrap_or_else(|| UTC.to_owned()),
            source_status: parsed(row, "status")?,
            schedule_disabled: row.try_get::<Option<i64>, _>("enabled")? == Some(0),
            tenant_disabled: row.try_get::<String, _>("tenant_status")? != "active",
        })
    }
}

/// Of one source, which may be deleted.
pub(crate) async fn keeping(conn: &mut AnyConnection, id: &SourceId) -> Result<Keeping> {
    let row = sqlx::query(
        "SELECT s.id, s.tenant_id, s.status, s.retention_policy, t.status AS tenant_status, c.timezone, c.enabled
         FROM sources s JOIN tenants t ON t.id = s.tenant_id LEFT JOIN schedules c ON c.source_id = s.id
         WHERE s.id = $1",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    Keeping::read(&row)
}

/// Active sources with a policy, by id, from after `after` on.
pub(crate) async fn with_policy(
    conn: &mut AnyConnection,
    after: Option<&SourceId>,
    limit: u32,
) -> Result<Vec<SourceId>> {
    let rows = sqlx::query(
        "SELECT s.id FROM sources s JOIN tenants t ON t.id = s.tenant_id LEFT JOIN schedules c ON c.source_id = s.id
         WHERE s.retention_policy IS NOT NULL AND s.id > $1 AND s.status = 'active' AND t.status = 'active'
             AND COALESCE(c.enabled, 1) = 1
         ORDER BY s.id LIMIT $2",
    )
    .bind(after.map_or("", SourceId::as_str))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// The policy of a source.
pub(crate) async fn policy(conn: &mut AnyConnection, id: &SourceId) -> Result<Option<Policy>> {
    let row = sqlx::query("SELECT retention_policy FROM sources WHERE id = $1").bind(id.as_str());
    json_opt(&row.fetch_one(conn).await?, "retention_policy")
}

/// Gives a source another policy, or none.
pub(crate) async fn set_policy(
    conn: &mut AnyConnection,
    id: &SourceId,
    policy: Option<&Policy>,
    now: Timestamp,
) -> Result<()> {
    let text = policy.map(serde_json::to_string).transpose();
    let text = text.map_err(|_| Error::Corrupt { column: "retention_policy" })?;
    let result = sqlx::query(
        "UPDATE sources SET retention_policy = $2, updated_at = $3 WHERE id = $1 AND status <> 'deleted'",
    )
    .bind(id.as_str())
    .bind(text)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&result)
}

/// A snapshot as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) snapshot: Snapshot,
    /// It is to be deleted already.
    pub(crate) is_deleting: bool,
    /// Its bytes may be gone.
    pub(crate) has_begun: bool,
    /// It is known to be damaged: nothing counts on it.
    pub(crate) is_damaged: bool,
}

/// The snapshots of a source, from old to new.
pub(crate) async fn candidates(conn: &mut AnyConnection, source_id: &SourceId) -> Result<Vec<Candidate>> {
    let query = sqlx::query(
        "SELECT n.id, n.started_at, n.status, n.warnings, n.held_at, n.hold_reason, n.locked_until, n.fully_verified_at,
             n.deletion_began_at, n.damaged_at, s.may_delete
         FROM snapshots n LEFT JOIN stores s ON s.id = n.store_id WHERE n.source_id = $1 ORDER BY n.id",
    )
    .bind(source_id.as_str());
    // A stream: rows are several times as large as what is made of them.
    query
        .fetch(conn)
        .map_err(Error::from)
        .and_then(|row| std::future::ready(candidate(&row)))
        .try_collect()
        .await
}

fn candidate(row: &AnyRow) -> Result<Candidate> {
    let status: SnapshotStatus = parsed(row, "status")?;
    let partial = status == SnapshotStatus::Partial || row.try_get::<i64, _>("warnings")? > 0;
    let is = |column: &'static str| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.is_some());
    let hold = is("held_at")?.then(|| row.try_get::<Option<String>, _>("hold_reason")).transpose()?;
    Ok(Candidate {
        snapshot: Snapshot {
            status: if partial { Status::Partial } else { Status::Whole },
            verified: is("fully_verified_at")?,
            hold: hold.map(Option::unwrap_or_default),
            locked_until: instant_opt(row, "locked_until")?,
            undeletable: row.try_get::<Option<i64>, _>("may_delete")? == Some(0),
            ..Snapshot::new(parsed(row, "id")?, instant(row, "started_at")?)
        },
        is_deleting: status == SnapshotStatus::Deleting,
        has_begun: is("deletion_began_at")?,
        is_damaged: is("damaged_at")?,
    })
}
