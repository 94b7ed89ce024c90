//! Sessions: a login gives an access token for minutes and a refresh token for days.
//!
//! Each refresh token buys one pair of new ones. Somebody who shows a used one has a copy: all that descends from the same
//! login is revoked, whoever holds it, and both must log in again. One that was used a moment ago, and whose successor nobody has
//! used yet, is no copy but a call that was sent twice: it buys nothing, and ends nothing.

use std::net::IpAddr;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{Any, AnyConnection, Transaction};
use xvault_core::secret::{ExposeSecret as _, SecretString};

use super::audit::{Deed, record};
use super::auth::{active, principal};
use super::email::Email;
use super::login_failures;
use super::tokens::{self, Kind};
use crate::api::error::{Error, Result};
use crate::db::refresh_tokens::{self, RefreshToken};
use crate::db::users::{self, Account, User};
use crate::{DbError, Hub};

/// For how long a token that is shown again may be the same call once more.
const SAME_CALL: SignedDuration = SignedDuration::from_secs(10);

/// What a login gives.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) access_token: SecretString,
    /// Seconds until it ends.
    pub(crate) expires_in: i64,
    pub(crate) refresh_token: SecretString,
    pub(crate) user: User,
}

/// Which of the two was wrong is nobody's business.
fn wrong_login() -> Error {
    Error::unauthorized("e-mail address or password is wrong")
}

fn invalid_token() -> Error {
    Error::unauthorized("the refresh token is not valid; log in again")
}

fn superseded() -> Error {
    let message = "this refresh token was used a moment ago: use what that call has answered, or log in again if it was lost";
    Error::new(StatusCode::UNAUTHORIZED, "refresh_superseded", message)
}

/// Logs in. An address without an account takes as long to be refused as a wrong password.
pub(crate) async fn login(
    hub: &Hub,
    ip: Option<IpAddr>,
    email: &str,
    password: SecretString,
) -> Result<Session> {
    hub.limits().by_address(ip)?;
    let email = email.parse::<Email>().ok();
    let account = find(hub, ip, email.as_ref()).await?;
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let fits = hub.passwords().verify(password, stored).await?;
    match account {
        Some(account) if fits => enter(hub, ip, account).await,
        account => Err(keep_out(hub, ip, email.as_ref(), account)),
    }
}

/// Holds no connection while the password is hashed.
async fn find(hub: &Hub, ip: Option<IpAddr>, email: Option<&Email>) -> Result<Option<Account>> {
    let Some(email) = email else { return Ok(None) };
    hub.limits().at_account(ip, email)?;
    Ok(users::account_of(&mut *hub.db().conn().await?, email).await?)
}

/// The password was right.
async fn enter(hub: &Hub, ip: Option<IpAddr>, account: Account) -> Result<Session> {
    let user = account.user.clone();
    match active(account) {
        Ok(user) => open(hub, user, ip).await,
        Err(refusal) => {
            login_failures::note(hub, &user, ip, "disabled");
            Err(refusal)
        }
    }
}

/// The password was wrong, or there is no such account.
fn keep_out(hub: &Hub, ip: Option<IpAddr>, email: Option<&Email>, account: Option<Account>) -> Error {
    tracing::info!(?ip, "login refused");
    if let Some(email) = email {
        hub.limits().failed(email);
    }
    if let Some(account) = account {
        login_failures::note(hub, &account.user, ip, "wrong_password");
    }
    wrong_login()
}

/// A first session of a login. The account must still be what the password was checked against.
pub(crate) async fn open(hub: &Hub, user: User, ip: Option<IpAddr>) -> Result<Session> {
    let now = hub.clock().now();
    let mut tx = hub.db().begin().await?;
    match users::note_login(&mut tx, &user.id, user.valid_from, now).await {
        Err(DbError::NotFound) => return Err(wrong_login()),
        noted => noted?,
    }
    let family = xvault_core::clock::new_id();
    audit(&mut tx, hub, &user, ip, "auth.login", &family).await?;
    let session = issue(&mut tx, hub, user, family, now).await?;
    commit(tx).await?;
    Ok(session)
}

/// Changes a refresh token for a new pair of tokens.
pub(crate) async fn refresh(hub: &Hub, ip: Option<IpAddr>, token: &SecretString) -> Result<Session> {
    let now = hub.clock().now();
    let hash = tokens::hash(token.expose_secret());
    let (mut tx, known) = hold(hub, &hash).await?.ok_or_else(invalid_token)?;
    let account = users::account(&mut tx, &known.user_id).await?;
    if known.used_at.is_some() || known.revoked {
        return Err(refuse(tx, hub, &account.user, &known, &hash, ip).await?);
    }
    let user = active(account)?;
    if !refresh_tokens::consume(&mut tx, &hash, now).await? {
        return Err(invalid_token());
    }
    let session = issue(&mut tx, hub, user, known.family_id, now).await?;
    commit(tx).await?;
    Ok(session)
}

/// Ends the session that a refresh token belongs to. One that is unknown is as good as ended.
pub(crate) async fn logout(hub: &Hub, ip: Option<IpAddr>, token: &SecretString) -> Result<()> {
    let hash = tokens::hash(token.expose_secret());
    let Some((mut tx, known)) = hold(hub, &hash).await? else { return Ok(()) };
    let user = users::account(&mut tx, &known.user_id).await?.user;
    revoke(&mut tx, hub, &user, &known, ip, "auth.logout").await?;
    commit(tx).await
}

