//! What the user can do about an error with a flag: its message names settings, as the service has them.

use xvault::connectors::{Error, TlsFault};
use xvault::core::source::FtpTls;

/// The flags that help, if any do.
pub(crate) fn flags(error: &Error) -> Option<String> {
    Some(match error {
        Error::UnknownHostKey { fingerprint, .. } => format!(
            "once you have compared it, run again with --host-key {fingerprint}, or with --accept-new-host-key"
        ),
        Error::UnknownCertificate { fingerprint, .. } => format!(
            "once you have compared it, run again with --certificate {fingerprint}, with --accept-new-certificate, or with --tls-ca FILE"
        ),
        Error::Tls { reason, .. } => of_tls(TlsFault::of(reason))?.to_owned(),
        Error::NoEncryption { demanded: FtpTls::Implicit, .. } => {
            "write ftp:// instead of ftps://, which is encrypted, too".to_owned()
        }
        Error::NoEncryption { .. } => {
            "if nobody in between is to be feared, run again with --plain-ftp".to_owned()
        }
        Error::NoDatabase { .. } => "to have it made, run again with --create".to_owned(),
        Error::NotEmpty { .. } => {
            "to have what the dump has too replaced, run again with --overwrite always".to_owned()
        }
        Error::SiteConfig { .. } => {
            "to leave the site's database out, run again with --files-only".to_owned()
        }
        Error::Hook { cause: Some(cause), .. } => return flags(cause),
        _ => return None,
    })
}

/// A database's. FTP has others.
fn of_tls(fault: TlsFault) -> Option<&'static str> {
    match fault {
        TlsFault::Name => {
            Some("write the name that the certificate is of into the URL, or run again with --tls verify-ca")
        }
        TlsFault::Certificate => Some(
            "run again with --tls-ca FILE, the certificate of the server or of its authority; with --tls verify-ca, too, where it is of another name",
        ),
        TlsFault::NotOffered => Some("if nobody in between is to be feared, run again with --tls disable"),
        TlsFault::Other => None,
    }
}
