//! Backs up a directory of an FTP server over TLS: the first run shows an unknown certificate, the next ones pin it.
//!
//! `backup_ftp HOST PORT USER PASSWORD_FILE PATH STORE [FINGERPRINT]`, FINGERPRINT as `openssl x509 -fingerprint -sha256` prints it
#![expect(clippy::print_stdout, reason = "a program for people")]

use anyhow::Context;
use xvault::connectors::{Error, FtpOptions, FtpSource, Source};
use xvault::core::{FtpSettings, Identity, SourceId, SourceSettings, secret};
use xvault::{BackupOptions, FsStore};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: backup_ftp HOST PORT USER PASSWORD_FILE PATH STORE [FINGERPRINT]";
    let mut next = || args.next().context(usage);
    let (host, port, user) = (next()?, next()?.parse()?, next()?);
    let password = secret::from_file_bytes(std::fs::read(next()?)?)?;
    let mut settings = FtpSettings::new(host, user, vec![next()?]);
    settings.port = Some(port);
    let store = FsStore::open(next()?)?;
    settings.tls_fingerprint = args.next();

    let mut source = FtpSource::new(&settings, FtpOptions::new(&settings, Some(password)))?;
    match source.probe().await {
        Ok(probe) => println!("{} answers", probe.server.unwrap_or_default()),
        // Nobody vouches for it: whoever runs this compares it with what the server's administrator sees.
        Err(Error::UnknownCertificate { fingerprint, .. }) => anyhow::bail!("pin it with {fingerprint}"),
        Err(error) => return Err(error.into()),
    }
    let id = SourceId::derive(&SourceSettings::Ftp(settings).address());
    let options = BackupOptions::to(vec![Identity::generate().recipient()], id)?;
    let manifest = xvault::backup(&mut source, &store, &options).await?;
    let content = manifest.content_summary;
    println!("{} files, {} bytes, {} warnings", content.files, content.bytes, content.warnings);
    Ok(())
}
