//! opendal over our own connections.

use std::future::ready;

use futures::{TryStreamExt, stream};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};

use super::http::{Http, Unanswered};

/// Carries opendal's requests.
#[derive(Debug, Clone)]
pub(super) struct Transport(pub(super) Http);

impl HttpTransport for Transport {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let is_head = request.method() == http::Method::HEAD;
        let (head, body) = request.into_parts();
        let mut response = self.0.begin(head, body.to_bytes()).await.map_err(failed)?;
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            std::mem::swap(headers, response.headers_mut());
        }
        let length = response.content_length().filter(|_| !is_head);
        let http = self.0.clone();
        let pieces = stream::try_unfold((http, response), |(http, mut response)| async move {
            let piece = http.next(&mut response).await.map_err(failed)?;
            Ok(piece.map(|piece| (Buffer::from(piece), (http, response))))
        });
        let pieces = Box::pin(pieces.try_filter(|piece| ready(!piece.is_empty())));
        let body = HttpBody::new(pieces, length);
        answer.body(body).map_err(|error| opendal::Error::new(ErrorKind::Unexpected, error.to_string()))
    }
}

fn failed(error: Unanswered) -> opendal::Error {
    let temporary = !matches!(error, Unanswered::Untrusted { .. } | Unanswered::Denied(_));
    opendal::Error::new(ErrorKind::Unexpected, "no answer").with_temporary(temporary).set_source(error)
}
