//! The first operator: somebody must be able to log in to a new platform.

use serde_json::json;
use xvault_core::secret::{ExposeSecret as _, SecretString};

use super::audit::{Deed, record_by_system};
use super::email::{Email, InvalidEmail};
use super::passwords::{self, Passwords};
use super::tokens;
use super::users::NewUser;
use crate::api::principal::Role;
use crate::db::users;
use crate::{DbError, Hub};

/// Who the first operator is when nothing else is said.
const DEFAULT_EMAIL: &str = "operator@localhost";

/// A login that was made up, to be told to whoever started the hub. It is nowhere else.
#[derive(Debug, Clone)]
pub struct FirstLogin {
    /// The account.
    pub email: String,
    /// To be changed after the first login.
    pub password: SecretString,
}

/// Why there is no first operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// `HUB_OPERATOR_EMAIL` is no address.
    #[error("HUB_OPERATOR_EMAIL: {InvalidEmail}")]
    Email,
    /// `HUB_OPERATOR_PASSWORD` is too short or too long.
    #[error("HUB_OPERATOR_PASSWORD: 10 to 200 characters are needed")]
    Password,
    /// The database refuses.
    #[error("make the first operator")]
    Db(#[from] DbError),
    /// The machine gives no random numbers, or no memory.
    #[error("make the first operator: {0}")]
    System(String),
}

/// Makes an operator unless there is one. What is not given is made up; a password that was is returned.
///
/// # Errors
/// When what is given is no address or too short a password, or the database fails.
pub(crate) async fn ensure_first(
    hub: &Hub,
    email: Option<&str>,
    password: Option<SecretString>,
) -> Result<Option<FirstLogin>, OperatorError> {
    let email: Email = email.unwrap_or(DEFAULT_EMAIL).parse().map_err(|_| OperatorError::Email)?;
    if users::has_operator(&mut *hub.db().conn().await?).await? {
        return Ok(None);
    }
    let made_up = password.is_none();
    let password = match password {
        Some(password) => password,
        None => {
            SecretString::from(tokens::random().map_err(|error| OperatorError::System(error.to_string()))?)
        }
    };
    passwords::check_new("password", &password).map_err(|_| OperatorError::Password)?;
    let login = FirstLogin { email: email.to_string(), password: password.clone() };
    let made = insert(hub, NewUser { tenant_id: None, email, password, role: Role::Operator }).await?;
    Ok(Some(login).filter(|_| made && made_up))
}

/// False when another hub was faster.
async fn insert(hub: &Hub, new: NewUser) -> Result<bool, OperatorError> {
    let now = hub.clock().now();
    let user = new.row(now);
    let hash = hash(hub.passwords(), new.password).await?;
    let mut tx = hub.db().begin().await?;
    users::hold_peers(&mut tx, None).await?;
    if users::has_operator(&mut tx).await? {
        return Ok(false);
    }
    users::insert(&mut tx, &user, &hash).await?;
    let deed = Deed {
        action: "user.create",
        target_type: "user",
        target_id: user.id.as_str(),
        tenant_id: None,
        details: json!({ "email": user.email.as_str(), "role": user.role }),
    };
    record_by_system(&mut tx, deed, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(true)
}

async fn hash(passwords: &Passwords, password: SecretString) -> Result<SecretString, OperatorError> {
    let hash = passwords.hash(password).await;
    hash.map(Into::into).map_err(|error| OperatorError::System(error.to_string()))
}

impl FirstLogin {
    /// The two lines to be shown, once, on a terminal or in a file that only the owner reads.
    #[must_use]
    pub fn to_lines(&self) -> SecretString {
        format!("e-mail:   {}\npassword: {}\n", self.email, self.password.expose_secret()).into()
    }
}
