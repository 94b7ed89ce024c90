//! Restores to a server: where they may go.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use xvault_core::{Overwrite, SourceId};

use crate::DbError;
use crate::api::error::{Error, Result};
use crate::api::principal::{Principal, Role};
use crate::db::snapshots::Snapshot;
use crate::db::sources::Source;
use crate::db::{Scope, sources};

/// The longest path that Linux takes, in bytes.
const MAX_DIRECTORY: usize = 4096;

/// Where a restore to a server goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerOrder {
    /// The source whose server it is; None: that of the snapshot.
    pub(crate) source_id: Option<SourceId>,
    pub(crate) directory: String,
    pub(crate) overwrite: Overwrite,
    pub(crate) paths: Vec<String>,
}

/// A directory of a server as it was typed. 422 unless it is an absolute path.
pub(crate) fn directory(typed: String) -> Result<String> {
    if !typed.starts_with('/') {
        return Err(Error::invalid_field("target.path", "an absolute path is needed, `/srv/restored`"));
    }
    if typed.len() > MAX_DIRECTORY || typed.chars().any(char::is_control) {
        return Err(Error::invalid_field("target.path", "the path is too long, or not printable"));
    }
    Ok(typed)
}

/// What its worker must be able to. 403 unless `who` may write there, 404 without that source, 409 `source_gone` or
/// `host_key_not_pinned`, 422 for a source that is no SSH server.
pub(super) async fn check(
    conn: &mut AnyConnection,
    who: &Principal,
    snapshot: &Snapshot,
    order: &ServerOrder,
) -> Result<&'static str> {
    let source = source(conn, who, snapshot, order.source_id.as_ref()).await?;
    let kind = source.settings.kind();
    match source.settings.file_server() {
        Some(server) if server.host_key.is_some() => Ok(kind),
        Some(_) => Err(not_pinned()),
        None => Err(Error::invalid_field(
            "target.source_id",
            format!("a source of type `ssh`, `sftp` or `wordpress` is needed; this one is of type `{kind}`"),
        )),
    }
}

/// The source whose server it goes to: that of the snapshot, or the one that was named.
pub(super) async fn source(
    conn: &mut AnyConnection,
    who: &Principal,
    snapshot: &Snapshot,
    named: Option<&SourceId>,
) -> Result<Source> {
    let named = named.filter(|named| **named != snapshot.source_id);
    if named.is_some() {
        who.require(Role::Admin)?;
    }
    let (scope, id) = (Scope::Tenant(snapshot.tenant_id.clone()), named.unwrap_or(&snapshot.source_id));
    match sources::get_live(conn, &scope, id).await {
        Err(DbError::NotFound) if named.is_none() => Err(gone()),
        found => found.map_err(Error::of("source")),
    }
}

fn gone() -> Error {
    let text = "the snapshot's own source was deleted: name another one by `target.source_id`";
    Error::conflict("source_gone", text)
}

pub(super) fn not_pinned() -> Error {
    let text =
        "the server's host key is not pinned: test the source, and save the fingerprint as its `host_key`";
    Error::conflict("host_key_not_pinned", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_printable_directory_is_taken() {
        assert_eq!(directory("/srv/x y".into()).unwrap(), "/srv/x y");
        let long = format!("/{}", "x".repeat(MAX_DIRECTORY));
        for (bad, told) in [
            ("", "an absolute path"),
            ("srv", "an absolute path"),
            ("/a\nb", "not printable"),
            ("/a\0", "not printable"),
            (long.as_str(), "too long"),
        ] {
            let error = directory(bad.to_owned()).unwrap_err();
            assert!(error.message().starts_with("field `target.path`: "), "{error:?}");
            assert!(error.message().contains(told), "{bad:?}: {error:?}");
        }
    }
}
