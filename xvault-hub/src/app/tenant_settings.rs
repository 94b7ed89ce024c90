//! Settings of a tenant: a few known keys, each with a range.

use serde_json::{Map, Value, json};
use sqlx::AnyConnection;
use xvault_core::TenantId;

use super::audit::{Deed, record};
use crate::api::error::{Error, Result};
use crate::api::principal::Principal;
use crate::db::{Scope, settings, tenants};
use crate::{DbError, Hub};

/// A key with what it may be.
struct Known {
    key: &'static str,
    values: Values,
}

enum Values {
    /// Whole numbers.
    Numbers { min: u64, max: u64, default: u64 },
    /// One of these words, of which the first is the default.
    Words(&'static [&'static str]),
}

/// Hours that a link to a download is good; a week at most.
const DOWNLOAD_HOURS: &str = "download_expiration_hours";
/// Unless a tenant says otherwise.
const DEFAULT_DOWNLOAD_HOURS: u64 = 24;

/// All keys.
const KNOWN: [Known; 3] = [
    Known {
        key: DOWNLOAD_HOURS,
        values: Values::Numbers { min: 1, max: 168, default: DEFAULT_DOWNLOAD_HOURS },
    },
    // Days after which a snapshot is verified again. 0: never by itself.
    Known { key: "verify_interval_days", values: Values::Numbers { min: 0, max: 3650, default: 0 } },
    // How far such a verification goes.
    Known { key: "verify_depth", values: Values::Words(&["quick", "deep", "restore_test"]) },
];

impl Values {
    fn default(&self) -> Value {
        match self {
            Self::Numbers { default, .. } => json!(default),
            Self::Words(words) => json!(words.first()),
        }
    }

    fn admit(&self, value: &Value) -> bool {
        match self {
            Self::Numbers { min, max, .. } => value.as_u64().is_some_and(|n| (*min..=*max).contains(&n)),
            Self::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }

    fn needed(&self) -> String {
        match self {
            Self::Numbers { min, max, .. } => format!("a whole number from {min} to {max} is needed"),
            Self::Words(words) => format!("one of these is needed: {}", words.join(", ")),
        }
    }
}

/// All settings, those that were never set with their defaults.
pub(crate) async fn get(hub: &Hub, scope: &Scope, tenant_id: &TenantId) -> Result<Map<String, Value>> {
    let mut conn = hub.db().conn().await?;
    tenants::get(&mut conn, scope, tenant_id).await.map_err(Error::of("tenant"))?;
    let mut all: Map<_, _> =
        KNOWN.iter().map(|known| (known.key.to_owned(), known.values.default())).collect();
    for (key, value) in settings::of_tenant(&mut conn, tenant_id).await? {
        let value = serde_json::from_str(&value).map_err(|_| DbError::Corrupt { column: "value" })?;
        all.insert(key, value);
    }
    Ok(all)
}

/// How long a tenant's links to downloads are good, in hours.
pub(crate) async fn download_expiration_hours(
    conn: &mut AnyConnection,
    tenant_id: &TenantId,
) -> crate::db::Result<u64> {
    let set = settings::of_tenant(conn, tenant_id).await?;
    let value = set.iter().find(|(key, _)| key == DOWNLOAD_HOURS).map(|(_, value)| value.parse());
    Ok(value.and_then(std::result::Result::ok).unwrap_or(DEFAULT_DOWNLOAD_HOURS))
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
    if value.is_null() || known.values.admit(value) {
        Ok(())
    } else {
        Err(Error::invalid_field(&field, known.values.needed()))
    }
}
