//! What every request goes through: an id, a time limit, and answers that stay JSON when a handler panics.

use std::any::Any;
use std::time::Duration;

use axum::extract::{MatchedPath, NestedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

use super::error::Error;

/// How long an answer may take to begin.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The same for the one call that waits for a worker, up to 30 s.
const WAITING: (&str, Duration) = ("/api/v1/sources/{id}/test", Duration::from_secs(45));
/// The longest id that a proxy may have given to a request.
const MAX_REQUEST_ID: usize = 64;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The API is data: nothing of it is to be run or framed.
const DATA_ONLY: &str = "default-src 'none'; frame-ancestors 'none'";
/// The documentation's page brings its own scripts and inline styles.
const OWN_PAGES: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// The pattern of the route that was found, without what the hub is mounted below.
pub(super) fn route(request: &Request) -> Option<&str> {
    let found = request.extensions().get::<MatchedPath>()?.as_str();
    let below = request.extensions().get::<NestedPath>().map_or("", NestedPath::as_str);
    Some(found.strip_prefix(below.trim_end_matches('/')).unwrap_or(found))
}

/// Gives the request an id, puts it on every log line and into the answer, and logs the answer.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = given_id(request.headers()).unwrap_or_else(xvault_core::clock::new_id);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", request_id = %id, %method, path = %path.escape_debug());
    let answer = async {
        let mut response = next.run(request).await;
        tracing::debug!(status = response.status().as_u16(), "answered");
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    };
    answer.instrument(span).await
}

/// The id that a proxy gave, unless it is none that may stand in a log.
fn given_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(REQUEST_ID)?.to_str().ok()?;
    let fits = (1..=MAX_REQUEST_ID).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fits.then(|| text.to_owned())
}

/// 503 when the answer does not begin in time. Streams may go on for longer.
pub(super) async fn limit_time(request: Request, next: Next) -> Response {
    let limit = if route(&request) == Some(WAITING.0) { WAITING.1 } else { TIME_LIMIT };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::warn!(seconds = limit.as_secs(), "gave up on a request");
            Error::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "the answer took too long; try again")
                .into_response()
        }
    }
}

/// 500 as ours. The panic's message goes to the log.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    tracing::error!(panic = text, "a handler panicked");
    Error::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error; the hub's log says more")
        .into_response()
}

/// Tells browsers to take answers for what they are, and to keep none.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let page = request.uri().path().starts_with("/docs");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = if page { OWN_PAGES } else { DATA_ONLY };
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if !page {
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;
    use crate::logged::Logged;

    #[test]
    fn a_foreign_request_id_is_taken_over_when_it_is_harmless() {
        let given = |text: &'static str| {
            given_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(text))]))
        };
        assert_eq!(given("a-1_B").as_deref(), Some("a-1_B"));
        for bad in [
            "",
            "a b",
            "a\tb",
            "x;y",
            "0123456789012345678901234567890123456789012345678901234567890123456789",
        ] {
            assert_eq!(given(bad), None, "{bad}");
        }
    }

    /// Routes that misbehave, under the layers in their real order.
    fn router() -> Router {
        let panics = get(async || -> StatusCode { panic!("the secret is {}", "hunter2") });
        let sleeps = get(async || tokio::time::sleep(Duration::from_secs(44)).await);
        let logs = get(async || tracing::warn!("from the handler"));
        Router::new()
            .route("/panics", panics)
            .route("/sleeps", sleeps.clone())
            .route(WAITING.0, sleeps)
            .route("/logs", logs)
            .layer(from_fn(limit_time))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn(secure))
            .layer(from_fn(identify))
    }

    async fn ask(path: &str) -> (StatusCode, HeaderMap, String) {
        ask_of(router(), path).await
    }

    async fn ask_of(router: Router, path: &str) -> (StatusCode, HeaderMap, String) {
        let request =
            Request::builder().uri(path).header(REQUEST_ID, "from-the-proxy").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 10_000).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_that_does_not_show_it() {
        let (status, headers, body) = ask("/panics").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains(r#""code":"internal""#) && !body.contains("hunter2"), "{body}");
        assert_eq!(headers[REQUEST_ID], "from-the-proxy");
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up() {
        let (status, _, body) = ask("/sleeps").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""code":"timeout""#), "{body}");
        assert_eq!(ask("/api/v1/sources/s1/test").await.0, StatusCode::OK);
        let below = Router::new().nest("/backup", router());
        assert_eq!(ask_of(below, "/backup/api/v1/sources/s1/test").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn what_a_handler_logs_carries_the_requests_id() {
        let logged = Logged::default();
        let _guard = logged.listen();
        ask("/logs").await;
        let text = logged.text();
        assert!(text.contains("from the handler") && text.contains("request_id=from-the-proxy"), "{text}");
    }
}
