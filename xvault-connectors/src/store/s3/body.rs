//! What a request sends: gathered in pieces, with its digest.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use xvault_core::snapshot::hex;

use super::scratch::Scratch;
use crate::Error;

/// Where the bytes of a request are until the server has them.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Memory(Vec<Bytes>),
    Scratch(Scratch),
}

/// The bytes of one request; a clone shares them.
#[derive(Debug, Clone)]
pub(super) struct Body {
    content: Content,
    len: u64,
    digest: Arc<[u8]>,
    sha256: String,
}

impl Body {
    pub(super) fn empty() -> Self {
        Gathered::in_memory().into_body()
    }

    pub(super) fn of(bytes: Bytes) -> Self {
        let mut gathered = Gathered::in_memory();
        gathered.count(&bytes);
        gathered.content = Content::Memory(vec![bytes]);
        gathered.into_body()
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
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

/// A body that grows. In memory, nothing is copied.
pub(super) struct Gathered {
    content: Content,
    len: u64,
    digest: Context,
}

impl Gathered {
    pub(super) fn in_memory() -> Self {
        Self::within(Content::Memory(Vec::new()))
    }

    pub(super) fn within(content: Content) -> Self {
        Self { content, len: 0, digest: Context::new(&SHA256) }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let at = self.len;
        self.count(&chunk);
        match &mut self.content {
            Content::Memory(chunks) => chunks.push(chunk),
            Content::Scratch(scratch) => scratch.write(at, chunk).await?,
        }
        Ok(())
    }

    fn count(&mut self, chunk: &Bytes) {
        self.digest.update(chunk);
        self.len += chunk.len() as u64;
    }

    pub(super) fn into_body(self) -> Body {
        let digest = self.digest.finish();
        let digest = digest.as_ref();
        Body { content: self.content, len: self.len, sha256: hex(digest), digest: digest.into() }
    }
}
