//! The policy of a source.

use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::SourceId;
use xvault_retention::Policy;

use super::settle::spare;
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::app::audit::{Deed, record};
use crate::db::retention::{self, Keeping};
use crate::db::{self, Scope, sources};
use crate::{DbError, Hub};

/// Reads a policy from a body's field `retention_policy`; null is none.
pub(crate) fn parse(json: &Value) -> Result<Option<Policy>> {
    if json.is_null() {
        return Ok(None);
    }
    let policy = Policy::parse(json).map_err(|error| {
        let field = match error.field() {
            Some(field) => format!("retention_policy.{}", field.chars().take(100).collect::<String>()),
            None => "retention_policy".to_owned(),
        };
        Error::invalid_field(&field, error.to_string())
    })?;
    // It would keep nothing: the hub's snapshots have no tags.
    if !policy.rules().keep_tags.is_empty() {
        return Err(Error::invalid_field("retention_policy.keep_tags", "the hub's snapshots have no tags"));
    }
    Ok(Some(policy))
}

/// By what the snapshots of a source are kept that is not deleted.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &SourceId) -> Result<Keeping> {
    let mut conn = hub.db().conn().await?;
    sources::get_live(&mut conn, scope, id).await.map_err(Error::of("source"))?;
    Ok(retention::keeping(&mut conn, id).await?)
}

/// Gives a source another policy, or none. Deletions that are queued by the old one, and that the new one does not want, are
/// called off at once; what it wants to go besides goes with the next evaluation.
pub(crate) async fn set(
    hub: &Hub,
    who: &Principal,
    scope: &Scope,
    id: &SourceId,
    policy: Option<&Policy>,
) -> Result<Keeping> {
    let mut tx = hub.db().begin().await?;
    sources::lock(&mut tx, scope, id).await.map_err(Error::of("source"))?;
    let before = retention::keeping(&mut tx, id).await?;
    replace(&mut tx, hub, id, policy).await.map_err(Error::of("source"))?;
    let deed = Deed {
        action: "retention.update",
        target_type: "source",
        target_id: id.as_str(),
        tenant_id: Some(&before.tenant_id),
        details: json!({ "retention_policy": policy, "before": before.policy }),
    };
    record(&mut tx, hub, who, deed).await?;
    let after = retention::keeping(&mut tx, id).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(after)
}

/// In a transaction that has the source locked: gives it another policy, or none, and calls off what that does not want to go.
pub(crate) async fn replace(
    conn: &mut AnyConnection,
    hub: &Hub,
    id: &SourceId,
    policy: Option<&Policy>,
) -> db::Result<()> {
    retention::set_policy(conn, id, policy, hub.clock().now()).await?;
    spare(conn, hub, id).await
}
