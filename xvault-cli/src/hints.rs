//! What the user can do about an error with a flag: its message names settings, as the service has them.

use xvault::connectors::{Door, Error, TlsFault};
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
        Error::Auth { door: Door::Ssh, .. } => {
            "a password is given by --password-file FILE or XVAULT_PASSWORD (at the server of --via by --ssh-password-file FILE), a key by --ssh-key FILE"
                .to_owned()
        }
        Error::Auth { .. } => "the password is given by --password-file FILE or XVAULT_PASSWORD".to_owned(),
        error if error.is_outdated_tool() => {
            "to use it all the same, run again with --allow-outdated-tools".to_owned()
        }
        Error::NoShell { .. } => {
            "tools run here without --remote-tools, and those of a WordPress site with --database-tools tunnel".to_owned()
        }
        // A hook needs a shell, whatever flags there are.
        Error::Hook { cause: Some(cause), .. } if !matches!(**cause, Error::NoShell { .. }) => return flags(cause),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_login_names_its_own_flags() {
        let refused = |door| {
            flags(&Error::Auth { account: "u@h:1".into(), reason: "wrong password".into(), door }).unwrap()
        };
        for door in [Door::Ssh, Door::Ftp, Door::Database] {
            let hint = refused(door);
            assert!(hint.contains("--password-file FILE or XVAULT_PASSWORD"), "{hint}");
            assert_eq!(hint.contains("--ssh-key"), door == Door::Ssh, "{hint}");
        }
    }

    #[test]
    fn a_tool_that_is_refused_names_the_flag_that_lets_it_in() {
        let reason = "old: update it, or allow outdated tools (`ToolOptions::allow_outdated`)";
        let hint = flags(&Error::OutdatedTool { tool: "psql".into(), reason: reason.into() });
        assert!(hint.is_some_and(|hint| hint.ends_with("--allow-outdated-tools")));
        // As a hostile server may say it.
        assert_eq!(flags(&Error::Tool { tool: "psql".into(), reason: reason.into() }), None);
    }

    /// The cause decides; but no flag gives a hook a shell.
    #[test]
    fn what_keeps_a_hook_from_being_run_has_the_hint_of_its_cause() {
        let hook = |cause| {
            flags(&Error::Hook {
                hook: "after",
                reason: "could not be run".into(),
                cause: Some(Box::new(cause)),
            })
        };
        let shell = || Error::NoShell { server: "h:22".into(), said: String::new() };
        let auth = Error::Auth { account: "u@h:22".into(), reason: "no".into(), door: Door::Ssh };
        assert!(hook(auth).is_some_and(|hint| hint.contains("--ssh-key")));
        assert!(flags(&shell()).is_some_and(|hint| hint.contains("--remote-tools")));
        assert_eq!(hook(shell()), None);
    }
}
