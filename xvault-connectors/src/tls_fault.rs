//! What is wrong with TLS, as far as the words of clients tell.

/// What helps against a fault of TLS depends on what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate is of another name.
    Name,
    /// Nobody that is believed has signed the certificate; with some clients, its name may be another one, too.
    Certificate,
    /// The server has no TLS.
    NotOffered,
    /// Something else: the two can't agree, for one.
    Other,
}

/// Words of clients, and what they mean; the first that is found counts.
const WORDS: &[(&str, TlsFault)] = &[
    ("does not match host name", TlsFault::Name),
    ("is of another name", TlsFault::Name),
    ("does not support SSL", TlsFault::NotOffered),
    ("SSL is required", TlsFault::NotOffered),
    ("offers no encryption", TlsFault::NotOffered),
    ("client certificate", TlsFault::Other),
    ("certificate", TlsFault::Certificate),
    ("no authority that is trusted", TlsFault::Certificate),
    ("tls_ca", TlsFault::Certificate),
];

impl TlsFault {
    /// Which one these words are about.
    #[must_use]
    pub fn of(reason: &str) -> Self {
        WORDS.iter().find(|(words, _)| reason.contains(words)).map_or(Self::Other, |(_, fault)| *fault)
    }

    /// What helps, behind a `;`.
    pub(crate) fn cure(self) -> &'static str {
        match self {
            Self::Name => {
                "; name the host as the certificate does, or have its name not looked at (`tls_mode` `verify-ca`)"
            }
            Self::Certificate => {
                "; save the certificate of the server or of its authority as `tls_ca`; where it is of another name, have that not looked \
                 at (`tls_mode` `verify-ca`)"
            }
            Self::NotOffered => {
                "; without any (`tls_mode` `disable`), whoever is in between reads everything"
            }
            Self::Other => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_by_what_clients_say_of_it() {
        let cases = [
            ("server certificate for \"a\" does not match host name \"b\"", TlsFault::Name),
            ("it is of another name", TlsFault::Name),
            ("SSL error: certificate verify failed", TlsFault::Certificate),
            ("TLS/SSL error: Validation of SSL server certificate failed", TlsFault::Certificate),
            ("no authority that is trusted here has signed it", TlsFault::Certificate),
            ("`tls_ca` can't be read: it is no PEM", TlsFault::Certificate),
            ("server does not support SSL, but SSL was required", TlsFault::NotOffered),
            ("TLS/SSL error: SSL is required, but the server does not support it", TlsFault::NotOffered),
            ("the server offers no encryption", TlsFault::NotOffered),
            ("FATAL: connection requires a valid client certificate", TlsFault::Other),
            ("received fatal alert: HandshakeFailure", TlsFault::Other),
        ];
        for (reason, expected) in cases {
            assert_eq!(TlsFault::of(reason), expected, "{reason}");
        }
    }
}
