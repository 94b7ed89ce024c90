//! The age envelope: keys, and small secrets sealed to them.
//!
//! Everything xVault encrypts is an age v1 file (<https://age-encryption.org/v1>) to X25519
//! recipients. Artifacts are streamed by `xvault-archive`; this module serves what fits in
//! memory: credentials and identities, which hub and worker seal to each other.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Dispose, Disposition};
use crate::secret::SecretBytes;

/// The word for this kind of encryption in manifests.
pub const ALGORITHM: &str = "age-x25519";

/// The longest plain text that [`open`] returns: secrets are small, whatever a sender claims.
pub const MAX_SECRET_LEN: u64 = 1 << 20;

/// Who can read: an age public key, `age1…`. Public, so it prints and compares.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient {
    text: Box<str>,
}

impl Recipient {
    /// A short name for the key, for logs and manifests: 16 hexadecimal digits of its SHA-256.
    #[must_use]
    pub fn key_id(&self) -> String {
        Sha256::digest(self.text.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    /// The key in the form the `age` crate encrypts to.
    ///
    /// # Errors
    /// Never for a `Recipient` made by this crate: its text was checked when it was parsed.
    pub fn to_age(&self) -> Result<age::x25519::Recipient, Error> {
        age::x25519::Recipient::from_str(&self.text)
            .map_err(|reason| Error::Recipient { text: self.text.to_string(), reason: reason.to_owned() })
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(Error::IdentityAsRecipient);
        }
        match age::x25519::Recipient::from_str(text) {
            Ok(key) => Ok(Self { text: key.to_string().into() }),
            Err(reason) => Err(Error::Recipient {
                text: text.chars().take(80).flat_map(char::escape_debug).collect(),
                reason: reason.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.text)
    }
}

impl Serialize for Recipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who reads: an age private key, `AGE-SECRET-KEY-1…`. Does not print, and is zeroed on drop.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A new key from the operating system's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient { text: self.0.to_public().to_string().into() }
    }

    /// The private key as text, for the file that keeps it.
    #[must_use]
    pub fn to_secret(&self) -> SecretString {
        self.0.to_string()
    }

    /// The key in the form the `age` crate decrypts with.
    #[must_use]
    pub fn as_age(&self) -> &age::x25519::Identity {
        &self.0
    }

    /// The identities in an age key file: one a line; blank lines and `#` comments are skipped.
    ///
    /// # Errors
    /// When a line is no X25519 identity (the line's number is named, its text is not), or there is none.
    pub fn parse_file(text: &SecretString) -> Result<Vec<Self>, Error> {
        let mut identities = Vec::new();
        for (number, line) in text.expose_secret().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = line.parse().map_err(|_| Error::IdentityLine { line: number + 1 })?;
            identities.push(identity);
        }
        if identities.is_empty() { Err(Error::NoIdentity) } else { Ok(identities) }
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        age::x25519::Identity::from_str(text.trim()).map(Self).map_err(|_| Error::Identity)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity([REDACTED] for {})", self.recipient())
    }
}

/// The recipients in an age recipients file: one a line; blank lines and `#` comments are skipped.
///
/// # Errors
/// When a line is no recipient, or there is none.
pub fn parse_recipients_file(text: &str) -> Result<Vec<Recipient>, Error> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let recipients = lines.map(str::parse).collect::<Result<Vec<Recipient>, _>>()?;
    if recipients.is_empty() { Err(Error::NoRecipient) } else { Ok(recipients) }
}

/// Encrypts `plaintext` so that each of `recipients` alone can open it: a binary age v1 file.
///
/// # Errors
/// When there is no recipient.
pub fn seal(recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    let keys = recipients.iter().map(Recipient::to_age).collect::<Result<Vec<_>, _>>()?;
    let encryptor = age::Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient))
        .map_err(|_| Error::NoRecipient)?;
    let mut sealed = Vec::with_capacity(plaintext.len() + 512);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(Error::Io)?;
    writer.write_all(plaintext).map_err(Error::Io)?;
    writer.finish().map_err(Error::Io)?;
    Ok(sealed)
}

/// Opens what [`seal`], or the `age` command, made for one of `identities`.
///
/// # Errors
/// When it is for other keys, was changed or cut, or holds more than [`MAX_SECRET_LEN`].
pub fn open(identities: &[Identity], sealed: &[u8]) -> Result<SecretBytes, Error> {
    open_up_to(identities, sealed, MAX_SECRET_LEN)
}

/// As [`open`], for what may hold up to `max` bytes.
///
/// # Errors
/// As [`open`].
pub fn open_up_to(identities: &[Identity], sealed: &[u8], max: u64) -> Result<SecretBytes, Error> {
    let decryptor = age::Decryptor::new(sealed).map_err(Error::Open)?;
    let keys = identities.iter().map(|identity| identity.as_age() as &dyn age::Identity);
    let reader = decryptor.decrypt(keys).map_err(Error::Open)?;
    // Allocated once at its final size: a growing buffer would leave plain text behind.
    let room = usize::try_from(max.min(sealed.len() as u64)).unwrap_or(usize::MAX);
    let mut plaintext = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    reader.take(max.saturating_add(1)).read_to_end(&mut plaintext).map_err(Error::Io)?;
    if plaintext.len() as u64 > max {
        return Err(Error::TooLong);
    }
    Ok(SecretBytes::from(plaintext.to_vec()))
}

