//! opendal over our own connections.

use futures::stream;
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};

use super::body::Body;
use super::http::{Http, Unanswered};
use super::page::{asked, astray};

/// The longest answer: opendal asks for pages of listings and the like, and keeps what comes of them in memory. A page has 1000 keys
/// of 1 KiB at most.
const MAX_PAGE: u64 = 4 << 20;

/// Carries opendal's requests.
#[derive(Debug, Clone)]
pub(super) struct Transport(pub(super) Http);

impl HttpTransport for Transport {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let listing = asked(request.uri());
        let (head, body) = request.into_parts();
        let body = Body::of(body.to_bytes());
        let answer = self.0.exchange(head, &body, MAX_PAGE).await.map_err(failed)?;
        if let Some(key) = listing.and_then(|prefix| astray(&answer.body, &prefix)) {
            return Err(failed(Unanswered::Astray { key }));
        }
        let mut response = http::Response::builder().status(answer.status);
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers;
        }
        // Of a length that `exchange` has seen to be right, or that is no length of what came, as with HEAD.
        let body = HttpBody::new(stream::iter([Ok(Buffer::from(answer.body))]), None);
        response.body(body).map_err(|error| opendal::Error::new(ErrorKind::Unexpected, error.to_string()))
    }
}

fn failed(error: Unanswered) -> opendal::Error {
    let temporary = matches!(error, Unanswered::Broken { .. } | Unanswered::Stalled { .. });
    opendal::Error::new(ErrorKind::Unexpected, "no answer").with_temporary(temporary).set_source(error)
}
