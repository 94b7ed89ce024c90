//! Users: made, changed and removed by owners and operators; a tenant never loses its last owner.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::secret::SecretString;
use xvault_core::{TenantId, UserId};

use super::audit::{Deed, record};
use super::email::Email;
use crate::api::error::{Error, Result};
use crate::api::principal::{Actor, Principal, Role};
use crate::db::status::Status;
use crate::db::users::{self, User};
use crate::db::{Page, Scope, refresh_tokens, tenants};
use crate::{DbError, Hub};

/// A user to be made.
#[derive(Debug)]
pub(crate) struct NewUser {
    /// None for an operator.
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) email: Email,
    pub(crate) password: SecretString,
    pub(crate) role: Role,
}

/// What is to become of a user; what is absent stays.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) email: Option<Email>,
    pub(crate) role: Option<Role>,
    pub(crate) status: Option<Status>,
}

impl NewUser {
    pub(crate) fn row(&self, now: Timestamp) -> User {
        User {
            id: UserId::generate(),
            tenant_id: self.tenant_id.clone(),
            email: self.email.clone(),
            role: self.role,
            status: Status::Active,
            valid_from: 0,
            last_login_at: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Makes a user.
pub(crate) async fn create(hub: &Hub, who: &Principal, new: NewUser) -> Result<User> {
    if let Some(tenant) = &new.tenant_id {
        let mut conn = hub.db().conn().await?;
        tenants::get(&mut conn, &who.scope(None)?, tenant).await.map_err(Error::of("tenant"))?;
    }
    hub.limits().sets_password(who)?;
    check_free(&mut *hub.db().conn().await?, &new.email).await?;
    let user = new.row(hub.clock().now());
    let hash = hub.passwords().hash(new.password).await?.into();
    let mut tx = hub.db().begin().await?;
    insert(&mut tx, &user, &hash).await?;
    audit(
        &mut tx,
        hub,
        who,
        &user,
        "user.create",
        json!({ "email": user.email.as_str(), "role": user.role }),
    )
    .await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(user)
}

/// 409 when the address has an account already, in whatever tenant.
pub(crate) async fn insert(
    conn: &mut AnyConnection,
    user: &User,
    password_hash: &SecretString,
) -> Result<()> {
    users::insert(conn, user, password_hash).await.map_err(taken)
}

/// As [`insert`], before anything dear is done.
pub(crate) async fn check_free(conn: &mut AnyConnection, email: &Email) -> Result<()> {
    if users::account_of(conn, email).await?.is_some() { Err(unusable()) } else { Ok(()) }
}

fn taken(error: DbError) -> Error {
    match error {
        DbError::Duplicate => unusable(),
        error => error.into(),
    }
}

/// That the address has an account, perhaps another tenant's, is more than the asker has to know.
fn unusable() -> Error {
    Error::conflict("email_unusable", "this e-mail address can't be used; choose another")
}

/// One user.
pub(crate) async fn get(hub: &Hub, scope: &Scope, id: &UserId) -> Result<User> {
    users::get(&mut *hub.db().conn().await?, scope, id).await.map_err(Error::of("user"))
}

/// Users, newest first; one more than the page holds.
pub(crate) async fn list(hub: &Hub, scope: &Scope, page: &Page) -> Result<Vec<User>> {
    Ok(users::list(&mut *hub.db().conn().await?, scope, page).await?)
}

/// Changes address, role and status, and ends the user's sessions.
pub(crate) async fn change(hub: &Hub, who: &Principal, id: &UserId, change: Change) -> Result<User> {
    let scope = who.scope(None)?;
    let tenant_id = get(hub, &scope, id).await?.tenant_id;
    if change.email.is_some() {
        // Trying addresses tells which are free: no faster than by making users.
        hub.limits().sets_password(who)?;
    }
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    users::hold_peers(&mut tx, tenant_id.as_ref()).await?;
    let before = users::get(&mut tx, &scope, id).await.map_err(Error::of("user"))?;
    let after = changed(&before, change);
    check_side(&before, after.role)?;
    if after.role < before.role || after.status == Status::Disabled {
        keep_a_head(&mut tx, &before).await?;
    }
    users::change(&mut tx, &after, now).await.map_err(taken)?;
    refresh_tokens::revoke_user(&mut tx, id, now).await?;
    audit(&mut tx, hub, who, &before, "user.update", difference(&before, &after)).await?;
    let user = users::get(&mut tx, &scope, id).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(user)
}

fn changed(before: &User, change: Change) -> User {
    User {
        email: change.email.unwrap_or_else(|| before.email.clone()),
        role: change.role.unwrap_or(before.role),
        status: change.status.unwrap_or(before.status),
        ..before.clone()
    }
}

/// What the log tells of a change.
fn difference(before: &User, after: &User) -> Value {
    json!({
        "email": after.email.as_str(),
        "role": after.role,
        "status": after.status,
        "email_before": before.email.as_str(),
        "role_before": before.role,
        "status_before": before.status,
    })
}

/// An operator belongs to no tenant and a tenant's user to one: neither becomes the other.
fn check_side(user: &User, role: Role) -> Result<()> {
    if (role == Role::Operator) == (user.role == Role::Operator) {
        Ok(())
    } else {
        Err(Error::invalid_field("role", "operators belong to no tenant: make another account"))
    }
}

/// 409 when the user is the last active owner of the tenant, or the last active operator.
async fn keep_a_head(conn: &mut AnyConnection, user: &User) -> Result<()> {
    let is_head = user.role >= Role::Owner && user.status == Status::Active;
    if is_head && users::count_other_heads(conn, user.tenant_id.as_ref(), &user.id).await? == 0 {
        let message = format!("this is the last active {}: make another first", user.role);
        return Err(Error::conflict("last_owner", message));
    }
    Ok(())
}

/// Removes a user, sessions and all.
pub(crate) async fn delete(hub: &Hub, who: &Principal, id: &UserId) -> Result<()> {
    let scope = who.scope(None)?;
    let tenant_id = get(hub, &scope, id).await?.tenant_id;
    let mut tx = hub.db().begin().await?;
    users::hold_peers(&mut tx, tenant_id.as_ref()).await?;
    let user = users::get(&mut tx, &scope, id).await.map_err(Error::of("user"))?;
    keep_a_head(&mut tx, &user).await?;
    audit(&mut tx, hub, who, &user, "user.delete", json!({ "email": user.email.as_str() })).await?;
    users::delete(&mut tx, id).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}

/// Sets a password and ends the user's sessions. One's own needs the old one; another's needs an owner.
pub(crate) async fn set_password(
    hub: &Hub,
    who: &Principal,
    id: &UserId,
    old: Option<SecretString>,
    new: SecretString,
) -> Result<()> {
    let user = get(hub, &who.scope(None)?, id).await?;
    if who.actor == Actor::User(id.clone()) {
        let old =
            old.ok_or_else(|| Error::invalid_field("old_password", "it is needed to change one's own"))?;
        check_old(hub, who, &user, old).await?;
    }
    hub.limits().sets_password(who)?;
    let hash = hub.passwords().hash(new).await?.into();
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    users::set_password(&mut tx, id, &hash, now).await.map_err(Error::of("user"))?;
    refresh_tokens::revoke_user(&mut tx, id, now).await?;
    audit(&mut tx, hub, who, &user, "user.password", json!({})).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(())
}

/// A stolen access token must not serve to guess the password.
async fn check_old(hub: &Hub, who: &Principal, user: &User, old: SecretString) -> Result<()> {
    hub.limits().by_address(who.ip)?;
    hub.limits().at_account(who.ip, &user.email)?;
    let stored = users::account(&mut *hub.db().conn().await?, &user.id).await?.password_hash;
    if hub.passwords().verify(old, Some(stored)).await? {
        Ok(())
    } else {
        hub.limits().failed(&user.email);
        Err(Error::new(StatusCode::FORBIDDEN, "wrong_password", "the old password is wrong"))
    }
}

async fn audit(
    conn: &mut AnyConnection,
    hub: &Hub,
    who: &Principal,
    user: &User,
    action: &str,
    details: Value,
) -> Result<()> {
    let deed = Deed {
        action,
        target_type: "user",
        target_id: user.id.as_str(),
        tenant_id: user.tenant_id.as_ref(),
        details,
    };
    Ok(record(conn, hub, who, deed).await?)
}