/// What can go wrong with keys and envelopes. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no age recipient.
    #[error("`{text}` is no age recipient (age1…): {reason}")]
    Recipient {
        /// The text, escaped and shortened.
        text: String,
        /// What the parser says.
        reason: String,
    },
    /// Somebody gave the private key where the public one belongs.
    #[error(
        "a private key (AGE-SECRET-KEY-…) was given where a recipient (age1…) belongs; it is not repeated here"
    )]
    IdentityAsRecipient,
    /// The text is no age identity.
    #[error("not an age identity (AGE-SECRET-KEY-1…)")]
    Identity,
    /// A line of a key file is no identity.
    #[error(
        "line {line} is no age identity (AGE-SECRET-KEY-1…); passphrase-protected key files are not read"
    )]
    IdentityLine {
        /// Counted from 1.
        line: usize,
    },
    /// A key file without keys.
    #[error("there is no age identity in it")]
    NoIdentity,
    /// Nobody could ever read it.
    #[error("at least one recipient is needed")]
    NoRecipient,
    /// The envelope does not open.
    #[error("open the age envelope")]
    Open(#[source] age::DecryptError),
    /// The payload was changed or cut.
    #[error("read the age envelope")]
    Io(#[source] std::io::Error),
    /// A secret of more than [`MAX_SECRET_LEN`], or what else was asked for.
    #[error("the sealed secret is longer than what is read here")]
    TooLong,
}

impl Dispose for Error {
    fn disposition(&self) -> Disposition {
        Disposition::Permanent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_recipient_opens_alone_and_a_stranger_does_not() {
        let (a, b, stranger) = (Identity::generate(), Identity::generate(), Identity::generate());
        let sealed = seal(&[a.recipient(), b.recipient()], b"p4ss").unwrap();
        for identity in [a, b] {
            let opened = open(&[identity], &sealed).unwrap();
            assert_eq!(opened.expose_secret(), b"p4ss");
        }
        assert!(matches!(open(&[stranger], &sealed), Err(Error::Open(_))));
    }

    #[test]
    fn a_key_given_as_recipient_is_not_repeated() {
        let secret = Identity::generate().to_secret().expose_secret().to_owned();
        for text in [secret.clone(), secret.to_lowercase()] {
            let error = text.parse::<Recipient>().unwrap_err();
            assert!(matches!(error, Error::IdentityAsRecipient), "{error:?}");
            assert!(!format!("{error} {error:?}").to_uppercase().contains(&secret));
        }
    }

    #[test]
    fn an_identity_never_prints_its_secret() {
        let identity = Identity::generate();
        let shown = format!("{identity:?} {identity:#?}");
        assert!(!shown.contains("AGE-SECRET-KEY"), "{shown}");
        assert!(shown.contains(&identity.recipient().to_string()));
    }

    #[test]
    fn key_files_read_like_age_reads_them() {
        let key = Identity::generate();
        let text = format!("# created: today\n\n{}\n", key.to_secret().expose_secret());
        let read = Identity::parse_file(&text.into()).unwrap();
        assert_eq!(read[0].recipient(), key.recipient());
        assert!(matches!(Identity::parse_file(&"# none\n".into()), Err(Error::NoIdentity)));
        let error = Identity::parse_file(&"# x\nhunter2\n".into()).unwrap_err();
        assert_eq!(error.to_string().split(' ').nth(1), Some("2"));
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn every_recipient_of_a_file_is_read() {
        let keys = [Identity::generate().recipient(), Identity::generate().recipient()];
        let text = format!("# team\n{}\n\n{}\n", keys[0], keys[1]);
        assert_eq!(parse_recipients_file(&text).unwrap(), keys);
        assert!(matches!(parse_recipients_file("#\n"), Err(Error::NoRecipient)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn sealing_round_trips(plaintext in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let key = Identity::generate();
            let sealed = seal(&[key.recipient()], &plaintext).unwrap();
            let opened = open(&[key], &sealed).unwrap();
            prop_assert_eq!(opened.expose_secret(), &plaintext[..]);
        }

        #[test]
        fn any_flipped_bit_or_cut_is_noticed(at in 0usize..1_000_000, bit in 0u8..8) {
            let key = Identity::generate();
            let sealed = seal(&[key.recipient()], b"the tenant's identity").unwrap();
            let at = at % sealed.len();
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(open(std::slice::from_ref(&key), &flipped).is_err());
            prop_assert!(open(&[key], &sealed[..at]).is_err());
        }
    }
}
