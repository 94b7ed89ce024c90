//! Table `snapshots`: backups that exist.

mod due;
mod keeping;
mod moving;
mod soundness;

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::snapshot::{Completeness, Locator};
use xvault_core::{JobId, Manifest, ReadBack, SnapshotId, SourceId, StoreId, TenantId, WorkerId};

use super::newest::Newest;
use super::workers::S3;
use super::{Error, Page, Result, Scope, instant, instant_opt, json, parsed, parsed_opt};

pub(crate) use due::{Due, Habit, ask_for_check, bytes_asked_for, due, habits};
pub(crate) use keeping::{
    begin_deletion, half_deleted, hold, lock_copy, lock_place, mark_deleting, release, store_keeps,
    tenant_is_disabled, unmark_deleting,
};
pub(crate) use moving::move_to;
pub(crate) use soundness::{Soundness, count_damaged, set_soundness, set_soundness_of_copy};

/// Where a snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SnapshotStatus {
    /// It holds all that was asked for.
    Completed,
    /// Something could not be read.
    Partial,
    /// It is being deleted, and not to be restored.
    Deleting,
}

impl SnapshotStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Deleting => "deleting",
        }
    }
}

impl std::str::FromStr for SnapshotStatus {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        [Self::Completed, Self::Partial, Self::Deleting].into_iter().find(|s| s.as_str() == text).ok_or(())
    }
}

/// Which snapshots a list shows, besides its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) source_id: Option<SourceId>,
    pub(crate) status: Option<SnapshotStatus>,
    /// Only those that are known to be damaged, or only the others.
    pub(crate) damaged: Option<bool>,
}

/// A row, without its manifest: see [`manifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    pub(crate) tenant_id: TenantId,
    pub(crate) source_id: SourceId,
    pub(crate) job_id: JobId,
    pub(crate) status: SnapshotStatus,
    /// Length of the artifact.
    pub(crate) size_bytes: i64,
    /// Of the files in it.
    pub(crate) content_bytes: i64,
    pub(crate) files: i64,
    pub(crate) warnings: i64,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) duration_ms: i64,
    pub(crate) encryption_algorithm: String,
    pub(crate) encryption_key_id: String,
    pub(crate) encryption_recipient: String,
    pub(crate) locator: Locator,
    /// The store that it lies in. None: a worker's disk.
    pub(crate) store_id: Option<StoreId>,
    /// Where its bytes lie, when that is a worker's disk.
    pub(crate) worker_id: Option<WorkerId>,
    pub(crate) held_at: Option<Timestamp>,
    pub(crate) hold_reason: Option<String>,
    /// Until when nothing deletes it: the end of the last lock of a place where it lies.
    pub(crate) locked_until: Option<Timestamp>,
    /// The end of the lock where it was made to.
    pub(crate) place_locked_until: Option<Timestamp>,
    /// When a worker was first told to remove its bytes.
    pub(crate) deletion_began_at: Option<Timestamp>,
    pub(crate) soundness: Soundness,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Snapshot {
    /// What a worker must be able to that shall read or delete it.
    pub(crate) fn capability(&self) -> Option<String> {
        self.store_id.as_ref().map(|_| S3.to_owned())
    }
}

