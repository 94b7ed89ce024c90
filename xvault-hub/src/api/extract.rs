//! JSON bodies, paths and queries, with our errors when they can't be read.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::{Error, Result};

/// A JSON body, in and out. What can't be read is 400, 413, 415 or 422, and says where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !is_json(request.headers()) {
            let text = "the body must be JSON, with `Content-Type: application/json`";
            return Err(Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| unread(&rejection))?;
        check_object(&bytes)?;
        let axum::Json(body) =
            axum::Json::from_bytes(&bytes).map_err(|rejection| unfit(&rejection, &bytes))?;
        Ok(Self(body))
    }
}

/// A derived parser takes a list for a struct, field by field. We don't.
fn check_object(bytes: &[u8]) -> Result<()> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(());
    }
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Err(Error::unreadable(".", "an object is needed")),
        Err(_) => Err(Error::bad_request("the body is not JSON")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn unread(rejection: &BytesRejection) -> Error {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large")
        }
        _ => Error::bad_request("the body could not be read"),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// What is JSON and still doesn't fit is 422 and says where. The parser calls it a fault of syntax, too, when a number stands
/// where a word should, or when it meets something unfit before the document breaks off: so the document is read again.
fn unfit(rejection: &JsonRejection, bytes: &[u8]) -> Error {
    let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    match fault(rejection).filter(|_| is_json) {
        Some(fault) => Error::unreadable(&fault.path().to_string(), &fault.inner().to_string()),
        None => Error::bad_request("the body is not JSON"),
    }
}

/// Where in a JSON document something is wrong.
fn fault(rejection: &JsonRejection) -> Option<&serde_path_to_error::Error<serde_json::Error>> {
    let mut cause: &dyn std::error::Error = rejection;
    loop {
        match cause.downcast_ref() {
            Some(found) => return Some(found),
            None => cause = cause.source()?,
        }
    }
}

/// Parts of the path. A text that is no id names nothing: 404.
#[derive(Debug, Clone, Copy, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Error))]
pub(crate) struct Path<T>(pub(crate) T);

impl From<PathRejection> for Error {
    fn from(_: PathRejection) -> Self {
        Self::not_found("object")
    }
}

/// The query string.
#[derive(Debug, Clone, Copy, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Error))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        _name: String,
        _inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        _size: u8,
    }

    #[test]
    fn what_is_wrong_in_a_body_is_named() {
        let cases = [
            (r#"{"_name": 7}"#, "field `_name`"),
            ("{}", "field `_name`: it is missing"),
            (r#"{"_name": "x", "_nmae": 1}"#, "field `_nmae`"),
            (r#"{"_name": "x", "_inner": {"_size": 300}}"#, "field `_inner._size`"),
            (r#"{"_name": "x", "_inner": {}}"#, "field `_inner._size`: it is missing"),
        ];
        for (text, expected) in cases {
            let rejection = axum::Json::<Body>::from_bytes(text.as_bytes()).unwrap_err();
            let error = format!("{:?}", unfit(&rejection, text.as_bytes()));
            assert!(error.contains(expected) && error.contains("422"), "{text}: {error}");
        }
        for (text, status) in [("[]", "422"), (" 7", "422"), ("", "400"), ("nope", "400")] {
            let error = format!("{:?}", check_object(text.as_bytes()).unwrap_err());
            assert!(error.contains(status), "{text}: {error}");
        }
        for text in [r#"{"#, r#"{"_name": 7"#, r#"{"_nmae": }"#] {
            let rejection = axum::Json::<Body>::from_bytes(text.as_bytes()).unwrap_err();
            let error = format!("{:?}", unfit(&rejection, text.as_bytes()));
            assert!(error.contains("400"), "{text}: {error}");
        }
    }
}
