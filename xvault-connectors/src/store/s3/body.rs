//! What a request sends: gathered in pieces, with its digest.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use xvault_core::snapshot::hex;

/// The bytes of one request; a clone shares them.
#[derive(Debug, Clone)]
pub(super) struct Body {
    chunks: Vec<Bytes>,
    len: u64,
    digest: Arc<[u8]>,
    sha256: String,
}

impl Body {
    pub(super) fn empty() -> Self {
        Gathered::default().into_body()
    }

    pub(super) fn of(bytes: Bytes) -> Self {
        let mut gathered = Gathered::default();
        gathered.push(bytes);
        gathered.into_body()
    }

    pub(super) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// In hexadecimal.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The same as a checksum of S3: in Base64.
    pub(super) fn checksum(&self) -> String {
        STANDARD.encode(&self.digest)
    }
}

/// A body that grows. Nothing is copied.
pub(super) struct Gathered {
    chunks: Vec<Bytes>,
    len: u64,
    digest: Context,
}

impl Default for Gathered {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0, digest: Context::new(&SHA256) }
    }
}

impl Gathered {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn push(&mut self, chunk: Bytes) {
        self.digest.update(&chunk);
        self.len += chunk.len() as u64;
        self.chunks.push(chunk);
    }

    pub(super) fn into_body(self) -> Body {
        let digest = self.digest.finish();
        let digest = digest.as_ref();
        Body { chunks: self.chunks, len: self.len, sha256: hex(digest), digest: digest.into() }
    }
}