fn from_row(row: &AnyRow) -> Result<Snapshot> {
    Ok(Snapshot {
        id: parsed(row, "id")?,
        tenant_id: parsed(row, "tenant_id")?,
        source_id: parsed(row, "source_id")?,
        job_id: parsed(row, "job_id")?,
        status: parsed(row, "status")?,
        size_bytes: row.try_get("size_bytes")?,
        content_bytes: row.try_get("content_bytes")?,
        files: row.try_get("files")?,
        warnings: row.try_get("warnings")?,
        started_at: instant(row, "started_at")?,
        finished_at: instant(row, "finished_at")?,
        duration_ms: row.try_get("duration_ms")?,
        encryption_algorithm: row.try_get("encryption_algorithm")?,
        encryption_key_id: row.try_get("encryption_key_id")?,
        encryption_recipient: row.try_get("encryption_recipient")?,
        locator: locator(row)?,
        store_id: parsed_opt(row, "store_id")?,
        worker_id: parsed_opt(row, "worker_id")?,
        held_at: instant_opt(row, "held_at")?,
        hold_reason: row.try_get("hold_reason")?,
        locked_until: instant_opt(row, "locked_until")?,
        place_locked_until: instant_opt(row, "place_locked_until")?,
        deletion_began_at: instant_opt(row, "deletion_began_at")?,
        soundness: Soundness::read(row)?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

fn locator(row: &AnyRow) -> Result<Locator> {
    let text = |column: &'static str| -> Result<String> {
        row.try_get::<Option<String>, _>(column)?.ok_or(Error::Corrupt { column })
    };
    match row.try_get::<String, _>("storage_backend")?.as_str() {
        "local_fs" => {
            Ok(Locator::LocalFs { worker_id: parsed(row, "worker_id")?, local_path: text("local_path")? })
        }
        "s3" => Ok(Locator::S3 {
            bucket: text("bucket")?,
            object_key: text("object_key")?,
            etag: row.try_get("etag")?,
        }),
        _ => Err(Error::Corrupt { column: "storage_backend" }),
    }
}

/// The columns of a locator.
#[derive(Debug, Default)]
struct Place<'a> {
    backend: &'static str,
    worker_id: Option<&'a str>,
    local_path: Option<&'a str>,
    bucket: Option<&'a str>,
    object_key: Option<&'a str>,
    etag: Option<&'a str>,
}

fn place(locator: &Locator) -> Result<Place<'_>> {
    match locator {
        Locator::LocalFs { worker_id, local_path } => Ok(Place {
            backend: "local_fs",
            worker_id: Some(worker_id.as_str()),
            local_path: Some(local_path),
            ..Place::default()
        }),
        Locator::S3 { bucket, object_key, etag } => Ok(Place {
            backend: "s3",
            bucket: Some(bucket),
            object_key: Some(object_key),
            etag: etag.as_deref(),
            ..Place::default()
        }),
        _ => Err(Error::Corrupt { column: "storage_backend" }),
    }
}

/// Columns count in `i64`; no artifact is longer.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Adds the snapshot that a manifest tells of, and where it lies.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    manifest: &Manifest,
    (locator, store_id): (&Locator, Option<&StoreId>),
    now: Timestamp,
) -> Result<()> {
    let summary = &manifest.content_summary;
    let partial = summary.warnings > 0 || manifest.completeness == Completeness::Partial;
    // A partial one has warnings: once it is `deleting`, nothing else tells it from a whole one.
    let warnings = signed(summary.warnings).max(i64::from(partial));
    let verified_at =
        (manifest.read_back.mode != ReadBack::Off).then(|| manifest.finished_at.as_millisecond());
    let fully_verified_at = verified_at.filter(|_| manifest.read_back.mode == ReadBack::Full);
    let text = serde_json::to_string(manifest).map_err(|_| Error::Corrupt { column: "manifest_json" })?;
    let place = place(locator)?;
    sqlx::query(
        "INSERT INTO snapshots (id, tenant_id, source_id, job_id, status, size_bytes, content_bytes, files, warnings,
             started_at, finished_at, duration_ms, manifest_json, encryption_algorithm, encryption_key_id,
             encryption_recipient, storage_backend, worker_id, local_path, bucket, object_key, etag, verified_at,
             fully_verified_at, created_at, updated_at, store_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
             $23, $24, $25, $25, $26)",
    )
    .bind(manifest.snapshot_id.as_str())
    .bind(manifest.tenant_id.as_str())
    .bind(manifest.source_id.as_str())
    .bind(manifest.job_id.as_str())
    .bind(if partial { SnapshotStatus::Partial } else { SnapshotStatus::Completed }.as_str())
    .bind(signed(manifest.size_bytes))
    .bind(signed(summary.bytes))
    .bind(signed(summary.files))
    .bind(warnings)
    .bind(manifest.started_at.as_millisecond())
    .bind(manifest.finished_at.as_millisecond())
    .bind(signed(manifest.duration_ms))
    .bind(text)
    .bind(&manifest.encryption_algorithm)
    .bind(&manifest.encryption_key_id)
    .bind(manifest.encryption_recipient.to_string())
    .bind(place.backend)
    .bind(place.worker_id)
    .bind(place.local_path)
    .bind(place.bucket)
    .bind(place.object_key)
    .bind(place.etag)
    .bind(verified_at)
    .bind(fully_verified_at)
    .bind(now.as_millisecond())
    .bind(store_id.map(StoreId::as_str))
    .execute(conn)
    .await?;
    Ok(())
}

