//! Why a job failed, in words that stay the same for programs.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use xvault::connectors::Error as ConnectorError;
use xvault::core::error::chain;
use xvault::core::job::JobError;
use xvault::core::protocol::MAX_LOG_MESSAGE;
use xvault::core::{Dispose, Disposition};

use crate::log_buffer::shorten;

/// A job's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A word for programs. Once used, it keeps its meaning.
    pub(crate) code: &'static str,
    /// A sentence for people, without secrets.
    pub(crate) message: String,
    /// Whether trying again may help.
    pub(crate) disposition: Disposition,
}

impl Fault {
    /// Trying again changes nothing.
    pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), disposition: Disposition::Permanent }
    }

    /// Trying again may help.
    pub(crate) fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), disposition: Disposition::Transient }
    }

    /// What the hub stores and shows.
    pub(crate) fn job_error(&self) -> JobError {
        JobError { code: self.code.to_owned(), message: shorten(&self.message, MAX_LOG_MESSAGE) }
    }
}

/// Awaits work in a store that must come to an end within `limit`, whatever its server does.
pub(crate) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let timed = tokio::time::timeout(limit, work).await;
    let late =
        || Fault::transient("store_unreachable", format!("the store's server took longer than {limit:?}"));
    timed.unwrap_or_else(|_| Err(late()))
}

impl From<xvault::Error> for Fault {
    fn from(error: xvault::Error) -> Self {
        let mut message = chain(&error);
        if let Some(setting) = setting(&error) {
            message.push_str(&format!("; who runs the worker can change that by {setting}"));
        }
        Self { code: code(&error), message, disposition: error.disposition() }
    }
}

/// The worker's name for what the libraries' error names as theirs.
fn setting(error: &xvault::Error) -> Option<&'static str> {
    use xvault::Error;
    match error {
        Error::Source(error) | Error::Store(error) | Error::Target(error) | Error::SecondStore(error) => {
            setting_of(error)
        }
        Error::ReadBack(error) => setting(error),
        _ => None,
    }
}

fn setting_of(error: &ConnectorError) -> Option<&'static str> {
    match error {
        ConnectorError::Egress(denied) if denied.list == "deny" => Some("WORKER_EGRESS_DENY"),
        ConnectorError::Egress(_) => Some("WORKER_EGRESS_ALLOW"),
        ConnectorError::Hook { cause: Some(cause), .. } => setting_of(cause),
        error if error.is_outdated_tool() => Some("WORKER_ALLOW_OUTDATED_TOOLS"),
        _ => None,
    }
}

fn code(error: &xvault::Error) -> &'static str {
    use xvault::Error;
    match error {
        Error::Source(error) => source_code(error),
        Error::Store(error) | Error::SecondStore(error) => store_code(error),
        Error::ReadBack(inner) if inner.disposition() == Disposition::Cancelled => "cancelled",
        Error::ReadBack(_) => "read_back_mismatch",
        Error::Evidence { .. } => "evidence_mismatch",
        Error::Key(_) => "bad_key",
        Error::Outlet(_) => "store",
        Error::Abandoned => "cancelled",
        error if is_full(error) => "store_full",
        _ => "archive",
    }
}

/// The code of an error that comes from the system that is backed up.
pub(crate) fn source_code(error: &ConnectorError) -> &'static str {
    match error {
        ConnectorError::Settings(_) => "invalid_settings",
        // The worker believes pinned keys alone, so an unknown one is one that was not pinned.
        ConnectorError::UnknownHostKey { .. } => "host_key_not_pinned",
        ConnectorError::ChangedHostKey { .. } => "host_key_mismatch",
        ConnectorError::UnknownCertificate { .. } => "certificate_not_trusted",
        ConnectorError::ChangedCertificate { .. } => "certificate_mismatch",
        ConnectorError::Auth { .. } => "auth_failed",
        ConnectorError::Credential(_) => "bad_credential",
        ConnectorError::NoCredential(_) => "no_credential",
        ConnectorError::SiteConfig { .. } => "site_config",
        // It is not the command that failed.
        ConnectorError::Hook { cause: Some(cause), .. } => source_code(cause),
        ConnectorError::Hook { cause: None, .. } => "hook_failed",
        ConnectorError::NoShell { .. } => "no_shell",
        ConnectorError::NotFound(_) => "path_missing",
        ConnectorError::Unreadable(_) => "path_unreadable",
        ConnectorError::NotAllowed(_) => "path_not_allowed",
        ConnectorError::Egress(_) => "address_not_allowed",
        ConnectorError::Connection { .. } => "unreachable",
        ConnectorError::Timeout { .. } => "timeout",
        ConnectorError::Protocol { .. } => "protocol",
        ConnectorError::Incomplete(_) => "incomplete",
        ConnectorError::Remote { .. } => "remote_command",
        ConnectorError::Tls { .. } | ConnectorError::NoEncryption { .. } => "tls",
        ConnectorError::Tool { .. } | ConnectorError::OutdatedTool { .. } => "tool",
        ConnectorError::Sink(_) => "archive",
        ConnectorError::Target(_)
        | ConnectorError::NoDatabase { .. }
        | ConnectorError::NotEmpty { .. }
        | ConnectorError::DumpRefused { .. }
        | ConnectorError::Push { .. } => "target_refused",
        ConnectorError::Cancelled => "cancelled",
        _ => "source_io",
    }
}

fn store_code(error: &ConnectorError) -> &'static str {
    match error {
        ConnectorError::Cancelled => "cancelled",
        error if is_full(error) => "store_full",
        ConnectorError::Damaged { .. } => "store_damaged",
        ConnectorError::Denied { .. } => "store_denied",
        ConnectorError::Untrusted { .. } => "store_untrusted",
        ConnectorError::Egress(_) => "address_not_allowed",
        ConnectorError::Connection { .. } | ConnectorError::Timeout { .. } => "store_unreachable",
        _ => "store",
    }
}

