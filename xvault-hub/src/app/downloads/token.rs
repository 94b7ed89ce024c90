//! Tokens of download links: which link, until when, and the hub's signature. Nothing of them is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use xvault_core::DownloadId;
use xvault_core::secret::{ExposeSecret as _, SecretSlice, SecretString};

/// How they begin, for people and for secret scanners.
const PREFIX: &str = "xvd_";
/// What the key is made for: no signature of another purpose is one of these.
const PURPOSE: &[u8] = b"xvault download links, version 1";
/// No token of ours is longer, in bytes.
const MAX_LEN: usize = 200;

/// Makes and reads tokens, by a key that is derived from the hub's secret: all hubs of a fleet read each other's.
#[derive(Debug)]
pub(crate) struct DownloadTokens(hmac::Key);

impl DownloadTokens {
    pub(crate) fn new(secret: &SecretSlice<u8>) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret()), PURPOSE);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The token of a link that ends at `expires_at`: the same each time, in whole seconds.
    pub(crate) fn make(&self, id: &DownloadId, expires_at: Timestamp) -> SecretString {
        let said = format!("{id}.{}", expires_at.as_second());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, said.as_bytes()));
        SecretString::from(format!("{PREFIX}{said}.{signature}"))
    }

    /// Which link a token is for, and when that ends. None: it is not ours, or was altered.
    pub(crate) fn read(&self, token: &str) -> Option<(DownloadId, Timestamp)> {
        let (said, signature) =
            token.strip_prefix(PREFIX).filter(|_| token.len() <= MAX_LEN)?.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, said.as_bytes(), &signature).ok()?;
        let (id, seconds) = said.split_once('.')?;
        Some((id.parse().ok()?, Timestamp::from_second(seconds.parse().ok()?).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(secret: u8) -> DownloadTokens {
        DownloadTokens::new(&SecretSlice::from(vec![secret; 32]))
    }

    #[test]
    fn a_token_says_what_it_was_made_for_and_other_hubs_tokens_are_none() {
        let (id, end) = (DownloadId::generate(), Timestamp::from_second(2_000_000_000).unwrap());
        let token = tokens(1).make(&id, end);
        assert_eq!(tokens(1).read(token.expose_secret()), Some((id, end)));
        assert_eq!(tokens(2).read(token.expose_secret()), None);
        assert!(!format!("{:?}", tokens(b'x')).contains("xxxx"));
        for none in ["", "xvd_", "xvd_a.1.", "xvd_a.1.AAAA", &"x".repeat(5000)] {
            assert_eq!(tokens(1).read(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_token_goes_unseen(at in 0usize..200, to in "[ -~]") {
            let token = tokens(1).make(&"d1".parse().unwrap(), Timestamp::from_second(2_000_000_000).unwrap());
            let token = token.expose_secret();
            let at = at % token.len();
            let altered = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            let read = tokens(1).read(&altered);
            prop_assert_eq!(read, if altered == token { tokens(1).read(token) } else { None });
        }
    }
}
