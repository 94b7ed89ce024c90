//! Reads what a refused request still sends, so that its sender hears the refusal.
//!
//! A server that answers early and closes the connection makes the sender's next write fail, and the answer is lost with it:
//! "broken pipe" instead of "the body is too large". So bodies that a handler did not read are read and thrown away, up to a limit.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONNECTION, EXPECT};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt as _};

/// The most that is read for nothing, in bytes.
const MAX_DRAIN: usize = 16 << 20;
/// The longest that a refusal waits for it.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Where a body goes when its reader drops it.
type Slot = Arc<Mutex<Option<BodyDataStream>>>;

/// A body on loan.
struct Lent {
    body: Option<BodyDataStream>,
    slot: Slot,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.body {
            Some(body) => body.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

/// Reads the rest of the body when the answer is a refusal. When that takes too long, the answer says that the connection ends.
pub(super) async fn drain(request: Request, next: Next) -> Response {
    // Who waits for `100 Continue` sends nothing until somebody reads: leave it at that.
    let waits = request.headers().contains_key(EXPECT);
    let slot = Slot::default();
    let (parts, body) = request.into_parts();
    let lent = Lent { body: Some(body.into_data_stream()), slot: slot.clone() };
    let mut response = next.run(Request::from_parts(parts, Body::from_stream(lent))).await;
    let rest = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(rest) = rest.filter(|_| !response.status().is_success())
        && (waits || !read_out(rest).await)
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// False when there is more than is read for nothing.
async fn read_out(mut body: BodyDataStream) -> bool {
    let reading = async {
        let mut left = MAX_DRAIN;
        while let Some(chunk) = body.next().await {
            match chunk.ok().and_then(|chunk| left.checked_sub(chunk.len())) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(MAX_WAIT, reading).await.unwrap_or(false)
}
