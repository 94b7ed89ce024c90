//! `/docs` and `/api/v1/openapi.json`: the API's description, for people and for programs.
//!
//! The hub may be mounted below a path that it does not know. So nothing here names a path from the root: the page finds the
//! document, and the document the API, from where they were asked for.

use std::sync::Arc;

use axum::Router;
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
    let document = Arc::new(document);
    Router::new()
        .route(
            DOCUMENT,
            get(move |OriginalUri(uri): OriginalUri| async move { served(&document, uri.path()) }),
        )
        .route("/docs", get(async || (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "docs/")])))
        .route("/docs/", get(move || index(Path(String::new()))))
        .route("/docs/{*path}", get(file))
}

/// The document, with the path that the hub is mounted below as its server.
fn served(document: &OpenApi, path: &str) -> Response {
    let mut document = document.clone();
    let below = path.strip_suffix(DOCUMENT).filter(|below| !below.is_empty());
    document.servers = below.map(|below| vec![Server::new(below)]);
    match document.to_json() {
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
