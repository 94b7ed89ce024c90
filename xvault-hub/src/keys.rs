//! The key-encryption keys: what credentials and tenants' identities are encrypted to at rest.

use xvault_core::secret::{SecretBytes, SecretString};
use xvault_core::{Identity, Recipient, seal};
use zeroize::Zeroizing;

/// One or more age identities. The first encrypts, all decrypt: put a new one in front to rotate.
#[derive(Debug, Clone)]
pub struct Keys {
    current: Identity,
    all: Vec<Identity>,
}

/// What can go wrong with them. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `HUB_ENCRYPTION_KEK` is no list of age identities.
    #[error("HUB_ENCRYPTION_KEK: {0}")]
    Kek(#[source] seal::Error),
    /// The database holds secrets of a key that is not given.
    #[error("HUB_ENCRYPTION_KEK does not hold key {kek_id}, which secrets of this database are encrypted to")]
    Missing {
        /// [`Recipient::key_id`] of that key.
        kek_id: String,
    },
    /// What was encrypted is for another key, or damaged.
    #[error("open a stored secret: HUB_ENCRYPTION_KEK does not hold key {kek_id}, or the secret is damaged")]
    Open {
        /// [`Recipient::key_id`] of the key it was encrypted to.
        kek_id: String,
        /// What age says.
        source: seal::Error,
    },
    /// A secret could not be encrypted.
    #[error("encrypt a secret")]
    Seal(#[source] seal::Error),
}

impl Keys {
    /// Reads identities (`AGE-SECRET-KEY-1…`) one a line, or separated by commas or spaces. Lines that begin with `#` are
    /// comments, as in the files that `age-keygen` writes.
    ///
    /// # Errors
    /// When there is none, or one of them is no identity.
    pub fn parse(text: &SecretString) -> Result<Self, Error> {
        use xvault_core::secret::ExposeSecret;
        let mut lines = Zeroizing::new(String::with_capacity(2 * text.expose_secret().len()));
        let keys = text.expose_secret().lines().filter(|line| !line.trim_start().starts_with('#'));
        for key in keys.flat_map(|line| line.split([',', ' '])) {
            lines.push_str(key);
            lines.push('\n');
        }
        let all = Identity::parse_file(&SecretString::from(lines.as_str())).map_err(Error::Kek)?;
        let current = all.first().cloned().ok_or(Error::Kek(seal::Error::NoIdentity))?;
        Ok(Self { current, all })
    }

    /// A new key, for a first start and for tests.
    #[must_use]
    pub fn generate() -> Self {
        let current = Identity::generate();
        Self { all: vec![current.clone()], current }
    }

    /// What [`Keys::seal`] encrypts to.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        self.current.recipient()
    }

    /// The name of the current key in the database.
    #[must_use]
    pub fn current_id(&self) -> String {
        self.recipient().key_id()
    }

    /// That a key of this name in the database is one of them.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn require(&self, kek_id: &str) -> Result<(), Error> {
        let held = self.all.iter().any(|key| key.recipient().key_id() == kek_id);
        if held { Ok(()) } else { Err(Error::Missing { kek_id: kek_id.to_owned() }) }
    }

    /// Encrypts to the current key.
    ///
    /// # Errors
    /// Never in practice.
    pub fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, Error> {
        seal::seal(&[self.recipient()], secret).map_err(Error::Seal)
    }

    /// Opens what was encrypted to any of the keys. `kek_id` is the one it was encrypted to, for the error.
    ///
    /// # Errors
    /// When none of the keys fits.
    pub fn open(&self, sealed: &[u8], kek_id: &str) -> Result<SecretBytes, Error> {
        seal::open(&self.all, sealed).map_err(|source| Error::Open { kek_id: kek_id.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault_core::secret::ExposeSecret;

    fn text(identities: &[&Identity]) -> SecretString {
        let all: Vec<_> = identities.iter().map(|id| id.to_secret().expose_secret().to_owned()).collect();
        SecretString::from(all.join(","))
    }

    #[test]
    fn a_rotated_kek_opens_what_the_old_one_sealed() {
        let (old, new) = (Identity::generate(), Identity::generate());
        let before = Keys::parse(&text(&[&old])).unwrap();
        let sealed = before.seal(b"hunter2").unwrap();
        let after = Keys::parse(&text(&[&new, &old])).unwrap();
        assert_eq!(after.open(&sealed, &before.current_id()).unwrap().expose_secret(), b"hunter2");
        assert_eq!(after.current_id(), new.recipient().key_id());
        let error = Keys::parse(&text(&[&new])).unwrap().open(&sealed, "k").unwrap_err().to_string();
        assert!(error.contains("HUB_ENCRYPTION_KEK"), "{error}");
    }

    #[test]
    fn a_file_of_age_keygen_is_a_kek() {
        let id = Identity::generate();
        let secret = id.to_secret();
        let file =
            format!("# created: 2026-11-24\n# public key: {}\n{}\n", id.recipient(), secret.expose_secret());
        assert_eq!(Keys::parse(&SecretString::from(file)).unwrap().current_id(), id.recipient().key_id());
    }

    #[test]
    fn a_bad_kek_is_named_and_not_shown() {
        let error = Keys::parse(&SecretString::from("hunter2")).unwrap_err().to_string();
        assert!(error.contains("HUB_ENCRYPTION_KEK") && !error.contains("hunter2"), "{error}");
    }
}