/// All that [`from_row`] reads: `manifest_json`, longer than the rest together, is left where it is.
const SUMMARY: &str = "SELECT id, tenant_id, source_id, job_id, status, size_bytes, content_bytes, files, warnings,
    started_at, finished_at, duration_ms, encryption_algorithm, encryption_key_id, encryption_recipient,
    storage_backend, store_id, worker_id, local_path, bucket, object_key, etag, held_at, hold_reason, locked_until,
    place_locked_until, deletion_began_at, verified_at,
    fully_verified_at, checked_at, looked_inside_at, checked_depth, checked_by_job_id, damaged_at, damage, damage_depth,
    created_at, updated_at FROM snapshots";

/// One snapshot.
pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &SnapshotId) -> Result<Snapshot> {
    let row = sqlx::query("SELECT * FROM snapshots WHERE id = $1").bind(id.as_str()).fetch_one(conn).await?;
    let snapshot = from_row(&row)?;
    if scope.admits(&snapshot.tenant_id) { Ok(snapshot) } else { Err(Error::NotFound) }
}

/// One snapshot's `manifest.json`, as its worker reported it.
pub(crate) async fn manifest(
    conn: &mut AnyConnection,
    scope: &Scope,
    id: &SnapshotId,
) -> Result<serde_json::Value> {
    let row = sqlx::query("SELECT tenant_id, manifest_json FROM snapshots WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(conn)
        .await?;
    if scope.admits(&parsed(&row, "tenant_id")?) { json(&row, "manifest_json") } else { Err(Error::NotFound) }
}

/// Newest first; one more than the page holds.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    scope: &Scope,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Snapshot>> {
    let rows = Newest {
        source_id: filter.source_id.as_ref().map(SourceId::as_str),
        words: &[("status", filter.status.map(SnapshotStatus::as_str))],
        marks: &[("damaged_at", filter.damaged)],
        ..Newest::all(SUMMARY, scope, page)
    };
    rows.fetch(conn).await?.iter().map(from_row).collect()
}

/// Its bytes are gone. One that is absent is fine.
pub(crate) async fn delete(conn: &mut AnyConnection, id: &SnapshotId) -> Result<()> {
    sqlx::query("DELETE FROM snapshots WHERE id = $1").bind(id.as_str()).execute(conn).await?;
    Ok(())
}

/// Those of `ids` that exist.
pub(crate) async fn existing(conn: &mut AnyConnection, ids: &[SnapshotId]) -> Result<HashSet<SnapshotId>> {
    let mut found = HashSet::with_capacity(ids.len());
    for id in ids {
        let row = sqlx::query("SELECT id FROM snapshots WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *conn)
            .await?;
        if row.is_some() {
            found.insert(id.clone());
        }
    }
    Ok(found)
}

/// How many bytes the newest snapshot of a source holds: what the next one is expected to.
pub(crate) async fn last_content_bytes(
    conn: &mut AnyConnection,
    source_id: &SourceId,
) -> Result<Option<u64>> {
    let row =
        sqlx::query("SELECT content_bytes FROM snapshots WHERE source_id = $1 ORDER BY id DESC LIMIT 1")
            .bind(source_id.as_str())
            .fetch_optional(conn)
            .await?;
    let bytes = row.map(|row| row.try_get::<i64, _>("content_bytes")).transpose()?;
    Ok(bytes.map(i64::unsigned_abs))
}
