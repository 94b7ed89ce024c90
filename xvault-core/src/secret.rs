//! Secrets that cannot be printed and are zeroed when dropped.
//!
//! The types are [`secrecy`]'s: `Debug` prints `[REDACTED]`, there is no `Display` and no
//! `Serialize`, and the bytes are overwritten on drop. This module adds the one constructor
//! that reading a secret from a file needs.

pub use secrecy::{ExposeSecret, SecretSlice, SecretString};
use zeroize::Zeroizing;

/// Opened plain text, zeroed on drop.
pub type SecretBytes = SecretSlice<u8>;

/// Why bytes are no secret text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Nothing is left once the line end is gone.
    #[error("the secret is empty")]
    Empty,
    /// Passwords and keys are text.
    #[error("the secret is not UTF-8 text")]
    NotText,
}

/// A password as it lies in a file: the text without the one line end that editors add.
///
/// # Errors
/// When nothing is left, or the bytes are not UTF-8. The bytes themselves are never repeated.
pub fn from_file_bytes(bytes: Vec<u8>) -> Result<SecretString, InvalidSecret> {
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| InvalidSecret::NotText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(InvalidSecret::Empty) } else { Ok(SecretString::from(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_dropped_and_inner_space_kept() {
        let read = |bytes: &[u8]| from_file_bytes(bytes.to_vec()).map(|s| s.expose_secret().to_owned());
        assert_eq!(read(b" pass word \r\n"), Ok(" pass word ".into()));
        assert_eq!(read(b"two\n\n"), Ok("two\n".into()));
        assert_eq!(read(b"\n"), Err(InvalidSecret::Empty));
        assert_eq!(read(b"\xff"), Err(InvalidSecret::NotText));
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = from_file_bytes(b"hunter2".to_vec()).unwrap();
        assert!(!format!("{secret:?} {secret:#?}").contains("hunter2"));
    }
}
