//! The head of a download's answer: its name, its type, and that browsers keep and run nothing of it.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use xvault::core::protocol::OpenedDownload;

/// The head of an answer that succeeds.
#[derive(Debug)]
pub(super) struct Head {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) single_use: bool,
}

impl Head {
    /// As the hub said.
    pub(super) fn of(said: &OpenedDownload) -> Self {
        let mut head = Self::plain(&said.file_name);
        head.single_use = said.single_use;
        if let Some(kind) = &said.content_type {
            head.set(header::CONTENT_TYPE, kind);
        }
        head
    }

    /// For a file of this name.
    pub(super) fn plain(name: &str) -> Self {
        let mut head = Self { status: StatusCode::OK, headers: HeaderMap::new(), single_use: false };
        head.set(header::CONTENT_DISPOSITION, &disposition(name));
        head.set(header::ACCEPT_RANGES, "none");
        head.set(header::CACHE_CONTROL, "no-store");
        head.set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        head.set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
        head.set(header::REFERRER_POLICY, "no-referrer");
        head
    }

    /// Whose content is so long.
    pub(super) fn long(mut self, length: u64) -> Self {
        self.headers.insert(header::CONTENT_LENGTH, length.into());
        self
    }

    /// Of this media type.
    pub(super) fn typed(mut self, kind: &str) -> Self {
        self.set(header::CONTENT_TYPE, kind);
        self
    }

    /// Of which parts can be had, too: those of a link that is good for one use are one part.
    pub(super) fn ranged(mut self, length: u64) -> Self {
        if !self.single_use {
            self.set(header::ACCEPT_RANGES, "bytes");
        }
        self.long(length)
    }

    /// Whose content never changes, and is known by this.
    pub(super) fn tagged(mut self, tag: &str) -> Self {
        self.set(header::ETAG, tag);
        self
    }

    /// Of which this is a part.
    pub(super) fn part(mut self, first: u64, last: u64, length: u64) -> Self {
        self.status = StatusCode::PARTIAL_CONTENT;
        self.set(header::CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
        self.long((last + 1).saturating_sub(first))
    }

    /// What can't stand in a header is left out.
    fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

impl Head {
    /// With this body.
    pub(super) fn with(self, body: axum::body::Body) -> Response {
        (self.status, self.headers, body).into_response()
    }
}

impl IntoResponse for Head {
    fn into_response(self) -> Response {
        self.with(axum::body::Body::empty())
    }
}

/// RFC 6266: the name as ASCII for old programs, and exactly for all others.
fn disposition(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '_' };
    let ascii: String =
        name.chars().map(plain).map(|c| if "\"\\%;/".contains(c) { '_' } else { c }).collect();
    let mut exact = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            exact.push(char::from(byte));
        } else {
            exact.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_told_to_old_and_new_programs() {
        assert_eq!(
            disposition("Brief \"an\" Zoë.pdf"),
            "attachment; filename=\"Brief _an_ Zo_.pdf\"; filename*=UTF-8''Brief%20%22an%22%20Zo%C3%AB.pdf"
        );
    }

    proptest! {
        #[test]
        fn no_name_breaks_out_of_its_header(name in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let value = disposition(&name);
            prop_assert!(HeaderValue::from_str(&value).is_ok());
            prop_assert_eq!(value.matches('"').count(), 2, "{}", value);
            prop_assert_eq!(value.matches(';').count(), 2, "{}", value);
        }
    }
}
