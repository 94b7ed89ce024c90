//! Opaque tokens: 256 random bits, of which only a hash is stored.
//!
//! A token is found by its hash, so that no comparison depends on how much of a guess is right; and with so many random
//! bits, a plain SHA-256 can't be reversed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};
use xvault_core::secret::{ExposeSecret as _, SecretString};
use xvault_core::snapshot::hex;

/// What a token is for: its first characters say it, to people and to secret scanners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A program of a tenant.
    ApiKey,
    /// Shows that somebody could decrypt it.
    Challenge,
    /// Buys access tokens, once.
    Refresh,
    /// A worker.
    Worker,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "xvk_",
            Self::Challenge => "xvc_",
            Self::Refresh => "xvr_",
            Self::Worker => "xvw_",
        }
    }

    /// Whether a text claims to be of this kind.
    pub(crate) fn claims(self, token: &str) -> bool {
        token.starts_with(self.prefix())
    }
}

/// A token that was just made: shown once, then only its hash remains.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) secret: SecretString,
    /// What is stored.
    pub(crate) hash: String,
}

/// The machine gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("make a token: the system's random number generator failed")]
pub(crate) struct NoRandomness;

impl From<NoRandomness> for crate::api::error::Error {
    fn from(error: NoRandomness) -> Self {
        Self::internal(&error)
    }
}

/// Makes a token.
pub(crate) fn make(kind: Kind) -> Result<NewToken, NoRandomness> {
    let secret = SecretString::from(format!("{}{}", kind.prefix(), random()?));
    let hash = hash(secret.expose_secret());
    Ok(NewToken { secret, hash })
}

/// 256 random bits as 43 characters.
pub(crate) fn random() -> Result<String, NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// SHA-256 in hexadecimal: how tokens are stored and found.
pub(crate) fn hash(token: &str) -> String {
    hex(&Sha256::digest(token))
}

/// The first characters, by which a person can tell tokens apart; 208 of the 256 bits stay unknown.
pub(crate) fn hint(token: &SecretString) -> String {
    token.expose_secret().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_they_are_and_never_repeat() {
        for (kind, prefix) in [(Kind::ApiKey, "xvk_"), (Kind::Refresh, "xvr_"), (Kind::Worker, "xvw_")] {
            let token = make(kind).unwrap();
            let text = token.secret.expose_secret();
            assert!(kind.claims(text) && text.starts_with(prefix) && text.len() == 47, "{text}");
            assert_ne!(text, make(kind).unwrap().secret.expose_secret());
            assert_eq!(token.hash, hash(text));
            assert!(!format!("{token:?}").contains(&text[4..]));
            assert_eq!(hint(&token.secret), text[..12]);
        }
    }

    #[test]
    fn the_hash_is_sha256_as_sha256sum_prints_it() {
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
