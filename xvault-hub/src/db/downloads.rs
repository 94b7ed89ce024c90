//! Table `downloads`: links to what snapshots hold.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{DownloadId, JobId, SnapshotId, StoreId, TenantId};

use super::{Error, Result, instant, json, parsed, parsed_opt};
use crate::app::downloads::Content;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Download {
    pub(crate) id: DownloadId,
    pub(crate) tenant_id: TenantId,
    pub(crate) snapshot_id: SnapshotId,
    /// The restore job that prepared it, if one did.
    pub(crate) job_id: Option<JobId>,
    pub(crate) content: Content,
    /// The store that it is read from. None: wherever the snapshot can be reached when the link is opened.
    pub(crate) from_store: Option<StoreId>,
    pub(crate) file_name: String,
    pub(crate) single_use: bool,
    pub(crate) uses: i64,
    pub(crate) expires_at: Timestamp,
    /// The user or API key that asked for it.
    pub(crate) created_by: Option<String>,
}

fn from_row(row: &AnyRow) -> Result<Download> {
    Ok(Download {
        id: parsed(row, "id")?,
        tenant_id: parsed(row, "tenant_id")?,
        snapshot_id: parsed(row, "snapshot_id")?,
        job_id: parsed_opt(row, "job_id")?,
        content: json(row, "content")?,
        from_store: parsed_opt(row, "from_store")?,
        file_name: row.try_get("file_name")?,
        single_use: row.try_get::<i64, _>("single_use")? != 0,
        uses: row.try_get("uses")?,
        expires_at: instant(row, "expires_at")?,
        created_by: row.try_get("created_by")?,
    })
}

pub(crate) async fn insert(conn: &mut AnyConnection, download: &Download, now: Timestamp) -> Result<()> {
    let content =
        serde_json::to_string(&download.content).map_err(|_| Error::Corrupt { column: "content" })?;
    sqlx::query(
        "INSERT INTO downloads (id, tenant_id, snapshot_id, job_id, content, file_name, single_use, expires_at, created_by,
             created_at, from_store)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(download.id.as_str())
    .bind(download.tenant_id.as_str())
    .bind(download.snapshot_id.as_str())
    .bind(download.job_id.as_ref().map(JobId::as_str))
    .bind(content)
    .bind(&download.file_name)
    .bind(i64::from(download.single_use))
    .bind(download.expires_at.as_millisecond())
    .bind(download.created_by.clone())
    .bind(now.as_millisecond())
    .bind(download.from_store.as_ref().map(StoreId::as_str))
    .execute(conn)
    .await?;
    Ok(())
}

/// One link.
pub(crate) async fn get(conn: &mut AnyConnection, id: &DownloadId) -> Result<Download> {
    let query = sqlx::query("SELECT * FROM downloads WHERE id = $1").bind(id.as_str());
    from_row(&query.fetch_one(conn).await?)
}

/// The link that a restore job prepared, if there is one.
pub(crate) async fn of_job(conn: &mut AnyConnection, id: &JobId) -> Result<Option<Download>> {
    let query = sqlx::query("SELECT * FROM downloads WHERE job_id = $1").bind(id.as_str());
    query.fetch_optional(conn).await?.as_ref().map(from_row).transpose()
}

/// Counts a use. False when it may not be used any more: its time is over, or it was good for one use.
pub(crate) async fn use_once(conn: &mut AnyConnection, id: &DownloadId, now: Timestamp) -> Result<bool> {
    let result = sqlx::query(
        "UPDATE downloads SET uses = uses + 1, last_used_at = $2
         WHERE id = $1 AND expires_at > $2 AND (single_use = 0 OR uses = 0)",
    )
    .bind(id.as_str())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Takes back a use that came to nothing.
pub(crate) async fn give_back_use(conn: &mut AnyConnection, id: &DownloadId) -> Result<()> {
    let query = sqlx::query("UPDATE downloads SET uses = uses - 1 WHERE id = $1 AND uses > 0");
    query.bind(id.as_str()).execute(conn).await?;
    Ok(())
}

/// Forgets links that ended before `before`.
pub(crate) async fn delete_ended(conn: &mut AnyConnection, before: Timestamp) -> Result<u64> {
    let query = sqlx::query("DELETE FROM downloads WHERE expires_at < $1").bind(before.as_millisecond());
    Ok(query.execute(conn).await?.rows_affected())
}
