//! E-mail addresses, as the names of accounts.

use std::fmt;
use std::str::FromStr;

/// RFC 5321, section 4.5.3.1: a path has 256 characters, two of which are brackets.
const MAX_LEN: usize = 254;

/// An address in lower case: one mailbox, one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Email(String);

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an e-mail address like name@example.com is needed: ASCII, {MAX_LEN} characters at most")]
pub(crate) struct InvalidEmail;

impl Email {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    /// Strict on purpose: quoted names and look-alike letters have no place in a login.
    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let text = text.trim();
        let (name, domain) = text.rsplit_once('@').ok_or(InvalidEmail)?;
        if text.len() <= MAX_LEN && is_name(name) && is_domain(domain) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidEmail)
        }
    }
}

/// RFC 5322's dot-atom.
fn is_name(name: &str) -> bool {
    let is_atext = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    name.len() <= 64 && name.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised() {
        for (text, email) in [
            (" Ada@Example.COM ", "ada@example.com"),
            ("operator@localhost", "operator@localhost"),
            ("a.b+c@x-y.example", "a.b+c@x-y.example"),
        ] {
            assert_eq!(text.parse::<Email>().unwrap().as_str(), email);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}", ["a".repeat(60).as_str(); 5].join("."));
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a\n@c",
            "a@b c",
            ".a@b",
            "a..b@c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "ä@b",
            "a@ä",
            "\"a\"@b",
            "a@[127.0.0.1]",
            "a\0@b",
            &long,
            &longer,
        ] {
            assert_eq!(text.parse::<Email>(), Err(InvalidEmail), "{text}");
        }
    }
}
