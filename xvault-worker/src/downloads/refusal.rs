//! Why a download is not: answers in the hub's form.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use xvault::core::error::chain;

use crate::hub;
use crate::jobs::fault::Fault;

/// How long somebody who finds no place is told to wait, in seconds.
const WAIT: u64 = 10;

/// An answer that is no download.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
    retry_after: Option<u64>,
    /// Of a stored file, where a range of it can't be.
    length: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), retry_after: None, length: None }
    }

    fn later(code: &str, message: impl Into<String>) -> Self {
        Self { retry_after: Some(WAIT), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    pub(super) fn stopping() -> Self {
        Self::later("stopping", "the worker is being stopped; try again")
    }

    pub(super) fn busy() -> Self {
        Self::later(
            "busy",
            "as many downloads as the worker takes (WORKER_DOWNLOADS) are under way; try again",
        )
    }

    pub(super) fn odd_hub() -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            "hub",
            "the hub's answer is not understood: is the worker too old?",
        )
    }

    pub(super) fn no_ranges() -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "no_ranges",
            "what is decrypted is made anew each time: a download can't be gone on with; begin again",
        )
    }

    pub(super) fn out_of_range(length: u64) -> Self {
        let refusal = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "out_of_range",
            "the file ends before the range begins",
        );
        Self { length: Some(length), ..refusal }
    }

    pub(super) fn broke_off() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "broke_off", "the job of the download broke off")
    }

    /// The job failed before anything was sent.
    pub(super) fn failed(fault: &Fault) -> Self {
        let status = match fault.code {
            "path_missing" => StatusCode::NOT_FOUND,
            "not_a_file" => StatusCode::CONFLICT,
            "worker_stopping" => return Self::stopping(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, fault.code, &fault.message)
    }
}

impl From<hub::Error> for Refusal {
    fn from(error: hub::Error) -> Self {
        match error {
            hub::Error::Refused { status: status @ (404 | 409 | 410), code, message, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
                Self::new(status, &code, message)
            }
            hub::Error::Refused { .. } => Self::odd_hub(),
            error => {
                tracing::warn!(error = chain(&error), "a download link could not be opened");
                Self::later("hub_unreachable", "the hub can't be asked just now; try again")
            }
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::failed(&fault)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.message, "code": self.code, "details": null });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(range) = self.length.and_then(|length| format!("bytes */{length}").parse().ok()) {
            headers.insert(header::CONTENT_RANGE, range);
        }
        response
    }
}
