//! `/docs` and `/api/v1/openapi.json`: the API's description, for people and for programs.
//!
//! The hub may be mounted below a path that it does not know. So nothing here names a path from the root: the page finds the
//! document, and the document the API, from where they were asked for.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, Path};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::{OpenApi, Server};
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::error::Error;
use crate::Hub;

/// Where the document is served.
const DOCUMENT: &str = "/api/v1/openapi.json";
/// The same, as the page sees it.
const DOCUMENT_FROM_PAGE: &str = "../api/v1/openapi.json";

pub(super) fn routes(document: OpenApi) -> Router<Hub> {
    let config = Arc::new(Config::from(DOCUMENT_FROM_PAGE));
    let file = move |Path(path): Path<String>| async move { page(&path, config) };
    let index = file.clone();
    let document = Arc::new(Document::new(document));
    Router::new()
        .route(
            DOCUMENT,
            get(move |OriginalUri(uri): OriginalUri| async move { served(&document, uri.path()) }),
        )
        .route("/docs", get(async || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "docs/")])))
        .route("/docs/", get(move || index(Path(String::new()))))
        .route("/docs/{*path}", get(file))
}

/// The description as it is sent, made when somebody first asks: it is long, and whoever asks needs no token.
struct Document {
    api: OpenApi,
    json: OnceLock<Bytes>,
}

impl Document {
    fn new(mut api: OpenApi) -> Self {
        // They are added to the text.
        api.servers = None;
        Self { api, json: OnceLock::new() }
    }

    fn json(&self) -> serde_json::Result<Bytes> {
        if let Some(json) = self.json.get() {
            return Ok(json.clone());
        }
        let json = Bytes::from(self.api.to_json()?);
        Ok(self.json.get_or_init(|| json).clone())
    }

    /// With the path that the hub is mounted below as its server.
    fn json_below(&self, below: &str) -> serde_json::Result<Bytes> {
        let (json, servers) = (self.json()?, serde_json::to_string(&[Server::new(below)])?);
        let members = json.strip_prefix(b"{").unwrap_or_default();
        Ok([format!(r#"{{"servers":{servers},"#).as_bytes(), members].concat().into())
    }
}

/// The document, for who asked for it at `path`.
fn served(document: &Document, path: &str) -> Response {
    let json = match path.strip_suffix(DOCUMENT) {
        None | Some("") => document.json(),
        Some(below) => document.json_below(below),
    };
    match json {
        Ok(json) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response(),
        Err(error) => Error::internal(&error).into_response(),
    }
}

/// A file of the page.
fn page(path: &str, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(SwaggerFile { bytes, content_type, gzpipped, .. })) => {
            let encoding = gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
            ([(CONTENT_TYPE, content_type)], encoding, bytes).into_response()
        }
        Ok(None) => Error::not_found("route").into_response(),
        Err(error) => Error::internal(&*error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_written_once() {
        let document = Document::new(crate::api::openapi());
        let (first, second) = (document.json().unwrap(), document.json().unwrap());
        assert_eq!(first.as_ptr(), second.as_ptr());
        let below: serde_json::Value =
            serde_json::from_slice(&document.json_below("/a/\"b\"").unwrap()).unwrap();
        let mut expected: serde_json::Value = serde_json::from_slice(&first).unwrap();
        expected["servers"] = serde_json::json!([{ "url": "/a/\"b\"" }]);
        assert_eq!(below, expected);
    }
}
