//! Settings of a tenant: a few known keys, each with a range.

use serde_json::{Map, Value, json};
use xvault_core::TenantId;

use super::audit::{Deed, record};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::{Scope, settings, tenants};
use crate::{DbError, Hub};

/// A key whose values are whole numbers.
struct Known {
    key: &'static str,
    min: u64,
    max: u64,
    default: u64,
}

/// All keys.
const KNOWN: [Known; 1] = [
    // Hours that a restored archive can be downloaded; a week at most.
    Known { key: "download_expiration_hours", min: 1, max: 168, default: 24 },
];

/// All settings, those that were never set with their defaults.
pub(crate) async fn get(hub: &Hub, scope: &Scope, tenant_id: &TenantId) -> Result<Map<String, Value>> {
    let mut conn = hub.db().conn().await?;
    tenants::get(&mut conn, scope, tenant_id).await.map_err(Error::of("tenant"))?;
    let mut all: Map<_, _> = KNOWN.iter().map(|known| (known.key.to_owned(), json!(known.default))).collect();
    for (key, value) in settings::of_tenant(&mut conn, tenant_id).await? {
        let value = serde_json::from_str(&value).map_err(|_| DbError::Corrupt { column: "value" })?;
        all.insert(key, value);
    }
    Ok(all)
}

/// Changes the keys that are named; null gives one its default back. All or none.
pub(crate) async fn set(
    hub: &Hub,
    who: &Principal,
    tenant_id: &TenantId,
    changes: &Map<String, Value>,
) -> Result<()> {
    for (key, value) in changes {
        check(key, value)?;
    }
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    tenants::get(&mut tx, &who.scope(None)?, tenant_id).await.map_err(Error::of("tenant"))?;
    for (key, value) in changes {
        if value.is_null() {
            settings::unset(&mut tx, tenant_id, key).await?;
        } else {
            settings::set(&mut tx, tenant_id, key, &value.to_string(), now).await?;
        }
    }
    let deed = Deed {
        action: "settings.update",
        target_type: "tenant",
        target_id: tenant_id.as_str(),
        tenant_id: Some(tenant_id),
        details: json!(changes),
    };
    record(&mut tx, hub, who, deed).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}

fn check(key: &str, value: &Value) -> Result<()> {
    let field = format!("settings.{}", key.chars().take(64).collect::<String>());
    let Some(known) = KNOWN.iter().find(|known| known.key == key) else {
        let keys: Vec<_> = KNOWN.iter().map(|known| known.key).collect();
        return Err(Error::invalid_field(
            &field,
            format!("there is no such setting; known are {}", keys.join(", ")),
        ));
    };
    let fits = value.is_null() || value.as_u64().is_some_and(|n| (known.min..=known.max).contains(&n));
    if fits {
        Ok(())
    } else {
        Err(Error::invalid_field(
            &field,
            format!("a whole number from {} to {} is needed", known.min, known.max),
        ))
    }
}
