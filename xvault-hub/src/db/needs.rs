//! What a job needs to know of its source, in one question: table `sources` with its tenant and its credential.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::{ReadBack, SourceId, SourceSettings, TenantId};

use super::credentials::StoredSecret;
use super::{Error, Result, Scope, json, parsed};

/// A source as a job needs it.
#[derive(Debug)]
pub(crate) struct Needs {
    pub(crate) tenant_id: TenantId,
    pub(crate) settings: SourceSettings,
    pub(crate) credential: Option<StoredSecret>,
    pub(crate) read_back: ReadBack,
    pub(crate) source_disabled: bool,
    pub(crate) tenant_disabled: bool,
}

/// A source that is not deleted.
pub(crate) async fn of_source(conn: &mut AnyConnection, scope: &Scope, id: &SourceId) -> Result<Needs> {
    let row = sqlx::query(
        "SELECT s.tenant_id, s.type, s.config, s.status, s.read_back, t.status AS tenant_status, c.ciphertext, c.key_id
         FROM sources s JOIN tenants t ON t.id = s.tenant_id LEFT JOIN credentials c
             ON c.id = s.credential_id AND c.tenant_id = s.tenant_id
         WHERE s.id = $1 AND s.status <> 'deleted'",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    let needs = from_row(&row)?;
    if scope.admits(&needs.tenant_id) { Ok(needs) } else { Err(Error::NotFound) }
}

fn from_row(row: &AnyRow) -> Result<Needs> {
    Ok(Needs {
        tenant_id: parsed(row, "tenant_id")?,
        settings: settings(row)?,
        credential: credential(row)?,
        read_back: word(row, "read_back")?,
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
