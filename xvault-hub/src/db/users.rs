//! Table `users`: who logs in.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use xvault_core::secret::{ExposeSecret as _, SecretString};
use xvault_core::{TenantId, UserId};

use super::status::Status;
use super::{Page, Result, Scope, instant, instant_opt, parsed, parsed_opt, touched};
use crate::api::principal::Role;
use crate::app::email::Email;

/// A row without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: UserId,
    /// None for operators.
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) email: Email,
    pub(crate) role: Role,
    pub(crate) status: Status,
    /// Access tokens that name another one are void. Milliseconds since 1970, and grows with each change.
    pub(crate) valid_from: i64,
    pub(crate) last_login_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A user with what a login is checked against.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: User,
    pub(crate) password_hash: SecretString,
    /// None for operators.
    pub(crate) tenant_status: Option<Status>,
}

fn from_row(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: parsed(row, "id")?,
        tenant_id: parsed_opt(row, "tenant_id")?,
        email: parsed(row, "email")?,
        role: parsed(row, "role")?,
        status: parsed(row, "status")?,
        valid_from: row.try_get("valid_from")?,
        last_login_at: instant_opt(row, "last_login_at")?,
        created_at: instant(row, "created_at")?,
        updated_at: instant(row, "updated_at")?,
    })
}

fn account_from_row(row: &AnyRow) -> Result<Account> {
    let password_hash: String = row.try_get("password_hash")?;
    Ok(Account {
        user: from_row(row)?,
        password_hash: password_hash.into(),
        tenant_status: parsed_opt(row, "tenant_status")?,
    })
}

