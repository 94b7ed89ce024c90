//! Table `sources`: systems that are backed up. A deleted one keeps its row, because its snapshots refer to it.

use std::collections::HashMap;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use xvault_core::{CredentialId, JobId, ReadBack, SourceId, SourceSettings, StoreId, TenantId};

use super::{
    Dialect, Error, Page, Result, Scope, instant, json as json_column, parsed, parsed_opt, places, touched,
};

/// Whether a source is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceStatus {
    /// It is.
    Active,
    /// Not for now.
    Disabled,
    /// Never again; its snapshots remain.
    Deleted,
}

impl SourceStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for SourceStatus {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "active" => Ok(Self::Active),
            "disabled" => Ok(Self::Disabled),
            "deleted" => Ok(Self::Deleted),
            _ => Err(()),
        }
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) id: SourceId,
    pub(crate) tenant_id: TenantId,
    pub(crate) name: String,
    pub(crate) status: SourceStatus,
    /// Columns `type` and `config`.
    pub(crate) settings: SourceSettings,
    pub(crate) credential_id: Option<CredentialId>,
    /// Where its snapshots go. None: the disk of the worker that makes them.
    pub(crate) store_id: Option<StoreId>,
    /// Where they are copied to. None: where that store says.
    pub(crate) replica_store_id: Option<StoreId>,
    pub(crate) read_back: ReadBack,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

fn from_row(row: &AnyRow) -> Result<Source> {
    let kind: String = row.try_get("type")?;
    let config: Value = json_column(row, "config")?;
    let read_back: String = row.try_get("read_back")?;
    Ok(Source {
        id: parsed(row, "id")?,
        tenant_id: parsed(row, "tenant_id")?,
        name: row.try_get("name")?,
        status: parsed(row, "status")?,
        settings: from_json(json!({ "type": kind, "config": config }), "config")?,
        credential_id: parsed_opt(row, "credential_id")?,
        store_id: parsed_opt(row, "store_id")?,
        replica_store_id: parsed_opt(row, "replica_store_id")?,
        read_back: from_json(Value::String(read_back), "read_back")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

fn from_json<T: serde::de::DeserializeOwned>(value: Value, column: &'static str) -> Result<T> {
    serde_json::from_value(value).map_err(|_| Error::Corrupt { column })
}

/// Settings as the column keeps them, and as the API shows them: what stands under `config`.
pub(crate) fn config(settings: &SourceSettings) -> Result<Value> {
    let corrupt = || Error::Corrupt { column: "config" };
    let mut whole = serde_json::to_value(settings).map_err(|_| corrupt())?;
    whole.get_mut("config").map(Value::take).ok_or_else(corrupt)
}

fn read_back_word(read_back: ReadBack) -> &'static str {
    match read_back {
        ReadBack::Full => "full",
        ReadBack::Sample => "sample",
        ReadBack::Off => "off",
    }
}

pub(crate) async fn insert(conn: &mut AnyConnection, source: &Source) -> Result<()> {
    sqlx::query(
        "INSERT INTO sources (id, tenant_id, type, name, status, config, credential_id, read_back, created_at, updated_at,
             store_id, replica_store_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(source.id.as_str())
    .bind(source.tenant_id.as_str())
    .bind(source.settings.kind())
    .bind(&source.name)
    .bind(source.status.as_str())
    .bind(config(&source.settings)?.to_string())
    .bind(source.credential_id.as_ref().map(CredentialId::as_str))
    .bind(read_back_word(source.read_back))
    .bind(source.created_at.as_millisecond())
    .bind(source.updated_at.as_millisecond())
    .bind(source.store_id.as_ref().map(StoreId::as_str))
    .bind(source.replica_store_id.as_ref().map(StoreId::as_str))
    .execute(conn)
    .await?;
    Ok(())
}

/// One that may be deleted, too: what comes of its snapshots and jobs depends on the caller.
pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &SourceId) -> Result<Source> {
    let row = sqlx::query("SELECT * FROM sources WHERE id = $1").bind(id.as_str()).fetch_one(conn).await?;
    admitted(scope, from_row(&row)?)
}

/// One that is not deleted.
pub(crate) async fn get_live(conn: &mut AnyConnection, scope: &Scope, id: &SourceId) -> Result<Source> {
    match get(conn, scope, id).await? {
        source if source.status == SourceStatus::Deleted => Err(Error::NotFound),
        source => Ok(source),
    }
}

/// One that is not deleted, and that nobody else changes or deletes until the transaction ends: the row is written to
/// itself. Whoever adds a job for a source begins with this, so that no job appears for one that is being deleted.
pub(crate) async fn lock(conn: &mut AnyConnection, scope: &Scope, id: &SourceId) -> Result<Source> {
    let row = sqlx::query(
        "UPDATE sources SET updated_at = updated_at WHERE id = $1 AND status <> 'deleted' RETURNING *",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    admitted(scope, from_row(&row)?)
}

/// Locks those of `ids` that are not deleted, as [`lock`] does, one after the other in their order; gives whether they are backed
/// up. A transaction on SQLite has the lock of everything.
pub(crate) async fn lock_all(
    conn: &mut AnyConnection,
    dialect: Dialect,
    ids: &[&SourceId],
) -> Result<HashMap<SourceId, SourceStatus>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let lock = match dialect {
        Dialect::Postgres => "FOR NO KEY UPDATE",
        Dialect::Sqlite => "",
    };
    let places = places(1, ids.len());
    let text = format!(
        "SELECT id, status FROM sources WHERE id IN {places} AND status <> 'deleted' ORDER BY id {lock}"
    );
    let query = ids.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, id| query.bind(id.as_str()));
    let rows = query.fetch_all(conn).await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, parsed(row, "status")?))).collect()
}

