//! Restores into a database: where they may go.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::{DatabaseTarget, SourceId, SourceSettings};

use super::server::{not_pinned, source};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::snapshots::Snapshot;

/// What a source says of its server, and not of what is dumped there.
const OF_THE_SERVER: [&str; 13] = [
    "host",
    "port",
    "username",
    "use_password",
    "tls_mode",
    "tls_ca",
    "use_ssh",
    "ssh_mode",
    "ssh_host",
    "ssh_port",
    "ssh_username",
    "ssh_use_password",
    "ssh_host_key",
];

/// Which dump goes where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatabaseOrder {
    /// The source whose server it is; None: that of the snapshot.
    pub(crate) source_id: Option<SourceId>,
    /// The dump's path in the snapshot.
    pub(crate) entry: String,
    pub(crate) database: String,
    pub(crate) create: bool,
    pub(crate) overwrite: bool,
}

impl DatabaseOrder {
    /// The database, on the server of a source with these settings. 422 when that is no database server, or the name is none.
    pub(crate) fn target(&self, settings: &SourceSettings) -> Result<DatabaseTarget> {
        if settings.database_server().is_none() {
            return Err(Error::invalid_field(
                "target.source_id",
                format!(
                    "a source of type `postgres` or `mysql` is needed; this one is of type `{}`",
                    settings.kind()
                ),
            ));
        }
        let mut whole = serde_json::to_value(settings).map_err(|error| Error::internal(&error))?;
        if let Some(config) = whole.get_mut("config").and_then(Value::as_object_mut) {
            config.retain(|field, _| OF_THE_SERVER.contains(&field.as_str()));
            config.insert("database".to_owned(), json!(self.database));
            config.insert("create".to_owned(), json!(self.create));
            config.insert("overwrite".to_owned(), json!(self.overwrite));
        }
        let target: DatabaseTarget =
            serde_json::from_value(whole).map_err(|error| Error::internal(&error))?;
        target.validate().map_err(|error| Error::invalid_field("target.database", error.to_string()))?;
        Ok(target)
    }
}

/// What its worker must be able to. 403 unless `who` may write there, 404 without that source, 409 `source_gone` or
/// `host_key_not_pinned`, 422 for a source that is no database server.
pub(super) async fn check(
    conn: &mut AnyConnection,
    who: &Principal,
    snapshot: &Snapshot,
    order: &DatabaseOrder,
) -> Result<&'static str> {
    let source = source(conn, who, snapshot, order.source_id.as_ref()).await?;
    let target = order.target(&source.settings)?;
    match target.server().ssh {
        Some(hop) if hop.host_key.is_none() => Err(not_pinned()),
        _ => Ok(source.settings.kind()),
    }
}
