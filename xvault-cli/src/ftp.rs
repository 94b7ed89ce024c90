//! FTP on the command line: `ftp://` and `ftps://`, and how to log in there.

use anyhow::bail;
use clap::Args;
use xvault::connectors::FtpOptions;
use xvault::core::FtpSettings;
use xvault::core::source::FtpTls;

use crate::args::{LoginArgs, SourceArgs};
use crate::source_url::account;
use crate::{keys, login};

/// Accounts that everybody has.
const ANONYMOUS: [&str; 2] = ["anonymous", "ftp"];

/// How an FTP server is talked to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FtpArgs {
    /// Accept exactly this certificate, as `openssl x509 -fingerprint -sha256` prints it
    #[arg(long, value_name = "AB:CD:…", help_heading = "FTP", conflicts_with = "tls_ca")]
    pub(crate) certificate: Option<String>,
    /// Encrypt nothing: whoever is in between reads the password and all files
    #[arg(long, help_heading = "FTP", conflicts_with_all = ["certificate", "tls_ca"])]
    pub(crate) plain_ftp: bool,
    /// How many connections to make at most, 1 to 32 [default: 8]
    #[arg(long, value_name = "N", help_heading = "FTP", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) connections: Option<u8>,
}

/// A source of that scheme.
pub(crate) fn source(args: &SourceArgs, scheme: &str, rest: &str) -> anyhow::Result<FtpSettings> {
    let account = account(&args.source, rest)?;
    let paths = account.path.into_iter().chain(args.paths.iter().cloned()).collect();
    let mut settings = FtpSettings::new(account.host, account.username, paths);
    settings.port = account.port;
    settings.use_password = !ANONYMOUS.contains(&settings.username.as_str());
    settings.tls_mode = match (scheme, args.ftp.plain_ftp) {
        ("ftps", true) => bail!("ftps:// is encrypted from the first byte: write ftp:// with --plain-ftp"),
        ("ftps", false) => FtpTls::Implicit,
        (_, true) => FtpTls::Disable,
        (_, false) => FtpTls::Explicit,
    };
    settings.tls_ca = args.database.tls_ca.as_deref().map(keys::read_text).transpose()?;
    settings.tls_fingerprint.clone_from(&args.ftp.certificate);
    settings.excludes.clone_from(&args.excludes);
    if let Some(connections) = args.ftp.connections {
        settings.max_connections = connections;
    }
    Ok(settings)
}

/// How to log in at the server of `settings`.
pub(crate) fn options(args: &LoginArgs, settings: &FtpSettings) -> anyhow::Result<FtpOptions> {
    if !settings.use_password {
        return Ok(FtpOptions::new(settings, None));
    }
    let account = format!("{}@{}", settings.username, settings.host);
    let password = match login::given_password(args)? {
        None => login::ask(&format!("password of {account}: "))?,
        given => given,
    };
    match password {
        Some(password) => Ok(FtpOptions::new(settings, Some(password))),
        None => bail!("no way to log in as {account}: give --password-file or XVAULT_PASSWORD"),
    }
}
