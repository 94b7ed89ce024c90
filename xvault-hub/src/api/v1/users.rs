//! `/api/v1/users`

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use xvault_core::secret::SecretString;
use xvault_core::{TenantId, UserId};

use crate::Hub;
use crate::api::error::{Error, ErrorBody, Result};
use crate::api::extract::{Json, Path, Query};
use crate::api::paging::{TenantPaging, cut};
use crate::api::principal::{Actor, NamedTenant, Principal, Role};
use crate::app::email::Email;
use crate::app::passwords;
use crate::app::users::{self, Change, NewUser};
use crate::db::status::Status;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update, delete))
        .routes(routes!(set_password))
}

/// Who logs in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct User {
    id: UserId,
    /// Absent: an operator.
    tenant_id: Option<TenantId>,
    email: String,
    role: Role,
    status: Status,
    last_login_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<crate::db::users::User> for User {
    fn from(row: crate::db::users::User) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            email: row.email.to_string(),
            role: row.role,
            status: row.status,
            last_login_at: row.last_login_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    /// Operators name the tenant, here or in the query, unless they make an operator.
    tenant_id: Option<TenantId>,
    #[schema(max_length = 254)]
    email: String,
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 200)]
    password: SecretString,
    role: Role,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateUser {
    /// Another address to log in with.
    #[schema(max_length = 254)]
    email: Option<String>,
    role: Option<Role>,
    status: Option<Status>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SetPassword {
    /// Needed to change one's own.
    #[schema(value_type = Option<String>, format = Password)]
    old_password: Option<SecretString>,
    #[schema(value_type = String, format = Password, min_length = 10, max_length = 200)]
    password: SecretString,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Users {
    users: Vec<User>,
    next_cursor: Option<String>,
}

/// An address as accounts are named by it.
pub(super) fn email(text: &str) -> Result<Email> {
    text.parse()
        .map_err(|error: crate::app::email::InvalidEmail| Error::invalid_field("email", error.to_string()))
}

/// The tenant of a new user: none for an operator, whom only operators make.
fn tenant_of(who: &Principal, role: Role, named: Option<TenantId>) -> Result<Option<TenantId>> {
    if role != Role::Operator {
        return who.tenant(named).map(Some);
    }
    who.require(Role::Operator)?;
    match named {
        None => Ok(None),
        Some(_) => Err(Error::invalid_field("tenant_id", "an operator belongs to no tenant")),
    }
}

fn check_role(who: &Principal, role: Option<Role>) -> Result<()> {
    if role == Some(Role::Operator) { who.require(Role::Operator) } else { Ok(()) }
}

/// Make a user
///
/// For owners, in their tenant; for operators, in any, and operators too.
#[utoipa::path(
    post, path = "/users", tag = "users",
    params(NamedTenant),
    request_body = CreateUser,
    responses(
        (status = 201, body = User),
        (status = 409, body = ErrorBody, description = "The address can't be used (`email_unusable`)."),
        (status = 429, body = ErrorBody, description = "Too many at once: wait as long as `Retry-After` says."),
    ),
)]
async fn create(
    State(hub): State<Hub>,
    who: Principal,
    Query(named): Query<NamedTenant>,
    Json(body): Json<CreateUser>,
) -> Result<(StatusCode, Json<User>)> {
    who.require(Role::Owner)?;
    let tenant_id = tenant_of(&who, body.role, named.or(body.tenant_id)?)?;
    let email = email(&body.email)?;
    passwords::check_new("password", &body.password)?;
    let new = NewUser { tenant_id, email, password: body.password, role: body.role };
    Ok((StatusCode::CREATED, Json(users::create(&hub, &who, new).await?.into())))
}

/// List users
///
/// Newest first. For owners.
#[utoipa::path(
    get, path = "/users", tag = "users",
    params(TenantPaging),
    responses(
        (status = 200, body = Users),
    ),
)]
async fn list(
    State(hub): State<Hub>,
    who: Principal,
    Query(paging): Query<TenantPaging>,
) -> Result<Json<Users>> {
    who.require(Role::Owner)?;
    let (named, page) = paging.parts()?;
    let rows = users::list(&hub, &who.scope(named)?, &page).await?;
    let (rows, next_cursor) = cut(&page, rows, |row| row.id.as_str());
    Ok(Json(Users { users: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a user
///
/// For owners, and oneself for everybody.
#[utoipa::path(
    get, path = "/users/{id}", tag = "users",
    params(("id" = UserId, Path)),
    responses(
        (status = 200, body = User),
    ),
)]
async fn get(State(hub): State<Hub>, who: Principal, Path(id): Path<UserId>) -> Result<Json<User>> {
    require_self_or_owner(&who, &id)?;
    Ok(Json(users::get(&hub, &who.scope(None)?, &id).await?.into()))
}

fn require_self_or_owner(who: &Principal, id: &UserId) -> Result<()> {
    if who.actor == Actor::User(id.clone()) { Ok(()) } else { who.require(Role::Owner) }
}

/// Update a user
///
/// Changes what is named and ends the user's sessions. The last active owner of a tenant stays one. For owners.
#[utoipa::path(
    put, path = "/users/{id}", tag = "users",
    params(("id" = UserId, Path)),
    request_body = UpdateUser,
    responses(
        (status = 200, body = User),
        (status = 409, body = ErrorBody, description = "This is the last active owner, or operator (`last_owner`), or the \
            address can't be used (`email_unusable`)."),
        (status = 429, body = ErrorBody, description = "Too many addresses at once: wait as long as `Retry-After` says."),
    ),
)]
async fn update(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<UserId>,
    Json(body): Json<UpdateUser>,
) -> Result<Json<User>> {
    who.require(Role::Owner)?;
    check_role(&who, body.role)?;
    let email = body.email.as_deref().map(email).transpose()?;
    let change = Change { email, role: body.role, status: body.status };
    Ok(Json(users::change(&hub, &who, &id, change).await?.into()))
}

/// Delete a user
///
/// Sessions end; API keys that the user made stay. The last active owner of a tenant can't be deleted. For owners.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users",
    params(("id" = UserId, Path)),
    responses(
        (status = 204),
        (status = 409, body = ErrorBody, description = "This is the last active owner, or operator."),
    ),
)]
async fn delete(State(hub): State<Hub>, who: Principal, Path(id): Path<UserId>) -> Result<StatusCode> {
    who.require(Role::Owner)?;
    users::delete(&hub, &who, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set a password
///
/// One's own with the old one; for owners, another user's. The user's sessions end, the one that asks included.
#[utoipa::path(
    put, path = "/users/{id}/password", tag = "users",
    params(("id" = UserId, Path)),
    request_body = SetPassword,
    responses(
        (status = 204),
        (status = 429, body = ErrorBody, description = "Too many attempts: wait as long as `Retry-After` says."),
    ),
)]
async fn set_password(
    State(hub): State<Hub>,
    who: Principal,
    Path(id): Path<UserId>,
    Json(body): Json<SetPassword>,
) -> Result<StatusCode> {
    require_self_or_owner(&who, &id)?;
    passwords::check_new("password", &body.password)?;
    users::set_password(&hub, &who, &id, body.old_password, body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}