/// Nobody else decides which of a source's snapshots go until the transaction ends. One that is deleted has snapshots, too.
pub(crate) async fn lock_snapshots(conn: &mut AnyConnection, id: &SourceId) -> Result<()> {
    sqlx::query("UPDATE sources SET updated_at = updated_at WHERE id = $1")
        .bind(id.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

fn admitted(scope: &Scope, source: Source) -> Result<Source> {
    if scope.admits(&source.tenant_id) { Ok(source) } else { Err(Error::NotFound) }
}

/// A text that `LIKE` takes for itself, with `\` as the escape.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

/// Those that are not deleted and whose name holds `name`.
pub(crate) async fn list(
    conn: &mut AnyConnection,
    scope: &Scope,
    name: Option<&str>,
    page: &Page,
) -> Result<Vec<Source>> {
    let name = escaped(name.unwrap_or_default());
    let query = match scope {
        Scope::Tenant(_) => sqlx::query(
            r"SELECT * FROM sources WHERE id < $1 AND status <> 'deleted'
                  AND (name LIKE $3 ESCAPE '\' OR LOWER(name) LIKE $4 ESCAPE '\') AND tenant_id = $5
              ORDER BY id DESC LIMIT $2",
        ),
        Scope::All => sqlx::query(
            r"SELECT * FROM sources WHERE id < $1 AND status <> 'deleted'
                  AND (name LIKE $3 ESCAPE '\' OR LOWER(name) LIKE $4 ESCAPE '\')
              ORDER BY id DESC LIMIT $2",
        ),
    };
    // SQLite's LOWER knows ASCII only: what is written exactly so is found whatever it is.
    let query = query
        .bind(page.before())
        .bind(page.probe_limit())
        .bind(format!("%{name}%"))
        .bind(format!("%{}%", name.to_lowercase()));
    let query = match scope {
        Scope::Tenant(tenant) => query.bind(tenant.as_str()),
        Scope::All => query,
    };
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// Writes back everything that may change: all but the owner, the type and the time it was made. A deleted one stays
/// as it is.
pub(crate) async fn update(conn: &mut AnyConnection, source: &Source) -> Result<()> {
    let done = sqlx::query(
        "UPDATE sources SET name = $3, status = $4, config = $5, credential_id = $6, read_back = $7, updated_at = $8,
             store_id = $9, replica_store_id = $10
         WHERE id = $1 AND tenant_id = $2 AND status <> 'deleted'",
    )
    .bind(source.id.as_str())
    .bind(source.tenant_id.as_str())
    .bind(&source.name)
    .bind(source.status.as_str())
    .bind(config(&source.settings)?.to_string())
    .bind(source.credential_id.as_ref().map(CredentialId::as_str))
    .bind(read_back_word(source.read_back))
    .bind(source.updated_at.as_millisecond())
    .bind(source.store_id.as_ref().map(StoreId::as_str))
    .bind(source.replica_store_id.as_ref().map(StoreId::as_str))
    .execute(conn)
    .await?;
    touched(&done)
}

/// A job that needs the source and is not over, if there is one. Deletions of snapshots don't: they go on without it.
pub(crate) async fn unfinished_job(conn: &mut AnyConnection, id: &SourceId) -> Result<Option<JobId>> {
    let row = sqlx::query(
        "SELECT id FROM jobs WHERE source_id = $1 AND status IN ('queued', 'running', 'finalizing')
             AND type <> 'delete_snapshot' ORDER BY id LIMIT 1",
    )
    .bind(id.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|row| parsed(&row, "id")).transpose()
}
