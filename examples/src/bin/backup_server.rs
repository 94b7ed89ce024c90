//! Backs up a directory of a server over SFTP, with a pinned host key and at most 50 MiB a second.
//!
//! `backup_server HOST PORT USER KEY_FILE HOST_KEY PATH STORE` — HOST_KEY as `ssh-keygen -l` prints it, `SHA256:…`
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::num::NonZeroU64;
use std::sync::Arc;

use anyhow::Context;
use xvault::connectors::{Control, SftpSource, SshCredential, SshOptions};
use xvault::core::monitor::Recorder;
use xvault::core::{Dispose, Disposition, Identity, SourceId, SourceSettings, SshSettings, secret};
use xvault::{BackupOptions, FsStore};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: backup_server HOST PORT USER KEY_FILE HOST_KEY PATH STORE";
    let mut next = || args.next().context(usage);
    let (host, port, username) = (next()?, next()?.parse()?, next()?);
    let pem = secret::from_file_bytes(std::fs::read(next()?)?)?;
    let (host_key, paths) = (Some(next()?), vec![next()?]);
    let settings = SshSettings { port, host_key, ..SshSettings::new(host, username, paths) };
    let store = FsStore::open(next()?)?;

    let credential = SshCredential::PrivateKey { pem, passphrase: None };
    let mut source = SftpSource::new(&settings, SshOptions::new(&settings, credential))?;
    let progress = Arc::new(Recorder::default());
    let control = Control::default()
        .with_progress(progress.clone())
        .with_bandwidth(NonZeroU64::new(50 << 20).context("more than nothing")?);
    let id = SourceId::derive(&SourceSettings::Sftp(settings).address());
    let options = BackupOptions::to(vec![Identity::generate().recipient()], id)?.control(control);

    match xvault::backup(&mut source, &store, &options).await {
        Ok(manifest) => {
            for warning in progress.warnings() {
                println!("{}: {}", warning.path, warning.message);
            }
            let content = manifest.content_summary;
            println!("{} files, {} bytes, {} warnings", content.files, content.bytes, content.warnings);
        }
        // What every caller may ask of every error.
        Err(error) if error.disposition() == Disposition::Transient => println!("try again later: {error}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