/// Whether a full disk or a used-up quota is at the bottom of it.
fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use xvault::connectors::Door;

    fn full() -> ConnectorError {
        let cause = io::Error::from(io::ErrorKind::StorageFull);
        let source = Box::new(cause);
        ConnectorError::Store { action: "write x".into(), disposition: Disposition::Transient, source }
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_to_an_end_is_given_up() {
        let limit = Duration::from_secs(900);
        let late = in_time(limit, std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!((late.code, late.disposition), ("store_unreachable", Disposition::Transient));
        assert_eq!(in_time(limit, async { Ok(7) }).await, Ok(7));
    }

    #[test]
    fn each_kind_of_trouble_has_its_word_and_its_cure() {
        let server = || "web:22".to_owned();
        let cases = [
            (
                ConnectorError::UnknownHostKey { server: server(), fingerprint: "SHA256:x".into() },
                ("host_key_not_pinned", Disposition::Permanent),
            ),
            (
                ConnectorError::Auth { account: "me".into(), reason: "no".into(), door: Door::Ssh },
                ("auth_failed", Disposition::Permanent),
            ),
            (
                ConnectorError::UnknownCertificate {
                    server: server(),
                    fingerprint: "AB".into(),
                    reason: "no".into(),
                },
                ("certificate_not_trusted", Disposition::Permanent),
            ),
            (
                ConnectorError::ChangedCertificate {
                    server: server(),
                    expected: "AB".into(),
                    found: "CD".into(),
                },
                ("certificate_mismatch", Disposition::Permanent),
            ),
            (ConnectorError::NotFound("path".into()), ("path_missing", Disposition::Permanent)),
            (ConnectorError::Target("no dump".into()), ("target_refused", Disposition::Permanent)),
            (ConnectorError::NoDatabase { name: "x".into() }, ("target_refused", Disposition::Permanent)),
            (
                ConnectorError::NotEmpty { name: "x".into(), count: 1 },
                ("target_refused", Disposition::Permanent),
            ),
            (
                ConnectorError::DumpRefused { tool: "psql".into(), reason: "no".into() },
                ("target_refused", Disposition::Permanent),
            ),
            (ConnectorError::Unreadable("path".into()), ("path_unreadable", Disposition::Permanent)),
            (
                ConnectorError::NoEncryption {
                    server: server(),
                    demanded: xvault::core::source::FtpTls::Explicit,
                    reason: "no".into(),
                },
                ("tls", Disposition::Permanent),
            ),
            (
                ConnectorError::SiteConfig { file: "wp-config.php".into(), reason: "line 3: no".into() },
                ("site_config", Disposition::Permanent),
            ),
            (
                ConnectorError::Hook { hook: "before", reason: "failed: exit status 1".into(), cause: None },
                ("hook_failed", Disposition::Permanent),
            ),
            (
                ConnectorError::Hook {
                    hook: "after",
                    reason: "could not be run".into(),
                    cause: Some(Box::new(ConnectorError::Connection {
                        server: server(),
                        reason: "gone".into(),
                        source: None,
                    })),
                },
                ("unreachable", Disposition::Transient),
            ),
            (
                ConnectorError::Connection { server: server(), reason: "gone".into(), source: None },
                ("unreachable", Disposition::Transient),
            ),
            (ConnectorError::Cancelled, ("cancelled", Disposition::Cancelled)),
        ];
        for (error, (code, disposition)) in cases {
            let fault = Fault::from(xvault::Error::Source(error));
            assert_eq!((fault.code, fault.disposition), (code, disposition), "{}", fault.message);
        }
    }

    #[test]
    fn a_full_store_is_told_from_a_broken_one() {
        assert_eq!(Fault::from(xvault::Error::Store(full())).code, "store_full");
        let broken = ConnectorError::io("write x")(io::Error::other("on fire"));
        assert_eq!(Fault::from(xvault::Error::Store(broken)).code, "store");
        let mismatch = xvault::Error::ReadBack(Box::new(xvault::Error::Store(full())));
        assert_eq!(Fault::from(mismatch).code, "read_back_mismatch");
    }

    #[test]
    fn what_the_worker_forbids_names_its_setting() {
        let policy = xvault::core::EgressPolicy::public();
        let denied = policy.check("db", [10, 0, 0, 1].into()).unwrap_err();
        let deny = vec!["10.0.0.0/8".parse().unwrap()];
        let never =
            xvault::core::EgressPolicy { deny, ..policy }.check("db", [10, 0, 0, 1].into()).unwrap_err();
        let told = |error| Fault::from(xvault::Error::Source(error)).message;
        assert!(told(denied.into()).ends_with("by WORKER_EGRESS_ALLOW"));
        assert!(told(never.into()).ends_with("by WORKER_EGRESS_DENY"));
        let reason = "old: update it, or allow outdated tools (`ToolOptions::allow_outdated`)".to_owned();
        let old = ConnectorError::OutdatedTool { tool: "psql".into(), reason: reason.clone() };
        // As a hostile server may say it.
        assert!(!told(ConnectorError::Tool { tool: "psql".into(), reason }).contains("WORKER_"));
        assert!(told(old).ends_with("by WORKER_ALLOW_OUTDATED_TOOLS"));
        let gone = ConnectorError::Tool { tool: "psql".into(), reason: "it is not there".into() };
        assert!(!told(gone).contains("WORKER_"));
    }

    #[test]
    fn a_message_is_bounded() {
        let fault = Fault::permanent("archive", "x".repeat(1 << 20));
        assert_eq!(fault.job_error().message.len(), MAX_LOG_MESSAGE);
    }
}
