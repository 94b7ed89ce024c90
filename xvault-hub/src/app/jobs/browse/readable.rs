//! Whether the platform can read a snapshot's index.

use std::collections::HashSet;

use sqlx::AnyConnection;
use xvault_core::TenantId;

use crate::api::error::{Error, Result};
use crate::db::snapshots::Snapshot;
use crate::db::{Scope, snapshots, tenant_keys};

/// 409 `index_not_readable` when the index is encrypted to none of the identities that are here.
pub(super) async fn check(conn: &mut AnyConnection, snapshot: &Snapshot) -> Result<()> {
    let manifest =
        snapshots::manifest(conn, &Scope::All, &snapshot.id).await.map_err(Error::of("snapshot"))?;
    let ours = own(conn, &snapshot.tenant_id).await?;
    let recipients = manifest["index_recipients"].as_array().into_iter().flatten();
    if recipients.filter_map(|recipient| recipient.as_str()).any(|recipient| ours.contains(recipient)) {
        return Ok(());
    }
    let message = format!(
        "the index of snapshot {} is encrypted to the tenant's own keys alone, so the platform can't look into it: fetch it and open \
         it with `age -d -i KEY index.zst.enc | zstd -d`",
        snapshot.id
    );
    Err(Error::conflict("index_not_readable", message))
}

async fn own(conn: &mut AnyConnection, tenant: &TenantId) -> Result<HashSet<String>> {
    let keys = tenant_keys::with_identity(conn, tenant).await?;
    let opens_index = |key: &tenant_keys::TenantKey| key.purpose == "all" || key.purpose == "index";
    Ok(keys.into_iter().filter(opens_index).map(|key| key.public_key.to_string()).collect())
}
