//! Who a token belongs to, as the database knows them now.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::StatusCode;
use xvault_core::ApiKeyId;

use super::access_token::Refusal;
use super::tokens::{self, Kind};
use crate::api::error::{Error, Result};
use crate::api::principal::{Actor, Principal};
use crate::db::status::Status;
use crate::db::users::{Account, User};
use crate::db::{api_keys, users};
use crate::{DbError, Hub};

/// That a key is in use is written down no more often than this.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

/// The holder of an access token or an API key.
pub(crate) async fn authenticate(hub: &Hub, token: &str, ip: Option<IpAddr>) -> Result<Principal> {
    if Kind::ApiKey.claims(token) {
        by_api_key(hub, token, ip).await
    } else {
        by_access_token(hub, token, ip).await
    }
}

/// The token says who; role and tenant are the row's, so that changes act at once.
async fn by_access_token(hub: &Hub, token: &str, ip: Option<IpAddr>) -> Result<Principal> {
    let claims = hub.access().read(token, hub.clock().now())?;
    let account = match users::account(&mut *hub.db().conn().await?, &claims.sub).await {
        Err(DbError::NotFound) => return Err(Refusal::Invalid.into()),
        account => account?,
    };
    check_active(account.user.status, account.tenant_status)?;
    if account.user.valid_from != claims.ver || account.user.tenant_id != claims.tid {
        return Err(Error::unauthorized("the account has changed since this token was made; log in again"));
    }
    Ok(principal(&account.user, ip))
}

async fn by_api_key(hub: &Hub, token: &str, ip: Option<IpAddr>) -> Result<Principal> {
    let now = hub.clock().now();
    let mut conn = hub.db().conn().await?;
    let found = api_keys::by_hash(&mut conn, &tokens::hash(token)).await?;
    let (key, tenant_status) = found.ok_or(Refusal::Invalid)?;
    if key.revoked_at.is_some() || key.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::unauthorized("the API key is revoked or has expired"));
    }
    check_active(Status::Active, Some(tenant_status))?;
    note_use(&mut conn, &key, now).await?;
    Ok(api_key_principal(key, ip))
}

async fn note_use(
    conn: &mut sqlx::AnyConnection,
    key: &api_keys::ApiKey,
    now: jiff::Timestamp,
) -> crate::db::Result<()> {
    let noted =
        key.last_used_at.is_some_and(|last| now.duration_since(last).unsigned_abs() < USE_NOTED_EVERY);
    if noted { Ok(()) } else { api_keys::note_use(conn, &key.id, now).await }
}

fn api_key_principal(key: api_keys::ApiKey, ip: Option<IpAddr>) -> Principal {
    Principal { actor: Actor::ApiKey(key.id), tenant_id: Some(key.tenant_id), role: key.role, ip }
}

/// A user as one who asks.
pub(crate) fn principal(user: &User, ip: Option<IpAddr>) -> Principal {
    Principal { actor: Actor::User(user.id.clone()), tenant_id: user.tenant_id.clone(), role: user.role, ip }
}

/// 403 when the account or its tenant is disabled.
pub(crate) fn check_active(user: Status, tenant: Option<Status>) -> Result<()> {
    let disabled = |code, message| Err(Error::new(StatusCode::FORBIDDEN, code, message));
    match (user, tenant) {
        (Status::Disabled, _) => disabled("user_disabled", "this account is disabled"),
        (_, Some(Status::Disabled)) => disabled("tenant_disabled", "this tenant is disabled"),
        _ => Ok(()),
    }
}

/// Who asks, with their row.
#[derive(Debug)]
pub(crate) enum Me {
    User(User),
    ApiKey(api_keys::ApiKey),
}

/// The row of who asks.
pub(crate) async fn me(hub: &Hub, who: &Principal) -> Result<Me> {
    let mut conn = hub.db().conn().await?;
    Ok(match &who.actor {
        Actor::User(id) => Me::User(users::get(&mut conn, &who.scope(None)?, id).await?),
        Actor::ApiKey(id) => Me::ApiKey(own_key(&mut conn, who, id).await?),
    })
}

async fn own_key(conn: &mut sqlx::AnyConnection, who: &Principal, id: &ApiKeyId) -> Result<api_keys::ApiKey> {
    Ok(api_keys::get(conn, &who.scope(None)?, id).await?)
}

/// An account that may act.
pub(crate) fn active(account: Account) -> Result<User> {
    check_active(account.user.status, account.tenant_status)?;
    Ok(account.user)
}
