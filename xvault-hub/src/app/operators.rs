//! Operators that nobody else makes: the first one, without whom nobody could log in to a new platform, and the one who has lost the
//! password.

use serde_json::{Value, json};
use sqlx::AnyConnection;
use xvault_core::secret::{ExposeSecret as _, SecretString};

use super::audit::{Deed, record_by_system};
use super::email::{Email, InvalidEmail};
use super::passwords::{self, Passwords};
use super::tokens;
use super::users::NewUser;
use crate::api::principal::Role;
use crate::db::status::Status;
use crate::db::users::{self, User};
use crate::db::{self, refresh_tokens};
use crate::{Db, DbError, Hub};

/// Who the operator is when nothing else is said.
const DEFAULT_EMAIL: &str = "operator@localhost";

/// A login that was made up, to be told to whoever started the hub. It is nowhere else.
#[derive(Debug, Clone)]
pub struct FirstLogin {
    /// The account.
    pub email: String,
    /// To be changed after the first login.
    pub password: SecretString,
}

/// Why somebody can't keep a login.
pub type KeepError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// `HUB_OPERATOR_EMAIL` is no address.
    #[error("HUB_OPERATOR_EMAIL: {InvalidEmail}")]
    Email,
    /// What shall name an operator is no address.
    #[error("{InvalidEmail}")]
    Address,
    /// `HUB_OPERATOR_PASSWORD` is too short or too long.
    #[error("HUB_OPERATOR_PASSWORD: 10 to 200 characters are needed")]
    Password,
    /// The address is that of a tenant's user.
    #[error("{email} is a tenant's user, and operators belong to no tenant: choose another address")]
    OfTenant {
        /// The address.
        email: String,
    },
    /// The login could not be kept, so it was not made.
    #[error("keep the operator's login")]
    Keep(#[source] KeepError),
    /// The database refuses.
    #[error("make an operator")]
    Db(#[from] DbError),
    /// The machine gives no random numbers, or no memory.
    #[error("make an operator: {0}")]
    System(String),
}

/// Makes an operator unless there is one. What is not given is made up; a password that was is returned, and told to `keep` before
/// the operator is there.
///
/// # Errors
/// When what is given is no address or too short a password, `keep` fails, or the database.
pub(crate) async fn ensure_first(
    hub: &Hub,
    email: Option<&str>,
    password: Option<SecretString>,
    keep: impl FnOnce(&FirstLogin) -> Result<(), KeepError>,
) -> Result<Option<FirstLogin>, OperatorError> {
    let email = parse(email).ok_or(OperatorError::Email)?;
    if users::has_operator(&mut *hub.db().conn().await?).await? {
        return Ok(None);
    }
    let made_up = password.is_none();
    let password = match password {
        Some(password) => password,
        None => random()?,
    };
    passwords::check_new("password", &password).map_err(|_| OperatorError::Password)?;
    let login = FirstLogin { email: email.to_string(), password: password.clone() };
    let keep = |login: &FirstLogin| if made_up { keep(login) } else { Ok(()) };
    let made = insert_first(hub, &email, &login, keep).await?;
    Ok(Some(login).filter(|_| made && made_up))
}

fn parse(email: Option<&str>) -> Option<Email> {
    email.unwrap_or(DEFAULT_EMAIL).parse().ok()
}

fn random() -> Result<SecretString, OperatorError> {
    let random = tokens::random().map_err(|error| OperatorError::System(error.to_string()))?;
    Ok(SecretString::from(random))
}

/// False when another hub was faster.
async fn insert_first(
    hub: &Hub,
    email: &Email,
    login: &FirstLogin,
    keep: impl FnOnce(&FirstLogin) -> Result<(), KeepError>,
) -> Result<bool, OperatorError> {
    let hash = hash(hub.passwords(), &login.password).await?;
    let mut tx = hub.db().begin().await?;
    users::hold_peers(&mut tx, None).await?;
    if users::has_operator(&mut tx).await? {
        return Ok(false);
    }
    insert(&mut tx, email, &hash, hub.clock().now()).await?;
    keep(login).map_err(OperatorError::Keep)?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(true)
}

async fn insert(
    conn: &mut AnyConnection,
    email: &Email,
    hash: &SecretString,
    now: jiff::Timestamp,
) -> db::Result<()> {
    let new = NewUser {
        tenant_id: None,
        email: email.clone(),
        password: SecretString::default(),
        role: Role::Operator,
    };
    let user = new.row(now);
    users::insert(conn, &user, hash).await?;
    let details = json!({ "email": user.email.as_str(), "role": user.role });
    record_by_system(conn, deed(&user, "user.create", details), now).await
}

/// Makes an operator, or gives one another password: who has the database can always get in. A disabled one is active again, and
/// sessions end. The login is told to `keep` before it is good.
///
/// # Errors
/// When `email` is no address or a tenant's user's, `keep` fails, or the database.
pub async fn reset_operator(
    db: &Db,
    email: Option<&str>,
    keep: impl FnOnce(&FirstLogin) -> Result<(), KeepError>,
) -> Result<FirstLogin, OperatorError> {
    let email = parse(email).ok_or(OperatorError::Address)?;
    let login = FirstLogin { email: email.to_string(), password: random()? };
    let hash = hash(&Passwords::default(), &login.password).await?;
    let now = xvault_core::clock::now();
    let mut tx = db.begin().await?;
    users::hold_peers(&mut tx, None).await?;
    match users::account_of(&mut tx, &email).await? {
        None => insert(&mut tx, &email, &hash, now).await?,
        Some(found) if found.user.role == Role::Operator => reset(&mut tx, found.user, &hash, now).await?,
        Some(_) => return Err(OperatorError::OfTenant { email: login.email }),
    }
    keep(&login).map_err(OperatorError::Keep)?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(login)
}

async fn reset(
    conn: &mut AnyConnection,
    user: User,
    hash: &SecretString,
    now: jiff::Timestamp,
) -> db::Result<()> {
    users::set_password(conn, &user.id, hash, now).await?;
    let user = User { status: Status::Active, ..user };
    users::change(conn, &user, now).await?;
    refresh_tokens::revoke_user(conn, &user.id, now).await?;
    record_by_system(conn, deed(&user, "user.reset", json!({ "email": user.email.as_str() })), now).await
}

fn deed<'a>(user: &'a User, action: &'a str, details: Value) -> Deed<'a> {
    Deed { action, target_type: "user", target_id: user.id.as_str(), tenant_id: None, details }
}

async fn hash(passwords: &Passwords, password: &SecretString) -> Result<SecretString, OperatorError> {
    let hash = passwords.hash(password.clone()).await;
    hash.map(Into::into).map_err(|error| OperatorError::System(error.to_string()))
}

impl FirstLogin {
    /// The two lines to be shown, once, on a terminal or in a file that only the owner reads.
    #[must_use]
    pub fn to_lines(&self) -> SecretString {
        format!("e-mail:   {}\npassword: {}\n", self.email, self.password.expose_secret()).into()
    }
}
