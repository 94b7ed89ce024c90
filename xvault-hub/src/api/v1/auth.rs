//! `/api/v1/auth`

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::TenantId;
use xvault_core::secret::{ExposeSecret as _, SecretString};

use super::api_keys::ApiKey;
use super::tenants::Tenant;
use super::users::{User, email};
use crate::Hub;
use crate::api::client_address::ClientAddress;
use crate::api::error::{ErrorBody, Result};
use crate::api::extract::Json;
use crate::api::fields::name;
use crate::api::principal::{Principal, Role};
use crate::app::auth::{self, Me};
use crate::app::{passwords, registration, sessions};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    /// What the new tenant is called.
    #[schema(min_length = 1, max_length = 200)]
    tenant_name: String,
    #[schema(max_length = 254)]
    email: String,
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 200)]
    password: SecretString,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshToken {
    /// As `login` or `refresh` gave it.
    #[schema(value_type = String, format = Password)]
    refresh_token: SecretString,
}

// Without `Debug`, as it holds tokens.
/// A session: send `access_token` as `Authorization: Bearer …`, and change `refresh_token` for a new pair in time.
#[derive(Serialize, utoipa::ToSchema)]
struct Session {
    access_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds until the access token ends.
    expires_in: i64,
    /// Good for one use.
    refresh_token: String,
    user: User,
}

impl From<sessions::Session> for Session {
    fn from(session: sessions::Session) -> Self {
        Self {
            access_token: session.access_token.expose_secret().to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: session.expires_in,
            refresh_token: session.refresh_token.expose_secret().to_owned(),
            user: session.user.into(),
        }
    }
}

/// A new tenant, and its owner's session.
#[derive(Serialize, utoipa::ToSchema)]
struct Registered {
    tenant: Tenant,
    session: Session,
}

/// Who asks: one of `user` and `api_key`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct WhoAmI {
    role: Role,
    tenant_id: Option<TenantId>,
    user: Option<User>,
    api_key: Option<ApiKey>,
}

/// Register
///
/// Makes a tenant and its owner, where the platform has registration open.
#[utoipa::path(
    post, path = "/auth/register", tag = "auth",
    request_body = Register,
    responses(
        (status = 201, body = Registered),
        (status = 403, body = ErrorBody, description = "Registration is closed."),
        (status = 409, body = ErrorBody, description = "The address can't be used (`email_unusable`)."),
        (status = 429, body = ErrorBody, description = "Too many attempts: wait as long as `Retry-After` says."),
    ),
)]
async fn register(
    State(hub): State<Hub>,
    ClientAddress(ip): ClientAddress,
    Json(body): Json<Register>,
) -> Result<(StatusCode, Json<Registered>)> {
    let tenant_name = name("tenant_name", &body.tenant_name)?;
    let email = email(&body.email)?;
    passwords::check_new("password", &body.password)?;
    let (tenant, session) = registration::register(&hub, ip, tenant_name, email, body.password).await?;
    Ok((StatusCode::CREATED, Json(Registered { tenant: tenant.into(), session: session.into() })))
}

/// Log in
///
/// Too many attempts from one address, from one address at one account, or too many failures at one account are refused for a
/// while (429, `Retry-After`).
#[utoipa::path(
    post, path = "/auth/login", tag = "auth",
    request_body = Login,
    responses(
        (status = 200, body = Session),
        (status = 401, body = ErrorBody, description = "Address or password is wrong."),
        (status = 403, body = ErrorBody, description = "The account or its tenant is disabled."),
        (status = 429, body = ErrorBody, description = "Too many attempts: wait as long as `Retry-After` says."),
    ),
)]
async fn login(
    State(hub): State<Hub>,
    ClientAddress(ip): ClientAddress,
    Json(body): Json<Login>,
) -> Result<Json<Session>> {
    Ok(Json(sessions::login(&hub, ip, &body.email, body.password).await?.into()))
}

/// Refresh
///
/// Changes a refresh token for a new session. Each token is good for one use: showing it a second time ends all sessions that
/// descend from the same login, as somebody has a copy.
///
/// Except when the answer was lost: for 60 seconds after its first use, while nobody has used the token that it gave, it is changed
/// again, and the token that it gave before is void (showing that one ends the session). In the first 2 seconds after an answer it is
/// refused as `refresh_superseded`, which ends nothing: the answer is on its way to another tab, or to you. Look where your program
/// keeps its tokens; if the newer one isn't there after `Retry-After`, show the old one again.
///
/// A single page application lets one tab refresh at a time (`navigator.locks`), reads the token inside the lock, and keeps the answer
/// where all tabs see it before it leaves the lock.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "auth",
    request_body = RefreshToken,
    responses(
        (status = 200, body = Session),
        (status = 401, body = ErrorBody, description = "The refresh token is used, revoked, or has expired \
            (`unauthorized`), or was used a moment ago (`refresh_superseded`, with `Retry-After`)."),
        (status = 403, body = ErrorBody, description = "The account or its tenant is disabled."),
    ),
)]
async fn refresh(
    State(hub): State<Hub>,
    ClientAddress(ip): ClientAddress,
    Json(body): Json<RefreshToken>,
) -> Result<Json<Session>> {
    Ok(Json(sessions::refresh(&hub, ip, &body.refresh_token).await?.into()))
}

/// Log out
///
/// Ends the session that the refresh token belongs to. An access token stays good until it ends by itself.
#[utoipa::path(
    post, path = "/auth/logout", tag = "auth",
    request_body = RefreshToken,
    responses(
        (status = 204),
    ),
)]
async fn logout(
    State(hub): State<Hub>,
    ClientAddress(ip): ClientAddress,
    Json(body): Json<RefreshToken>,
) -> Result<StatusCode> {
    sessions::logout(&hub, ip, &body.refresh_token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who am I
#[utoipa::path(
    get, path = "/auth/me", tag = "auth",
    responses(
        (status = 200, body = WhoAmI),
    ),
)]
async fn me(State(hub): State<Hub>, who: Principal) -> Result<Json<WhoAmI>> {
    let (user, api_key) = match auth::me(&hub, &who).await? {
        Me::User(user) => (Some(user.into()), None),
        Me::ApiKey(key) => (None, Some(key.into())),
    };
    Ok(Json(WhoAmI { role: who.role, tenant_id: who.tenant_id, user, api_key }))
}