/// `Duplicate` when the address has an account, in whatever tenant.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    user: &User,
    password_hash: &SecretString,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO users (id, tenant_id, email, password_hash, role, status, valid_from, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
    )
    .bind(user.id.as_str())
    .bind(user.tenant_id.as_ref().map(TenantId::as_str))
    .bind(user.email.as_str())
    .bind(password_hash.expose_secret())
    .bind(user.role.as_str())
    .bind(user.status.as_str())
    .bind(user.valid_from)
    .bind(user.created_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn get(conn: &mut AnyConnection, scope: &Scope, id: &UserId) -> Result<User> {
    let query = match scope {
        Scope::Tenant(tenant) => sqlx::query("SELECT * FROM users WHERE id = $1 AND tenant_id = $2")
            .bind(id.as_str())
            .bind(tenant.as_str()),
        Scope::All => sqlx::query("SELECT * FROM users WHERE id = $1").bind(id.as_str()),
    };
    from_row(&query.fetch_one(conn).await?)
}

pub(crate) async fn list(conn: &mut AnyConnection, scope: &Scope, page: &Page) -> Result<Vec<User>> {
    let query = match scope {
        Scope::Tenant(tenant) => {
            sqlx::query("SELECT * FROM users WHERE id < $1 AND tenant_id = $3 ORDER BY id DESC LIMIT $2")
                .bind(page.before())
                .bind(page.probe_limit())
                .bind(tenant.as_str())
        }
        Scope::All => sqlx::query("SELECT * FROM users WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(page.before())
            .bind(page.probe_limit()),
    };
    query.fetch_all(conn).await?.iter().map(from_row).collect()
}

/// By id, for those who show a token.
pub(crate) async fn account(conn: &mut AnyConnection, id: &UserId) -> Result<Account> {
    let row = sqlx::query(
        "SELECT u.*, t.status AS tenant_status FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id WHERE u.id = $1",
    )
    .bind(id.as_str())
    .fetch_one(conn)
    .await?;
    account_from_row(&row)
}

/// By address, for those who log in.
pub(crate) async fn account_of(conn: &mut AnyConnection, email: &Email) -> Result<Option<Account>> {
    let row = sqlx::query(
        "SELECT u.*, t.status AS tenant_status FROM users u LEFT JOIN tenants t ON t.id = u.tenant_id WHERE u.email = $1",
    )
    .bind(email.as_str())
    .fetch_optional(conn)
    .await?;
    row.as_ref().map(account_from_row).transpose()
}

/// Notes a login, unless the account has changed since `valid_from` was read: then `NotFound`. Holds the row until the
/// transaction ends.
pub(crate) async fn note_login(
    conn: &mut AnyConnection,
    id: &UserId,
    valid_from: i64,
    now: Timestamp,
) -> Result<()> {
    let result = sqlx::query(
        "UPDATE users SET last_login_at = $3 WHERE id = $1 AND valid_from = $2 AND status = 'active'",
    )
    .bind(id.as_str())
    .bind(valid_from)
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&result)
}

/// Makes others wait who would change this account or its sessions, until the transaction ends.
pub(crate) async fn hold(conn: &mut AnyConnection, id: &UserId) -> Result<()> {
    let result = sqlx::query("UPDATE users SET updated_at = updated_at WHERE id = $1")
        .bind(id.as_str())
        .execute(conn)
        .await?;
    touched(&result)
}

/// Makes others wait who would change who the owners of `tenant` are (without one: the operators), until the transaction
/// ends: two owners who remove each other must not both find the other there.
pub(crate) async fn hold_peers(conn: &mut AnyConnection, tenant: Option<&TenantId>) -> Result<()> {
    match tenant {
        Some(tenant) => super::tenants::hold(conn, tenant).await,
        None => super::settings::hold_platform(conn).await,
    }
}

/// How many others are active owners of `tenant`; without one, how many other operators are active.
pub(crate) async fn count_other_heads(
    conn: &mut AnyConnection,
    tenant: Option<&TenantId>,
    id: &UserId,
) -> Result<i64> {
    let query = match tenant {
        Some(tenant) => sqlx::query(
            "SELECT COUNT(*) AS others FROM users
             WHERE tenant_id = $2 AND id <> $1 AND role = 'owner' AND status = 'active'",
        )
        .bind(id.as_str())
        .bind(tenant.as_str()),
        None => sqlx::query(
            "SELECT COUNT(*) AS others FROM users WHERE id <> $1 AND role = 'operator' AND status = 'active'",
        )
        .bind(id.as_str()),
    };
    Ok(query.fetch_one(conn).await?.try_get("others")?)
}

/// Gives an account the address, role and status of `user`. Its access tokens become void. `Duplicate` when the address has another
/// account.
pub(crate) async fn change(conn: &mut AnyConnection, user: &User, now: Timestamp) -> Result<()> {
    let result = sqlx::query(
        "UPDATE users SET role = $2, status = $3, email = $5, updated_at = $4,
             valid_from = CASE WHEN valid_from >= $4 THEN valid_from + 1 ELSE $4 END
         WHERE id = $1",
    )
    .bind(user.id.as_str())
    .bind(user.role.as_str())
    .bind(user.status.as_str())
    .bind(now.as_millisecond())
    .bind(user.email.as_str())
    .execute(conn)
    .await?;
    touched(&result)
}

/// Gives an account another password. Its access tokens become void.
pub(crate) async fn set_password(
    conn: &mut AnyConnection,
    id: &UserId,
    password_hash: &SecretString,
    now: Timestamp,
) -> Result<()> {
    let result = sqlx::query(
        "UPDATE users SET password_hash = $2, updated_at = $3,
             valid_from = CASE WHEN valid_from >= $3 THEN valid_from + 1 ELSE $3 END
         WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(password_hash.expose_secret())
    .bind(now.as_millisecond())
    .execute(conn)
    .await?;
    touched(&result)
}

/// Removes an account. Its refresh tokens go with it; API keys that it made stay its tenant's.
pub(crate) async fn delete(conn: &mut AnyConnection, id: &UserId) -> Result<()> {
    sqlx::query("UPDATE api_keys SET created_by = NULL WHERE created_by = $1")
        .bind(id.as_str())
        .execute(&mut *conn)
        .await?;
    let result = sqlx::query("DELETE FROM users WHERE id = $1").bind(id.as_str()).execute(conn).await?;
    touched(&result)
}

/// Whether the platform has an operator, active or not.
pub(crate) async fn has_operator(conn: &mut AnyConnection) -> Result<bool> {
    let row = sqlx::query("SELECT COUNT(*) AS operators FROM users WHERE role = 'operator'")
        .fetch_one(conn)
        .await?;
    Ok(row.try_get::<i64, _>("operators")? > 0)
}
