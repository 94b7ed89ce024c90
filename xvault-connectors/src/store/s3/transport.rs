//! opendal over our own connections.

use std::future::ready;

use futures::{Stream, TryStreamExt, stream};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};

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
        let is_head = request.method() == http::Method::HEAD;
        let listing = asked(request.uri());
        let (head, body) = request.into_parts();
        let mut response = self.0.begin(head, body.to_bytes()).await.map_err(failed)?;
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            std::mem::swap(headers, response.headers_mut());
        }
        let length = response.content_length().filter(|_| !is_head);
        let http = self.0.clone();
        let pieces = stream::try_unfold((http, response, 0), |(http, mut response, before)| async move {
            let Some(piece) = http.next(&mut response).await.map_err(failed)? else { return Ok(None) };
            let taken = before + piece.len() as u64;
            if taken > MAX_PAGE {
                return Err(failed(Unanswered::TooLong { longest: MAX_PAGE }));
            }
            Ok(Some((Buffer::from(piece), (http, response, taken))))
        });
        let pieces = Box::pin(pieces.try_filter(|piece| ready(!piece.is_empty())));
        let body = match listing {
            Some(prefix) => HttpBody::new(stream::iter([Ok(checked(pieces, &prefix).await?)]), length),
            None => HttpBody::new(pieces, length),
        };
        answer.body(body).map_err(|error| opendal::Error::new(ErrorKind::Unexpected, error.to_string()))
    }
}

/// A page, or the answer that it is not, once all of it is there.
async fn checked(
    pieces: impl Stream<Item = opendal::Result<Buffer>>,
    prefix: &str,
) -> opendal::Result<Buffer> {
    let page = pieces.try_collect::<Vec<_>>().await?.into_iter().flatten().collect::<Buffer>().to_bytes();
    match astray(&page, prefix) {
        Some(key) => Err(failed(Unanswered::Astray { key })),
        None => Ok(page.into()),
    }
}

fn failed(error: Unanswered) -> opendal::Error {
    let temporary = matches!(error, Unanswered::Broken { .. } | Unanswered::Stalled { .. });
    opendal::Error::new(ErrorKind::Unexpected, "no answer").with_temporary(temporary).set_source(error)
}
