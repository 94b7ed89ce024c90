//! `/api/v1/audit-events`

use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::TenantId;

use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::{Json, Query};
use crate::api::fields::sought;
use crate::api::paging::{cut, page};
use crate::api::principal::{Principal, Role};
use crate::db::{Page, audit};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Who did what to which target, from where.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AuditEvent {
    id: String,
    /// Absent: the platform's own.
    tenant_id: Option<TenantId>,
    /// `user`, `api_key`, `operator`, `worker` or `system`.
    actor_type: String,
    actor_id: Option<String>,
    /// `source.create`, say.
    action: String,
    target_type: String,
    target_id: Option<String>,
    ip: Option<String>,
    #[schema(value_type = Object)]
    details: Value,
    created_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AuditEvents {
    audit_events: Vec<AuditEvent>,
    next_cursor: Option<String>,
}

impl From<audit::Event> for AuditEvent {
    fn from(row: audit::Event) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            actor_type: row.actor_type,
            actor_id: row.actor_id,
            action: row.action,
            target_type: row.target_type,
            target_id: row.target_id,
            ip: row.ip,
            details: row.details,
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListAuditEvents {
    /// Whose: for operators, who see everybody's otherwise.
    tenant_id: Option<TenantId>,
    /// Only this: `source.create`, say.
    action: Option<String>,
    /// Only what was done to the source, user and so on of this id.
    target_id: Option<String>,
    /// Only what was done then or later.
    since: Option<Timestamp>,
    /// Only what was done before.
    until: Option<Timestamp>,
    /// How many at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ListAuditEvents {
    fn parts(self) -> Result<(Option<TenantId>, audit::Filter, Page)> {
        let page = page(self.limit, self.cursor.as_deref())?;
        let filter = audit::Filter {
            action: sought("action", self.action)?,
            target_id: sought("target_id", self.target_id)?,
            since: self.since,
            until: self.until,
        };
        Ok((self.tenant_id, filter, page))
    }
}

/// List audit events
///
/// Newest first: of one's tenant, for admins; of all or one, for operators.
#[utoipa::path(
    get, path = "/audit-events", tag = "audit-events",
    params(ListAuditEvents),
    responses(
        (status = 200, body = AuditEvents),
    ),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(query): Query<ListAuditEvents>,
) -> Result<Json<AuditEvents>> {
    who.require(Role::Admin)?;
    let (named, filter, page) = query.parts()?;
    let rows = audit::list(&mut *hub.db().conn().await?, &who.scope(named)?, &filter, &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.id.as_str());
    Ok(Json(AuditEvents { audit_events: rows.into_iter().map(Into::into).collect(), next_cursor }))
}
