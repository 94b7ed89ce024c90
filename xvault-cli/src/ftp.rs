//! FTP on the command line: `ftp://` and `ftps://`, and how to log in there.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueHint};
use xvault::connectors::{Error, FtpOptions, FtpSource, Source};
use xvault::core::FtpSettings;
use xvault::core::source::FtpTls;

use crate::args::{LoginArgs, SourceArgs};
use crate::flags::{FTP, Flag};
use crate::known_certificates::KnownCertificates;
use crate::output::Output;
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
    /// Accept the certificate of a server that nobody vouches for and that is not known yet, and add it to the file of known ones
    #[arg(long, help_heading = "FTP", conflicts_with_all = ["certificate", "tls_ca", "plain_ftp"])]
    pub(crate) accept_new_certificate: bool,
    /// File of known certificates [default: ~/.config/xvault/known_certificates]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "FTP")]
    pub(crate) known_certificates: Option<PathBuf>,
    /// Encrypt nothing: whoever is in between reads the password and all files
    #[arg(long, help_heading = "FTP", conflicts_with_all = ["certificate", "tls_ca"])]
    pub(crate) plain_ftp: bool,
    /// How many connections to make at most, 1 to 32 [default: 8]
    #[arg(long, value_name = "N", help_heading = "FTP", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) connections: Option<u8>,
}

impl FtpArgs {
    /// Its flags, and what each is for.
    pub(crate) fn flags(&self) -> [Flag; 5] {
        let Self { certificate, accept_new_certificate, known_certificates, plain_ftp, connections } = self;
        [
            Flag::new("--certificate", FTP, certificate.is_some()),
            Flag::new("--accept-new-certificate", FTP, *accept_new_certificate),
            Flag::new("--known-certificates", FTP, known_certificates.is_some()),
            Flag::new("--plain-ftp", FTP, *plain_ftp),
            Flag::new("--connections", FTP, connections.is_some()),
        ]
    }
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

/// How to log in at the server of `settings`, and which certificate is believed.
pub(crate) async fn options(
    args: &SourceArgs,
    settings: &FtpSettings,
    output: &Output,
) -> anyhow::Result<FtpOptions> {
    let mut options = account_of(&args.login, settings)?;
    if settings.tls_mode == FtpTls::Disable || options.fingerprint.is_some() || options.ca.is_some() {
        return Ok(options);
    }
    let known = KnownCertificates::at(args.ftp.known_certificates.as_deref())?;
    options.fingerprint = known.find(&options.server())?;
    if options.fingerprint.is_none() && args.ftp.accept_new_certificate {
        options.fingerprint = accepted(settings, &options, &known, output).await?;
    }
    Ok(options)
}

/// The certificate that the server shows, if nobody vouches for it. Whatever else is wrong is told when it is used.
async fn accepted(
    settings: &FtpSettings,
    options: &FtpOptions,
    known: &KnownCertificates,
    output: &Output,
) -> anyhow::Result<Option<String>> {
    let seen = FtpSource::new(settings, options.clone())?.probe().await;
    let Err(Error::UnknownCertificate { fingerprint, .. }) = seen else { return Ok(None) };
    known.add(&options.server(), &fingerprint)?;
    let (server, path) = (options.server(), known.path().display());
    output.say(&format!("accepted the certificate {fingerprint} of {server}, and added it to {path}"));
    Ok(Some(fingerprint))
}

fn account_of(args: &LoginArgs, settings: &FtpSettings) -> anyhow::Result<FtpOptions> {
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