/// The token as it is while nobody else can use or revoke it. None when there is no such token, or no such user.
async fn hold(hub: &Hub, hash: &str) -> Result<Option<(Transaction<'static, Any>, RefreshToken)>> {
    let found = refresh_tokens::by_hash(&mut *hub.db().conn().await?, hash).await?;
    let Some(found) = found else { return Ok(None) };
    let mut tx = hub.db().begin().await?;
    match users::hold(&mut tx, &found.user_id).await {
        Err(DbError::NotFound) => return Ok(None),
        held => held?,
    }
    let token = refresh_tokens::by_hash(&mut tx, hash).await?;
    Ok(token.map(|token| (tx, token)))
}

/// A token that was used before: its whole family ends, unless it is the same call once more.
async fn refuse(
    mut tx: Transaction<'static, Any>,
    hub: &Hub,
    user: &User,
    token: &RefreshToken,
    hash: &str,
    ip: Option<IpAddr>,
) -> Result<Error> {
    if is_same_call(&mut tx, hub, token, hash).await? {
        return Ok(superseded());
    }
    if token.used_at.is_some() {
        revoke(&mut tx, hub, user, token, ip, "auth.refresh_reuse").await?;
        commit(tx).await?;
    }
    Ok(invalid_token())
}

async fn is_same_call(conn: &mut AnyConnection, hub: &Hub, token: &RefreshToken, hash: &str) -> Result<bool> {
    match token.used_at {
        Some(at) if !token.revoked && hub.clock().now().duration_since(at) <= SAME_CALL => {
            Ok(!refresh_tokens::was_used_since(conn, &token.family_id, hash, at).await?)
        }
        _ => Ok(false),
    }
}

async fn revoke(
    conn: &mut AnyConnection,
    hub: &Hub,
    user: &User,
    token: &RefreshToken,
    ip: Option<IpAddr>,
    action: &str,
) -> Result<()> {
    let revoked = refresh_tokens::revoke_family(conn, &token.family_id, hub.clock().now()).await?;
    if revoked > 0 {
        audit(conn, hub, user, ip, action, &token.family_id).await?;
    }
    Ok(())
}

async fn issue(
    conn: &mut AnyConnection,
    hub: &Hub,
    user: User,
    family_id: String,
    now: Timestamp,
) -> Result<Session> {
    let token = tokens::make(Kind::Refresh)?;
    let row = RefreshToken {
        user_id: user.id.clone(),
        family_id,
        used_at: None,
        revoked: false,
        expires_at: end(hub, now),
    };
    refresh_tokens::insert(conn, &row, &token.hash, now).await?;
    let access_token =
        hub.access().make(&user.id, user.tenant_id.as_ref(), user.role, user.valid_from, now)?;
    let expires_in = hub.access().lifetime_secs();
    Ok(Session { access_token, expires_in, refresh_token: token.secret, user })
}

fn end(hub: &Hub, now: Timestamp) -> Timestamp {
    let lifetime = SignedDuration::try_from(hub.settings().refresh_token).unwrap_or(SignedDuration::MAX);
    now.saturating_add(lifetime).unwrap_or(Timestamp::MAX)
}

async fn audit(
    conn: &mut AnyConnection,
    hub: &Hub,
    user: &User,
    ip: Option<IpAddr>,
    action: &str,
    family: &str,
) -> Result<()> {
    let deed = Deed {
        action,
        target_type: "user",
        target_id: user.id.as_str(),
        tenant_id: user.tenant_id.as_ref(),
        details: json!({ "session": family }),
    };
    Ok(record(conn, hub, &principal(user, ip), deed).await?)
}

async fn commit(tx: Transaction<'static, Any>) -> Result<()> {
    Ok(tx.commit().await.map_err(DbError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::users::NewUser;
    use crate::queue::LocalQueue;
    use crate::{Clock, Db, HubParts, Keys, Settings};

    /// Somebody logs in with the old password while it is being changed: the check came before, the session would come
    /// after.
    #[tokio::test]
    async fn no_session_comes_of_a_password_that_was_changed_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite:{}", dir.path().join("hub.db").display()), 2).await.unwrap();
        db.migrate().await.unwrap();
        let settings = Settings::with_jwt_secret(&[7; 32]).unwrap();
        let queue = std::sync::Arc::new(LocalQueue::default());
        let keys = Keys::generate();
        let hub = Hub::new(HubParts { db, clock: Clock::system(), keys, queue, settings }).await.unwrap();
        let email = "ada@example.com".parse().unwrap();
        let new = NewUser {
            tenant_id: None,
            email,
            password: "x".into(),
            role: crate::api::principal::Role::Operator,
        };
        let (user, now) = (new.row(hub.clock().now()), hub.clock().now());
        let mut conn = hub.db().conn().await.unwrap();
        users::insert(&mut conn, &user, &"hash".into()).await.unwrap();
        assert!(open(&hub, user.clone(), None).await.is_ok());
        users::set_password(&mut conn, &user.id, &"other".into(), now).await.unwrap();
        assert!(open(&hub, user, None).await.is_err());
    }
}
