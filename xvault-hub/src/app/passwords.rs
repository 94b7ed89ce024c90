//! Passwords: argon2id with OWASP's parameters, on threads that may block, and few at once; setting passwords never keeps logins
//! waiting.

use std::sync::Arc;

use argon2::password_hash::{Error as HashError, PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, PasswordHash, Version};
use tokio::sync::Semaphore;
use xvault_core::secret::{ExposeSecret as _, SecretString};

use crate::api::error::Error as ApiError;

/// OWASP Password Storage Cheat Sheet, first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// So many logins are checked at once, the others wait: 76 MiB at most, however many log in.
const LOGINS_AT_ONCE: usize = 4;
/// So many new passwords are hashed beside them: 38 MiB at most.
const CHANGES_AT_ONCE: usize = 2;
/// Lengths of new passwords, in characters.
const MIN_CHARS: usize = 10;
const MAX_CHARS: usize = 200;

/// Hashes and verifies. Clones share the bounds.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    logins: Arc<Semaphore>,
    changes: Arc<Semaphore>,
}

/// What can go wrong; a wrong password is not among it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The algorithm refuses: no memory, or a stored hash that is none.
    #[error("hash a password")]
    Hash(#[from] HashError),
    /// The parameters are wrong.
    #[error("hash a password")]
    Params(#[from] argon2::Error),
    /// The thread was lost: the program ends.
    #[error("hash a password: the work was given up")]
    Lost,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::internal(&error)
    }
}

impl Default for Passwords {
    fn default() -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self { logins: slots(LOGINS_AT_ONCE), changes: slots(CHANGES_AT_ONCE) }
    }
}

impl Passwords {
    /// A new password's hash, in PHC form.
    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, Error> {
        run(&self.changes, move || {
            let hash = argon2id()?.hash_password(password.expose_secret().as_bytes())?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether the password is the stored one. With none stored it takes as long to say no.
    pub(crate) async fn verify(
        &self,
        password: SecretString,
        stored: Option<SecretString>,
    ) -> Result<bool, Error> {
        run(&self.logins, move || match stored {
            Some(stored) => matches_hash(&password, stored.expose_secret()),
            None => waste(&password).map(|()| false),
        })
        .await
    }
}

/// The slot belongs to the thread, so that a caller who goes away does not make room before the memory is free.
async fn run<T: Send + 'static>(
    slots: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(|_| Error::Lost)?;
    let done = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        work()
    });
    done.await.map_err(|_| Error::Lost)?
}

fn argon2id() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn matches_hash(password: &SecretString, stored: &str) -> Result<bool, Error> {
    let stored = PasswordHash::new(stored).map_err(|_| HashError::EncodingInvalid)?;
    match argon2id()?.verify_password(password.expose_secret().as_bytes(), &stored) {
        Ok(()) => Ok(true),
        Err(HashError::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The work of a comparison, for an account that does not exist.
fn waste(password: &SecretString) -> Result<(), Error> {
    let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
    argon2id()?.hash_password_into(password.expose_secret().as_bytes(), b"no such account.", &mut out)?;
    std::hint::black_box(out);
    Ok(())
}

/// 422 unless a new password has a fit length.
pub(crate) fn check_new(field: &str, password: &SecretString) -> Result<(), ApiError> {
    if (MIN_CHARS..=MAX_CHARS).contains(&password.expose_secret().chars().count()) {
        Ok(())
    } else {
        Err(ApiError::invalid_field(field, format!("{MIN_CHARS} to {MAX_CHARS} characters are needed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_its_password_only_and_names_the_parameters() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("correct horse".into()).await.unwrap(), "salted");
        let stored = || Some(SecretString::from(hash.clone()));
        assert!(passwords.verify("correct horse".into(), stored()).await.unwrap());
        assert!(!passwords.verify("correct horsf".into(), stored()).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), None).await.unwrap());
        assert!(passwords.verify("correct horse".into(), Some("junk".into())).await.is_err());
    }

    #[tokio::test]
    async fn no_more_than_a_few_at_once() {
        let passwords = Passwords::default();
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tasks = (0..LOGINS_AT_ONCE * 4).map(|_| {
            let running = Arc::clone(&running);
            run(&passwords.logins, move || {
                let now = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
                running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                Ok(now)
            })
        });
        let most = futures::future::try_join_all(tasks).await.unwrap().into_iter().max();
        assert!(most <= Some(LOGINS_AT_ONCE), "{most:?}");
    }

    #[tokio::test]
    async fn a_login_does_not_wait_for_those_who_set_passwords() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        let all = u32::try_from(CHANGES_AT_ONCE).unwrap();
        let _taken = passwords.changes.acquire_many(all).await.unwrap();
        let login = passwords.verify("correct horse".into(), Some(hash.into()));
        let fits = tokio::time::timeout(std::time::Duration::from_secs(20), login).await;
        assert!(fits.unwrap().unwrap());
    }
}
