//! What a caller may do about an error.

use serde::{Deserialize, Serialize};

/// Every error of xVault answers one question: what now?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Disposition {
    /// Trying again changes nothing: a wrong password, a missing path, a damaged file.
    Permanent,
    /// Trying again may help: a dropped connection, a full disk, a busy server.
    Transient,
    /// Somebody asked for the work to stop.
    Cancelled,
}

/// Implemented by the error type of every crate.
pub trait Dispose: std::error::Error {
    /// What a caller may do about it.
    fn disposition(&self) -> Disposition;
}

/// The classes of I/O errors that time heals.
impl Dispose for std::io::Error {
    fn disposition(&self) -> Disposition {
        use std::io::ErrorKind as Kind;
        match self.kind() {
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
            | Kind::WouldBlock
            | Kind::Interrupted
            | Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::ResourceBusy
            | Kind::UnexpectedEof => Disposition::Transient,
            _ => Disposition::Permanent,
        }
    }
}

/// An error and all its sources as one line: `open store: create /x: permission denied`.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        // Some libraries repeat their source in their own text.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read manifest")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn chain_names_every_cause_once() {
        let error = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "read manifest: disk on fire");
    }

    #[test]
    fn full_disks_heal_and_missing_files_do_not() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(full.disposition(), Disposition::Transient);
        assert_eq!(missing.disposition(), Disposition::Permanent);
    }
}
