//! Which flags are for which types of sources and targets: where one would do nothing it is refused.

use crate::WrongUsage;

/// What a flag is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// Types of sources; [`VIA`] for the server of `--via`.
    kinds: &'static [&'static str],
    words: &'static str,
}

/// That a database is reached through an SSH server.
const VIA: &str = "via";

pub(crate) const FILES: Purpose = Purpose {
    kinds: &["local", "sftp", "ssh", "ftp", "wordpress"],
    words: "files (leave out tables with --exclude-table)",
};
pub(crate) const SERVERS: Purpose =
    Purpose { kinds: &["sftp", "ssh", "ftp", "wordpress", "postgres", "mysql"], words: "servers" };
pub(crate) const SSH: Purpose = Purpose {
    kinds: &["sftp", "ssh", "wordpress", VIA],
    words: "SSH servers (in front of a database, --via names one)",
};
pub(crate) const FTP: Purpose = Purpose { kinds: &["ftp"], words: "FTP" };
pub(crate) const WORDPRESS: Purpose = Purpose { kinds: &["wordpress"], words: "WordPress sites" };
pub(crate) const DATABASES: Purpose = Purpose { kinds: &["postgres", "mysql"], words: "databases" };
pub(crate) const POSTGRES: Purpose = Purpose { kinds: &["postgres"], words: "PostgreSQL" };
pub(crate) const TLS: Purpose = Purpose { kinds: &["postgres", "mysql", "ftp"], words: "databases and FTP" };
pub(crate) const TOOLS: Purpose =
    Purpose { kinds: &["postgres", "mysql", "wordpress"], words: "databases and WordPress sites" };

/// A flag, and whether it was given.
#[derive(Debug)]
pub(crate) struct Flag {
    name: &'static str,
    purpose: Purpose,
    given: bool,
}

impl Flag {
    pub(crate) fn new(name: &'static str, purpose: Purpose, given: bool) -> Self {
        Self { name, purpose, given }
    }
}

/// Refuses what would do nothing with a source, or a target, of type `kind`; `via` is the server of `--via`.
pub(crate) fn refuse_foreign(
    kind: &str,
    via: Option<&str>,
    flags: impl IntoIterator<Item = Flag>,
) -> Result<(), WrongUsage> {
    let is_for = |purpose: Purpose| {
        purpose.kinds.iter().any(|taker| *taker == kind || (*taker == VIA && via.is_some()))
    };
    match flags.into_iter().find(|flag| flag.given && !is_for(flag.purpose)) {
        Some(Flag { name, purpose, .. }) => {
            Err(WrongUsage(format!("{name} is for {}, and would do nothing here", purpose.words)))
        }
        None => Ok(()),
    }
}
