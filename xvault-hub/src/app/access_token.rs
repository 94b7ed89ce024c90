//! Access tokens: JWTs that say for a few minutes who somebody is.
//!
//! They are signed with HMAC-SHA-256 and nothing else is accepted. Times are the hub's, so that hubs agree. What they say
//! of role and tenant is for clients to read: the database decides, on each request.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use xvault_core::secret::{ExposeSecret as _, SecretSlice, SecretString};
use xvault_core::{TenantId, UserId};

use crate::api::error::Error as ApiError;
use crate::api::principal::Role;

/// Hubs' clocks follow the database's; what is left between them is less than this. In seconds.
const MAX_SKEW: i64 = 60;
/// No token of ours is longer, in bytes.
const MAX_LEN: usize = 2048;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Whose it is.
    pub(crate) sub: UserId,
    pub(crate) tid: Option<TenantId>,
    pub(crate) role: Role,
    /// The account's `valid_from` when the token was made: once that moves, the token is void. Exact, where `iat` has
    /// seconds only.
    pub(crate) ver: i64,
    /// When it was made, in seconds since 1970.
    pub(crate) iat: i64,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: i64,
}

/// Why a token is not accepted. The caller learns no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the token is not valid")]
    Invalid,
    #[error("the token has expired; refresh it, or log in again")]
    Expired,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::unauthorized(refusal.to_string())
    }
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("sign an access token")]
pub(crate) struct SignError(#[from] jsonwebtoken::errors::Error);

impl From<SignError> for ApiError {
    fn from(error: SignError) -> Self {
        Self::internal(&error)
    }
}

/// Makes and reads tokens.
#[derive(Debug)]
pub(crate) struct AccessTokens {
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
    lifetime: Duration,
}

impl AccessTokens {
    pub(crate) fn new(secret: &SecretSlice<u8>, lifetime: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // By the machine's clock, it would be; `read` does it by the hub's.
        validation.validate_exp = false;
        Self {
            sign: EncodingKey::from_secret(secret.expose_secret()),
            verify: DecodingKey::from_secret(secret.expose_secret()),
            validation,
            lifetime,
        }
    }

    /// How long a token is good, in seconds.
    pub(crate) fn lifetime_secs(&self) -> i64 {
        i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX)
    }

    /// A token for `user`, whose account has this `valid_from`.
    pub(crate) fn make(
        &self,
        user: &UserId,
        tenant: Option<&TenantId>,
        role: Role,
        valid_from: i64,
        now: Timestamp,
    ) -> Result<SecretString, SignError> {
        let iat = now.as_second();
        let exp = iat.saturating_add(self.lifetime_secs());
        let claims = Claims { sub: user.clone(), tid: tenant.cloned(), role, ver: valid_from, iat, exp };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)?;
        Ok(SecretString::from(token))
    }

    /// What a token says, if it is ours and now is its time.
    pub(crate) fn read(&self, token: &str, now: Timestamp) -> Result<Claims, Refusal> {
        if token.len() > MAX_LEN {
            return Err(Refusal::Invalid);
        }
        let read = jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation);
        let claims = read.map_err(|_| Refusal::Invalid)?.claims;
        if claims.iat > now.as_second().saturating_add(MAX_SKEW) {
            return Err(Refusal::Invalid);
        }
        if claims.exp <= now.as_second() {
            return Err(Refusal::Expired);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_millis;

    fn tokens(secret: &[u8]) -> AccessTokens {
        AccessTokens::new(&SecretSlice::from(secret.to_vec()), Duration::from_secs(900))
    }

    fn make(tokens: &AccessTokens, at: i64) -> SecretString {
        let (user, tenant) = (UserId::generate(), TenantId::generate());
        tokens.make(&user, Some(&tenant), Role::Admin, 7, from_millis(at * 1000)).unwrap()
    }

    #[test]
    fn a_token_is_good_from_when_it_is_made_until_it_ends() {
        let tokens = tokens(&[1; 32]);
        let token = make(&tokens, 1_000);
        let read = |at: i64| tokens.read(token.expose_secret(), from_millis(at * 1000));
        assert_eq!(read(1_000).unwrap().ver, 7);
        assert_eq!(read(1_899).unwrap().role, Role::Admin);
        assert_eq!(read(1_900), Err(Refusal::Expired));
        assert_eq!(read(939), Err(Refusal::Invalid), "made in the future");
    }

    #[test]
    fn other_secrets_and_algorithms_are_refused() {
        let (ours, now) = (tokens(&[1; 32]), from_millis(1_000_000));
        let foreign = make(&tokens(&[2; 32]), 1_000);
        assert_eq!(ours.read(foreign.expose_secret(), now), Err(Refusal::Invalid));
        let claims = ours.read(make(&ours, 1_000).expose_secret(), now).unwrap();
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &ours.sign).unwrap();
            assert_eq!(ours.read(&token, now), Err(Refusal::Invalid), "{algorithm:?}");
        }
        assert_eq!(ours.read(&"x".repeat(5000), now), Err(Refusal::Invalid));
    }

    #[test]
    fn the_secret_does_not_print() {
        let shown = format!("{:?}", tokens(b"hunter2hunter2hunter2hunter2hunter2"));
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117, 110"), "{shown}");
    }
}
