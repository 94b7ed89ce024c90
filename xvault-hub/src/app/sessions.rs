//! Sessions: a login gives an access token for minutes and a refresh token for days.
//!
//! Each refresh token buys one pair of new ones. Somebody who shows a used one has a copy: all that descends from the same
//! login is revoked, whoever holds it, and both must log in again. One whose successor nobody has used yet may be no copy, but a call
//! whose answer was lost: for a while it buys another pair, and revokes the successor. If it was a copy after all, whoever has that
//! successor shows it next, and the session ends.

use std::net::IpAddr;

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{Any, AnyConnection, Transaction};
use xvault_core::SessionId;
use xvault_core::secret::{ExposeSecret as _, SecretString};

use super::audit::{Deed, record};
use super::auth::{active, principal};
use super::email::Email;
use super::login_failures;
use super::tokens::{self, Kind};
use crate::api::error::{Error, Result};
use crate::api::principal::{Actor, Principal};
use crate::db::Page;
use crate::db::refresh_tokens::{self, RefreshToken, Successors};
use crate::db::users::{self, Account, User};
use crate::{DbError, Hub};

/// For how long after its first use a token is changed again, while nobody has used what it gave: that answer was lost.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// For how long an answer may be on its way. Who asks again meanwhile is another tab, or hasn't waited.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(2);

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
    let message = "this refresh token was used a moment ago: use what that call has answered; if it was lost, show the token again \
        after `Retry-After`";
    Error::new(StatusCode::UNAUTHORIZED, "refresh_superseded", message)
        .retry_after(ON_ITS_WAY.unsigned_abs().as_secs())
}

/// What it means that a token is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// It was not used before.
    First,
    /// Its successor was given this very moment.
    AtOnce,
    /// Nobody has used its successor.
    Again,
    /// Its successor was used, or is long given, or the token was revoked.
    Over,
}

fn meaning(token: &RefreshToken, successors: Option<Successors>, now: Timestamp) -> Shown {
    match (token.used_at, successors) {
        _ if token.revoked => Shown::Over,
        (None, _) => Shown::First,
        (Some(at), Some(given)) if !given.used && now.duration_since(at) <= LEEWAY => {
            if now.duration_since(given.newest_at) < ON_ITS_WAY { Shown::AtOnce } else { Shown::Again }
        }
        _ => Shown::Over,
    }
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
    let begun = Place { family_id: SessionId::generate(), parent_id: None, session_at: now };
    audit(&mut tx, hub, &user, ip, "auth.login", &begun.family_id).await?;
    let session = issue(&mut tx, hub, user, ip, begun).await?;
    commit(tx).await?;
    Ok(session)
}

/// Changes a refresh token for a new pair of tokens.
pub(crate) async fn refresh(hub: &Hub, ip: Option<IpAddr>, token: &SecretString) -> Result<Session> {
    let now = hub.clock().now();
    let hash = tokens::hash(token.expose_secret());
    let (mut tx, known) = hold(hub, &hash).await?.ok_or_else(invalid_token)?;
    let account = users::account(&mut tx, &known.user_id).await?;
    let shown = meaning(&known, refresh_tokens::successors(&mut tx, &known.id).await?, now);
    if shown == Shown::Over {
        revoke(&mut tx, hub, &account.user, &known, ip, "auth.refresh_reuse").await?;
        commit(tx).await?;
        return Err(invalid_token());
    }
    let user = active(account)?;
    match shown {
        Shown::First if refresh_tokens::consume(&mut tx, &hash, now).await? => {}
        Shown::Again => {
            refresh_tokens::revoke_successors(&mut tx, &known.id, now).await?;
            audit(&mut tx, hub, &user, ip, "auth.refresh_again", &known.family_id).await?;
        }
        Shown::AtOnce => return Err(superseded()),
        Shown::First | Shown::Over => return Err(invalid_token()),
    }
    let RefreshToken { id, family_id, session_at, .. } = known;
    let session = issue(&mut tx, hub, user, ip, Place { family_id, parent_id: Some(id), session_at }).await?;
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

/// What is known of the sessions of who asks: the token of each that is still unused. API keys have none.
pub(crate) async fn list(hub: &Hub, who: &Principal, page: &Page) -> Result<Vec<RefreshToken>> {
    let Actor::User(user) = &who.actor else { return Ok(Vec::new()) };
    let mut conn = hub.db().conn().await?;
    Ok(refresh_tokens::live(&mut conn, user, hub.clock().now(), page).await?)
}

/// Ends one of them.
pub(crate) async fn end_own(hub: &Hub, who: &Principal, id: &SessionId) -> Result<()> {
    let Actor::User(user) = &who.actor else { return Err(Error::not_found("session")) };
    let mut tx = hub.db().begin().await?;
    users::hold(&mut tx, user).await.map_err(Error::of("session"))?;
    refresh_tokens::revoke_of(&mut tx, user, id, hub.clock().now()).await.map_err(Error::of("session"))?;
    let deed = Deed {
        action: "auth.end_session",
        target_type: "user",
        target_id: user.as_str(),
        tenant_id: who.tenant_id.as_ref(),
        details: json!({ "session": id }),
    };
    record(&mut tx, hub, who, deed).await?;
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

/// Ends the session of a token. One that is over already is not written down again.
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

/// Where in a session a token stands.
struct Place {
    family_id: SessionId,
    parent_id: Option<String>,
    session_at: Timestamp,
}

async fn issue(
    conn: &mut AnyConnection,
    hub: &Hub,
    user: User,
    ip: Option<IpAddr>,
    place: Place,
) -> Result<Session> {
    let now = hub.clock().now();
    let token = tokens::make(Kind::Refresh)?;
    let row = RefreshToken {
        id: xvault_core::clock::new_id(),
        user_id: user.id.clone(),
        family_id: place.family_id,
        parent_id: place.parent_id,
        session_at: place.session_at,
        ip: ip.map(|ip| ip.to_string()),
        used_at: None,
        revoked: false,
        expires_at: end(hub, now),
        created_at: now,
    };
    refresh_tokens::insert(conn, &row, &token.hash).await?;
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
    family: &SessionId,
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
