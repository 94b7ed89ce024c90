//! What a job needs to know of its source, in one question: table `sources` with its tenant and its credential.

use std::collections::HashMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use xvault_core::{CredentialId, ReadBack, SourceId, SourceSettings, StoreId, TenantId};

use super::credentials::StoredSecret;
use super::{Error, Result, Scope, json, parsed, parsed_opt, places};

/// A source as a job needs it.
#[derive(Debug)]
pub(crate) struct Needs {
    pub(crate) tenant_id: TenantId,
    pub(crate) settings: SourceSettings,
    pub(crate) credential_id: Option<CredentialId>,
    pub(crate) credential: Option<StoredSecret>,
    pub(crate) read_back: ReadBack,
    /// Where new snapshots go. None: the disk of the worker that makes them.
    pub(crate) store_id: Option<StoreId>,
    pub(crate) store_disabled: bool,
    pub(crate) source_disabled: bool,
    pub(crate) tenant_disabled: bool,
}

/// Those of sources that are not deleted.
const SELECT: &str =
    "SELECT s.id, s.tenant_id, s.type, s.config, s.status, s.read_back, t.status AS tenant_status,
        c.id AS credential_id, c.ciphertext, c.key_id, s.store_id, st.status AS store_status
    FROM sources s JOIN tenants t ON t.id = s.tenant_id LEFT JOIN credentials c
        ON c.id = s.credential_id AND c.tenant_id = s.tenant_id
        LEFT JOIN stores st ON st.id = s.store_id
    WHERE s.status <> 'deleted' AND s.id";

/// A source that is not deleted.
pub(crate) async fn of_source(conn: &mut AnyConnection, scope: &Scope, id: &SourceId) -> Result<Needs> {
    let text = format!("{SELECT} = $1");
    let row = sqlx::query(AssertSqlSafe(text)).bind(id.as_str()).fetch_one(conn).await?;
    let needs = from_row(&row)?;
    if scope.admits(&needs.tenant_id) { Ok(needs) } else { Err(Error::NotFound) }
}

/// Those of `ids` that exist and are not deleted. What is wrong with one is no matter of the others.
pub(crate) async fn of_sources(
    conn: &mut AnyConnection,
    ids: &[&SourceId],
) -> Result<HashMap<SourceId, Result<Needs>>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let text = format!("{SELECT} IN {}", places(1, ids.len()));
    let query = ids.iter().fold(sqlx::query(AssertSqlSafe(text)), |query, id| query.bind(id.as_str()));
    let rows = query.fetch_all(conn).await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, from_row(row)))).collect()
}

fn from_row(row: &AnyRow) -> Result<Needs> {
    Ok(Needs {
        tenant_id: parsed(row, "tenant_id")?,
        settings: settings(row)?,
        credential_id: parsed_opt(row, "credential_id")?,
        credential: credential(row)?,
        read_back: word(row, "read_back")?,
        store_id: parsed_opt(row, "store_id")?,
        store_disabled: row.try_get::<Option<String>, _>("store_status")?.as_deref() == Some("disabled"),
        source_disabled: row.try_get::<String, _>("status")? == "disabled",
        tenant_disabled: row.try_get::<String, _>("tenant_status")? == "disabled",
    })
}

fn settings(row: &AnyRow) -> Result<SourceSettings> {
    let kind: String = row.try_get("type")?;
    let config: serde_json::Value = json(row, "config")?;
    let settings = serde_json::json!({ "type": kind, "config": config });
    serde_json::from_value(settings).map_err(|_| Error::Corrupt { column: "config" })
}

fn credential(row: &AnyRow) -> Result<Option<StoredSecret>> {
    let ciphertext: Option<Vec<u8>> = row.try_get("ciphertext")?;
    let kek_id: Option<String> = row.try_get("key_id")?;
    Ok(ciphertext.zip(kek_id).map(|(ciphertext, kek_id)| StoredSecret { ciphertext, kek_id }))
}

/// A column that holds one of an enum's words.
fn word<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T> {
    let text: String = row.try_get(column)?;
    serde_json::from_value(text.into()).map_err(|_| Error::Corrupt { column })
}
