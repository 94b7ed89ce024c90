//! `/api/v1/auth/sessions`: one's own.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::SessionId;

use crate::Hub;
use crate::api::error::Result;
use crate::api::extract::{Json, Path, Query};
use crate::api::paging::{Paging, cut};
use crate::api::principal::Principal;
use crate::app::sessions;
use crate::db::refresh_tokens::RefreshToken;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(end))
}

/// A login that can still be refreshed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LoginSession {
    id: SessionId,
    /// Where it was last refreshed from, or began.
    ip: Option<String>,
    /// When it was last refreshed, or began.
    last_used_at: Timestamp,
    /// When it ends, unless it is refreshed before.
    expires_at: Timestamp,
    /// When it began.
    created_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct LoginSessions {
    sessions: Vec<LoginSession>,
    next_cursor: Option<String>,
}

impl From<RefreshToken> for LoginSession {
    fn from(token: RefreshToken) -> Self {
        Self {
            id: token.family_id,
            ip: token.ip,
            last_used_at: token.created_at,
            expires_at: token.expires_at,
            created_at: token.session_at,
        }
    }
}

/// List one's sessions
///
/// The last used first. API keys have none.
#[utoipa::path(
    get, path = "/auth/sessions", tag = "auth",
    params(Paging),
    responses((status = 200, body = LoginSessions)),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(paging): Query<Paging>,
) -> Result<Json<LoginSessions>> {
    let page = paging.page()?;
    let (tokens, next_cursor) =
        cut(&page, sessions::list(&hub, &who, &page).await?, |token| token.id.as_str());
    Ok(Json(LoginSessions { sessions: tokens.into_iter().map(Into::into).collect(), next_cursor }))
}

/// End one of one's sessions
///
/// It can't be refreshed any more. An access token stays good until it ends by itself.
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", tag = "auth",
    params(("id" = SessionId, Path)),
    responses((status = 204)),
)]
async fn end(State(hub): State<Hub>, who: Principal, Path(id): Path<SessionId>) -> Result<StatusCode> {
    sessions::end_own(&hub, &who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
