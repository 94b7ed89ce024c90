//! What the API says when it can't: `{"error", "code", "details"}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use xvault_core::error::chain;
use xvault_core::job::Refusal;
use xvault_core::protocol::{JOB_FINISHED, LEASE_LOST};
use xvault_core::source::InvalidSettings;

use crate::db::passing::{Passing, passing};
use crate::{DbError, KeyError};

/// The longest name of a field that is repeated, in characters.
const MAX_FIELD: usize = 100;

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Error {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Option<Value>,
    retry_after_secs: Option<u64>,
}

/// An error as it is sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    /// A sentence for people.
    error: String,
    /// A word for programs.
    code: String,
    /// What belongs to the code: the field at fault, say.
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
}

impl Error {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None, retry_after_secs: None }
    }

    pub(crate) fn details(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }

    /// Says in how many seconds it may be tried again.
    pub(crate) fn retry_after(self, secs: u64) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }

    /// Whether this is the word it is told by.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// Whether the hub failed, not the caller.
    pub(crate) fn is_ours(&self) -> bool {
        self.status.is_server_error()
    }

    /// A word for programs.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// A sentence for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// 400: the request could not be understood.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 422: it was understood, and one field can't be.
    pub(crate) fn invalid_field(field: &str, reason: impl AsRef<str>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_field",
            format!("field `{field}`: {}", reason.as_ref()),
        )
        .details(json!({ "field": field }))
    }

    /// 422 for a document of which a parser says that `message` is wrong at `path`.
    pub(crate) fn unreadable(path: &str, message: &str) -> Self {
        let reason = message.rsplit_once(" at line ").map_or(message, |(reason, _)| reason);
        // As long as the sender likes: it is cut.
        let path: &str = &path.chars().take(MAX_FIELD).collect::<String>();
        let within = |name: &str| if path == "." { name.to_owned() } else { format!("{path}.{name}") };
        match reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(name) => Self::invalid_field(&within(name), "it is missing"),
            None if path == "." => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", reason),
            None => Self::invalid_field(path, reason),
        }
    }

    /// 401.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: known, and not allowed to.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: absent, or somebody else's.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }

    /// 409: not now.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 429.
    pub(crate) fn rate_limited(wait_secs: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many attempts; wait")
            .retry_after(wait_secs)
    }

    /// 429 for what there may be only so many of at once.
    pub(crate) fn too_many(message: impl Into<String>, wait_secs: u64) -> Self {
        Self { message: message.into(), ..Self::rate_limited(wait_secs) }
    }

    /// 500: the cause goes to the log, not to the caller.
    pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(cause = %chain(cause), "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error; the hub's log says more")
    }

    /// What [`Passing::CalledOff`] is told by.
    pub(crate) const CALLED_OFF: &str = "database_conflict";

    /// 503: the database can do it later.
    fn passing(kind: Passing, cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(cause = %chain(cause), ?kind, "the database did not do it");
        let (code, message, wait_secs) = match kind {
            Passing::Away => ("unavailable", "the database is not available; try again", 1),
            Passing::Busy => ("database_busy", "the database can't take more now; try again", 5),
            Passing::CalledOff => (Self::CALLED_OFF, "others changed the same at once; try again", 1),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(wait_secs)
    }

    /// A row that is absent gives 404 naming `what`; the rest is as for any database error.
    pub(crate) fn of(what: &'static str) -> impl Fn(DbError) -> Self {
        move |error| match error {
            DbError::NotFound => Self::not_found(what),
            error => error.into(),
        }
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match error {
            DbError::NotFound => Self::not_found("object"),
            DbError::Duplicate => Self::conflict("duplicate", "there is one like this already"),
            DbError::InUse => Self::conflict("in_use", "it is still in use"),
            DbError::Sql(ref source) => match passing(source) {
                Some(kind) => Self::passing(kind, &error),
                None => Self::internal(&error),
            },
            error => Self::internal(&error),
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        Self::internal(&error)
    }
}

impl From<InvalidSettings> for Error {
    fn from(error: InvalidSettings) -> Self {
        let field = format!("config.{}", error.field);
        Self::invalid_field(&field, error.reason)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::LeaseLost => LEASE_LOST,
            Refusal::Finished(_) => JOB_FINISHED,
            Refusal::NotRetriable(_) => "not_retriable",
            _ => "wrong_state",
        };
        Self::conflict(code, refusal.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.message, code: self.code.to_owned(), details: self.details };
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some(wait) = self.retry_after_secs {
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, wait.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = axum::http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

pub(crate) async fn no_such_route() -> Error {
    Error::not_found("route")
}

pub(crate) async fn method_not_allowed() -> Error {
    Error::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this route has no such method")
}

/// What handlers return.
pub(crate) type Result<T> = std::result::Result<T, Error>;
